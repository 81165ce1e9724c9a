//! The host's side of a run: starts the helper, hands it the specification, passes on output, ends it in time.

use std::path::PathBuf;

use crate::cancel::Cancel;
use crate::error::Error;
use crate::spec::{Exit, Isolation, Outcome, Spec};

/// How a sandbox is made.
#[derive(Debug, Clone)]
pub struct Config {
    /// How strongly processes are fenced off.
    pub isolation: Isolation,
    /// A program whose `main` calls [`crate::helper`] first; usually the running `coop` itself.
    pub helper: PathBuf,
    /// The OCI runtime; looked for in the usual directories when absent.
    pub runtime: Option<PathBuf>,
}

/// Runs processes; cheap to share, every run is on its own.
#[derive(Debug, Clone)]
pub struct Sandbox {
    isolation: Isolation,
    helper: PathBuf,
    runtime: Option<PathBuf>,
}

impl Sandbox {
    /// Finds out what this machine allows and settles on an isolation.
    ///
    /// # Errors
    /// `Unsupported` when the isolation asked for does not work here.
    pub fn new(config: Config) -> Result<Self, Error> {
        let _ = &config.runtime;
        Ok(Self { isolation: config.isolation, helper: config.helper, runtime: config.runtime })
    }

    /// The isolation in use; never `Auto`.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Runs one process to its end and blocks this thread meanwhile; `output` gets standard output and standard
    /// error as they come. Limits that cannot be kept are logged as warnings.
    ///
    /// # Errors
    /// When the process could not be started; its own failure is an `Exit`.
    pub fn run(&self, spec: &Spec, output: &mut dyn FnMut(&[u8]), cancel: &Cancel) -> Result<Exit, Error> {
        let outcome = self.run_to_outcome(spec, output, cancel)?;
        for warning in &outcome.warnings {
            tracing::warn!("{warning}");
        }
        Ok(outcome.exit)
    }

    /// Like [`Sandbox::run`], but returns the warnings.
    ///
    /// # Errors
    /// As `run`.
    pub fn run_to_outcome(&self, spec: &Spec, output: &mut dyn FnMut(&[u8]), cancel: &Cancel) -> Result<Outcome, Error> {
        let _ = (spec, output, cancel, &self.helper, &self.runtime);
        Err(Error::Setup("being written".to_owned()))
    }
}
