//! The life of a step: one enum, one function through which every change goes; knows not why things change.
//!
//! ```text
//!            ready             start             succeed
//! Waiting ──────────► Queued ─────────► Running ─────────► Succeeded
//!    │                  ▲                 │
//!    │ skip             │ ready           │ pause
//!    ▼                  │                 │
//! Skipped               └─── Pausing ◄────┘
//!
//! Waiting ── resume ──► Succeeded
//! Waiting, Queued, Running, Pausing ── fail ────► Failed
//! Waiting, Queued, Running, Pausing ── cancel ──► Cancelled
//! ```

use serde::Serialize;
use std::fmt;

/// Where a step is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Something it waits for is not over.
    Waiting,
    /// It could run if fewer others did.
    Queued,
    /// The runner is at it.
    Running,
    /// An attempt failed and the next is not due.
    Pausing,
    /// Over, well.
    Succeeded,
    /// Over, not well.
    Failed,
    /// It did not run, see [`SkipReason`].
    Skipped,
    /// Over because the flow was cancelled.
    Cancelled,
}

/// What happens to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Ready,
    Start,
    Pause,
    Succeed,
    Resume,
    Fail,
    Skip,
    Cancel,
}

impl Status {
    /// The status after a change; None for a change that cannot happen.
    pub(crate) fn after(self, change: Change) -> Option<Status> {
        Some(match (self, change) {
            (Status::Waiting | Status::Pausing, Change::Ready) => Status::Queued,
            (Status::Queued, Change::Start) => Status::Running,
            (Status::Running, Change::Pause) => Status::Pausing,
            // An earlier run has done it.
            (Status::Waiting, Change::Resume) => Status::Succeeded,
            (Status::Running, Change::Succeed) => Status::Succeeded,
            (Status::Waiting, Change::Skip) => Status::Skipped,
            // Whoever works on a step may break down at any time.
            (status, Change::Fail) if !status.is_over() => Status::Failed,
            (status, Change::Cancel) if !status.is_over() => Status::Cancelled,
            _ => return None,
        })
    }

    /// Whether nothing changes any more.
    pub fn is_over(self) -> bool {
        matches!(self, Status::Succeeded | Status::Failed | Status::Skipped | Status::Cancelled)
    }

    /// The word that expressions and JSON have for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Waiting => "waiting",
            Status::Queued => "queued",
            Status::Running => "running",
            Status::Pausing => "pausing",
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Skipped => "skipped",
            Status::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a step did not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// Its `if` did not hold.
    Condition,
    /// Something it waits for failed or was cancelled: the name of that step.
    Failure(String),
    /// It uses something of a step that did not run or whose failure was tolerated: the name of that step.
    NoResult(String),
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SkipReason::Condition => f.write_str("its condition does not hold"),
            SkipReason::Failure(step) => write!(f, "`{step}` did not succeed"),
            SkipReason::NoResult(step) => write!(f, "`{step}`, which it uses, has no result"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: [Status; 8] = [
        Status::Waiting,
        Status::Queued,
        Status::Running,
        Status::Pausing,
        Status::Succeeded,
        Status::Failed,
        Status::Skipped,
        Status::Cancelled,
    ];
    const CHANGES: [Change; 8] = [
        Change::Ready,
        Change::Start,
        Change::Pause,
        Change::Succeed,
        Change::Resume,
        Change::Fail,
        Change::Skip,
        Change::Cancel,
    ];

    #[test]
    fn what_is_over_never_changes_and_what_is_not_can_always_be_cancelled() {
        for status in STATUSES {
            let after: Vec<Status> = CHANGES.iter().filter_map(|change| status.after(*change)).collect();
            assert_eq!(after.is_empty(), status.is_over(), "{status}");
            assert_eq!(after.contains(&Status::Cancelled), !status.is_over(), "{status}");
        }
    }
}
