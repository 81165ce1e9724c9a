//! What became of a call that gave no result, and what a caller of the solver sees of it.

use cooperage_solve::{Error, ErrorKind};

use crate::limits::Limit;

/// What became of a call that gave no result.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The plugin says why it failed.
    #[error("{0}")]
    Failed(Box<Error>),
    /// The plugin crashed. Its instance is gone; the next call gets a fresh one.
    #[error("plugin `{plugin}` crashed: {message}")]
    Trap {
        /// The plugin.
        plugin: String,
        /// The panic message if there is one, else what wasmtime says.
        message: String,
        /// Frames of the guest, innermost first, names demangled.
        backtrace: Vec<String>,
    },
    /// The plugin was stopped because it used up a limit.
    #[error("plugin `{plugin}` was stopped: {message}")]
    Limit {
        /// The plugin.
        plugin: String,
        /// Which limit.
        limit: Limit,
        /// What it used.
        message: String,
        /// The setting with twice its value, where raising it may help: `memory: 1GiB`.
        raise: Option<String>,
    },
    /// The parameters do not fit the plugin's schema; the plugin was not run.
    #[error("parameters{pointer}: {message}")]
    Parameters {
        /// JSON pointer to the value that is wrong; empty is the whole.
        pointer: String,
        /// If the last name of the pointer is wrong, not its value: the names that are known there.
        known: Option<Vec<String>>,
        /// What is wrong with it.
        message: String,
    },
    /// The user or a deadline stopped the call.
    #[error("cancelled")]
    Cancelled,
    /// The plugin does not have the role.
    #[error("plugin `{plugin}` is no {role}")]
    Role {
        /// The plugin.
        plugin: String,
        /// What was wanted.
        role: &'static str,
    },
    /// The plugin's answer breaks the contract.
    #[error("plugin `{plugin}` answers what it must not: {message}")]
    Contract {
        /// The plugin.
        plugin: String,
        /// What is wrong.
        message: String,
    },
    /// A defect of ours.
    #[error("calling plugin `{plugin}`: {message}")]
    Internal {
        /// The plugin.
        plugin: String,
        /// What happened.
        message: String,
    },
}

/// What to write to let a plugin have more.
pub(crate) fn raising(plugin: &str, setting: &str) -> String {
    format!(
        "if you trust the plugin with more, write `limits: {{ {setting} }}` beside `from` of the plugin {plugin}, in the \
         flow file or in config.yaml"
    )
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        match error {
            CallError::Failed(error) => *error,
            CallError::Cancelled => Self::cancelled(),
            CallError::Trap { backtrace, .. } => {
                let hint = "this is a defect of the plugin; please report it to its author";
                Self { context: backtrace, ..Self::internal(message).hint(hint) }
            }
            CallError::Limit { plugin, raise, .. } => {
                let raise = raise.map(|raise| raising(&plugin, &raise));
                Self { hint: raise, ..Self::new(ErrorKind::Limit, message) }
            }
            CallError::Parameters { known: Some(known), .. } if !known.is_empty() => {
                Self::invalid(message).hint(format!("known there: `{}`", known.join("`, `")))
            }
            CallError::Parameters { .. } => Self::invalid(message),
            CallError::Role { .. } => Self::new(ErrorKind::Unsupported, message),
            CallError::Contract { .. } | CallError::Internal { .. } => Self::internal(message),
        }
    }
}
