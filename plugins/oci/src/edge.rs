//! What the client needs from the outside: HTTP, the content store, a memory for tokens, time. The plugin has them from
//! the contract, tests from sockets and vectors.

use std::rc::Rc;

use cooperage_sdk::events::Step;
use cooperage_sdk::http::{Headers, Url, read_at_most};
use cooperage_sdk::time::Clock;
use cooperage_sdk::{Descriptor, Result};

/// All of the outside.
#[derive(Clone, Copy)]
pub struct Edge<'a> {
    /// Sends requests.
    pub http: &'a dyn Http,
    /// Keeps content.
    pub store: &'a dyn Store,
    /// Keeps tokens.
    pub memory: &'a dyn Memory,
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

/// Content by digest.
pub trait Store {
    /// The size, or none if it is not there.
    ///
    /// # Errors
    /// Those of the store.
    fn stat(&self, digest: &str) -> Result<Option<u64>>;
    /// All bytes of a content of at most `max` bytes.
    ///
    /// # Errors
    /// `not-found`, `limit`.
    fn read(&self, digest: &str, max: u64) -> Result<Vec<u8>>;
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

/// Small values, which may be lost at any time.
pub trait Memory {
    /// What was kept under a key.
    fn get(&self, key: &str) -> Option<Vec<u8>>;
    /// Keeps a value for so many seconds; an empty one removes it.
    fn set(&self, key: &str, value: &[u8], seconds: u32);
}

/// A request.
#[derive(Debug)]
pub struct Exchange {
    /// In capitals.
    pub method: &'static str,
    /// Where to.
    pub url: Url,
    /// Header fields.
    pub headers: Headers,
    /// What to send.
    pub payload: Payload,
}

/// What a request carries. It can be sent more than once.
#[derive(Debug, Clone, Default)]
pub enum Payload {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes.
    Bytes(Rc<[u8]>),
    /// A part of a content of the store.
    Blob {
        /// Which.
        digest: String,
        /// Where the part begins.
        offset: u64,
        /// How long it is.
        length: u64,
        /// Shows how many bytes of the content were sent, out of how many.
        progress: Option<(Rc<Step>, u64)>,
    },
}

impl Payload {
    /// How many bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blob { length, .. } => *length,
        }
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
    pub body: Box<dyn Body>,
}

/// The body of an answer.
pub trait Body {
    /// The next bytes, at most `max`; empty at the end.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks.
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>>;
}

impl Answer {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body, and whether there was more than `max` bytes of it.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks.
    pub fn read(&mut self, max: usize) -> Result<(Vec<u8>, bool)> {
        read_at_most(max, |max| self.body.chunk(max))
    }
}
