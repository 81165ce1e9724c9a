//! Why a process could not be run at all; how a process itself failed is `Exit`, not an error.

use std::io;
use std::path::PathBuf;

/// Why nothing could be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The specification is wrong, such as a relative mount target or no program.
    #[error("{0}")]
    Invalid(String),
    /// This machine does not allow the isolation asked for; `hint` says what to install or change.
    #[error("{what}; {hint}")]
    Unsupported {
        /// What is missing.
        what: String,
        /// What to install or change.
        hint: String,
    },
    /// The helper program could not be started.
    #[error("cannot start the sandbox helper {}: {source}", path.display())]
    Helper {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The helper died without telling how the run ended (killed from outside, or a defect of ours).
    #[error("the sandbox helper died ({status}){}", said(.message))]
    HelperDied {
        /// How it ended.
        status: String,
        /// What it still wrote, if anything.
        message: String,
    },
    /// The sandbox could not be set up: the step and the reason.
    #[error("cannot set up the sandbox: {0}")]
    Setup(String),
    /// The OCI runtime failed before the process ran.
    #[error("{runtime} failed: {message}")]
    Runtime {
        /// Path of the runtime.
        runtime: PathBuf,
        /// What it reported.
        message: String,
    },
    /// Reading or writing the helper's pipes failed.
    #[error("cannot talk to the sandbox helper: {0}")]
    Pipe(#[source] io::Error),
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}
