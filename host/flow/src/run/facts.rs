//! What is known of the steps of a plan at one moment, and what follows from it for a step; runs nothing.

use super::cancel::Cancel;
use super::log::StepLog;
use super::ports::{Handle, StepCall};
use super::status::{SkipReason, Status};
use crate::diagnostic::{Code, Diagnostic};
use crate::expression::{Scope, StepValues};
use crate::plan::{Meaning, Node, Plan, StepId};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// What came of a step, as far as others see it.
#[derive(Clone)]
pub(crate) struct Fact {
    pub status: Status,
    pub values: Arc<Map<String, Value>>,
    pub tree: Option<Handle>,
}

/// What is known of all steps.
pub(crate) struct Facts<'a> {
    plan: &'a Plan,
    by_id: HashMap<&'a StepId, usize>,
    facts: Vec<Fact>,
}

impl<'a> Facts<'a> {
    /// Nothing is known.
    pub fn new(plan: &'a Plan) -> Facts<'a> {
        let waiting = Fact { status: Status::Waiting, values: Arc::default(), tree: None };
        let by_id = plan.nodes.iter().enumerate().map(|(index, node)| (&node.id, index)).collect();
        Facts { plan, by_id, facts: vec![waiting; plan.nodes.len()] }
    }

    pub fn get(&self, index: usize) -> &Fact {
        &self.facts[index]
    }

    pub fn set(&mut self, index: usize, fact: Fact) {
        self.facts[index] = fact;
    }

    /// The call of a step that runs, or the reason why it cannot; the error is an expression that fails.
    pub fn call(&self, node: &Node, scope: &Scope) -> Result<Result<StepCall, SkipReason>, Box<Diagnostic>> {
        let mut trees = Vec::with_capacity(node.inputs.len());
        for input in &node.inputs {
            let fact = self.by_id.get(&input.step).map(|index| &self.facts[*index]);
            // Even a step that runs after failures cannot run without its input.
            let Some(fact) = fact.filter(|fact| fact.status == Status::Succeeded) else {
                return Ok(Err(SkipReason::NoResult(input.step.to_string())));
            };
            let Some(tree) = &fact.tree else {
                let field = if input.name.is_empty() { "in" } else { "inputs" };
                let message = format!("the step `{}` gives no files", input.step.step);
                return Err(Diagnostic::error(&self.plan.source, Code::InvalidValue, input.span.clone(), message)
                    .hint(format!(
                        "`{field}` needs a step that makes files; its values are reached by `steps.NAME.OUTPUT`"
                    ))
                    .into());
            };
            trees.push((input.name.clone(), tree.clone()));
        }
        let step = &node.step;
        let main = trees.iter().position(|(name, _)| name.is_empty()).map(|at| trees.remove(at).1);
        Ok(Ok(StepCall {
            id: node.id.clone(),
            uses: step.uses.value.clone(),
            parameters: step.with.evaluate(scope)?,
            secrets: step.with.secrets(scope),
            input: main,
            inputs: trees,
            attempt: 0,
            timeout: step.timeout,
            log: StepLog::default(),
            cancel: Cancel::new(),
        }))
    }

    /// What the expressions of a step see.
    pub fn scope(&self, node: &Node, success: bool, failure: bool) -> Scope {
        let steps = node.meanings.iter().map(|(name, meaning)| (name.clone(), self.meant(meaning)));
        Scope {
            steps: steps.collect(),
            env: self.plan.variables.clone(),
            matrix: node.instance.clone(),
            image: node.id.image.clone(),
            failure,
            success,
        }
    }

    /// What a name means: the outputs of one step, or lists of those of all instances.
    fn meant(&self, meaning: &Meaning) -> StepValues {
        let fact = |id: &StepId| self.by_id.get(id).map(|index| &self.facts[*index]);
        match meaning {
            Meaning::One(id) => match fact(id) {
                Some(fact) => StepValues { status: fact.status.as_str(), values: fact.values.clone() },
                // It was not chosen to run.
                None => StepValues { status: Status::Skipped.as_str(), values: Arc::default() },
            },
            Meaning::All(ids) => {
                let facts: Vec<_> = ids.iter().map(fact).collect();
                let names = facts.iter().flatten().flat_map(|fact| fact.values.keys());
                let list = |name: &String| {
                    let value = |fact: &Option<&Fact>| fact.and_then(|fact| fact.values.get(name)).cloned();
                    facts.iter().map(|fact| value(fact).unwrap_or_default()).collect()
                };
                let values: Map<_, _> = names.map(|name| (name.clone(), Value::Array(list(name)))).collect();
                let statuses = facts.iter().map(|fact| fact.map_or(Status::Skipped, |fact| fact.status));
                StepValues { status: together(statuses).as_str(), values: Arc::new(values) }
            }
        }
    }
}

/// The status of all instances as one: the first of failed, cancelled, skipped and succeeded that any has.
fn together(statuses: impl Iterator<Item = Status>) -> Status {
    let rank = |status: &Status| match status {
        Status::Failed => 0,
        Status::Cancelled => 1,
        Status::Skipped => 2,
        Status::Succeeded => 3,
        _ => 4,
    };
    statuses.min_by_key(rank).unwrap_or(Status::Skipped)
}
