//! Finds out whether the store still has all of an image, so that the engine need not hand it out again. Looks only at
//! what earlier times have left in the store.

use cooperage_sdk::{Descriptor, Result};

use crate::archive::{LARGEST_DOCUMENT, document, media_type};
use crate::edge::Store;
use crate::engine::Engine;
use crate::image::{Image, Index, Inspected, MANIFEST, Manifest, diff_ids};

/// The image, if all of it is there.
///
/// # Errors
/// Those of the store.
pub fn find(engine: &Engine<'_>, image: &Inspected) -> Result<Option<Image>> {
    let store = engine.edge().store;
    let Some(bytes) = small(store, &image.id)? else { return Ok(None) };
    if diff_ids(&bytes).is_ok_and(|ids| ids == image.diff_ids()) {
        return by_config(store, image, bytes);
    }
    if let Ok(index) = serde_json::from_slice::<Index>(&bytes) {
        for listed in index.manifests {
            if let Some(manifest) = small(store, &listed.digest)?
                && let Some(found) = by_manifest(store, image, manifest)?
            {
                return Ok(Some(found));
            }
        }
        return Ok(None);
    }
    by_manifest(store, image, bytes)
}

/// Most engines identify an image by its configuration and keep layers without compression.
fn by_config(store: &dyn Store, image: &Inspected, config: Vec<u8>) -> Result<Option<Image>> {
    let mut layers = Vec::new();
    for digest in image.diff_ids() {
        let Some(size) = store.stat(digest)? else { return Ok(None) };
        let media_type = media_type(&[]).to_owned();
        layers.push(Descriptor { media_type, digest: digest.clone(), size, annotations: Vec::new() });
    }
    Ok(Some(Image { config, layers, manifest: None }))
}

/// Others identify it by its manifest, as registries do.
fn by_manifest(store: &dyn Store, image: &Inspected, bytes: Vec<u8>) -> Result<Option<Image>> {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return Ok(None) };
    let Some(config) = small(store, &manifest.config.digest)? else { return Ok(None) };
    // Of several platforms the one is meant whose layers the engine names.
    if diff_ids(&config).ok().as_deref() != Some(image.diff_ids()) {
        return Ok(None);
    }
    let mut layers = Vec::new();
    for layer in manifest.layers {
        if store.stat(&layer.digest)? != Some(layer.size) {
            return Ok(None);
        }
        let start = store.open(&layer.digest)?.chunk(4)?;
        let media_type = media_type(&start).to_owned();
        layers.push(Descriptor { media_type, digest: layer.digest, size: layer.size, annotations: Vec::new() });
    }
    let media_type = if manifest.media_type.is_empty() { MANIFEST.to_owned() } else { manifest.media_type };
    Ok(Some(Image { config, layers, manifest: Some((bytes, media_type)) }))
}

fn small(store: &dyn Store, digest: &str) -> Result<Option<Vec<u8>>> {
    match store.stat(digest)? {
        Some(size) if size <= LARGEST_DOCUMENT => document(store, digest).map(Some),
        _ => Ok(None),
    }
}
