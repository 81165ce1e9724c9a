//! Images that a plugin moves: those of the case can be pulled, what is pushed is kept in a list.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cooperage_engine::ports::Registries;
use cooperage_solve::{Error, ErrorKind, Step};
use cooperage_store::layers::Archive;
use cooperage_store::{Descriptor, Digest, Platform, Store, media_types};
use serde_json::{Value, json};

use super::Images;
use super::images::descriptor;
use crate::case::{MoveCall, RegistryAnswer};
use crate::recording::Recording;

pub(crate) struct Pushes {
    pub(crate) images: Arc<Images>,
    pub(crate) store: Store,
    answers: Vec<RegistryAnswer>,
    /// What the case does not have is asked of others.
    recording: Option<Arc<Recording>>,
    pushed: Mutex<Vec<Value>>,
}

impl Pushes {
    pub(crate) fn new(
        images: Arc<Images>,
        store: Store,
        answers: Vec<RegistryAnswer>,
        recording: Option<Arc<Recording>>,
    ) -> Self {
        Self { images, store, answers, recording, pushed: Mutex::default() }
    }

    pub(crate) fn pushed(&self) -> Vec<Value> {
        self.pushed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An image of the store by digest, or one of the case by name.
    fn image(&self, image: &str) -> Result<Descriptor, Error> {
        let Ok(digest) = image.parse::<Digest>() else { return Ok(self.images.get(image, None)?.manifest.clone()) };
        match self.store.blobs().size(&digest)? {
            Some(size) => Ok(Descriptor::new(media_types::MANIFEST, digest, size)),
            None => Err(Error::not_found(format!("the store has no image {image}"))),
        }
    }

    fn answer(&self, call: MoveCall, reference: &str) -> Result<Option<Descriptor>, Error> {
        let found = self.answers.iter().find(|answer| answer.call == call && answer.reference == reference);
        found.map(|answer| descriptor(&answer.answer)).transpose()
    }

    /// What the case says of a name.
    fn known(&self, call: MoveCall, reference: &str) -> Result<Descriptor, Error> {
        match self.answer(call, reference)? {
            Some(answer) => Ok(answer),
            None => self.image(reference),
        }
    }

    /// The far side, while it is recorded.
    fn outside(&self) -> Option<&dyn Registries> {
        self.recording.as_ref().map(|recording| recording.outside.registries.as_ref())
    }

    fn heard(&self, call: MoveCall, reference: &str, answer: &Descriptor) {
        if let Some(recording) = &self.recording {
            recording.moved(call, reference, answer);
        }
    }
}

#[async_trait]
impl Registries for Pushes {
    async fn push(&self, image: &str, reference: &str, step: &Step) -> Result<Descriptor, Error> {
        let descriptor = match (self.answer(MoveCall::Push, reference)?, self.outside()) {
            (Some(answer), _) => answer,
            (None, Some(outside)) => {
                let known = self.image(image).map_or_else(|_| image.to_owned(), |known| known.digest.to_string());
                outside.push(&known, reference, step).await?
            }
            (None, None) => self.image(image)?,
        };
        self.heard(MoveCall::Push, reference, &descriptor);
        let mut pushed = self.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        pushed.push(json!({ "image": image, "reference": reference }));
        Ok(descriptor)
    }

    async fn pull(&self, reference: &str, platform: Option<&Platform>, step: &Step) -> Result<Descriptor, Error> {
        let descriptor = match (self.known(MoveCall::Pull, reference), self.outside()) {
            (Err(_), Some(outside)) => outside.pull(reference, platform, step).await?,
            (known, _) => return known,
        };
        self.heard(MoveCall::Pull, reference, &descriptor);
        Ok(descriptor)
    }

    async fn save(&self, image: &str, _: bool, _: Option<&str>) -> Result<Archive, Error> {
        Err(Error::new(ErrorKind::Unsupported, format!("a case cannot make an archive of {image}")))
    }

    async fn resolve(&self, reference: &str) -> Result<Descriptor, Error> {
        let descriptor = match (self.known(MoveCall::Resolve, reference), self.outside()) {
            (Err(_), Some(outside)) => outside.resolve(reference).await?,
            (known, _) => return known,
        };
        self.heard(MoveCall::Resolve, reference, &descriptor);
        Ok(descriptor)
    }
}
