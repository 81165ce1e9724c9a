//! Whether the result of a step is in the cache: describes it as a run would, with a build that does nothing anew.

use cooperage_flow::{Preview, StepCall, StepError, StepOutputs};
use cooperage_solve::{Build, BuildOptions, CacheMode, Cancel, Reporter};

use super::order::Order;
use super::{Steps, call_fault, fault, image_outputs};
use crate::commands::build::assemble;
use crate::plugins::Ready;

/// What a plugin may ask for and still change nothing when it is only asked what it would do.
const HARMLESS: [&str; 3] = ["run", "sources", "state"];

impl Steps {
    pub(super) async fn preview_of(&self, call: &StepCall) -> Preview {
        if self.options.cache == CacheMode::Ignore {
            return Preview::Miss("the cache does not count".to_owned());
        }
        let (ready, cancel) = match (self.session.plugins.load(&call.uses).await, Cancel::new()) {
            (Ok(ready), Ok(cancel)) => (ready, cancel),
            (Err(error), _) => return Preview::Unknown(fault(error).message),
            (_, Err(error)) => return Preview::Unknown(error.to_string()),
        };
        let asked = &ready.plugin.description().capabilities;
        if asked.iter().any(|request| !HARMLESS.contains(&request.class.as_str())) {
            return Preview::Miss("it acts outside of the store".to_owned());
        }
        let order = match Order::of(&ready, &call.parameters) {
            Ok(order) => order,
            Err(error) => return Preview::Unknown(error.message),
        };
        let context = order.as_ref().and_then(|order| order.context.as_ref());
        let build = match self.build_options(call, context, cancel) {
            Ok(options) => BuildOptions { cache: CacheMode::Only, reporter: Reporter::silent(), ..options },
            Err(error) => return Preview::Unknown(error.message),
        };
        let build = Build::new(build);
        let known = match order {
            Some(order) => self.known_image(call, &ready, order, &build).await,
            None => self.outputs(call, &ready, &build).await,
        };
        match (known, build.missed()) {
            (_, Some(step)) => Preview::Miss(format!("{step} is not in the cache")),
            (Ok(outputs), None) => Preview::Hit(outputs),
            (Err(error), None) => Preview::Unknown(error.message),
        }
    }

    async fn known_image(
        &self,
        call: &StepCall,
        ready: &Ready,
        order: Order,
        build: &Build,
    ) -> Result<StepOutputs, StepError> {
        let request = order.request(self.options.epoch);
        let images = self.session.plugins.build(ready, build, request).await.map_err(call_fault)?;
        // Where all layers are there, an image is a document that names them.
        let image = assemble(build, images).await.map_err(fault)?;
        image_outputs(call, &image)
    }
}
