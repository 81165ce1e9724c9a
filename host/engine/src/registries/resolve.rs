//! The solver's port for images: pins names with as little network as the user's policy allows, and brings layers.

use std::sync::Arc;

use async_trait::async_trait;
use cooperage_solve::{Base, Error, ErrorKind, ImageSource, Outcome, Step};
use cooperage_store::{Descriptor, Platform, Reference, Store};

use super::fetch;
use super::service::{Inner, PullPolicy, RegistryService};

#[async_trait]
impl ImageSource for RegistryService {
    async fn resolve(&self, reference: &str, platform: &Platform) -> Result<Base, Error> {
        let name: Reference = reference.parse()?;
        let inner = &self.0;
        // A digest never changes its meaning, so no policy asks again for what is at hand.
        if inner.policy != PullPolicy::Always || name.digest().is_some() {
            let (name, platform) = (name.clone(), platform.clone());
            if let Some(base) = inner.with_store(move |store| at_hand(store, &name, &platform)).await? {
                return Ok(base);
            }
        }
        if inner.policy == PullPolicy::Never {
            return Err(Error::not_found(format!("{name} for {platform} is not at hand, and pulling is switched off"))
                .hint(format!("pull it with `coop image pull {name}`, or allow pulling")));
        }
        let step = inner.reporter.step(None, format!("resolve {name}"));
        let resolved = from_registry(inner, &name, platform, &step).await;
        step.finish(match &resolved {
            Ok(_) => Outcome::Done,
            Err(error) if error.kind == ErrorKind::Cancelled => Outcome::Cancelled,
            Err(error) => Outcome::Failed(error.message.clone()),
        });
        resolved
    }

    async fn fetch_layer(&self, base: &Base, layer: &Descriptor) -> Result<(), Error> {
        // An image that was built here may be named after a registry that has never seen the layers of its base.
        let from_anywhere = match fetch::blob_from_anywhere(&self.0, layer, None).await {
            Ok(()) => return Ok(()),
            Err(error) if error.kind == ErrorKind::Cancelled => return Err(error),
            Err(error) => error,
        };
        let name: Reference = base.reference.parse()?;
        let site = Arc::new(self.0.pull_site(&name).await?);
        let by_name = fetch::blob(&self.0, site, &name, layer, None).await;
        by_name.map_err(|error| if from_anywhere.kind == ErrorKind::NotFound { error } else { from_anywhere })
    }
}

/// What the store has for a name: the image that the user tagged, else what the registry said last time. None if a
/// document is missing, or if what is there is for another platform.
fn at_hand(store: &Store, name: &Reference, platform: &Platform) -> Result<Option<Base>, Error> {
    let images = store.images();
    let mut candidates = Vec::new();
    if let Some(digest) = name.digest() {
        candidates.extend(stored_document(store, &digest)?);
    } else {
        candidates.extend(images.get(&name.to_string())?.map(|record| record.manifest));
        candidates.extend(images.pinned(&name.to_string(), platform)?);
    }
    for found in candidates {
        if store.blobs().size(&found.digest)?.is_none() {
            continue;
        }
        let Ok(manifest) = images.resolve_platform(&found, platform) else { continue };
        if store.blobs().size(&manifest.digest)?.is_none() {
            continue;
        }
        let Some(base) = base(store, name, manifest, platform)? else { continue };
        return Ok(Some(base));
    }
    Ok(None)
}

/// The descriptor of a manifest or index of the store, by its own word for its type.
pub(super) fn stored_document(store: &Store, digest: &cooperage_store::Digest) -> Result<Option<Descriptor>, Error> {
    use cooperage_store::{images::MAX_DOCUMENT, media_types};
    let Some(size) = store.blobs().size(digest)? else { return Ok(None) };
    let bytes = store.blobs().read(digest, MAX_DOCUMENT)?;
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let Ok(probe) = serde_json::from_slice::<Probe>(&bytes) else {
        return Err(Error::invalid(format!("{digest} is no manifest and no index")));
    };
    let guessed = if probe.manifests.is_some() { media_types::INDEX } else { media_types::MANIFEST };
    Ok(Some(Descriptor::new(probe.media_type.unwrap_or_else(|| guessed.to_owned()), *digest, size)))
}

/// The base made of a manifest of the store; none if its configuration is not there or is for another platform.
fn base(store: &Store, name: &Reference, manifest: Descriptor, wanted: &Platform) -> Result<Option<Base>, Error> {
    let document = store.images().manifest(&manifest.digest)?;
    if store.blobs().size(&document.config.digest)?.is_none() {
        return Ok(None);
    }
    let config = store.images().config(&document)?;
    let own = config.platform().or_else(|| manifest.platform.clone());
    if own.as_ref().is_some_and(|own| own.serves(wanted).is_none()) {
        return Ok(None);
    }
    let (layers, ids) = (document.layers.len(), config.diff_ids()?.len());
    if layers != ids {
        let text = format!(
            "{name} has {layers} layers, but its configuration lists {ids}; it is no image that can be built upon"
        );
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    let reference = name.with_digest(manifest.digest).to_string();
    let platform = own.unwrap_or_else(|| wanted.clone());
    // The same value whether the name stood for the manifest or for an index around it.
    let manifest = Descriptor::new(manifest.media_type, manifest.digest, manifest.size);
    let manifest = Descriptor { platform: Some(platform.clone()), ..manifest };
    Ok(Some(Base { reference, manifest, layers: document.layers, config, platform }))
}

async fn from_registry(inner: &Arc<Inner>, name: &Reference, platform: &Platform, step: &Step) -> Result<Base, Error> {
    let site = inner.pull_site(name).await?;
    let found = match unchanged(inner, &site, name, platform, step).await {
        Some(found) => found,
        None => site.manifest(inner, name, step).await?,
    };
    let manifest = fetch::select(inner, &site, name, &found, platform, step).await?;
    let digest = manifest.digest;
    let document = inner.with_store(move |store| Ok(store.images().manifest(&digest)?)).await?;
    site.document(inner, &document.config, name, step).await?;
    let blobs = document.layers.iter().map(|layer| layer.digest).chain([document.config.digest]).collect();
    site.remember(inner, Some(name), blobs).await?;
    let (name, platform) = (name.clone(), platform.clone());
    inner
        .with_store(move |store| {
            let Some(base) = base(store, &name, manifest.clone(), &platform)? else {
                let text = format!("{name} is not for {platform}");
                return Err(Error::not_found(text).hint("choose another platform, or an image that has this one"));
            };
            if name.digest().is_none() {
                store.images().pin(&name.to_string(), &platform, &found)?;
            }
            Ok(base)
        })
        .await
}

/// With the policy to ask each time: what the name stands for, if that is at hand. A question without a transfer
/// does not count against the limits that registries put on pulls.
async fn unchanged(
    inner: &Arc<Inner>,
    site: &super::site::Site,
    name: &Reference,
    platform: &Platform,
    step: &Step,
) -> Option<Descriptor> {
    let (key, platform) = (name.to_string(), platform.clone());
    let pinned = inner.with_store(move |store| Ok(store.images().pinned(&key, &platform)?)).await.ok().flatten()?;
    let now = site.backend.resolve(&site.at, &name.identifier(), step).await.ok()?;
    let digest = now.digest;
    let there = inner.with_store(move |store| Ok(store.blobs().size(&digest)?.is_some())).await.ok()?;
    (there && pinned.digest == now.digest).then_some(pinned)
}
