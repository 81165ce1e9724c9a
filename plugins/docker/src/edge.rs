//! What the core needs from the outside: HTTP to the engine, the content store, a memory, a place to show what happens.
//! The plugin has them from the contract, tests from sockets and vectors.

use std::time::Duration;

use cooperage_sdk::http::{Headers, Url};
use cooperage_sdk::{Descriptor, Result};

use crate::session::Talk;

/// All of the outside.
#[derive(Clone, Copy)]
pub struct Edge<'a> {
    /// Sends requests to the engine.
    pub http: &'a dyn Http,
    /// Keeps content.
    pub store: &'a dyn Store,
    /// Remembers which manifest stands for which image of the engine.
    pub memory: &'a dyn Memory,
}

/// One HTTP exchange.
pub trait Http {
    /// Sends a request; an answer of any status is no error.
    ///
    /// # Errors
    /// `unavailable` if the engine cannot be reached, `denied` if the request is not allowed.
    fn send(&self, exchange: Exchange) -> Result<Answer>;
    /// Opens the stream on which an engine asks questions while it builds, by a switch to another protocol. What is given
    /// sends the build, and waits for neither.
    ///
    /// # Errors
    /// `denied` if the switch is not allowed, `unavailable` if the engine does not switch.
    fn upgrade(&self, exchange: Exchange, protocol: &str) -> Result<Opened>;
}

/// Sends the build of a session that was opened.
pub type Opened = Box<dyn FnOnce(Exchange) -> Result<Box<dyn Talk>>>;

/// Content by digest.
pub trait Store {
    /// The size, or none if it is not there.
    ///
    /// # Errors
    /// Those of the store.
    fn stat(&self, digest: &str) -> Result<Option<u64>>;
    /// Opens a content.
    ///
    /// # Errors
    /// `not-found` if the store does not have it.
    fn open(&self, digest: &str) -> Result<Box<dyn Body>>;
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
    /// Keeps a value.
    fn set(&self, key: &str, value: &[u8]);
}

/// Shows the user what the engine does.
pub trait Show {
    /// Takes what happened.
    fn show(&mut self, event: Event);
}

impl Show for Vec<Event> {
    fn show(&mut self, event: Event) {
        self.push(event);
    }
}

/// Something that happened to one of the engine's steps. The key tells steps apart and is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step began.
    Begin {
        /// Which.
        key: String,
        /// For the user.
        name: String,
    },
    /// A step printed something.
    Output {
        /// Which.
        key: String,
        /// What.
        bytes: Vec<u8>,
    },
    /// The step's result was there already.
    Cached {
        /// Which.
        key: String,
    },
    /// A transfer within the step moved on.
    Progress {
        /// Which.
        key: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The step ended well.
    Done {
        /// Which.
        key: String,
    },
    /// The step failed.
    Failed {
        /// Which.
        key: String,
        /// Why.
        message: String,
    },
    /// A line that belongs to no step.
    Note(String),
    /// A line that the user should heed.
    Warning(String),
}

/// A request.
pub struct Exchange {
    /// In capitals.
    pub method: &'static str,
    /// Where to.
    pub url: Url,
    /// Header fields.
    pub headers: Headers,
    /// What to send.
    pub payload: Payload,
    /// How long the engine may be silent.
    pub patience: Duration,
}

/// Gives the next bytes, at most so many; empty at the end.
pub type Next = Box<dyn FnMut(u32) -> Result<Vec<u8>>>;

/// What a request carries.
#[derive(Default)]
pub enum Payload {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes.
    Bytes(Vec<u8>),
    /// Bytes as they are asked for.
    Stream {
        /// Where they come from.
        next: Next,
        /// How many there will be, if that is known.
        length: Option<u64>,
    },
}

/// An answer.
pub struct Answer {
    /// For instance 200.
    pub status: u16,
    /// Header fields.
    pub headers: Headers,
    /// As it comes.
    pub body: Box<dyn Body>,
}

/// The body of an answer, or a content of the store.
pub trait Body {
    /// The next bytes, at most `max`; empty at the end.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks, `cancelled` once the call is.
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>>;
}

impl Answer {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// At most `max` bytes of the body; what is beyond is left out.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks.
    pub fn read(&mut self, max: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < max {
            let room = u32::try_from(max - bytes.len()).unwrap_or(u32::MAX);
            let chunk = self.body.chunk(room.min(64 << 10))?;
            if chunk.is_empty() {
                break;
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}
