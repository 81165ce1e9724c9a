//! What the core needs from the outside: HTTP, files, secrets, time. The plugin has them from the contract, tests from
//! sockets and vectors.

use std::io::{self, Read};
use std::rc::Rc;
use std::time::{Duration, Instant};

use cooperage_sdk::http::{Headers, Url, read_at_most};
use cooperage_sdk::time::Clock;
use cooperage_sdk::{Error, Result};

/// Bytes asked for at a time.
pub const CHUNK: u32 = 1 << 20;

/// All of the outside.
#[derive(Clone, Copy)]
pub struct Edge<'a> {
    /// Sends requests.
    pub http: &'a dyn Http,
    /// Has files to send, and keeps those that come.
    pub files: &'a dyn Files,
    /// Knows secrets.
    pub vault: &'a dyn Vault,
    /// Waits.
    pub clock: &'a dyn Clock,
}

/// One HTTP exchange, without redirects and retries.
pub trait Http {
    /// Sends a request; an answer of any status is no error.
    ///
    /// # Errors
    /// `unavailable` for what may pass, `denied` if the request is not allowed.
    fn send(&self, exchange: &Exchange) -> Result<Answer>;
}

/// Files to send, and the place for files that come.
pub trait Files {
    /// A file of the step's input.
    ///
    /// # Errors
    /// `invalid-input` without an input, `not-found` without the file.
    fn input(&self, path: &str) -> Result<Rc<dyn Material>>;
    /// A directory of the step's input, as a tar archive.
    ///
    /// # Errors
    /// As for [`input`](Self::input).
    fn pack(&self, path: &str) -> Result<Rc<dyn Material>>;
    /// An image of the store, as an archive of the format `oci` or `docker`.
    ///
    /// # Errors
    /// `not-found` if there is no such image.
    fn image(&self, image: &str, format: &str, name: Option<&str>) -> Result<Rc<dyn Material>>;
    /// The same bytes, read to their end and kept, so that their length is known.
    ///
    /// # Errors
    /// Those of the store and of the bytes.
    fn measured(&self, material: &dyn Material) -> Result<Rc<dyn Material>>;
    /// Content that the store has already.
    ///
    /// # Errors
    /// Those of the store.
    fn held(&self, digest: &str) -> Result<Option<Held>>;
    /// Begins new content.
    fn sink(&self) -> Box<dyn Sink>;
    /// Makes the result of the call: one file of `size` bytes. Nothing remains if the bytes end early or fail.
    ///
    /// # Errors
    /// Those of the store and of the bytes.
    fn keep(&self, path: &str, mode: u32, size: u64, bytes: &mut dyn Read) -> Result<()>;
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
    fn commit(self: Box<Self>, expected: Option<&str>) -> Result<Held>;
}

/// Content of the store.
pub struct Held {
    /// Its bytes.
    pub bytes: Box<dyn Bytes>,
    /// How many there are.
    pub size: u64,
}

/// Secrets by name.
pub trait Vault {
    /// The value.
    ///
    /// # Errors
    /// `denied` without a grant, `not-found` if the user supplied none.
    fn reveal(&self, name: &str) -> Result<Vec<u8>>;
}

/// Bytes that can be read more than once.
pub trait Material {
    /// How many; none if nobody knows before their end.
    fn length(&self) -> Option<u64>;
    /// Begins to read.
    ///
    /// # Errors
    /// Those of the store.
    fn open(&self) -> Result<Box<dyn Bytes>>;
}

/// Bytes on their way.
pub trait Bytes {
    /// The next ones, at most `max`; empty at the end.
    ///
    /// # Errors
    /// `unavailable` if they come from a connection that breaks.
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>>;
}

/// A request.
pub struct Exchange {
    /// In capitals.
    pub method: String,
    /// Where to.
    pub url: Url,
    /// Header fields.
    pub headers: Headers,
    /// What to send, one after the other.
    pub payload: Vec<Rc<dyn Material>>,
    /// When all of it must be over.
    pub deadline: Option<Deadline>,
}

impl Exchange {
    /// Bytes of the payload, if that is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.payload.iter().map(|material| material.length()).sum()
    }
}

/// An answer.
pub struct Answer {
    /// For instance 200.
    pub status: u16,
    /// Header fields.
    pub headers: Headers,
    /// Where it came from.
    pub url: Url,
    /// As it comes.
    pub body: Box<dyn Bytes>,
}

impl Answer {
    /// The body, and whether there was more than `max` bytes of it.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks.
    pub fn read(&mut self, max: usize) -> Result<(Vec<u8>, bool)> {
        read_at_most(max, |max| self.body.chunk(max))
    }
}

/// A moment, and how long the wait for it was when it was set.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    moment: Instant,
    patience: Duration,
}

impl Deadline {
    /// From now on.
    #[must_use]
    pub fn after(patience: Duration) -> Self {
        Self { moment: Instant::now() + patience, patience }
    }

    /// What is left.
    ///
    /// # Errors
    /// `unavailable` once nothing is left.
    pub fn left(&self) -> Result<Duration> {
        let left = self.moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::unavailable(format!("it was not over within {} s", self.patience.as_secs())));
        }
        Ok(left)
    }
}

/// Several materials as one stream.
pub struct Chain {
    rest: std::vec::IntoIter<Rc<dyn Material>>,
    current: Option<Box<dyn Bytes>>,
}

impl Chain {
    /// In that order.
    #[must_use]
    pub fn new(payload: Vec<Rc<dyn Material>>) -> Self {
        Self { rest: payload.into_iter(), current: None }
    }
}

impl Bytes for Chain {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        loop {
            if let Some(current) = &mut self.current {
                let chunk = current.chunk(max)?;
                if !chunk.is_empty() {
                    return Ok(chunk);
                }
            }
            match self.rest.next() {
                Some(next) => self.current = Some(next.open()?),
                None => return Ok(Vec::new()),
            }
        }
    }
}

/// Bytes as a reader that fills the whole buffer unless the end comes first.
pub struct Filling<'a>(pub &'a mut dyn Bytes);

impl Read for Filling<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let max = u32::try_from(buffer.len() - filled).unwrap_or(CHUNK).min(CHUNK);
            let chunk = self.0.chunk(max)?;
            if chunk.is_empty() {
                break;
            }
            buffer[filled..filled + chunk.len()].copy_from_slice(&chunk);
            filled += chunk.len();
        }
        Ok(filled)
    }
}

impl Material for Vec<u8> {
    fn length(&self) -> Option<u64> {
        Some(self.len() as u64)
    }

    fn open(&self) -> Result<Box<dyn Bytes>> {
        Ok(Box::new(io::Cursor::new(self.clone())))
    }
}

impl Bytes for io::Cursor<Vec<u8>> {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        let mut chunk = Vec::new();
        self.take(u64::from(max)).read_to_end(&mut chunk)?;
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_one_stream() {
        let parts = [&b"ab"[..], b"", b"cde"].map(|part| Rc::new(part.to_vec()) as Rc<dyn Material>);
        let mut chain = Chain::new(parts.to_vec());
        let mut text = [0; 16];
        assert_eq!(Filling(&mut chain).read(&mut text).unwrap(), 5);
        assert_eq!(&text[..5], b"abcde");
        assert!(chain.chunk(10).unwrap().is_empty());
    }
}
