//! One step from queue to end: attempts, waits between them, time limits, being told to stop; knows no other step.

use super::cancel::Cancel;
use super::ports::{Event, FaultKind, Observer, Runner, StepCall, StepError, StepOutputs};
use super::status::{Change, Status};
use crate::file::Retry;
use crate::plan::StepId;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

/// The status of a step, changed by whoever works on it at the time, and told to the observer.
pub(super) struct Life {
    pub id: StepId,
    observer: Arc<dyn Observer>,
    status: Mutex<Status>,
}

impl Life {
    pub fn new(id: StepId, observer: Arc<dyn Observer>) -> Life {
        Life { id, observer, status: Mutex::new(Status::Waiting) }
    }

    pub fn status(&self) -> Status {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change and tells about it. A change that cannot happen is a defect of the run loop.
    pub fn change(&self, change: Change, event: Event) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let next = status.after(change);
        debug_assert!(next.is_some(), "{}: {change:?} while {}", self.id, *status);
        let Some(next) = next else { return };
        *status = next;
        drop(status);
        self.observer.event(&self.id, event);
    }
}

/// A step that is about to run.
pub(super) struct Task {
    pub life: Arc<Life>,
    pub runner: Arc<dyn Runner>,
    /// What each attempt gets, but for its number and its cancel flag.
    pub call: StepCall,
    pub retry: Retry,
    pub places: Arc<Semaphore>,
    /// Cancels the flow.
    pub cancel: Cancel,
    pub grace: Duration,
    /// Runs on for `grace` when the flow is cancelled.
    pub survivor: bool,
}

/// How a step ended.
pub(super) struct Ended {
    pub result: Result<StepOutputs, StepError>,
    pub attempts: u32,
    pub duration: Duration,
}

/// Why a call was told to stop.
enum Stop {
    TimedOut,
    Cancelled,
}

impl Task {
    /// Runs attempts until one succeeds, fails for good or the flow is cancelled.
    pub async fn run(self) -> Ended {
        let mut started = None;
        let mut attempt = 0;
        let result = loop {
            self.life.change(Change::Ready, Event::Queued);
            let Some(place) = self.place().await else {
                break Err(cancelled("before it began"));
            };
            let begin = *started.get_or_insert_with(Instant::now);
            attempt += 1;
            self.life.change(Change::Start, Event::Started { attempt });
            let result = self.attempt(attempt).await;
            drop(place);
            let error = match result {
                Err(error) if error.retryable && attempt < self.retry.attempts && !self.cancel.is_cancelled() => error,
                result => {
                    return Ended { result, attempts: attempt, duration: begin.elapsed() };
                }
            };
            let delay =
                self.retry.delay_after(attempt).max(error.retry_after.unwrap_or_default()).min(Retry::MAX_DELAY);
            self.life.change(Change::Pause, Event::Retrying { attempt, delay, error });
            tokio::select! {
                biased;
                () = self.stop_waiting() => break Err(cancelled("before it was tried again")),
                () = sleep(delay) => {}
            }
        };
        Ended { result, attempts: attempt, duration: started.map_or(Duration::ZERO, |started| started.elapsed()) }
    }

    /// A free place, or None if the flow is cancelled before there is one.
    async fn place(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.stop_waiting() => None,
            place = self.places.clone().acquire_owned() => place.ok(),
        }
    }

    /// Returns when a step that is not running has to give up.
    async fn stop_waiting(&self) {
        self.cancel.cancelled().await;
        if self.survivor {
            sleep(self.grace).await;
        }
    }

    async fn attempt(&self, attempt: u32) -> Result<StepOutputs, StepError> {
        let call = StepCall { attempt, cancel: Cancel::new(), ..self.call.clone() };
        let cancel = call.cancel.clone();
        let mut work = self.runner.run(call);
        let stop = async {
            let time_is_up = async {
                match self.call.timeout {
                    Some(limit) => sleep(limit).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = time_is_up => Stop::TimedOut,
                () = self.stop_waiting() => Stop::Cancelled,
            }
        };
        let stop = tokio::select! {
            biased;
            result = &mut work => return result,
            stop = stop => stop,
        };
        cancel.cancel();
        let late = timeout(self.grace, work).await;
        match (stop, late) {
            (Stop::Cancelled, Ok(Ok(outputs))) => Ok(outputs),
            (Stop::Cancelled, Ok(Err(_))) => Err(cancelled("while it ran")),
            (Stop::Cancelled, Err(_)) => Err(cancelled("while it ran; it did not stop by itself")),
            (Stop::TimedOut, late) => Err(timed_out(self.call.timeout.unwrap_or_default(), late.is_ok())),
        }
    }
}

fn cancelled(when: &str) -> StepError {
    StepError::new(FaultKind::Cancelled, format!("cancelled {when}"))
}

fn timed_out(limit: Duration, stopped: bool) -> StepError {
    let how = if stopped { "" } else { " and did not stop when told to" };
    let mut error =
        StepError::new(FaultKind::TimedOut, format!("took longer than {}{how}", humantime::format_duration(limit)));
    error.hint = Some("raise `timeout` if it needs more time".to_string());
    error
}
