//! What a run of a plan would do, as far as that can be known without running anything; changes nothing.
//!
//! A step whose result is there is taken as done, so that the steps after it can be judged too. Of a step that would
//! run it is assumed that it succeeds.

use super::facts::{Fact, Facts};
use super::journal::{Journal, Keeping, Recalled};
use super::ports::{Preview, Runner, StepOutputs};
use super::status::{SkipReason, Status};
use crate::expression::{Expression, Scope};
use crate::file::Condition;
use crate::plan::{Meaning, Node, Plan, StepId};
use crate::references::Use;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// What would come of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// An earlier run has done it, and this one goes on from there.
    Resumed,
    /// Its result is in the cache.
    Hit,
    /// It would run.
    Miss,
    /// It would not run.
    Skip,
    /// Only a run can tell.
    Unknown,
}

impl Expected {
    fn as_str(self) -> &'static str {
        match self {
            Expected::Resumed => "resumed",
            Expected::Hit => "hit",
            Expected::Miss => "miss",
            Expected::Skip => "skip",
            Expected::Unknown => "unknown",
        }
    }
}

/// What would come of one step, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepForecast {
    /// Which one.
    pub id: StepId,
    /// What would come of it.
    pub expected: Expected,
    /// Why; empty for what is resumed or a hit.
    pub reason: String,
    /// Whether its `if` holds, as long as nothing fails; None if that depends on what steps give.
    pub condition: Option<bool>,
}

/// What would come of every step, in the order of the plan.
#[derive(Debug, Clone)]
pub struct Forecast<'a> {
    plan: &'a Plan,
    /// In the order of the plan.
    pub steps: Vec<StepForecast>,
}

/// Looks at every step of a plan. With a journal, what an earlier run has done counts as done.
pub async fn forecast<'a>(plan: &'a Plan, runner: &dyn Runner, journal: Option<Arc<dyn Journal>>) -> Forecast<'a> {
    let mut prophet = Prophet::new(plan, journal);
    let mut steps = Vec::with_capacity(plan.nodes.len());
    for (index, node) in plan.nodes.iter().enumerate() {
        let judged = prophet.judge(index, node, runner).await;
        prophet.sight(index, &judged);
        steps.push(StepForecast {
            id: node.id.clone(),
            expected: judged.expected,
            reason: judged.reason,
            condition: judged.condition,
        });
    }
    Forecast { plan, steps }
}

struct Prophet<'a> {
    plan: &'a Plan,
    facts: Facts<'a>,
    by_id: HashMap<&'a StepId, usize>,
    journal: Option<Arc<dyn Journal>>,
    expected: Vec<Expected>,
    stamps: Vec<Option<String>>,
}

struct Judged {
    expected: Expected,
    reason: String,
    condition: Option<bool>,
    outputs: Option<StepOutputs>,
    stamp: Option<String>,
}

impl Judged {
    fn new(expected: Expected, reason: impl Into<String>, condition: Option<bool>) -> Judged {
        Judged { expected, reason: reason.into(), condition, outputs: None, stamp: None }
    }
}

impl<'a> Prophet<'a> {
    fn new(plan: &'a Plan, journal: Option<Arc<dyn Journal>>) -> Prophet<'a> {
        let by_id = plan.nodes.iter().enumerate().map(|(index, node)| (&node.id, index)).collect();
        Prophet { plan, facts: Facts::new(plan), by_id, journal, expected: Vec::new(), stamps: Vec::new() }
    }

    async fn judge(&self, index: usize, node: &Node, runner: &dyn Runner) -> Judged {
        let scope = self.facts.scope(node, true, false);
        let condition = match self.condition(node, &scope) {
            Ok(condition) => condition,
            Err(reason) => return Judged::new(Expected::Unknown, reason, None),
        };
        if condition == Some(false) {
            let fails = matches!(&node.step.condition, Some(Condition::Expression(only)) if only.calls("failure"));
            let reason =
                if fails { "it runs only after a failure".to_string() } else { SkipReason::Condition.to_string() };
            return Judged::new(Expected::Skip, reason, condition);
        }
        let data = || node.dependencies.iter().filter(|edge| edge.data).map(|edge| edge.node);
        let name = |index: usize| self.plan.nodes[index].id.to_string();
        if let Some(empty) = data().find(|index| self.expected[*index] == Expected::Skip)
            && !node.step.survives_failure()
        {
            return Judged::new(Expected::Skip, SkipReason::NoResult(name(empty)).to_string(), condition);
        }
        if let Some(open) = data().find(|index| !self.is_done(*index) && self.expected[*index] != Expected::Skip) {
            let reason = format!("it uses what `{}` gives, which is not known yet", name(open));
            return Judged::new(Expected::Unknown, reason, condition);
        }
        if condition.is_none() {
            return Judged::new(Expected::Unknown, "its condition depends on steps that would run", condition);
        }
        let call = match self.facts.call(node, &scope) {
            Ok(Ok(call)) => call,
            Ok(Err(reason)) => return Judged::new(Expected::Skip, reason.to_string(), condition),
            Err(diagnostic) => return Judged::new(Expected::Unknown, diagnostic.message, condition),
        };
        if let Some(keeping) = self.keeping(node)
            && let Recalled::Done(outputs, stamp) = keeping.recall(&call, runner).await
        {
            let judged = Judged::new(Expected::Resumed, "", condition);
            return Judged { outputs: Some(outputs), stamp: Some(stamp), ..judged };
        }
        debug_assert_eq!(index, self.expected.len());
        match runner.preview(&call).await {
            Preview::Hit(outputs) => Judged { outputs: Some(outputs), ..Judged::new(Expected::Hit, "", condition) },
            Preview::Miss(reason) => Judged::new(Expected::Miss, reason, condition),
            Preview::Unknown(reason) => Judged::new(Expected::Unknown, reason, condition),
        }
    }

    /// Whether the condition holds as long as nothing fails; None if it depends on what is not known.
    fn condition(&self, node: &Node, scope: &Scope) -> Result<Option<bool>, String> {
        match &node.step.condition {
            None => Ok(Some(true)),
            Some(Condition::Constant(value)) => Ok(Some(*value)),
            Some(Condition::Expression(expression)) if self.depends(node, expression) => Ok(None),
            Some(Condition::Expression(expression)) => {
                expression.holds(scope).map(Some).map_err(|diagnostic| diagnostic.message)
            }
        }
    }

    /// Whether an expression needs a value that is not known. How a step would end is assumed to be known.
    fn depends(&self, node: &Node, expression: &Expression) -> bool {
        let ids = |name: &str| match node.meanings.get(name) {
            Some(Meaning::One(id)) => std::slice::from_ref(id),
            Some(Meaning::All(ids)) => ids.as_slice(),
            None => &[],
        };
        let open = |id: &StepId| {
            let index = self.by_id.get(id);
            index.is_some_and(|index| !self.is_done(*index) && self.expected[*index] != Expected::Skip)
        };
        let needed = expression.references().iter().filter(|reference| reference.usage != Use::Status);
        needed.flat_map(|reference| ids(&reference.step)).any(open)
    }

    fn is_done(&self, index: usize) -> bool {
        matches!(self.expected[index], Expected::Hit | Expected::Resumed)
    }

    fn keeping(&self, node: &Node) -> Option<Keeping> {
        let journal = self.journal.clone()?;
        let before = node.dependencies.iter().map(|edge| {
            let status = self.facts.get(edge.node).status.as_str();
            format!("{} {}", self.plan.nodes[edge.node].id.key(), self.stamps[edge.node].as_deref().unwrap_or(status))
        });
        let mut edges = node.dependencies.iter();
        let unchanged = edges.all(|edge| matches!(self.expected[edge.node], Expected::Resumed | Expected::Skip));
        Some(Keeping { journal, before: before.collect(), unchanged })
    }

    /// Remembers what was found out about a step.
    fn sight(&mut self, index: usize, judged: &Judged) {
        let status = if judged.expected == Expected::Skip { Status::Skipped } else { Status::Succeeded };
        let StepOutputs { values, tree } = judged.outputs.clone().unwrap_or_default();
        self.facts.set(index, Fact { status, values: Arc::new(values), tree });
        self.expected.push(judged.expected);
        self.stamps.push(judged.stamp.clone());
    }
}

impl fmt::Display for Forecast<'_> {
    /// One line per step: what would come of it, what it is, and why.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (line, step) in self.plan.lines().zip(&self.steps) {
            write!(f, "{:7}  {line}", step.expected.as_str())?;
            match step.reason.as_str() {
                "" => writeln!(f)?,
                reason => writeln!(f, "  as {reason}")?,
            }
        }
        Ok(())
    }
}

/// The plan, in which every step has `expected`, `reason` and `holds` besides.
impl Serialize for Forecast<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut plan = serde_json::to_value(self.plan).map_err(serde::ser::Error::custom)?;
        let steps = plan.get_mut("steps").and_then(serde_json::Value::as_array_mut);
        for (step, own) in steps.into_iter().flatten().zip(&self.steps) {
            step["expected"] = serde_json::json!(own.expected);
            step["reason"] = serde_json::json!(own.reason);
            step["holds"] = serde_json::json!(own.condition);
        }
        plan.serialize(serializer)
    }
}
