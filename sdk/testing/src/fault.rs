//! Faults that a case asks for: which call of the host fails, and how.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cooperage_engine::Gate;
use cooperage_solve::{Cancel, Error, ErrorKind};
use schemars::JsonSchema;
use serde::Deserialize;

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fault {
    /// Where.
    pub at: Place,
    /// Which call there, counted from 1; without it every one.
    pub nth: Option<u32>,
    /// How.
    pub error: Failure,
}

/// Where a fault can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// HTTP requests.
    Http,
    /// TCP connections that are opened.
    Tcp,
    /// Images that are built on.
    Images,
    /// The layers of such images.
    Layers,
    /// Images that are moved.
    Registries,
    /// Files behind URLs.
    Sources,
    /// Blobs of the store.
    Content,
    /// Secrets.
    Secrets,
    /// Values that the plugin keeps.
    State,
    /// Processes.
    Run,
}

/// What goes wrong: a kind of error, or for HTTP also an answer that is none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Failure {
    /// An error.
    Kind(Kind),
    /// HTTP: this status without a body, instead of the exchange.
    Status {
        /// Such as 503.
        status: u16,
    },
    /// HTTP: the connection ends within the body.
    Cut {
        /// How many bytes arrive.
        #[serde(rename = "cut-after")]
        cut_after: usize,
    },
}

/// The kinds of error a fault can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A passing fault; for HTTP a connection that is refused.
    Unavailable,
    /// Nothing is heard; an unavailable far side everywhere but in HTTP.
    Timeout,
    /// It is not there.
    NotFound,
    /// It is refused.
    Denied,
    /// Other credentials are wanted.
    Unauthenticated,
    /// It contradicts the state of things.
    Conflict,
    /// A limit is reached.
    Limit,
    /// A defect.
    Internal,
    /// The user cancels the call meanwhile. Conformance asks for it; a case cannot.
    #[serde(skip)]
    Cancelled,
}

impl Kind {
    /// The error that a host function gives.
    pub(crate) fn error(self, at: &str) -> Error {
        let kind = match self {
            Self::Unavailable | Self::Timeout => ErrorKind::Unavailable,
            Self::NotFound => ErrorKind::NotFound,
            Self::Denied => ErrorKind::Denied,
            Self::Unauthenticated => ErrorKind::Unauthenticated,
            Self::Conflict => ErrorKind::Conflict,
            Self::Limit => ErrorKind::Limit,
            Self::Internal => ErrorKind::Internal,
            Self::Cancelled => ErrorKind::Cancelled,
        };
        Error::new(kind, format!("the case wants a fault at {at}"))
    }
}

/// The faults of a case, with a count of the calls so far.
#[derive(Clone)]
pub(crate) struct Faults {
    faults: Arc<[Fault]>,
    calls: Arc<Mutex<BTreeMap<Place, u32>>>,
    /// What stops the call, and since when it is stopped.
    cancel: Arc<OnceLock<Cancel>>,
    cancelled: Arc<OnceLock<Instant>>,
}

impl Faults {
    pub(crate) fn new(faults: &[Fault]) -> Self {
        Self { faults: faults.into(), calls: Arc::default(), cancel: Arc::default(), cancelled: Arc::default() }
    }

    /// Stops the call when a fault wants that.
    pub(crate) fn cancel_by(&self, cancel: Cancel) {
        let _ = self.cancel.set(cancel);
    }

    /// How long ago the call was cancelled.
    pub(crate) fn since_cancelled(&self) -> Option<Duration> {
        self.cancelled.get().map(Instant::elapsed)
    }

    /// Counts one call, and tells whether it fails.
    pub(crate) fn next(&self, at: Place) -> Option<Failure> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let number = calls.entry(at).or_default();
        *number += 1;
        let due = |fault: &&Fault| fault.at == at && fault.nth.is_none_or(|nth| nth == *number);
        let fault = self.faults.iter().find(due).map(|fault| fault.error.clone());
        if let (Some(Failure::Kind(Kind::Cancelled)), Some(cancel)) = (&fault, self.cancel.get()) {
            let _ = self.cancelled.set(Instant::now());
            cancel.cancel();
        }
        fault
    }

    /// The same for places where only errors make sense; `Malformed` cases never get here.
    pub(crate) fn check(&self, at: Place, name: &str) -> Result<(), Error> {
        match self.next(at) {
            Some(Failure::Kind(kind)) => Err(kind.error(name)),
            _ => Ok(()),
        }
    }

    /// Faults that were never reached: the case is about something that did not happen.
    pub(crate) fn unmet(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let met = |fault: &&Fault| calls.get(&fault.at).copied().unwrap_or(0) >= fault.nth.unwrap_or(1);
        let unmet = self.faults.iter().filter(|fault| !met(fault));
        unmet.map(|fault| format!("the fault {fault:?} was never reached")).collect()
    }
}

impl Gate for Faults {
    fn pass(&self, at: &str) -> Result<(), Error> {
        let place = match at {
            "content" => Place::Content,
            "secrets" => Place::Secrets,
            "state" => Place::State,
            "registries" => Place::Registries,
            _ => return Ok(()),
        };
        self.check(place, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_that_is_named_fails_and_no_other() {
        let faults = Faults::new(&[
            Fault { at: Place::State, nth: Some(2), error: Failure::Kind(Kind::Limit) },
            Fault { at: Place::Run, nth: None, error: Failure::Kind(Kind::Internal) },
            Fault { at: Place::Http, nth: Some(1), error: Failure::Status { status: 503 } },
        ]);
        let kinds: Vec<_> = (0..3).map(|_| faults.pass("state").err().map(|error| error.kind)).collect();
        assert_eq!(kinds, [None, Some(ErrorKind::Limit), None]);
        assert!(faults.check(Place::Run, "run").is_err() && faults.check(Place::Run, "run").is_err());
        assert_eq!(faults.unmet().len(), 1, "{:?}", faults.unmet());
        assert_eq!(faults.next(Place::Http), Some(Failure::Status { status: 503 }));
        assert!(faults.unmet().is_empty());
    }
}
