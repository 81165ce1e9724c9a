//! The role `builder`: images described from a context and parameters.

use std::collections::BTreeMap;
use std::sync::Arc;

use cooperage_solve::{Base, CacheMode, Image, Tree};
use cooperage_store::Platform;
use serde_json::Value;

use crate::call::{CallContext, CallError, Special, call};
use crate::convert::annotations;
use crate::host::trees::GuestTree;
use crate::plugin::Plugin;

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Parameters.
    pub parameters: Value,
    /// Platforms to build for, at least one.
    pub platforms: Vec<Platform>,
    /// The platform of this machine.
    pub build_platform: Platform,
    /// `--build-arg`s in order.
    pub arguments: Vec<(String, String)>,
    /// Labels to add.
    pub labels: Vec<(String, String)>,
    /// SOURCE_DATE_EPOCH in seconds.
    pub epoch: Option<u64>,
    /// Anything else.
    pub options: Vec<(String, String)>,
}

impl BuildRequest {
    /// A request with parameters for one platform and nothing else.
    pub fn new(parameters: Value, platform: Platform) -> Self {
        Self {
            parameters,
            platforms: vec![platform],
            build_platform: Platform::host(),
            arguments: Vec::new(),
            labels: Vec::new(),
            epoch: None,
            options: Vec::new(),
        }
    }
}

/// An image that a plugin described; nothing is evaluated yet.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    /// Its file system.
    pub tree: Tree,
    /// Its platform.
    pub platform: Platform,
    /// Its configuration without `rootfs`: a JSON object.
    pub config: Value,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// The image is this one, which exists already: its manifest stays as it is. The rest says the same, so that the
    /// image can also be made again.
    pub existing: Option<Arc<Base>>,
}

impl From<BuiltImage> for Image {
    fn from(image: BuiltImage) -> Self {
        let BuiltImage { tree, platform, config, annotations, .. } = image;
        Self { tree, platform, config, annotations }
    }
}

/// An image as a plugin gave it, whatever version of the contract it speaks.
pub(crate) enum Raw {
    Described { tree: GuestTree, platform: Platform, config: String, annotations: Vec<(String, String)> },
    Existing(Arc<Base>),
}

impl Plugin {
    /// Describes the images.
    ///
    /// # Errors
    /// [`CallError`] tells wrong parameters, the plugin's own failure, a crash and a limit apart.
    pub async fn build(&self, context: &CallContext, request: BuildRequest) -> Result<Vec<BuiltImage>, CallError> {
        let builder = self.pres().builder.clone().ok_or_else(|| self.no_builder())?;
        let parameters = self.complete_parameters("builder", &request.parameters)?;
        let special = Special { parameters: request.parameters, ..Special::default() };
        let mut request = BuildRequest { parameters, ..request };
        // The host uses nothing of its own; a builder that keeps results elsewhere has to know.
        if context.build.as_ref().is_some_and(|build| build.options().cache == CacheMode::Ignore) {
            request.options.push(("no-cache".to_owned(), "true".to_owned()));
        }
        let images: Vec<Raw> = call(
            (self.engine(), self.name()),
            context,
            special,
            Box::new(move |store| Box::pin(async move { builder.build(store, request).await })),
        )
        .await?;
        images.into_iter().map(|image| self.built(image)).collect()
    }

    /// How well the plugin fits the main context: 0 not at all, 100 certainly.
    ///
    /// # Errors
    /// As for [`Plugin::build`].
    pub async fn detect(&self, context: &CallContext) -> Result<u8, CallError> {
        let builder = self.pres().builder.clone().ok_or_else(|| self.no_builder())?;
        let fit: u8 = call(
            (self.engine(), self.name()),
            context,
            Special::default(),
            Box::new(move |store| Box::pin(async move { builder.detect(store).await })),
        )
        .await?;
        Ok(fit.min(100))
    }

    fn no_builder(&self) -> CallError {
        CallError::Role { plugin: self.name().to_owned(), role: "builder" }
    }

    fn built(&self, image: Raw) -> Result<BuiltImage, CallError> {
        let wrong = |message: String| CallError::Contract { plugin: self.name().to_owned(), message };
        let (tree, platform, config, list) = match image {
            Raw::Existing(base) => return Ok(existing(base)),
            Raw::Described { tree, platform, config, annotations } => (tree, platform, config, annotations),
        };
        let tree = tree.into_tree().map_err(CallError::Failed)?;
        let config: Value = serde_json::from_str(&config)
            .map_err(|error| wrong(format!("its image configuration is no JSON: {error}")))?;
        if !config.is_object() {
            return Err(wrong("its image configuration is no JSON object".to_owned()));
        }
        Ok(BuiltImage { tree, platform, config, annotations: annotations(list), existing: None })
    }
}

fn existing(base: Arc<Base>) -> BuiltImage {
    let (tree, platform) = (Tree::image(base.clone()), base.platform.clone());
    let config = base.config.value().clone();
    BuiltImage { tree, platform, config, annotations: BTreeMap::new(), existing: Some(base) }
}
