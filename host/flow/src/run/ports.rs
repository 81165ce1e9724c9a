//! What the run loop needs from outside: somebody who does the work, somebody who watches.

use super::cancel::Cancel;
use super::journal::Journal;
use super::log::StepLog;
use super::status::{SkipReason, Status};
use crate::diagnostic::nearest;
use crate::parameters::SecretRef;
use crate::plan::StepId;
use async_trait::async_trait;
use serde::Serialize;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The tree of a step, opaque here: whoever makes it is the one who reads it.
pub type Handle = Arc<dyn Any + Send + Sync>;

/// Does the work of a step. Whoever can only run steps leaves the rest as it is: then nothing is known before a step
/// runs, and none is spared when a flow is resumed.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Runs one attempt. Called on a task of its own. When `call.cancel` is set it should end soon with
    /// [`FaultKind::Cancelled`]; if it does not, it is dropped.
    async fn run(&self, call: StepCall) -> Result<StepOutputs, StepError>;

    /// What a call would do, found out without doing it: nothing may be run, sent or changed.
    async fn preview(&self, _call: &StepCall) -> Preview {
        Preview::Unknown("only running it can tell".to_string())
    }

    /// A text that is another whenever the call may do something else, for reasons that the call does not show: the
    /// plugin's digest, the contents of its trees and of the files that it reads, the platform. None if that cannot be
    /// told.
    async fn fingerprint(&self, _call: &StepCall) -> Option<String> {
        None
    }

    /// What a later process needs besides the values to have the result of a call, such as where its tree lies. None
    /// if nothing can bring it back.
    async fn save(&self, _call: &StepCall, outputs: &StepOutputs) -> Option<serde_json::Value> {
        outputs.tree.is_none().then_some(serde_json::Value::Null)
    }

    /// The tree of what was saved; the error is that something of the result is no longer there. Changes nothing: it is
    /// asked for a mere look too.
    async fn restore(&self, _call: &StepCall, saved: &serde_json::Value) -> Result<Option<Handle>, Gone> {
        if saved.is_null() { Ok(None) } else { Err(Gone) }
    }

    /// A run goes on with what was restored: brings back what others have changed since, such as the name of an image.
    async fn resume(&self, _call: &StepCall, _outputs: &StepOutputs) -> Result<(), StepError> {
        Ok(())
    }
}

/// Something of an earlier result is no longer there, so that the step has to be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// What a call would do.
#[derive(Debug, Clone)]
pub enum Preview {
    /// Nothing: its result is there.
    Hit(StepOutputs),
    /// It would run. Why, in words that follow "as": `the file main.c has changed`.
    Miss(String),
    /// That cannot be told. Why.
    Unknown(String),
}

/// One attempt at one step.
#[derive(Clone)]
pub struct StepCall {
    /// Which step; `id.image` has the name and tag of the image that its flow builds.
    pub id: StepId,
    /// The plugin, by name or by reference.
    pub uses: String,
    /// The parameters: an object, expressions evaluated, secrets as `{"secret": NAME}`.
    pub parameters: serde_json::Value,
    /// The secrets in it. Only these may be resolved: an equal-looking object elsewhere came from a step.
    pub secrets: Vec<SecretRef>,
    /// The tree of the step that `in` names; None without `in`.
    pub input: Option<Handle>,
    /// The trees of the steps that `inputs` names, by the names that the plugin knows them under.
    pub inputs: Vec<(String, Handle)>,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// How long it may take; kept by the run loop.
    pub timeout: Option<Duration>,
    /// Takes what the step says, for reports.
    pub log: StepLog,
    /// Set when time is up or the flow is cancelled.
    pub cancel: Cancel,
}

#[cfg(test)]
impl StepCall {
    pub(super) fn for_test(id: StepId, parameters: serde_json::Value) -> StepCall {
        StepCall {
            id,
            uses: "fake".to_string(),
            parameters,
            secrets: Vec::new(),
            input: None,
            inputs: Vec::new(),
            attempt: 1,
            timeout: None,
            log: StepLog::default(),
            cancel: Cancel::new(),
        }
    }
}

impl fmt::Debug for StepCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepCall")
            .field("id", &self.id)
            .field("uses", &self.uses)
            .field("parameters", &self.parameters)
            .field("secrets", &self.secrets)
            .field("input", &self.input.is_some())
            .field("inputs", &self.inputs.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// What comes of a step.
#[derive(Clone, Default)]
pub struct StepOutputs {
    /// Values by name, for `steps.NAME.OUTPUT`. One named `status` cannot be reached.
    pub values: serde_json::Map<String, serde_json::Value>,
    /// What steps with `in: NAME` get.
    pub tree: Option<Handle>,
}

impl fmt::Debug for StepOutputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepOutputs").field("values", &self.values).field("tree", &self.tree.is_some()).finish()
    }
}

/// What kind of failure it is; the command's exit code depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The work itself failed.
    Failed,
    /// Parameters or expressions make no sense.
    Invalid,
    /// Not allowed: grant, signature, policy, lock.
    Refused,
    /// A registry, disk or engine cannot be reached.
    Unavailable,
    /// Took too long.
    TimedOut,
    /// Ended because it was told to.
    Cancelled,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// What kind of failure it is.
    pub kind: FaultKind,
    /// Whether it may pass: only then is the step tried again.
    pub retryable: bool,
    /// Not before so long.
    pub retry_after: Option<Duration>,
    /// What happened.
    pub message: String,
    /// Where and why, from near to far.
    pub context: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The parameter at fault, as a JSON pointer into `with`: it is shown in the file.
    pub pointer: Option<String>,
    /// If it is the parameter's name that is at fault, not its value: the names that would be right there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<Vec<String>>,
}

impl StepError {
    /// What to do about a parameter: the hint, or the names that may have been meant.
    pub(crate) fn parameter_hint(&self) -> Option<String> {
        let names = || {
            let written = self.pointer.as_ref()?.rsplit('/').next()?;
            let known = self.known.as_ref().filter(|known| !known.is_empty())?;
            Some(match nearest(written, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: `{}`", known.join("`, `")),
            })
        };
        self.hint.clone().or_else(names)
    }

    /// An error that will not pass.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> StepError {
        StepError {
            kind,
            retryable: false,
            retry_after: None,
            message: message.into(),
            context: Vec::new(),
            hint: None,
            pointer: None,
            known: None,
        }
    }

    /// The same as one that may pass.
    pub fn retryable(mut self) -> StepError {
        self.retryable = true;
        self
    }
}

/// Something the user may want to see at once.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Nothing is missing but a free place.
    Queued,
    /// An attempt began, counted from 1.
    Started {
        /// Which attempt.
        attempt: u32,
    },
    /// An attempt failed and another will follow.
    Retrying {
        /// The attempt that failed.
        attempt: u32,
        /// When the next is due.
        delay: Duration,
        /// Why it failed.
        error: StepError,
    },
    /// It will not run.
    Skipped {
        /// Why.
        reason: SkipReason,
    },
    /// It succeeded in an earlier run, and nothing has changed since.
    Resumed,
    /// It succeeded, but a later run will not know.
    NotKept {
        /// Why.
        reason: String,
    },
    /// It is over: succeeded, failed or cancelled.
    Finished {
        /// How.
        status: Status,
        /// From the start of the first attempt.
        duration: Duration,
        /// Why it did not succeed.
        error: Option<StepError>,
    },
}

/// Watches.
pub trait Observer: Send + Sync + 'static {
    /// Something happened to a step. Must return at once; may be called from several threads.
    fn event(&self, step: &StepId, event: Event);
}

/// Looks away.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn event(&self, _: &StepId, _: Event) {}
}

/// How to run.
#[derive(Clone)]
pub struct RunOptions {
    /// How many steps run at a time, at least 1.
    pub parallelism: usize,
    /// How long a step that was told to stop may take to do so, and how long a `finally` or `always()` step may
    /// take once the flow is cancelled.
    pub grace: Duration,
    /// Where the results of steps are kept, so that a later run need not do them again, and where those of an earlier
    /// run are found. None keeps and finds nothing.
    pub journal: Option<Arc<dyn Journal>>,
}

impl fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunOptions")
            .field("parallelism", &self.parallelism)
            .field("grace", &self.grace)
            .field("journal", &self.journal.is_some())
            .finish()
    }
}

impl Default for RunOptions {
    fn default() -> RunOptions {
        RunOptions { parallelism: 4, grace: Duration::from_secs(10), journal: None }
    }
}
