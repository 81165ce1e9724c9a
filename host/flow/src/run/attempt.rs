//! One step from queue to end: attempts, waits between them, time limits, being told to stop; knows no other step.

use super::cancel::Cancel;
use super::group::Group;
use super::journal::{Keeping, Recalled, stamp};
use super::ports::{Event, FaultKind, Observer, Runner, StepCall, StepError, StepOutputs};
use super::status::{Change, Status};
use crate::file::Retry;
use crate::plan::StepId;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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

    /// Makes a change and tells about it. A change that cannot happen is a defect of the run loop.
    pub fn change(&self, change: Change, event: Event) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let next = status.after(change);
        debug_assert!(next.is_some(), "{}: {change:?} while {}", self.id, *status);
        let Some(next) = next else { return };
        *status = next;
        drop(status);
        self.tell(event);
    }

    /// Tells about something that changes nothing.
    pub fn tell(&self, event: Event) {
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
    /// Of the other instances of its matrix.
    pub group: Option<Group>,
    pub keeping: Option<Keeping>,
    /// Cancels the flow.
    pub cancel: Cancel,
    pub grace: Duration,
    /// Runs on for `grace` when the flow is cancelled.
    pub survivor: bool,
}

/// How a step ended.
pub(super) struct Ended {
    pub result: Result<StepOutputs, StepError>,
    /// 0 for a step that was not done again.
    pub attempts: u32,
    pub duration: Duration,
    /// Of its entry in the journal, if that was kept or found.
    pub stamp: String,
    pub resumed: bool,
}

/// Why a call was told to stop.
enum Stop {
    TimedOut,
    Cancelled,
}

/// A place among the steps that run, and one among the instances of the matrix.
type Place = (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit);

impl Task {
    /// Takes what an earlier run left, or runs the step and keeps what comes of it.
    pub async fn run(self) -> Ended {
        let Some(keeping) = &self.keeping else {
            return self.attempts().await;
        };
        let key = match keeping.recall(&self.call, self.runner.as_ref()).await {
            Recalled::Done(outputs, stamp) => {
                let result = self.runner.resume(&self.call, &outputs).await.map(|()| outputs);
                let resumed = result.is_ok();
                return Ended { result, attempts: 0, duration: Duration::ZERO, stamp, resumed };
            }
            Recalled::Open(key) => key,
        };
        if let Err(reason) = keeping.forget(&self.call).await {
            self.life.tell(Event::NotKept { reason });
        }
        let ended = self.attempts().await;
        if let (Some(key), Ok(outputs)) = (key, &ended.result)
            && let Err(reason) = keeping.keep(&self.call, self.runner.as_ref(), key, ended.stamp.clone(), outputs).await
        {
            self.life.tell(Event::NotKept { reason });
        }
        ended
    }

    /// Runs attempts until one succeeds, fails for good or the flow is cancelled.
    async fn attempts(&self) -> Ended {
        let mut started = None;
        let mut attempt = 0;
        let result = loop {
            self.life.change(Change::Ready, Event::Queued);
            let Some(place) = self.place().await else {
                break Err(self.cancelled("before it began"));
            };
            started.get_or_insert_with(Instant::now);
            attempt += 1;
            self.life.change(Change::Start, Event::Started { attempt });
            let result = self.attempt(attempt).await;
            let error = match result {
                Err(error) if error.retryable && attempt < self.retry.attempts && !self.is_stopped() => error,
                result => {
                    // Before the place is free: the next instance must not take it.
                    if let (Err(_), Some(group), false) = (&result, &self.group, self.is_stopped()) {
                        group.failed(&self.call.id.to_string());
                    }
                    break result;
                }
            };
            drop(place);
            let delay =
                self.retry.delay_after(attempt).max(error.retry_after.unwrap_or_default()).min(Retry::MAX_DELAY);
            self.life.change(Change::Pause, Event::Retrying { attempt, delay, error });
            tokio::select! {
                biased;
                () = self.told_to_stop(Some(self.grace)) => break Err(self.cancelled("before it was tried again")),
                () = sleep(delay) => {}
            }
        };
        let duration = started.map_or(Duration::ZERO, |started| started.elapsed());
        Ended { result, attempts: attempt, duration, stamp: stamp(), resumed: false }
    }

    /// A free place, or None if the flow is cancelled before there is one. What cleans up waits for its place all the
    /// same: its time begins with it, and the others that run end in theirs.
    async fn place(&self) -> Option<Place> {
        let place = async {
            // Whoever waits for its own kind takes no place from others.
            let own = match &self.group {
                Some(group) => group.place().await,
                None => None,
            };
            Some((own, self.places.clone().acquire_owned().await.ok()?))
        };
        tokio::select! {
            biased;
            () = self.told_to_stop(None) => None,
            place = place => place,
        }
    }

    /// Returns when the step has to give up. What cleans up goes on for `grace` after the flow is cancelled; without
    /// one, whatever becomes of the flow.
    async fn told_to_stop(&self, grace: Option<Duration>) {
        let flow = async {
            self.cancel.cancelled().await;
            match grace {
                _ if !self.survivor => {}
                Some(grace) => sleep(grace).await,
                None => std::future::pending().await,
            }
        };
        let group = async {
            match &self.group {
                Some(group) => group.stopped().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = flow => {}
            () = group => {}
        }
    }

    fn is_stopped(&self) -> bool {
        self.cancel.is_cancelled() || self.group.as_ref().is_some_and(|group| group.culprit().is_some())
    }

    fn cancelled(&self, when: &str) -> StepError {
        cancelled(when, self.group.as_ref().and_then(Group::culprit))
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
                () = self.told_to_stop(Some(self.grace)) => Stop::Cancelled,
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
            (Stop::Cancelled, Ok(Err(_))) => Err(self.cancelled("while it ran")),
            (Stop::Cancelled, Err(_)) => Err(self.cancelled("while it ran; it did not stop by itself")),
            (Stop::TimedOut, late) => Err(timed_out(self.call.timeout.unwrap_or_default(), late.is_ok())),
        }
    }
}

/// `culprit` is another instance of the same matrix, if its failure is the reason.
pub(super) fn cancelled(when: &str, culprit: Option<&str>) -> StepError {
    let why = culprit.map(|culprit| format!(", as `{culprit}` failed")).unwrap_or_default();
    StepError::new(FaultKind::Cancelled, format!("cancelled {when}{why}"))
}

fn timed_out(limit: Duration, stopped: bool) -> StepError {
    let how = if stopped { "" } else { " and did not stop when told to" };
    let mut error =
        StepError::new(FaultKind::TimedOut, format!("took longer than {}{how}", humantime::format_duration(limit)));
    error.hint = Some("raise `timeout` if it needs more time".to_string());
    error
}
