//! What 0.1.0 has of its own: a builder that describes every image it answers with.

use futures::future::BoxFuture;
use wasmtime::Store;
use wasmtime::component::InstancePre;

use super::BuilderCalls;
use crate::bindings::builder::BuilderPluginPre;
use crate::bindings::builder::exports::cooperage::plugin::builder::{Image, Request};
use crate::bindings::wit;
use crate::convert::{platform_from_wit, platform_to_wit};
use crate::instance::State;
use crate::roles::{BuildRequest, RawDescription, RawImage, raw_description};

pub(super) struct Builder(BuilderPluginPre<State>);

pub(super) fn builder(pre: InstancePre<State>) -> wasmtime::Result<Builder> {
    BuilderPluginPre::new(pre).map(Builder)
}

impl BuilderCalls for Builder {
    fn describe<'a>(&'a self, store: &'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<RawDescription>> {
        Box::pin(async move {
            let instance = self.0.instantiate_async(&mut *store).await?;
            Ok(raw_description!(instance.cooperage_plugin_plugin().call_describe(&mut *store).await?))
        })
    }

    fn detect<'a>(&'a self, store: &'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<Result<u8, wit::Error>>> {
        Box::pin(async move {
            let instance = self.0.instantiate_async(&mut *store).await?;
            instance.cooperage_plugin_builder().call_detect(&mut *store).await
        })
    }

    fn build<'a>(
        &'a self,
        store: &'a mut Store<State>,
        request: BuildRequest,
    ) -> BoxFuture<'a, wasmtime::Result<Result<Vec<RawImage>, wit::Error>>> {
        let request = request_to_wit(request);
        Box::pin(async move {
            let instance = self.0.instantiate_async(&mut *store).await?;
            let images = match instance.cooperage_plugin_builder().call_build(&mut *store, &request).await? {
                Ok(images) => images,
                Err(error) => return Ok(Err(error)),
            };
            let image = |Image { tree, platform, config, annotations }| {
                let tree = store.data_mut().table.delete(tree)?;
                Ok(RawImage::Described { tree, platform: platform_from_wit(platform), config, annotations })
            };
            images.into_iter().map(image).collect::<wasmtime::Result<_>>().map(Ok)
        })
    }
}

fn request_to_wit(request: BuildRequest) -> Request {
    Request {
        parameters: request.parameters.to_string(),
        platforms: request.platforms.iter().map(platform_to_wit).collect(),
        build_platform: platform_to_wit(&request.build_platform),
        arguments: request.arguments,
        labels: request.labels,
        epoch: request.epoch,
        options: request.options,
    }
}
