//! The role `source`: files behind URLs.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::source::exports::cooperage::plugin::source as contract;
use crate::plugin::Exported;
use crate::trees::Tree;
use crate::{Result, parameters};

pub use contract::Version;

/// Brings files from elsewhere into builds and flows.
pub trait Source {
    /// What a user can set beside the URL.
    type Parameters: DeserializeOwned + JsonSchema;

    /// Finds out what the URL stands for, as cheaply as the far side allows.
    ///
    /// # Errors
    /// `not-found` if there is nothing, and those of the far side.
    fn resolve(request: &SourceRequest<Self::Parameters>) -> Result<Version>;

    /// Brings the files of a version that `resolve` gave.
    ///
    /// # Errors
    /// `conflict` if the far side does not have this version any more, and those of the far side.
    fn fetch(request: &SourceRequest<Self::Parameters>, version: &Version) -> Result<Tree>;
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct SourceRequest<P> {
    /// The URL as the user wrote it, with its fragment.
    pub url: String,
    /// The parameters.
    pub parameters: P,
}

impl Version {
    /// A version that the far side names; the same request may mean another one tomorrow.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), immutable: false, annotations: Vec::new() }
    }

    /// The version that the request itself names.
    #[must_use]
    pub fn immutable(value: impl Into<String>) -> Self {
        Self { immutable: true, ..Self::new(value) }
    }

    /// Something else that is known of it.
    #[must_use]
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.push((key.into(), value.into()));
        self
    }
}

impl<P: DeserializeOwned> SourceRequest<P> {
    fn read(request: contract::Request) -> Result<Self> {
        Ok(Self { parameters: parameters::read(&request.parameters)?, url: request.url })
    }
}

impl<T: Source> contract::Guest for Exported<T> {
    fn resolve(request: contract::Request) -> Result<Version> {
        T::resolve(&SourceRequest::read(request)?)
    }

    fn fetch(request: contract::Request, version: Version) -> Result<Tree> {
        T::fetch(&SourceRequest::read(request)?, &version)
    }
}
