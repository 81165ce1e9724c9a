//! What a registry plugin can do, in plain types: the contract's interface `registry` seen from the host. Who
//! implements it moves bytes between a registry and the blob store; who calls it knows no protocol.

use std::sync::Arc;

use async_trait::async_trait;
use cooperage_solve::{Error, Step};
use cooperage_store::{Descriptor, Digest};

use crate::credentials::Credential;

/// One repository of one registry, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `host` or `host:port` to connect to.
    pub host: String,
    /// Path below the host.
    pub name: String,
    /// Without TLS.
    pub plain_http: bool,
    /// None is anonymous.
    pub credential: Option<Credential>,
    /// Settings of this registry by the user.
    pub options: Vec<(String, String)>,
}

/// How a blob got into a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobOutcome {
    /// It was there.
    Exists,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent.
    Uploaded,
}

impl BlobOutcome {
    /// Reads the word that plugins use.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "exists" => Some(Self::Exists),
            "mounted" => Some(Self::Mounted),
            "uploaded" => Some(Self::Uploaded),
            _ => None,
        }
    }
}

/// A registry plugin. Every call is independent; several run at a time. What a call shows goes under `step`.
#[async_trait]
pub trait RegistryBackend: Send + Sync {
    /// What a tag or digest stands for; not-found if nothing.
    async fn resolve(&self, at: &Repository, reference: &str, step: &Step) -> Result<Descriptor, Error>;
    /// Brings a manifest or index into the blob store.
    async fn get_manifest(&self, at: &Repository, reference: &str, step: &Step) -> Result<Descriptor, Error>;
    /// Sends a manifest or index of the blob store, and tags it.
    async fn put_manifest(
        &self,
        at: &Repository,
        manifest: &Descriptor,
        tag: Option<&str>,
        step: &Step,
    ) -> Result<(), Error>;
    /// Whether the repository has a blob.
    async fn has_blob(&self, at: &Repository, digest: &Digest, step: &Step) -> Result<bool, Error>;
    /// Brings a blob into the blob store.
    async fn get_blob(&self, at: &Repository, blob: &Descriptor, step: &Step) -> Result<(), Error>;
    /// Sends a blob of the blob store; `mount_from` names repositories of the same host that probably have it. The blob
    /// may be absent from the store (a base layer that nobody has downloaded): then only its existence and mounts can
    /// help, and the answer is not-found if they do not.
    async fn put_blob(
        &self,
        at: &Repository,
        blob: &Descriptor,
        mount_from: &[String],
        step: &Step,
    ) -> Result<BlobOutcome, Error>;
    /// The tags of the repository, sorted.
    async fn tags(&self, at: &Repository, step: &Step) -> Result<Vec<String>, Error>;
    /// Manifests that refer to this one as their subject.
    async fn referrers(&self, at: &Repository, digest: &Digest, step: &Step) -> Result<Vec<Descriptor>, Error>;
    /// Deletes a tag or a manifest.
    async fn delete(&self, at: &Repository, reference: &str, step: &Step) -> Result<(), Error>;
    /// Proves the credential without touching a repository.
    async fn login(&self, at: &Repository, step: &Step) -> Result<(), Error>;
}

/// Finds the registry plugin with a name, compiled and ready to be called.
#[async_trait]
pub trait Backends: Send + Sync {
    /// The plugin; not-found if the user has none of this name.
    async fn backend(&self, plugin: &str) -> Result<Arc<dyn RegistryBackend>, Error>;
}
