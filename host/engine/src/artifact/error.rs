//! Why a plugin cannot be had.

use std::path::PathBuf;

use cooperage_store::Digest;

use crate::compile::outline::NotAComponent;
use crate::http::UNKNOWN_AUTHORITY;

/// Why a plugin cannot be read, packed, fetched or pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A plugin reference has none of the known forms.
    #[error("`{reference}` is no plugin reference: {reason}")]
    Reference {
        /// What was written.
        reference: String,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// No such plugin.
    #[error("{0}")]
    NotFound(String),
    /// A file or blob is something other than a component.
    #[error("{what} is not a WebAssembly component: {is}")]
    NotAComponent {
        /// Which artifact or file.
        what: String,
        /// What it is instead.
        is: NotAComponent,
    },
    /// The component is damaged, or the artifact is none of a plugin.
    #[error("{what}: {reason}")]
    Invalid {
        /// Which artifact or file.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The bytes are not those that were asked for.
    #[error("{what} is {actual}, expected {expected}")]
    Digest {
        /// Which content.
        what: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// Something is larger than allowed.
    #[error("{what} has {size} bytes, more than the {limit} allowed")]
    TooLarge {
        /// Which content.
        what: String,
        /// Its size, or what came of it so far.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The credentials cannot be read.
    #[error(transparent)]
    Credentials(#[from] crate::credentials::Error),
    /// The registry wants other credentials.
    #[error("{registry} refuses {reference}: {reason}; log in with `coop registry login {registry}`")]
    Unauthenticated {
        /// The registry.
        registry: String,
        /// What was asked for.
        reference: String,
        /// What it says.
        reason: String,
    },
    /// The certificate of the registry is signed by an authority that the user has not named.
    #[error("{reference}: TLS with {registry}: {}", UNKNOWN_AUTHORITY)]
    Untrusted {
        /// The registry.
        registry: String,
        /// What was asked for.
        reference: String,
    },
    /// The registry cannot be reached, or fails.
    #[error("{reference}: {reason}")]
    Registry {
        /// What was asked for.
        reference: String,
        /// What happened, with causes.
        reason: String,
    },
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn invalid(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Invalid { what: what.into(), reason: reason.to_string() }
    }

    /// The same about what the user knows as `what`.
    pub(crate) fn about(self, what: &str) -> Self {
        let what = what.to_owned();
        match self {
            Self::Invalid { reason, .. } => Self::Invalid { what, reason },
            Self::NotAComponent { is, .. } => Self::NotAComponent { what, is },
            other => other,
        }
    }

    /// Checks that `bytes` are the content `expected`.
    pub(crate) fn verify(what: impl FnOnce() -> String, expected: &Digest, bytes: &[u8]) -> Result<(), Self> {
        let actual = Digest::of(bytes);
        if actual == *expected { Ok(()) } else { Err(Self::Digest { what: what(), expected: *expected, actual }) }
    }
}
