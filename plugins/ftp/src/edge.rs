//! What the client needs from the outside: connections, the content store, files of a tree, time. The plugin has them
//! from the contract, tests from sockets and vectors.

use std::time::Duration;

use cooperage_sdk::{Descriptor, Result};

/// Opens connections.
pub trait Network {
    /// Connects; each read and write then waits at most `idle`.
    ///
    /// # Errors
    /// `unavailable` for what may pass, `denied` if the place is not allowed.
    fn connect(&self, host: &str, port: u16, idle: Duration) -> Result<Box<dyn Link>>;
}

/// One connection. Dropped, it is closed.
pub trait Link {
    /// At most `max` bytes, as soon as there are any; empty at the end.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks.
    fn read(&mut self, max: usize) -> Result<Vec<u8>>;
    /// Sends all bytes.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Begins TLS as a client, with a server whose certificate is valid for `name`.
    ///
    /// # Errors
    /// Whatever is wrong with the certificate or the handshake.
    fn start_tls(&mut self, name: &str) -> Result<()>;
    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// `unavailable` if the connection is broken.
    fn finish(&mut self) -> Result<()>;
    /// The address of the far side, without the port.
    fn peer(&self) -> String;
}

/// Bytes that can be read more than once, from any place on.
pub trait Payload {
    /// How many there are.
    fn size(&self) -> u64;
    /// Begins to read at `offset`.
    ///
    /// # Errors
    /// Those of the place where they are.
    fn open(&self, offset: u64) -> Result<Box<dyn Chunks>>;
}

/// Bytes in pieces.
pub trait Chunks {
    /// The next bytes, at most `max`; empty at the end.
    ///
    /// # Errors
    /// Those of the place where they come from.
    fn chunk(&mut self, max: usize) -> Result<Vec<u8>>;
}

/// Content by digest.
pub trait Store {
    /// The size, or none if it is not there.
    ///
    /// # Errors
    /// Those of the store.
    fn stat(&self, digest: &str) -> Result<Option<u64>>;
    /// The content as something to send.
    ///
    /// # Errors
    /// `not-found`.
    fn payload(&self, digest: &str) -> Result<Box<dyn Payload>>;
    /// Begins new content.
    fn sink(&self) -> Box<dyn Sink>;
}

/// New content. Dropped without commit, nothing remains.
pub trait Sink {
    /// Appends.
    ///
    /// # Errors
    /// Those of the store, for instance its quota.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Keeps it.
    ///
    /// # Errors
    /// `conflict` if it hashes to something else than `expected`.
    fn commit(self: Box<Self>, media_type: &str, expected: Option<&str>) -> Result<Descriptor>;
}

/// The files of a step's input. Paths begin with `/`.
pub trait Files {
    /// What a path is, a link at its end followed; none if there is nothing.
    ///
    /// # Errors
    /// Those of the evaluation of the tree.
    fn stat(&self, path: &str) -> Result<Option<File>>;
    /// What is in a directory, sorted by name, links as what they are.
    ///
    /// # Errors
    /// Those of the evaluation of the tree.
    fn entries(&self, path: &str) -> Result<Vec<(String, File)>>;
    /// A file, a link at its end followed.
    ///
    /// # Errors
    /// `not-found`.
    fn payload(&self, path: &str) -> Result<Box<dyn Payload>>;
    /// Something that is equal for equal content of all files.
    ///
    /// # Errors
    /// Those of the evaluation of the tree.
    fn identity(&self) -> Result<String>;
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// A regular file of so many bytes.
    Regular(u64),
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// Something that FTP cannot carry.
    Other,
}

/// Bytes per call between plugin and host: large enough that the call itself does not count.
pub const CHUNK: usize = 1 << 20;

impl Payload for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn open(&self, offset: u64) -> Result<Box<dyn Chunks>> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        Ok(Box::new(Rest(self[from..].to_vec())))
    }
}

struct Rest(Vec<u8>);

impl Chunks for Rest {
    fn chunk(&mut self, max: usize) -> Result<Vec<u8>> {
        let rest = self.0.split_off(self.0.len().min(max));
        Ok(std::mem::replace(&mut self.0, rest))
    }
}
