//! What host and helper say to each other over the helper's standard streams; knows nothing of what it means.
//!
//! Host to helper, on standard input: the length of a JSON header (u32, little endian), the header, then the bytes
//! of standard input and of each `Mount::File` in order. Secrets thus never appear in arguments, environment or on
//! disk. The host keeps the pipe open: a byte `c` cancels the run, its end means that the host is gone.
//! Helper to host, on standard error: one JSON `Report` a line, written by the helper and by the first process of
//! the sandbox. Standard output carries what the process prints.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::spec::{Exit, Isolation, Mount, Spec};

/// More than this in one request is refused by the helper.
const MAX_HEADER: usize = 64 << 20;

/// What the helper is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub spec: Spec,
    /// Never `Auto`.
    pub isolation: Isolation,
    /// The OCI runtime, for `Isolation::Oci`.
    pub runtime: Option<PathBuf>,
    /// Unique name of the run: of its cgroups and its OCI container.
    pub name: String,
    /// Length of standard input, then of each `Mount::File`.
    pub lengths: Vec<usize>,
}

/// What happened; the host folds all of them into one result.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The process ended.
    Exited(Exit),
    /// The helper ended it, or found out why it ended: stronger than `Exited`.
    Ended(Exit),
    /// A limit is weaker than asked for.
    Warning(String),
    /// Nothing could be run: stronger than all others.
    Failed(Failure),
}

/// Why nothing could be run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Failure {
    Invalid(String),
    Setup(String),
    Unsupported { what: String, hint: String },
    Runtime(String),
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Names the step in which a system call failed.
pub(crate) trait Step<T> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: std::fmt::Display> Step<T> for std::result::Result<T, E> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Failure::Setup(format!("{}: {error}", what())))
    }
}

impl Request {
    pub fn write(&mut self, mut to: impl Write) -> io::Result<()> {
        self.lengths = std::iter::once(self.spec.process.stdin.len()).chain(self.files().map(<[u8]>::len)).collect();
        let header = serde_json::to_vec(self)?;
        let length = u32::try_from(header.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(4 + header.len());
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&header);
        to.write_all(&frame)?;
        to.write_all(&self.spec.process.stdin)?;
        for file in self.files() {
            to.write_all(file)?;
        }
        Ok(())
    }

    pub fn read(mut from: impl Read) -> io::Result<Self> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_HEADER {
            return Err(io::Error::other("oversized request"));
        }
        let mut header = vec![0; length];
        from.read_exact(&mut header)?;
        let mut request: Self = serde_json::from_slice(&header)?;
        let mut lengths = request.lengths.iter().copied();
        let mut next = || -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; lengths.next().ok_or(io::ErrorKind::InvalidData)?];
            from.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        request.spec.process.stdin = next()?;
        for mount in &mut request.spec.mounts {
            if let Mount::File { bytes, .. } = mount {
                *bytes = next()?;
            }
        }
        Ok(request)
    }

    fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.spec.mounts.iter().filter_map(|mount| match mount {
            Mount::File { bytes, .. } => Some(bytes.as_slice()),
            _ => None,
        })
    }
}

impl Report {
    pub fn line(&self) -> Vec<u8> {
        // A report is made of strings and numbers only: it cannot fail to serialise.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Process;

    #[test]
    fn a_request_arrives_whole_and_secrets_stay_out_of_the_header() {
        let file =
            |text: &str| Mount::File { bytes: text.into(), target: "/run/s".into(), mode: 0o400, uid: 1, gid: 2 };
        let spec = Spec {
            process: Process { stdin: b"in".to_vec(), ..Process::default() },
            mounts: vec![file("sesame"), file(""), file("third")],
            ..Spec::default()
        };
        let mut sent =
            Request { spec, isolation: Isolation::Native, runtime: None, name: "n".into(), lengths: Vec::new() };
        let mut frame = Vec::new();
        sent.write(&mut frame).unwrap();
        let header = u32::from_le_bytes(frame[..4].try_into().unwrap()) as usize;
        assert!(!String::from_utf8_lossy(&frame[4..4 + header]).contains("sesame"));
        frame.push(b'c');
        let mut rest = frame.as_slice();
        let got = Request::read(&mut rest).unwrap();
        assert_eq!(rest, b"c");
        assert_eq!(got.spec.process.stdin, b"in");
        assert_eq!(got.files().collect::<Vec<_>>(), [&b"sesame"[..], b"", b"third"]);
    }
}
