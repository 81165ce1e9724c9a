//! What a later run must know to spare a step that succeeded: what it worked on, and whether its result is still there.

use std::sync::Arc;

use cooperage_flow::{Gone, Handle, StepCall, StepError, StepOutputs};
use cooperage_solve::{Build, Cancel, Selection, Tree};
use cooperage_store::{Digest, Platform};
use serde_json::{Value, json};

use super::order::Order;
use super::{Steps, fault};
use crate::commands::image::find;

impl Steps {
    /// The plugin, the platform, where images come from and go to, and the state of all trees that the step gets. Where
    /// they go counts only for a plugin that may push them: a corrected target must not make the tests before it run
    /// again. The flow file and the reports are left out where the step gets the project: they change from run to run,
    /// and what the step does with the first is in its parameters.
    pub(super) async fn fingerprint_of(&self, call: &StepCall) -> Option<String> {
        let ready = self.session.plugins.load(&call.uses).await.ok()?;
        let order = Order::of(&ready, &call.parameters).ok()?;
        // To a task its parameter `context` is its own affair.
        let context = order.as_ref().and_then(|order| order.context.as_ref());
        let build = Build::new(self.build_options(call, context, Cancel::new().ok()?).ok()?);
        let (options, routing) = (build.options(), self.session.registries.routing());
        let mut parts = vec![
            ready.plugin.digest().to_string(),
            Platform::host().to_string(),
            format!("{:?} {:?}", options.epoch, options.network),
            format!("pull {:?}", routing.pull),
        ];
        if ready.plugin.description().capabilities.iter().any(|request| request.class == "registries") {
            parts.push(format!("push {:?} {}", routing.push, self.skips(call)));
        }
        let main = match (&call.input, context) {
            (None, None) => self.project_state(&build).await,
            _ => state(&build, "", &Selection::default()).await,
        };
        parts.push(main?.to_string());
        for (name, _) in &call.inputs {
            parts.push(format!("{name} {}", state(&build, name, &Selection::default()).await?));
        }
        Some(parts.join("\n"))
    }

    async fn project_state(&self, build: &Build) -> Option<Digest> {
        let selection = Selection { exclude: self.own_files.clone(), ..Selection::default() };
        *self.project_state.get_or_init(|| state(build, "", &selection)).await
    }

    /// A tree is its layers, an image lies in the store under its digest; values alone need nothing.
    pub(super) async fn saved(&self, call: &StepCall, outputs: &StepOutputs) -> Option<Value> {
        if let Some(tree) = &outputs.tree {
            return Some(json!({ "layers": tree.downcast_ref::<Tree>()?.frozen()? }));
        }
        let ready = self.session.plugins.load(&call.uses).await.ok()?;
        let image = outputs.values.get("digest").filter(|_| ready.plugin.roles().builder);
        Some(image.map_or(Value::Null, |digest| json!({ "image": digest })))
    }

    /// Fails if the image or a layer is no longer there.
    pub(super) fn restored(&self, saved: &Value) -> Result<Option<Handle>, Gone> {
        if let Some(layers) = saved.get("layers") {
            let layers = serde_json::from_value(layers.clone()).map_err(|_| Gone)?;
            let tree = Build::new(self.options.clone()).thaw(layers).map_err(|_| Gone)?;
            return Ok(Some(Arc::new(tree.ok_or(Gone)?)));
        }
        let Some(image) = saved.get("image").and_then(Value::as_str) else {
            return if saved.is_null() { Ok(None) } else { Err(Gone) };
        };
        let digest: Digest = image.parse().map_err(|_| Gone)?;
        match self.options.store.blobs().size(&digest) {
            Ok(Some(_)) => Ok(None),
            _ => Err(Gone),
        }
    }

    /// Gives an image its name back: another build may have it since.
    pub(super) async fn resumed(&self, call: &StepCall, outputs: &StepOutputs) -> Result<(), StepError> {
        let ready = self.session.plugins.load(&call.uses).await.map_err(fault)?;
        let Some(digest) = outputs.values.get("digest").and_then(Value::as_str) else { return Ok(()) };
        if Order::of(&ready, &call.parameters)?.is_none() {
            return Ok(());
        }
        let (image, _) = find(&self.options.store, digest).map_err(fault)?;
        self.name(call, &image)
    }
}

/// The state of a context; None if it cannot be told.
async fn state(build: &Build, name: &str, selection: &Selection) -> Option<Digest> {
    build.state(name, selection).await.ok().flatten()
}
