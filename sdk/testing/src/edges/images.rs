//! Images to build on, made of directories of the case.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cooperage_solve::{Base, Build, CopyOptions, Error, Image, ImageSource, Origin, Selection, Tree};
use cooperage_store::{Descriptor, Platform, Reference};
use serde_json::Value;

use crate::case::BaseImage;
use crate::fault::{Faults, Place};

/// The images of a case by the names that people write.
pub(crate) struct Images {
    bases: BTreeMap<String, Base>,
    faults: Faults,
}

/// Two spellings of one name are one name.
fn normal(reference: &str) -> String {
    reference.parse::<Reference>().map_or_else(|_| reference.to_owned(), |reference| reference.to_string())
}

impl Images {
    pub(crate) fn none(faults: Faults) -> Self {
        Self { bases: BTreeMap::new(), faults }
    }

    /// Makes the images in a build that has their directories as contexts named by [`super::context_name`].
    pub(crate) async fn make(build: &Build, images: &[BaseImage], faults: Faults) -> Result<Self, Error> {
        let mut bases = BTreeMap::new();
        for image in images {
            bases.insert(normal(&image.reference), base(build, image).await?);
        }
        Ok(Self { bases, faults })
    }

    pub(crate) fn get(&self, reference: &str) -> Result<&Base, Error> {
        self.bases.get(&normal(reference)).ok_or_else(|| {
            let there: Vec<&str> = self.bases.keys().map(String::as_str).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            Error::not_found(format!("the case has no image {reference}")).hint(format!("it has {there}"))
        })
    }
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

#[async_trait]
impl ImageSource for Images {
    async fn resolve(&self, reference: &str, platform: &Platform) -> Result<Base, Error> {
        self.faults.check(Place::Images, "images")?;
        let base = self.get(reference)?;
        // An image of a case is there for every platform.
        Ok(Base { platform: platform.clone(), ..base.clone() })
    }

    async fn fetch_layer(&self, _: &Base, _: &Descriptor) -> Result<(), Error> {
        self.faults.check(Place::Layers, "layers")
    }
}
