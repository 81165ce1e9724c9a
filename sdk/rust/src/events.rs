//! Telling the user what happens: log lines and steps with progress. The host formats, limits and redacts.
//!
//! Without a host (see the crate's introduction) all of this does nothing.

use crate::bindings::imports::cooperage::plugin::events as host;

pub use host::{Level, Unit};

/// Without the host its functions panic; a unit test of a plugin should not.
const HAS_HOST: bool = cfg!(target_arch = "wasm32");

/// Writes one line to the log of the call. The macros [`info!`](crate::info) and its siblings are shorter.
pub fn log(level: Level, message: impl AsRef<str>) {
    if HAS_HOST {
        host::log(level, message.as_ref());
    }
}

/// True once the user or a deadline has cancelled this call: finish soon.
#[must_use]
pub fn cancelled() -> bool {
    HAS_HOST && host::cancelled()
}

/// Fails with `cancelled` once the call is cancelled; for loops that may last.
///
/// # Errors
/// [`crate::ErrorKind::Cancelled`].
pub fn check_cancelled() -> crate::Result<()> {
    if cancelled() { Err(crate::Error::cancelled("the call was cancelled")) } else { Ok(()) }
}

/// A piece of work that the user sees. Dropping it ends it well, unless [`Step::fail`] was called.
#[derive(Debug)]
pub struct Step(Option<host::Step>);

impl Step {
    /// Begins a piece of work under the one that this call belongs to.
    #[must_use]
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(HAS_HOST.then(|| host::Step::new(name.as_ref())))
    }

    /// Begins a part of this piece.
    #[must_use]
    pub fn child(&self, name: impl AsRef<str>) -> Self {
        Self(self.0.as_ref().map(|step| step.child(name.as_ref())))
    }

    /// So many bytes of `total`, if that is known.
    pub fn bytes(&self, done: u64, total: Option<u64>) {
        self.progress(done, total, Unit::Bytes);
    }

    /// So many of `total`, if that is known; both absolute.
    pub fn progress(&self, done: u64, total: Option<u64>, unit: Unit) {
        if let Some(step) = &self.0 {
            step.progress(done, total, unit);
        }
    }

    /// Output of a far side, in chunks as they come.
    pub fn output(&self, bytes: &[u8]) {
        if let Some(step) = &self.0 {
            step.output(bytes);
        }
    }

    /// The result was there already.
    pub fn cached(&self) {
        if let Some(step) = &self.0 {
            step.cached();
        }
    }

    /// The piece failed; the message is for the user.
    pub fn fail(&self, message: impl AsRef<str>) {
        if let Some(step) = &self.0 {
            step.fail(message.as_ref());
        }
    }

    /// Does `work` as this step: an error ends the step as failed and goes on to the caller.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn run<T>(self, work: impl FnOnce(&Self) -> crate::Result<T>) -> crate::Result<T> {
        work(&self).inspect_err(|error| self.fail(&error.message))
    }
}

/// Logs every detail; takes what `format!` takes.
#[macro_export]
macro_rules! trace {
    ($($text:tt)+) => { $crate::events::log($crate::events::Level::Trace, ::std::format!($($text)+)) };
}

/// Logs what is of use when looking for a defect; takes what `format!` takes.
#[macro_export]
macro_rules! debug {
    ($($text:tt)+) => { $crate::events::log($crate::events::Level::Debug, ::std::format!($($text)+)) };
}

/// Logs what is of use to every user; takes what `format!` takes.
#[macro_export]
macro_rules! info {
    ($($text:tt)+) => { $crate::events::log($crate::events::Level::Info, ::std::format!($($text)+)) };
}

/// Logs what is probably not what the user wants; the work goes on; takes what `format!` takes.
#[macro_export]
macro_rules! warn {
    ($($text:tt)+) => { $crate::events::log($crate::events::Level::Warn, ::std::format!($($text)+)) };
}

/// Logs the reason why the work fails; takes what `format!` takes.
#[macro_export]
macro_rules! error {
    ($($text:tt)+) => { $crate::events::log($crate::events::Level::Error, ::std::format!($($text)+)) };
}
