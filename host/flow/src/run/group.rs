//! What the instances of one matrix have in common while they run: places, and being stopped when one fails.

use super::cancel::Cancel;
use crate::matrix::Matrix;
use std::sync::{Arc, OnceLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Shared by all instances. Clones are the same group.
#[derive(Clone)]
pub(super) struct Group {
    places: Option<Arc<Semaphore>>,
    stopped: Cancel,
    culprit: Arc<OnceLock<String>>,
    fail_fast: bool,
}

impl Group {
    /// A failure that does not fail the flow, `tolerated`, does not stop the others either.
    pub fn new(matrix: &Matrix, tolerated: bool) -> Group {
        Group {
            places: matrix.max_parallel.map(|places| Arc::new(Semaphore::new(places))),
            stopped: Cancel::new(),
            culprit: Arc::default(),
            fail_fast: matrix.fail_fast && !tolerated,
        }
    }

    /// One of them failed: stops the others, if the file says so.
    pub fn failed(&self, name: &str) {
        if self.fail_fast {
            // The first is to blame; whether this is it does not matter.
            let _ = self.culprit.set(name.to_string());
            self.stopped.cancel();
        }
    }

    /// Who failed, once all are told to stop.
    pub fn culprit(&self) -> Option<&str> {
        self.culprit.get().map(String::as_str)
    }

    /// Returns once all are told to stop.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// A place among the instances; None where there is no limit.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed, so that no permit means no limit.
        self.places.clone()?.acquire_owned().await.ok()
    }
}
