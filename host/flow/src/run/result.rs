//! What came of a flow; a value.

use super::ports::{FaultKind, Handle, StepError};
use super::status::{SkipReason, Status};
use crate::diagnostic::Diagnostic;
use crate::matrix::Instance;
use crate::plan::StepId;
use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What came of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// No step failed, other than those with `continue_on_error`.
    Succeeded,
    /// A step failed.
    Failed,
    /// No step failed, but some did not run or not to the end.
    Cancelled,
}

/// A failure and its place in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepFault {
    /// What the runner said, or the run loop.
    pub error: StepError,
    /// The place in the flow file, if the failure has one.
    pub diagnostic: Option<Diagnostic>,
}

/// What came of one step.
#[derive(Clone, Serialize)]
pub struct StepResult {
    /// Which one.
    pub id: StepId,
    /// The values of its matrix that it ran for.
    #[serde(rename = "matrix", serialize_with = "instance")]
    pub instance: Option<Arc<Instance>>,
    /// How it ended.
    pub status: Status,
    /// Its failure does not count.
    pub tolerated: bool,
    /// An earlier run has done it.
    pub resumed: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// From the start of the first attempt to the end of the last, waiting between them included.
    pub duration: Duration,
    /// Its outputs.
    pub values: serde_json::Map<String, serde_json::Value>,
    /// Its tree.
    #[serde(skip)]
    pub tree: Option<Handle>,
    /// Why it failed or was cancelled.
    pub fault: Option<StepFault>,
    /// Why it did not run.
    pub skipped: Option<SkipReason>,
    /// The last of what it said.
    #[serde(skip)]
    pub log: String,
}

fn instance<S: Serializer>(instance: &Option<Arc<Instance>>, serializer: S) -> Result<S::Ok, S::Error> {
    instance.as_deref().serialize(serializer)
}

impl fmt::Debug for StepResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepResult")
            .field("id", &self.id.to_string())
            .field("status", &self.status)
            .field("attempts", &self.attempts)
            .field("values", &self.values)
            .field("fault", &self.fault)
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}

/// What came of a flow.
#[derive(Debug, Clone, Serialize)]
pub struct FlowResult {
    /// What came of the whole.
    pub outcome: Outcome,
    /// Every step of the plan, in its order.
    pub steps: Vec<StepResult>,
    /// From beginning to end.
    pub duration: Duration,
}

impl FlowResult {
    pub(super) fn new(steps: Vec<StepResult>, duration: Duration) -> FlowResult {
        let any = |status| steps.iter().any(|step| step.status == status && !step.tolerated);
        let outcome = match (any(Status::Failed), steps.iter().any(|step| step.status == Status::Cancelled)) {
            (true, _) => Outcome::Failed,
            (false, true) => Outcome::Cancelled,
            (false, false) => Outcome::Succeeded,
        };
        FlowResult { outcome, steps, duration }
    }

    /// The failures that made the flow fail, in the order of the plan.
    pub fn failures(&self) -> impl Iterator<Item = (&StepId, &StepFault)> {
        let failed = self.steps.iter().filter(|step| step.status == Status::Failed && !step.tolerated);
        failed.filter_map(|step| Some((&step.id, step.fault.as_ref()?)))
    }

    /// Whether one of the failures is of that kind.
    pub fn failed_by(&self, kind: FaultKind) -> bool {
        self.failures().any(|(_, fault)| fault.error.kind == kind)
    }

    /// The result of a step.
    pub fn step(&self, id: &StepId) -> Option<&StepResult> {
        self.steps.iter().find(|step| step.id == *id)
    }
}
