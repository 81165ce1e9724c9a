//! One repository with the plugin that speaks to it, and the checks on what the plugin brings: a plugin is a
//! stranger's code, so what it says about content is compared with the content in the store.

use std::sync::Arc;

use cooperage_solve::{Error, ErrorKind, Step};
use cooperage_store::images::MAX_DOCUMENT;
use cooperage_store::{Descriptor, Digest, Reference, media_types};

use super::backend::{RegistryBackend, Repository};
use super::service::{Inner, explain};

pub(super) struct Site {
    pub backend: Arc<dyn RegistryBackend>,
    pub at: Repository,
}

impl Site {
    /// Brings the manifest or index that `name` stands for into the store.
    pub async fn manifest(&self, inner: &Inner, name: &Reference, step: &Step) -> Result<Descriptor, Error> {
        let found = self.backend.get_manifest(&self.at, &name.identifier(), step).await;
        let found = found.map_err(|e| refused(explain(e, &self.at, "getting the manifest of", name)))?;
        if let Some(expected) = name.digest()
            && expected != found.digest
        {
            return Err(mismatch(&format!("the manifest of {name}"), &expected, &found.digest));
        }
        if !media_types::is_manifest(&found.media_type) && !media_types::is_index(&found.media_type) {
            let text = format!("{name} is of type {}, which is no image", found.media_type);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        self.arrived(inner, &found, name).await?;
        Ok(found)
    }

    /// Brings a small document (a configuration) into the store.
    pub async fn document(&self, inner: &Inner, blob: &Descriptor, name: &Reference, step: &Step) -> Result<(), Error> {
        if blob.size > MAX_DOCUMENT {
            let text = format!("the configuration of {name} has {} bytes, more than {MAX_DOCUMENT}", blob.size);
            return Err(Error::new(ErrorKind::Limit, text));
        }
        self.blob(inner, blob, name, step).await
    }

    /// Brings a blob into the store.
    pub async fn blob(&self, inner: &Inner, blob: &Descriptor, name: &Reference, step: &Step) -> Result<(), Error> {
        let (digest, action) = (blob.digest, format!("getting {} of", blob.digest));
        if inner.with_store(move |store| Ok(store.blobs().size(&digest)?.is_some())).await? {
            return Ok(());
        }
        let got = self.backend.get_blob(&self.at, blob, step).await;
        got.map_err(|e| refused(explain(e, &self.at, &action, name)))?;
        self.arrived(inner, blob, name).await
    }

    /// The store has hashed what it keeps; presence and size are left to check.
    async fn arrived(&self, inner: &Inner, content: &Descriptor, name: &Reference) -> Result<(), Error> {
        let digest = content.digest;
        let size = inner.with_store(move |store| Ok(store.blobs().size(&digest)?)).await?;
        match size {
            Some(size) if size == content.size => Ok(()),
            Some(size) => {
                let text = format!("{digest} of {name} has {size} bytes, announced were {}", content.size);
                Err(refused(Error::new(ErrorKind::Conflict, text)))
            }
            None => Err(Error::internal(format!("the registry plugin says it got {digest} of {name}, but it did not"))),
        }
    }

    /// Remembers that this repository has these blobs, for mounts, and under which name they can be had.
    pub async fn remember(&self, inner: &Inner, name: Option<&Reference>, blobs: Vec<Digest>) -> Result<(), Error> {
        let (host, repository, path) = (
            self.at.host.clone(),
            self.at.name.clone(),
            name.map(|name| format!("{}/{}", name.host(), name.repository())),
        );
        inner
            .with_store(move |store| {
                for blob in &blobs {
                    store.images().add_source(blob, &host, &repository)?;
                    if let Some(path) = &path {
                        store.images().add_source(blob, ANYWHERE, path)?;
                    }
                }
                Ok(())
            })
            .await
    }
}

/// Stands for a host in the records of sources where the "repository" is a whole name before routing. It answers the
/// other question: not which repositories of a host have a blob, but which names have it at all.
pub(super) const ANYWHERE: &str = "*";

pub(super) fn mismatch(what: &str, expected: &Digest, actual: &Digest) -> Error {
    refused(Error::new(ErrorKind::Conflict, format!("{what} is {actual}, expected {expected}")))
}

/// Content that contradicts what was announced is refused, whether the store, the plugin or this file noticed.
fn refused(error: Error) -> Error {
    match error.kind {
        ErrorKind::Conflict => Error { kind: ErrorKind::Denied, ..error },
        _ => error,
    }
}
