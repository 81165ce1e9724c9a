//! Whether the result of a step is in the cache: describes it as a run would, with a build that does nothing anew.

use cooperage_flow::{Preview, StepCall, StepError, StepOutputs};
use cooperage_solve::{Build, BuildOptions, CacheMode, Cancel, Reporter};
use serde_json::{Map, json};

use super::{Steps, builds, call_fault, context, fault, request};
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
        let is_builder = builds(&ready, &call.parameters);
        let build = Build::new(BuildOptions {
            cache: CacheMode::Only,
            reporter: Reporter::silent(),
            ..self.build_options(call, context(call).filter(|_| is_builder), cancel)
        });
        let known = match is_builder {
            true => self.known_image(call, &ready, &build).await,
            false => self.outputs(call, &ready, &build).await,
        };
        match (known, build.missed()) {
            (_, Some(step)) => Preview::Miss(format!("{step} is not in the cache")),
            (Ok(outputs), None) => Preview::Hit(outputs),
            (Err(error), None) => Preview::Unknown(error.message),
        }
    }

    async fn known_image(&self, call: &StepCall, ready: &Ready, build: &Build) -> Result<StepOutputs, StepError> {
        let images =
            self.session.plugins.build(ready, build, request(&self.options, call)?).await.map_err(call_fault)?;
        // Where all layers are there, an image is a document that names them.
        let image = assemble(build, images).await.map_err(fault)?;
        let values = Map::from_iter(
            [("digest", &image.digest), ("image", &image.digest)]
                .map(|(name, digest)| (name.to_owned(), json!(digest))),
        );
        Ok(StepOutputs { values, tree: None })
    }
}
