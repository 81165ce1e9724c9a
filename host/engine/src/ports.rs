//! What the host side of a plugin call asks of the rest of the engine: images moved through the user's routing.
//! Knows no registry plugin and no credential.

use async_trait::async_trait;
use cooperage_solve::{Error, Step};
use cooperage_store::layers::Archive;
use cooperage_store::{Descriptor, Platform};

/// Moves images between the store and registries. The implementation knows routing, credentials and which registry
/// plugin is responsible.
#[async_trait]
pub trait Registries: Send + Sync {
    /// Pushes an image of the store, a local name or `sha256:...` of a manifest or index. Gives what the registry now
    /// has under `reference`. Transfers are reported as parts of `step`.
    async fn push(&self, image: &str, reference: &str, step: &Step) -> Result<Descriptor, Error>;

    /// Brings an image with all its layers into the store; without a platform the whole index.
    async fn pull(&self, reference: &str, platform: Option<&Platform>, step: &Step) -> Result<Descriptor, Error>;

    /// An image of the store, a local name or `sha256:...`, as an archive that has it under `name`; with `docker` one
    /// that `docker load` takes.
    async fn save(&self, image: &str, docker: bool, name: Option<&str>) -> Result<Archive, Error>;

    /// What the registry has under a name, without moving it.
    async fn resolve(&self, reference: &str) -> Result<Descriptor, Error>;
}
