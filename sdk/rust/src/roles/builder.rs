//! The role `builder`: images from a build context and parameters.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::builder::exports::cooperage::plugin::builder as contract;
use crate::plugin::Exported;
use crate::{Annotations, Platform, Result, parameters};

pub use contract::Image;

/// Turns a build context and parameters into images.
pub trait Builder {
    /// What the user can set.
    type Parameters: DeserializeOwned + JsonSchema;

    /// How well this builder fits the main context: 0 not at all, 100 certainly.
    ///
    /// # Errors
    /// Whatever goes wrong while looking.
    fn detect() -> Result<u8> {
        Ok(0)
    }

    /// Describes the images. What it returns is evaluated afterwards.
    ///
    /// # Errors
    /// Whatever goes wrong, for the user to read.
    fn build(request: BuildRequest<Self::Parameters>) -> Result<Vec<Image>>;
}

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct BuildRequest<P> {
    /// The parameters.
    pub parameters: P,
    /// Platforms to build for, at least one.
    pub platforms: Vec<Platform>,
    /// The platform the host itself runs on.
    pub build_platform: Platform,
    /// `--build-arg`s in order.
    pub arguments: Vec<(String, String)>,
    /// Labels to add to the image.
    pub labels: Annotations,
    /// The value of SOURCE_DATE_EPOCH, in seconds since 1970.
    pub epoch: Option<u64>,
    /// Anything else.
    pub options: Annotations,
}

impl<P> BuildRequest<P> {
    /// Whether nothing that was built earlier may be used.
    #[must_use]
    pub fn no_cache(&self) -> bool {
        self.options.iter().any(|(name, value)| name == "no-cache" && value == "true")
    }

    /// Names under which the user supplies images. Where a recipe uses one, it is meant, whatever else has the name;
    /// resolved by that name it is the image that the user supplied.
    pub fn named_images(&self) -> impl Iterator<Item = &str> {
        self.options.iter().filter(|(name, _)| name == "named-image").map(|(_, name)| name.as_str())
    }
}

impl<T: Builder> contract::Guest for Exported<T> {
    fn detect() -> Result<u8> {
        T::detect()
    }

    fn build(request: contract::Request) -> Result<Vec<Image>> {
        T::build(BuildRequest {
            parameters: parameters::read(&request.parameters)?,
            platforms: request.platforms,
            build_platform: request.build_platform,
            arguments: request.arguments,
            labels: request.labels,
            epoch: request.epoch,
            options: request.options,
        })
    }
}
