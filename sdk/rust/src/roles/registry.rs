//! The role `registry`: a place that keeps images.

use crate::bindings::registry::exports::cooperage::plugin::registry as contract;
use crate::plugin::Exported;
use crate::{Descriptor, Error, Result};

pub use contract::{Credential, Repository};

/// A place that keeps images. Every call is independent; the host calls for several blobs at a time.
pub trait Registry {
    /// What a tag or digest stands for.
    ///
    /// # Errors
    /// `not-found` if nothing.
    fn resolve(repository: &Repository, reference: &str) -> Result<Descriptor>;

    /// Brings a manifest or index into the content store.
    ///
    /// # Errors
    /// `not-found` if it is not there, `conflict` if it has another digest.
    fn get_manifest(repository: &Repository, reference: &str) -> Result<Descriptor>;

    /// Sends a manifest or index of the content store, and tags it.
    ///
    /// # Errors
    /// Those of the far side.
    fn put_manifest(repository: &Repository, manifest: &Descriptor, tag: Option<&str>) -> Result<()>;

    /// Brings a blob into the content store; nothing to do if it is there.
    ///
    /// # Errors
    /// `not-found` if it is not there, `conflict` if it has another digest.
    fn get_blob(repository: &Repository, blob: &Descriptor) -> Result<()>;

    /// Sends a blob of the content store; nothing to do if the repository has it. `mount_from` names repositories of
    /// the same host that probably have it.
    ///
    /// # Errors
    /// Those of the far side.
    fn put_blob(repository: &Repository, blob: &Descriptor, mount_from: &[String]) -> Result<Arrival>;

    /// Whether the repository has a blob. A registry that cannot tell answers no, and every blob is sent to it.
    ///
    /// # Errors
    /// Those of the far side.
    fn has_blob(repository: &Repository, digest: &str) -> Result<bool> {
        let _ = (repository, digest);
        Ok(false)
    }

    /// The tags of the repository, sorted.
    ///
    /// # Errors
    /// `unsupported` unless implemented.
    fn tags(repository: &Repository) -> Result<Vec<String>> {
        let _ = repository;
        Err(Error::unsupported("this registry plugin cannot list tags"))
    }

    /// Manifests that refer to this one as their subject; none unless implemented.
    ///
    /// # Errors
    /// Those of the far side.
    fn referrers(repository: &Repository, digest: &str) -> Result<Vec<Descriptor>> {
        let _ = (repository, digest);
        Ok(Vec::new())
    }

    /// Deletes a tag or a manifest.
    ///
    /// # Errors
    /// `unsupported` unless implemented.
    fn delete(repository: &Repository, reference: &str) -> Result<()> {
        let _ = (repository, reference);
        Err(Error::unsupported("this registry plugin cannot delete"))
    }

    /// Proves the credential against the registry without touching a repository.
    ///
    /// # Errors
    /// `unauthenticated` if it is refused, `unsupported` unless implemented.
    fn login(repository: &Repository) -> Result<()> {
        let _ = repository;
        Err(Error::unsupported("this registry plugin knows no logins"))
    }
}

/// How a blob got to the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was there.
    Exists,
    /// The registry took it from another of its repositories.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

impl Arrival {
    /// The word of the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::Mounted => "mounted",
            Self::Uploaded => "uploaded",
        }
    }
}

impl<T: Registry> contract::Guest for Exported<T> {
    fn resolve(repository: Repository, reference: String) -> Result<Descriptor> {
        T::resolve(&repository, &reference)
    }

    fn get_manifest(repository: Repository, reference: String) -> Result<Descriptor> {
        T::get_manifest(&repository, &reference)
    }

    fn put_manifest(repository: Repository, manifest: Descriptor, tag: Option<String>) -> Result<()> {
        T::put_manifest(&repository, &manifest, tag.as_deref())
    }

    fn has_blob(repository: Repository, digest: String) -> Result<bool> {
        T::has_blob(&repository, &digest)
    }

    fn get_blob(repository: Repository, blob: Descriptor) -> Result<()> {
        T::get_blob(&repository, &blob)
    }

    fn put_blob(repository: Repository, blob: Descriptor, mount_from: Vec<String>) -> Result<String> {
        T::put_blob(&repository, &blob, &mount_from).map(|how| how.as_str().to_owned())
    }

    fn tags(repository: Repository) -> Result<Vec<String>> {
        T::tags(&repository)
    }

    fn referrers(repository: Repository, digest: String) -> Result<Vec<Descriptor>> {
        T::referrers(&repository, &digest)
    }

    fn delete(repository: Repository, reference: String) -> Result<()> {
        T::delete(&repository, &reference)
    }

    fn login(repository: Repository) -> Result<()> {
        T::login(&repository)
    }
}
