//! What the core needs from outside: one HTTP exchange. The plugin has it from the host, tests from a process or from
//! vectors.

use cooperage_sdk::Result;
use cooperage_sdk::http::{Headers, Url};

/// One HTTP exchange, without redirects and retries.
pub trait Http {
    /// Sends a request; an answer of any status is no error.
    ///
    /// # Errors
    /// `unavailable` for what may pass, `denied` if the request is not allowed.
    fn send(&self, exchange: Exchange) -> Result<Answer>;
}

/// A request.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// In capitals.
    pub method: &'static str,
    /// Where to.
    pub url: Url,
    /// Header fields.
    pub headers: Headers,
    /// What to send.
    pub body: Vec<u8>,
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

/// The body of an answer.
pub trait Body {
    /// The next bytes, at most `max`; empty at the end.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks.
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>>;
}

impl Answer {
    /// The beginning of the body as text, for messages.
    #[must_use]
    pub fn text(&mut self, max: usize) -> String {
        let mut bytes = Vec::new();
        // What breaks off tells as much as there was of it.
        while let Ok(chunk) = self.body.chunk(16 << 10)
            && !chunk.is_empty()
            && bytes.len() < max
        {
            bytes.extend_from_slice(&chunk);
        }
        bytes.truncate(max);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
