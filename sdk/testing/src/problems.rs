//! What went wrong at the edges of a call, seen by a fake and told to whoever judges the case.

use std::sync::{Arc, Mutex, PoisonError};

/// A list that many fakes write to. Clones are the same list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Problems(Arc<Mutex<Vec<String>>>);

impl Problems {
    pub(crate) fn add(&self, problem: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(problem.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
