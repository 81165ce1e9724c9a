//! Keeps images in registries that speak the OCI distribution protocol (version 1.1, and Docker's before it).
//!
//! This file joins the client to the contract; the client itself knows neither WIT nor wasm, so its tests run
//! natively, against real and against hostile servers.

pub mod blobs;
pub mod challenge;
pub mod client;
pub mod edge;
pub mod faults;
mod guest;
pub mod link;
pub mod lists;
pub mod manifests;
pub mod range;
pub mod retry;
pub mod tokens;
pub mod upload;

use cooperage_sdk::prelude::*;
use cooperage_sdk::roles::registry::Arrival;

use client::{Actions, Client};

struct Oci;

impl Plugin for Oci {
    fn describe() -> Description {
        Description::new("oci", env!("CARGO_PKG_VERSION"), "Keeps images in OCI and Docker registries")
            .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
            .asks(Capability::http(["registry"], "to reach the registry, its token server and its storage"))
            .asks(Capability::state("to use a registry's token again until it expires"))
            .provides("docker")
            .provides("oci")
    }
}

impl Registry for Oci {
    fn resolve(repository: &Repository, reference: &str) -> Result<Descriptor> {
        manifests::resolve(&client(repository, Actions::Pull)?, reference)
    }

    fn get_manifest(repository: &Repository, reference: &str) -> Result<Descriptor> {
        manifests::get(&client(repository, Actions::Pull)?, reference)
    }

    fn put_manifest(repository: &Repository, manifest: &Descriptor, tag: Option<&str>) -> Result<()> {
        manifests::put(&client(repository, Actions::Push)?, manifest, tag)
    }

    fn has_blob(repository: &Repository, digest: &str) -> Result<bool> {
        blobs::has(&client(repository, Actions::Pull)?, digest)
    }

    fn get_blob(repository: &Repository, blob: &Descriptor) -> Result<()> {
        blobs::get(&client(repository, Actions::Pull)?, blob)
    }

    fn put_blob(repository: &Repository, blob: &Descriptor, mount_from: &[String]) -> Result<Arrival> {
        let client = client(repository, Actions::Push)?;
        upload::put(&client.also_pull_from(mount_from), blob, mount_from)
    }

    fn tags(repository: &Repository) -> Result<Vec<String>> {
        lists::tags(&client(repository, Actions::Pull)?)
    }

    fn referrers(repository: &Repository, digest: &str) -> Result<Vec<Descriptor>> {
        lists::referrers(&client(repository, Actions::Pull)?, digest)
    }

    fn delete(repository: &Repository, reference: &str) -> Result<()> {
        manifests::delete(&client(repository, Actions::Delete)?, reference)
    }

    fn login(repository: &Repository) -> Result<()> {
        client::login(&Client::without_repository(guest::edge(), repository)?)
    }
}

fn client(repository: &Repository, actions: Actions) -> Result<Client<'_>> {
    Client::new(guest::edge(), repository, actions)
}

cooperage_sdk::plugin!(Oci: registry);
