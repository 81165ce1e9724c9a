//! What the unreleased version has of its own: a builder that may answer with an image that exists already.

use futures::future::BoxFuture;
use wasmtime::Store;
use wasmtime::component::InstancePre;

use super::BuilderCalls;
use crate::bindings::next_builder::BuilderPluginPre;
use crate::bindings::next_builder::exports::cooperage::plugin0_2_0_next::builder::{Answer, Image, Request};
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
            Ok(raw_description!(instance.cooperage_plugin0_1_0_plugin().call_describe(&mut *store).await?))
        })
    }

    fn detect<'a>(&'a self, store: &'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<Result<u8, wit::Error>>> {
        Box::pin(async move {
            let instance = self.0.instantiate_async(&mut *store).await?;
            instance.cooperage_plugin0_2_0_next_builder().call_detect(&mut *store).await
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
            let answers = match instance.cooperage_plugin0_2_0_next_builder().call_build(&mut *store, &request).await? {
                Ok(answers) => answers,
                Err(error) => return Ok(Err(error)),
            };
            let table = &mut store.data_mut().table;
            let image = |answer| {
                Ok(match answer {
                    Answer::Existing(base) => RawImage::Existing(table.delete(base)?.0),
                    Answer::Described(Image { tree, platform, config, annotations }) => {
                        let (tree, platform) = (table.delete(tree)?, platform_from_wit(platform));
                        RawImage::Described { tree, platform, config, annotations }
                    }
                })
            };
            answers.into_iter().map(image).collect::<wasmtime::Result<_>>().map(Ok)
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
