//! The role `builder`: images described from a context and parameters.

use std::collections::BTreeMap;

use cooperage_solve::{CacheMode, Image, Tree};
use cooperage_store::Platform;
use serde_json::Value;

use crate::bindings::builder::exports::cooperage::plugin::builder as wit_builder;
use crate::bindings::wit;
use crate::call::{CallContext, CallError, Special, call};
use crate::convert::{annotations, platform_from_wit, platform_to_wit};
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
}

impl From<BuiltImage> for Image {
    fn from(image: BuiltImage) -> Self {
        let BuiltImage { tree, platform, config, annotations } = image;
        Self { tree, platform, config, annotations }
    }
}

struct Raw {
    tree: GuestTree,
    platform: wit::Platform,
    config: String,
    annotations: Vec<(String, String)>,
}

impl Plugin {
    /// Describes the images.
    ///
    /// # Errors
    /// [`CallError`] tells wrong parameters, the plugin's own failure, a crash and a limit apart.
    pub async fn build(&self, context: &CallContext, request: BuildRequest) -> Result<Vec<BuiltImage>, CallError> {
        let pre = self.pres().builder.clone().ok_or_else(|| self.no_builder())?;
        self.check_parameters("builder", &request.parameters)?;
        let special = Special { parameters: request.parameters.clone(), ..Special::default() };
        let mut request = request_to_wit(request);
        // The host uses nothing of its own; a builder that keeps results elsewhere has to know.
        if context.build.as_ref().is_some_and(|build| build.options().cache == CacheMode::Ignore) {
            request.options.push(("no-cache".to_owned(), "true".to_owned()));
        }
        let images: Vec<Raw> = call(
            (self.engine(), self.name()),
            context,
            special,
            Box::new(move |store| {
                Box::pin(async move {
                    let instance = pre.instantiate_async(&mut *store).await?;
                    let images = match instance.cooperage_plugin_builder().call_build(&mut *store, &request).await? {
                        Ok(images) => images,
                        Err(error) => return Ok(Err(error)),
                    };
                    let mut raw = Vec::with_capacity(images.len());
                    for wit_builder::Image { tree, platform, config, annotations } in images {
                        let tree = store.data_mut().table.delete(tree)?;
                        raw.push(Raw { tree, platform, config, annotations });
                    }
                    Ok(Ok(raw))
                })
            }),
        )
        .await?;
        images.into_iter().map(|image| self.built(image)).collect()
    }

    /// How well the plugin fits the main context: 0 not at all, 100 certainly.
    ///
    /// # Errors
    /// As for [`Plugin::build`].
    pub async fn detect(&self, context: &CallContext) -> Result<u8, CallError> {
        let pre = self.pres().builder.clone().ok_or_else(|| self.no_builder())?;
        let fit: u8 = call(
            (self.engine(), self.name()),
            context,
            Special::default(),
            Box::new(move |store| {
                Box::pin(async move {
                    let instance = pre.instantiate_async(&mut *store).await?;
                    instance.cooperage_plugin_builder().call_detect(&mut *store).await
                })
            }),
        )
        .await?;
        Ok(fit.min(100))
    }

    fn no_builder(&self) -> CallError {
        CallError::Role { plugin: self.name().to_owned(), role: "builder" }
    }

    fn built(&self, image: Raw) -> Result<BuiltImage, CallError> {
        let wrong = |message: String| CallError::Contract { plugin: self.name().to_owned(), message };
        let tree = image.tree.into_tree().map_err(CallError::Failed)?;
        let config: Value = serde_json::from_str(&image.config)
            .map_err(|error| wrong(format!("its image configuration is no JSON: {error}")))?;
        if !config.is_object() {
            return Err(wrong("its image configuration is no JSON object".to_owned()));
        }
        let platform = platform_from_wit(image.platform);
        Ok(BuiltImage { tree, platform, config, annotations: annotations(image.annotations) })
    }
}

fn request_to_wit(request: BuildRequest) -> wit_builder::Request {
    wit_builder::Request {
        parameters: request.parameters.to_string(),
        platforms: request.platforms.iter().map(platform_to_wit).collect(),
        build_platform: platform_to_wit(&request.build_platform),
        arguments: request.arguments,
        labels: request.labels,
        epoch: request.epoch,
        options: request.options,
    }
}
