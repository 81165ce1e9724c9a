//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::Digest;

/// A result of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for is not in the store.
    #[error("{what} is not in the store")]
    NotFound {
        /// What it is, for people.
        what: String,
    },
    /// Bytes do not hash to what they were announced as. Nothing of them was kept.
    #[error("{what} has the digest {actual}, expected {expected}")]
    DigestMismatch {
        /// What the bytes are.
        what: String,
        /// The digest announced.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// More bytes than a limit allows.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What it is.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// Something in the store or from outside is not what it claims to be.
    #[error("{what} is damaged: {why}")]
    Corrupt {
        /// What it is.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A text or value that a user gave makes no sense.
    #[error("{what}: {why}")]
    Invalid {
        /// The text.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The disk or a quota is full. What was being written is gone.
    #[error("no space left while {action} {path}", path = path.display())]
    NoSpace {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
    },
    /// Any other failure of the file system.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something from outside wants more than the limits on layers allow.
    #[error("{what} exceeds a limit: {why}")]
    Exceeds {
        /// What it is.
        what: String,
        /// Which limit.
        why: String,
    },
    /// A file is not what it was when the work began.
    #[error("{what} changed while it was being read: {why}")]
    Changed {
        /// Path of the file.
        what: String,
        /// What differs.
        why: String,
    },
    /// A layer cannot hold this, or this machine cannot make it.
    #[error("{what}: {why}")]
    Unsupported {
        /// What it is about.
        what: String,
        /// Why it cannot be done.
        why: String,
    },
    /// The database refused.
    #[error("the database of the store: {0}")]
    Database(rusqlite::Error),
}

impl Error {
    /// A failure of the file system while doing `action` to `path`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { action, path },
            _ => Self::Io { action, path, source },
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::NoSpace { action: "writing", path: "images.db".into() },
            _ => Self::Database(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_whoever_finds_it() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let error = Error::io("writing", "/store/blob")(kind.into());
            assert_eq!(error.to_string(), "no space left while writing /store/blob");
        }
        let full = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
        assert!(matches!(Error::from(full), Error::NoSpace { .. }));
        let other = Error::io("opening", "/x")(io::ErrorKind::NotFound.into());
        assert!(matches!(other, Error::Io { action: "opening", .. }));
    }
}
