//! Why a plugin cannot be loaded, and what would help.

use std::path::PathBuf;

use cooperage_store::Digest;

use crate::call::{CallError, raising};
use crate::compile::child::CompileError;
use crate::compile::outline::OutlineError;
use crate::engine::CompileLimits;
use crate::limits::{Amount, doubled};
use crate::link::Misfit;

/// Why a plugin cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file has other bytes than it should.
    #[error("{path} has the digest {actual}, expected {expected}")]
    Digest {
        /// The file.
        path: PathBuf,
        /// What it should have.
        expected: Digest,
        /// What it has.
        actual: Digest,
    },
    /// It is no component for this host.
    #[error(transparent)]
    Outline(#[from] OutlineError),
    /// It cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It does not fit this host.
    #[error("it does not fit this host:\n{}", .0.iter().map(|misfit| format!("  {misfit}")).collect::<Vec<_>>().join("\n"))]
    Link(Vec<Misfit>),
    /// What it says of itself cannot be used.
    #[error("its description is wrong: {0}")]
    Description(String),
    /// It failed while it was asked what it is.
    #[error("it cannot describe itself: {0}")]
    Describe(Box<CallError>),
}

impl LoadError {
    /// Where it is a limit of compiling that keeps a plugin out: what to write to raise it.
    pub fn raising(&self, plugin: &str, limits: &CompileLimits) -> Option<String> {
        let setting = match self {
            Self::Outline(OutlineError::TooLarge { size, .. }) => {
                let enough = Amount::Size(size.div_ceil(1 << 20) << 20);
                format!("component: {enough}")
            }
            Self::Compile(CompileError::Exceeded { setting, .. }) => doubled(limits, (*setting)?)?,
            _ => return None,
        };
        Some(raising(plugin, &setting))
    }
}
