//! `images`: images that exist already, pinned through the build's image source.

use std::sync::Arc;

use cooperage_solve::{Base, Error, ErrorKind};
use wasmtime::component::Resource;

use crate::bindings::imports::cooperage::plugin::images;
use crate::bindings::wit;
use crate::convert::{descriptor_to_wit, error_to_wit, platform_from_wit, platform_to_wit};
use crate::instance::State;

/// One call names no more images than this.
const MOST: usize = 1000;

/// An image pinned by digest.
pub struct GuestBase(pub Arc<Base>);

impl images::Host for State {
    async fn resolve(
        &mut self,
        requests: Vec<images::Request>,
    ) -> wasmtime::Result<Vec<Result<Resource<GuestBase>, wit::Error>>> {
        let count = requests.len();
        let build = match self.build() {
            Ok(_) if count > MOST => {
                Err(Error::new(ErrorKind::Limit, format!("one call resolves at most {MOST} images")))
            }
            other => other,
        };
        let build = match build {
            Ok(build) => build,
            Err(error) => return Ok((0..count).map(|_| Err(error_to_wit(error.clone()))).collect()),
        };
        let requests = requests.into_iter().map(|request| (request.reference, request.platform.map(platform_from_wit)));
        let mut results = Vec::with_capacity(count);
        for resolved in build.resolve_images(requests.collect()).await {
            results.push(match resolved {
                Ok(base) => Ok(self.push(GuestBase(base))?),
                Err(error) => Err(error_to_wit(error)),
            });
        }
        Ok(results)
    }
}

impl images::HostBase for State {
    fn reference(&mut self, this: Resource<GuestBase>) -> wasmtime::Result<String> {
        Ok(self.table.get(&this)?.0.reference.clone())
    }

    fn manifest(&mut self, this: Resource<GuestBase>) -> wasmtime::Result<wit::Descriptor> {
        Ok(descriptor_to_wit(&self.table.get(&this)?.0.manifest))
    }

    fn config(&mut self, this: Resource<GuestBase>) -> wasmtime::Result<String> {
        Ok(self.table.get(&this)?.0.config.value().to_string())
    }

    fn platform(&mut self, this: Resource<GuestBase>) -> wasmtime::Result<wit::Platform> {
        Ok(platform_to_wit(&self.table.get(&this)?.0.platform))
    }

    async fn drop(&mut self, this: Resource<GuestBase>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
