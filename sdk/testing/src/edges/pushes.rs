//! Images that a plugin moves: those of the case can be pulled, what is pushed is kept in a list.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cooperage_engine::ports::Registries;
use cooperage_solve::{Error, ErrorKind, Step};
use cooperage_store::layers::Archive;
use cooperage_store::{Descriptor, Digest, Platform, Store, media_types};
use serde_json::{Value, json};

use super::Images;

pub(crate) struct Pushes {
    pub(crate) images: Arc<Images>,
    pub(crate) store: Store,
    pushed: Mutex<Vec<Value>>,
}

impl Pushes {
    pub(crate) fn new(images: Arc<Images>, store: Store) -> Self {
        Self { images, store, pushed: Mutex::default() }
    }

    pub(crate) fn pushed(&self) -> Vec<Value> {
        self.pushed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An image of the store by digest, or one of the case by name.
    fn image(&self, image: &str) -> Result<Descriptor, Error> {
        let Ok(digest) = image.parse::<Digest>() else { return Ok(self.images.get(image)?.manifest.clone()) };
        match self.store.blobs().size(&digest)? {
            Some(size) => Ok(Descriptor::new(media_types::MANIFEST, digest, size)),
            None => Err(Error::not_found(format!("the store has no image {image}"))),
        }
    }
}

#[async_trait]
impl Registries for Pushes {
    async fn push(&self, image: &str, reference: &str, _: &Step) -> Result<Descriptor, Error> {
        let descriptor = self.image(image)?;
        let mut pushed = self.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        pushed.push(json!({ "image": image, "reference": reference }));
        Ok(descriptor)
    }

    async fn pull(&self, reference: &str, _: Option<&Platform>, _: &Step) -> Result<Descriptor, Error> {
        self.image(reference)
    }

    async fn save(&self, image: &str, _: bool, _: Option<&str>) -> Result<Archive, Error> {
        Err(Error::new(ErrorKind::Unsupported, format!("a case cannot make an archive of {image}")))
    }

    async fn resolve(&self, reference: &str) -> Result<Descriptor, Error> {
        self.image(reference)
    }
}
