//! Uploads: blobs in parallel, each sent only if the registry cannot get it more cheaply, then manifests from the
//! leaves up, the tag last, so that nobody ever sees a name whose content is not complete.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use cooperage_solve::{Error, ErrorKind, Outcome, Step};
use cooperage_store::layers::Archive;
use cooperage_store::{Descriptor, Digest, Platform, Reference, Store, media_types};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::backend::BlobOutcome;
use super::fetch::{self, short};
use super::resolve::stored_document;
use super::service::{Inner, RegistryService, explain};
use super::site::Site;
use crate::ports::Registries;

#[async_trait]
impl Registries for RegistryService {
    async fn push(&self, image: &str, reference: &str, step: &Step) -> Result<Descriptor, Error> {
        let name: Reference = reference.parse()?;
        let inner = &self.0;
        let image = image.to_owned();
        let parts = inner.with_store(move |store| collect(store, &image)).await?;
        if let Some(digest) = name.digest()
            && digest != parts.top.digest
        {
            return Err(Error::invalid(format!("{name} names another image than {}", parts.top.digest)));
        }
        let site = inner.push_site(&name).await?;
        let blobs: Vec<_> = parts.blobs.into_values().collect();
        let digests = blobs.iter().map(|blob| blob.digest).collect();
        stream::iter(blobs)
            .map(|blob| {
                let (site, name) = (&site, &name);
                async move { send(inner, site, name, &blob, step).await }
            })
            .buffer_unordered(inner.parallel)
            .try_collect::<()>()
            .await?;
        let tag = name.tag();
        for child in &parts.children {
            put(&site, &name, child, None, step).await?;
        }
        put(&site, &name, &parts.top, tag, step).await?;
        site.remember(inner, None, digests).await?;
        Ok(parts.top)
    }

    async fn pull(&self, reference: &str, platform: Option<&Platform>, step: &Step) -> Result<Descriptor, Error> {
        fetch::image(&self.0, &reference.parse()?, platform, step).await
    }

    async fn save(&self, image: &str, docker: bool, name: Option<&str>) -> Result<Archive, Error> {
        let inner = &self.0;
        let owned = image.to_owned();
        let parts = inner.with_store(move |store| collect(store, &owned)).await?;
        // Layers of bases may lie only at their registry.
        for blob in parts.blobs.values() {
            let digest = blob.digest;
            if inner.with_store(move |store| Ok(store.blobs().size(&digest)?)).await?.is_none() {
                fetch::blob_from_anywhere(inner, blob, None).await?;
            }
        }
        let own = (!image.starts_with("sha256:")).then_some(image);
        let names: Vec<Reference> = name.or(own).map(str::parse).transpose()?.into_iter().collect();
        Ok(inner.store.stream_archive(parts.top, names, docker))
    }

    async fn resolve(&self, reference: &str) -> Result<Descriptor, Error> {
        let name: Reference = reference.parse()?;
        let site = self.0.pull_site(&name).await?;
        let step = self.0.reporter.step(None, format!("resolve {name}"));
        let found = site.backend.resolve(&site.at, &name.identifier(), &step).await;
        step.finish(match &found {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::Failed(error.message.clone()),
        });
        found.map_err(|e| explain(e, &site.at, "resolving", &name))
    }
}

/// What an image consists of.
struct Parts {
    top: Descriptor,
    /// The manifests of an index.
    children: Vec<Descriptor>,
    blobs: BTreeMap<Digest, Descriptor>,
}

/// Looks an image of the store up, by name or digest, and lists its parts.
fn collect(store: &Store, image: &str) -> Result<Parts, Error> {
    let top = if image.starts_with("sha256:") {
        let digest = image.parse::<Digest>().map_err(|e| Error::invalid(e.to_string()))?;
        stored_document(store, &digest)?
    } else {
        let name: Reference = image.parse()?;
        match name.digest() {
            Some(digest) => stored_document(store, &digest)?,
            None => store.images().get(&name.to_string())?.map(|record| record.manifest),
        }
    };
    let top = top.ok_or_else(|| {
        Error::not_found(format!("there is no image `{image}` in the store"))
            .hint("`coop image ls` lists what there is")
    })?;
    let mut parts = Parts { top: top.clone(), children: Vec::new(), blobs: BTreeMap::new() };
    if media_types::is_index(&top.media_type) {
        for child in store.images().index(&top.digest)?.manifests {
            if store.blobs().size(&child.digest)?.is_none() {
                let platform = child.platform.as_ref().map_or_else(|| child.digest.to_string(), Platform::to_string);
                return Err(Error::not_found(format!("the image for {platform} of `{image}` is not in the store"))
                    .hint("pull the image with all its platforms first, or push the image of one platform"));
            }
            parts.add(store, &child)?;
            parts.children.push(child);
        }
    } else {
        parts.add(store, &top)?;
    }
    Ok(parts)
}

impl Parts {
    fn add(&mut self, store: &Store, manifest: &Descriptor) -> Result<(), Error> {
        let manifest = store.images().manifest(&manifest.digest)?;
        for blob in manifest.layers.into_iter().chain([manifest.config]) {
            self.blobs.insert(blob.digest, blob);
        }
        Ok(())
    }
}

async fn put(
    site: &Site,
    name: &Reference,
    manifest: &Descriptor,
    tag: Option<&str>,
    step: &Step,
) -> Result<(), Error> {
    let sent = site.backend.put_manifest(&site.at, manifest, tag, step).await;
    sent.map_err(|e| explain(e, &site.at, "pushing the manifest of", name))
}

async fn send(inner: &Arc<Inner>, site: &Site, name: &Reference, blob: &Descriptor, step: &Step) -> Result<(), Error> {
    let digest = blob.digest;
    let (host, own) = (site.at.host.clone(), site.at.name.clone());
    let (there, mut mounts) = inner
        .with_store(move |store| Ok((store.blobs().size(&digest)?.is_some(), store.images().sources(&digest, &host)?)))
        .await?;
    mounts.retain(|repository| *repository != own);
    let part = step.child(format!("push {} to {}/{}", short(&digest), site.at.host, site.at.name));
    let outcome = match there {
        true => upload(site, name, blob, &mounts, &part).await,
        false => send_absent(inner, site, name, blob, &mounts, &part).await,
    };
    match &outcome {
        Ok(BlobOutcome::Uploaded) | Err(_) => fetch::finish(part, blob, &outcome),
        Ok(BlobOutcome::Exists | BlobOutcome::Mounted) => part.finish(Outcome::Cached),
    }
    outcome.map(drop)
}

/// A layer of a base that was never downloaded. Most often the registry has it, or can mount it; only if not, it is
/// downloaded first.
async fn send_absent(
    inner: &Arc<Inner>,
    site: &Site,
    name: &Reference,
    blob: &Descriptor,
    mounts: &[String],
    step: &Step,
) -> Result<BlobOutcome, Error> {
    if mounts.is_empty() {
        let has = site.backend.has_blob(&site.at, &blob.digest, step).await;
        if has.map_err(|e| explain(e, &site.at, "looking for a layer of", name))? {
            return Ok(BlobOutcome::Exists);
        }
    } else {
        match site.backend.put_blob(&site.at, blob, mounts, step).await {
            // The registry would not mount it, so the plugin looked for the bytes to send.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            other => return other.map_err(|e| explain(e, &site.at, "pushing a layer of", name)),
        }
    }
    fetch::blob_from_anywhere(inner, blob, Some(step)).await?;
    upload(site, name, blob, &[], step).await
}

async fn upload(
    site: &Site,
    name: &Reference,
    blob: &Descriptor,
    mounts: &[String],
    step: &Step,
) -> Result<BlobOutcome, Error> {
    let sent = site.backend.put_blob(&site.at, blob, mounts, step).await;
    sent.map_err(|e| explain(e, &site.at, &format!("pushing {} of", blob.digest), name))
}
