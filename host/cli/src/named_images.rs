//! Images that the user supplies under names of their own: `--build-context NAME=docker-image://REFERENCE` and
//! `NAME=oci-layout://DIRECTORY[:TAG]`. Builders learn the names, and resolve them as they do any other image.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cooperage_solve::{Base, Error, ImageSource};
use cooperage_store::{Descriptor, Platform, Reference, Store};

use crate::error::Failure;

const IMAGE: &str = "docker-image://";
const LAYOUT: &str = "oci-layout://";

/// What each name stands for, as a reference.
pub(crate) type Names = BTreeMap<String, String>;

/// What a place leads to if it is an image. A layout is taken into the store.
pub(crate) fn reference(store: &Store, place: &str) -> Result<Option<String>, Failure> {
    if let Some(reference) = place.strip_prefix(IMAGE) {
        let _: Reference = reference.parse()?;
        return Ok(Some(reference.to_owned()));
    }
    let Some(layout) = place.strip_prefix(LAYOUT) else { return Ok(None) };
    let (directory, name) = match layout.split_once('@') {
        Some((directory, digest)) => (directory, Some(digest)),
        None => match layout.rsplit_once(':') {
            Some((directory, tag)) if !tag.contains('/') => (directory, Some(tag)),
            _ => (layout, None),
        },
    };
    if !Path::new(directory).join("oci-layout").is_file() {
        return Err(Failure::usage(format!("{directory} is no OCI layout: it has no file oci-layout")));
    }
    let image = store.import_layout_image(Path::new(directory), name)?;
    Ok(Some(format!("oci-layout@{}", image.digest)))
}

/// Images by these names, and all others as they are.
pub(crate) struct NamedImages {
    pub(crate) names: Names,
    pub(crate) others: Arc<dyn ImageSource>,
}

#[async_trait]
impl ImageSource for NamedImages {
    async fn resolve(&self, reference: &str, platform: &Platform) -> Result<Base, Error> {
        let reference = self.names.get(reference).map_or(reference, String::as_str);
        self.others.resolve(reference, platform).await
    }

    async fn fetch_layer(&self, base: &Base, layer: &Descriptor) -> Result<(), Error> {
        self.others.fetch_layer(base, layer).await
    }
}
