//! The role `builder`: images from a build context and parameters.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::builder::exports::cooperage::plugin::builder as contract;
use crate::plugin::Exported;
use crate::trees::Tree;
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
        self.is_on("no-cache")
    }

    /// Whether nothing is to be built: the answer is one [`Image::findings`]. A builder that has nothing to say about
    /// what it builds from, and whose build has effects, answers with no image; one without effects may pass over it.
    #[must_use]
    pub fn wants_check(&self) -> bool {
        self.is_on("check")
    }

    /// Names under which the user supplies images. Where a recipe uses one, it is meant, whatever else has the name;
    /// resolved by that name it is the image that the user supplied.
    pub fn named_images(&self) -> impl Iterator<Item = &str> {
        self.options.iter().filter(|(name, _)| name == "named-image").map(|(_, name)| name.as_str())
    }

    fn is_on(&self, option: &str) -> bool {
        self.options.iter().any(|(name, value)| name == option && value == "true")
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

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It makes a build fail.
    Error,
    /// It works, and is probably not meant.
    Warning,
    /// It is worth knowing.
    Note,
}

/// Something odd about what an image is built from: an item of the annotation `cooperage.findings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the rule, stable over versions.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence without a full stop.
    pub message: String,
    /// What the user can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Path of the file as the user knows it.
    pub file: String,
    /// First line, from 1.
    pub line: u32,
    /// First column in characters, from 1; 0 stands for the whole line.
    pub column: u32,
    /// Last line, inclusive.
    pub end_line: u32,
    /// These lines, without the last line break.
    pub text: String,
}

impl Image {
    /// The answer to a request that [`BuildRequest::wants_check`]: nothing but findings, or the good news that there are
    /// none.
    #[must_use]
    pub fn findings(platform: Platform, findings: &[Finding]) -> Self {
        let config = serde_json::json!({ "os": platform.os, "architecture": platform.architecture });
        let findings = serde_json::json!(findings).to_string();
        Self {
            tree: Tree::scratch(),
            platform,
            config: config.to_string(),
            annotations: vec![("cooperage.findings".to_owned(), findings)],
        }
    }
}
