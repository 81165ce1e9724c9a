//! Images to build on, made of directories of the case or of recorded layers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cooperage_solve::{Base, Build, CopyOptions, Error, Image, ImageSource, Origin, Selection, Tree};
use cooperage_store::layers::{Compression, LayerId, Write};
use cooperage_store::{Descriptor, ImageConfig, Platform, Reference, Store};
use serde_json::{Map, Value};

use crate::case::{BaseImage, RecordedImage};
use crate::fault::{Faults, Place};
use crate::listing;
use crate::reads::{Missing, Reads};
use crate::recording::Recording;

/// The images of a case by the names that people write.
pub(crate) struct Images {
    bases: Vec<Known>,
    faults: Faults,
    store: Option<Store>,
    /// What the case does not have is asked of others.
    recording: Option<Arc<Recording>>,
}

struct Known {
    name: String,
    /// None for every platform.
    platform: Option<Platform>,
    base: Base,
}

/// Two spellings of one name are one name.
fn normal(reference: &str) -> String {
    reference.parse::<Reference>().map_or_else(|_| reference.to_owned(), |reference| reference.to_string())
}

impl Images {
    pub(crate) fn none(faults: Faults) -> Self {
        Self { bases: Vec::new(), faults, store: None, recording: None }
    }

    /// Makes the images in a build that has their directories as contexts named by [`super::context_name`].
    pub(crate) async fn make(
        build: &Build,
        images: &[BaseImage],
        faults: Faults,
        (folder, reads, recording): (&Path, &Reads, Option<Arc<Recording>>),
    ) -> Result<Self, Error> {
        let mut bases = Vec::new();
        for image in images {
            let platform = image.platform.as_deref().map(str::parse).transpose();
            let base = match &image.recorded {
                Some(recorded) => recorded_base(build, image, recorded, (folder, reads))?,
                None => base(build, image).await?,
            };
            bases.push(Known { name: normal(&image.reference), platform: platform.map_err(invalid)?, base });
        }
        Ok(Self { bases, faults, store: Some(build.options().store.clone()), recording })
    }

    /// An image of the case, for one platform or any.
    pub(crate) fn get(&self, reference: &str, platform: Option<&Platform>) -> Result<&Base, Error> {
        let name = normal(reference);
        let fits = |known: &&Known| {
            let platforms = known.platform.as_ref().zip(platform);
            known.name == name && platforms.is_none_or(|(there, wanted)| there.serves(wanted).is_some())
        };
        self.bases.iter().find(fits).map(|known| &known.base).ok_or_else(|| {
            let name = |known: &Known| match &known.platform {
                Some(platform) => format!("{} for {platform}", known.name),
                None => known.name.clone(),
            };
            let there: Vec<String> = self.bases.iter().map(name).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            let wanted = platform.map(|platform| format!(" for {platform}")).unwrap_or_default();
            Error::not_found(format!("the case has no image {reference}{wanted}")).hint(format!("it has {there}"))
        })
    }
}

fn invalid(error: impl std::fmt::Display) -> Error {
    Error::invalid(error.to_string())
}

async fn base(build: &Build, image: &BaseImage) -> Result<Base, Error> {
    let platform = build.options().platform.clone();
    let tree = match &image.files {
        Some(files) => {
            let context = Tree::context(super::context_name(files), Selection::default());
            let all = vec!["/".to_owned()];
            Tree::scratch().copy(&context, all, "/".to_owned(), CopyOptions::default(), Origin::default())
        }
        None => Tree::scratch(),
    };
    let config = Value::Object(image.config.clone());
    let image_to_be = Image { tree, platform: platform.clone(), config, annotations: BTreeMap::new() };
    let manifest = build.image(image_to_be).await?;
    let store = build.options().store.clone();
    let document = store.images().manifest(&manifest.digest)?;
    let config = store.images().config(&document)?;
    let reference = format!("{}@{}", image.reference, manifest.digest);
    Ok(Base { reference, manifest, layers: document.layers, config, platform })
}

/// The image as the registry had it, but that contents which nobody used are not there.
fn recorded_base(
    build: &Build,
    image: &BaseImage,
    recorded: &RecordedImage,
    (folder, reads): (&Path, &Reads),
) -> Result<Base, Error> {
    let config = ImageConfig::new(Value::Object(image.config.clone()));
    let mut layers = Vec::new();
    let diff_ids = config.diff_ids()?;
    if diff_ids.len() != recorded.layers.len() {
        return Err(Error::invalid(format!("{} has other layers than its configuration says", image.reference)));
    }
    for (diff_id, layer) in diff_ids.into_iter().zip(&recorded.layers) {
        layers.push(descriptor(&layer.descriptor)?);
        let Some(files) = &layer.files else { continue };
        let items = listing::read(folder, files).map_err(invalid)?;
        let (id, what) = (LayerId(diff_id), format!("{}, from {files}", image.reference));
        reads.lacks(id, Missing { what, paths: listing::bare(&items) });
        let how = Write { unpack: None, seal: Some(Compression::None) };
        build.options().store.layers().write(&id, listing::entries(items), how)?;
    }
    let platform = config.platform().unwrap_or_else(|| build.options().platform.clone());
    let manifest = descriptor(&recorded.manifest)?;
    Ok(Base { reference: recorded.name.clone(), manifest, layers, config, platform })
}

/// A descriptor as a case has it.
pub(crate) fn descriptor(map: &Map<String, Value>) -> Result<Descriptor, Error> {
    serde_json::from_value(Value::Object(map.clone())).map_err(|error| invalid(format!("a descriptor: {error}")))
}

#[async_trait]
impl ImageSource for Images {
    async fn resolve(&self, reference: &str, platform: &Platform) -> Result<Base, Error> {
        self.faults.check(Place::Images, "images")?;
        match (self.get(reference, Some(platform)), &self.recording) {
            (Ok(base), _) => Ok(Base { platform: platform.clone(), ..base.clone() }),
            (Err(_), Some(recording)) => recording.image(reference, platform).await,
            (Err(error), None) => Err(error),
        }
    }

    async fn fetch_layer(&self, base: &Base, layer: &Descriptor) -> Result<(), Error> {
        self.faults.check(Place::Layers, "layers")?;
        if self.store.as_ref().map(|store| store.blobs().size(&layer.digest)).transpose()?.flatten().is_some() {
            return Ok(());
        }
        if let Some(recording) = &self.recording {
            return recording.outside.images.fetch_layer(base, layer).await;
        }
        let message = format!("the case has nothing of the layer {} of {}", layer.digest, base.reference);
        Err(Error::not_found(message).hint("nobody looked at it when the run was recorded; record it again"))
    }
}
