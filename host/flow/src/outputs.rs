//! Whether the outputs that expressions name are among those that plugins give, told before anything runs.

use crate::diagnostic::{Code, Diagnostic, Report, nearest};
use crate::file::check::expressions;
use crate::plan::{Meaning, Node, Plan, StepId, StepView};
use crate::references::{Reference, Use, list};
use std::collections::HashMap;

/// Port: what a plugin gives, where that is known without running it.
pub trait KnownOutputs {
    /// The names of all outputs that a step will have; None if only running it can tell. An output whose name is an
    /// expression that cannot be known yet makes it unknown.
    fn outputs(&self, step: &StepView<'_>) -> Option<Vec<String>>;
}

impl Plan {
    /// Checks every `steps.NAME.OUTPUT` of the plan.
    ///
    /// # Errors
    /// Each output that its step will not have.
    pub fn check_outputs(&self, known: &dyn KnownOutputs) -> Result<(), Report> {
        let by_id: HashMap<&StepId, &Node> = self.nodes.iter().map(|node| (&node.id, node)).collect();
        let mut found = Vec::new();
        for node in &self.nodes {
            for expression in expressions(&node.step) {
                let asked = |other: &Reference| {
                    expression
                        .references()
                        .iter()
                        .any(|one| one.usage == Use::Presence && one.step == other.step && one.output == other.output)
                };
                let named = expression.references().iter().filter(|one| one.usage == Use::Output && !asked(one));
                for reference in named {
                    let ids = match node.meanings.get(&reference.step) {
                        Some(Meaning::One(id)) => std::slice::from_ref(id),
                        Some(Meaning::All(ids)) => ids.as_slice(),
                        None => &[],
                    };
                    let targets: Vec<&Node> = ids.iter().filter_map(|id| by_id.get(id).copied()).collect();
                    found.extend(self.unknown_output(&targets, reference, known));
                }
            }
        }
        if found.is_empty() { Ok(()) } else { Err(Report::new(found)) }
    }

    /// Instances of a matrix may have outputs of different names: one of them must have it.
    fn unknown_output(&self, targets: &[&Node], reference: &Reference, known: &dyn KnownOutputs) -> Option<Diagnostic> {
        let output = reference.output.as_ref().filter(|_| !targets.is_empty())?;
        let mut names = Vec::new();
        for target in targets {
            let input = target.step.input.as_ref().map(|input| input.value.as_str());
            let view = StepView { id: &target.id, uses: &target.step.uses.value, with: self.known(target), input };
            names.extend(known.outputs(&view)?);
        }
        if names.contains(output) {
            return None;
        }
        names.sort();
        names.dedup();
        let names = || names.iter().map(String::as_str);
        let hint = match nearest(output, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names().next().is_none() => format!("`{}` has no outputs", reference.step),
            None => format!("the outputs of `{}` are {}", reference.step, list(names())),
        };
        let message = format!("the step `{}` has no output `{output}`", reference.step);
        let span = reference.output_span.clone();
        Some(Diagnostic::error(&self.source, Code::UnknownOutput, span, message).hint(hint))
    }
}
