//! What the bundled plugins give to later steps, so that a wrong name is told before anything runs.

use std::collections::BTreeSet;

use cooperage_flow::{FlowFile, KnownOutputs, StepView};
use serde_json::Value;

use crate::app::App;

/// Knows the bundled plugins, where the user has not put others in their place.
pub(super) struct Bundled {
    replaced: BTreeSet<String>,
}

impl Bundled {
    pub(super) fn new(app: &App, file: &FlowFile) -> Self {
        let named = file.plugins.iter().map(|plugin| plugin.name.value.clone());
        Self { replaced: named.chain(app.config.plugins.keys().cloned()).collect() }
    }
}

impl KnownOutputs for Bundled {
    fn outputs(&self, step: &StepView<'_>) -> Option<Vec<String>> {
        if self.replaced.contains(step.uses) {
            return None;
        }
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        match step.uses {
            // An image that gets no name has no reference.
            "dockerfile" if step.id.image.is_none() || step.id.instance.is_some() => names(&["digest", "image"]),
            "dockerfile" => names(&["digest", "image", "reference"]),
            "push" => names(&["digest", "reference", "skipped"]),
            "script" => match step.with.get("outputs") {
                None => names(&[]),
                Some(Value::Object(outputs)) if !outputs.keys().any(|name| name.contains("${{")) => {
                    Some(outputs.keys().cloned().collect())
                }
                Some(_) => None,
            },
            _ => None,
        }
    }
}
