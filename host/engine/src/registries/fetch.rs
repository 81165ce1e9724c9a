//! Downloads: each blob once, however many want it at the same time, and whole images.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cooperage_solve::{Error, ErrorKind, Outcome, Step, Unit};
use cooperage_store::{Descriptor, Digest, Platform, Reference, media_types};
use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::service::Inner;
use super::site::{ANYWHERE, Site};

type Flight = BoxFuture<'static, Result<(), Error>>;

/// Downloads under way. Weak, so that a download ends when the last who wants it goes away.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<Digest, WeakShared<Flight>>>);

impl Flights {
    fn join(&self, digest: Digest, start: impl FnOnce() -> Flight) -> Shared<Flight> {
        let mut flights = self.0.lock().expect("not poisoned");
        flights.retain(|_, flight| flight.upgrade().is_some());
        // A flight that has landed is not joined: it may have failed, or its blob may have been removed since.
        if let Some(flight) = flights.get(&digest).and_then(WeakShared::upgrade)
            && flight.peek().is_none()
        {
            return flight;
        }
        let flight = start().shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(digest, weak);
        }
        flight
    }
}

/// Brings one blob of an image into the store unless it is there. `parent` is the step it is shown under.
pub(super) async fn blob(
    inner: &Arc<Inner>,
    site: Arc<Site>,
    name: &Reference,
    blob: &Descriptor,
    parent: Option<&Step>,
) -> Result<(), Error> {
    let digest = blob.digest;
    if inner.with_store(move |store| Ok(store.blobs().size(&digest)?.is_some())).await? {
        return Ok(());
    }
    let reporter = parent.map_or_else(|| inner.reporter.clone(), |step| step.reporter().clone());
    let parent = parent.map(Step::id);
    let flight = inner.flights.join(digest, || {
        let (inner, name, blob) = (inner.clone(), name.clone(), blob.clone());
        async move {
            let _turn = inner.transfers.acquire().await.map_err(|e| Error::internal(e.to_string()))?;
            let step = reporter
                .step(parent, format!("fetch {} of {}/{}", short(&blob.digest), name.host(), name.repository()));
            step.progress(0, Some(blob.size), Unit::Bytes);
            let fetched = site.blob(&inner, &blob, &name, &step).await;
            finish(step, &blob, &fetched);
            fetched
        }
        .boxed()
    });
    flight.await
}

/// Ends the step of a transfer.
pub(super) fn finish<T>(step: Step, blob: &Descriptor, result: &Result<T, Error>) {
    match result {
        Ok(_) => {
            step.progress(blob.size, Some(blob.size), Unit::Bytes);
            step.finish(Outcome::Done);
        }
        Err(error) if error.kind == ErrorKind::Cancelled => step.finish(Outcome::Cancelled),
        Err(error) => step.finish(Outcome::Failed(error.message.clone())),
    }
}

/// The first digits of a digest, as people know them from other tools.
pub(super) fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

/// Brings a blob into the store from any name it was ever seen under; not-found if there is none.
pub(super) async fn blob_from_anywhere(
    inner: &Arc<Inner>,
    blob_: &Descriptor,
    step: Option<&Step>,
) -> Result<(), Error> {
    let digest = blob_.digest;
    let names = inner.with_store(move |store| Ok(store.images().sources(&digest, ANYWHERE)?)).await?;
    let mut last = Error::not_found(format!("{digest} is not in the store, and no registry is known to have it"))
        .hint("pull the image that it belongs to");
    for name in names {
        let Ok(name) = name.parse::<Reference>() else { continue };
        let site = Arc::new(inner.pull_site(&name).await?);
        match blob(inner, site, &name, blob_, step).await {
            Ok(()) => return Ok(()),
            Err(error) if error.kind == ErrorKind::Cancelled => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Brings a whole image into the store and tags it: for a platform, or the index with all its images.
pub(super) async fn image(
    inner: &Arc<Inner>,
    name: &Reference,
    platform: Option<&Platform>,
    step: &Step,
) -> Result<Descriptor, Error> {
    let site = Arc::new(inner.pull_site(name).await?);
    let found = site.manifest(inner, name, step).await?;
    let wanted = match platform {
        Some(platform) => select(inner, &site, name, &found, platform, step).await?,
        None => found,
    };
    let mut blobs = Vec::new();
    for manifest in manifests(inner, &site, name, &wanted, step).await? {
        let digest = manifest.digest;
        let manifest = inner.with_store(move |store| Ok(store.images().manifest(&digest)?)).await?;
        blobs.push(manifest.config);
        blobs.extend(manifest.layers);
    }
    blobs.sort_by_key(|blob| blob.digest);
    blobs.dedup_by_key(|blob| blob.digest);
    let digests = blobs.iter().map(|blob| blob.digest).collect();
    stream::iter(blobs)
        .map(|wanted| {
            let (inner, site) = (inner.clone(), site.clone());
            async move { blob(&inner, site, name, &wanted, Some(step)).await }
        })
        .buffer_unordered(inner.parallel)
        .try_collect::<()>()
        .await?;
    site.remember(inner, Some(name), digests).await?;
    if name.tag().is_some() {
        let tagged = name.tagged();
        let descriptor = wanted.clone();
        inner.with_store(move |store| Ok(store.images().tag(&tagged.to_string(), &descriptor)?)).await?;
    }
    Ok(wanted)
}

/// The manifest for a platform, in the store.
pub(super) async fn select(
    inner: &Arc<Inner>,
    site: &Site,
    name: &Reference,
    found: &Descriptor,
    platform: &Platform,
    step: &Step,
) -> Result<Descriptor, Error> {
    if !media_types::is_index(&found.media_type) {
        return Ok(found.clone());
    }
    let (index, platform) = (found.clone(), platform.clone());
    let chosen = inner
        .with_store(move |store| Ok(store.images().resolve_platform(&index, &platform)?))
        .await
        .map_err(|e| e.context(format!("choosing the image of {name}")))?;
    have_manifest(inner, site, name, &chosen, step).await?;
    Ok(chosen)
}

/// All manifests of an image or index, in the store.
async fn manifests(
    inner: &Arc<Inner>,
    site: &Site,
    name: &Reference,
    of: &Descriptor,
    step: &Step,
) -> Result<Vec<Descriptor>, Error> {
    if !media_types::is_index(&of.media_type) {
        return Ok(vec![of.clone()]);
    }
    let digest = of.digest;
    let index = inner.with_store(move |store| Ok(store.images().index(&digest)?)).await?;
    for child in &index.manifests {
        if media_types::is_index(&child.media_type) {
            let text = format!("{name} is an index of indexes; only indexes of images can be pulled whole");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        have_manifest(inner, site, name, child, step).await?;
    }
    Ok(index.manifests)
}

async fn have_manifest(
    inner: &Inner,
    site: &Site,
    name: &Reference,
    manifest: &Descriptor,
    step: &Step,
) -> Result<(), Error> {
    let digest = manifest.digest;
    if inner.with_store(move |store| Ok(store.blobs().size(&digest)?.is_some())).await? {
        return Ok(());
    }
    site.manifest(inner, &name.with_digest(digest), step).await.map(drop)
}
