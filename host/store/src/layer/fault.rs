//! How failures inside streams become errors of this crate. Streams speak `io::Error`, so what a reader found wrong
//! with an archive travels inside one and is told apart again here.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// The archive itself is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Malformed(String);

/// The archive wants more than its [`super::Limits`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct LimitReached(String);

/// A file is not what it was said to be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Changed(String);

/// An `io::Error` for an archive that is wrong.
pub(crate) fn malformed(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Malformed(message.into()))
}

/// An `io::Error` for an archive that is too large.
pub(crate) fn limit(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, LimitReached(message.into()))
}

/// An `io::Error` for a file that changed while it was read.
pub(crate) fn changed(message: impl Into<String>) -> io::Error {
    io::Error::other(Changed(message.into()))
}

/// What a decompressor finds wrong with its input is a fault of the archive, not of the disk.
pub(crate) fn of_decompressor(error: io::Error) -> io::Error {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    match error.kind() {
        UnexpectedEof => malformed("the compressed data ends early"),
        InvalidData | InvalidInput | Other if error.raw_os_error().is_none() => {
            malformed(format!("the compressed data is damaged: {error}"))
        }
        _ => error,
    }
}

/// Turns an `io::Error` into this crate's error; `action` is what was being done to `path`.
pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
    let path = path.as_ref().to_owned();
    move |error| {
        if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
            let inner = error.into_inner().and_then(|inner| inner.downcast().ok());
            return *inner.expect("looked at above");
        }
        let what = path.display().to_string();
        match error.get_ref() {
            Some(inner) if inner.is::<Malformed>() => Error::Corrupt { what, why: error.to_string() },
            Some(inner) if inner.is::<LimitReached>() => Error::Exceeds { what, why: error.to_string() },
            Some(inner) if inner.is::<Changed>() => Error::Changed { what, why: error.to_string() },
            _ => Error::io(action, path)(error),
        }
    }
}

/// This crate's error as it travels inside a stream; [`io`] takes it out again.
pub(crate) fn wrap(error: Error) -> io::Error {
    io::Error::other(error)
}

/// The same as [`io`] for the system calls' own error.
pub(crate) fn sys(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(rustix::io::Errno) -> Error {
    let convert = io(action, path);
    move |errno| convert(errno.into())
}

/// A path inside a layer, for the messages of [`io`] and [`sys`].
pub(crate) fn inside(path: &[u8]) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(path))
}
