//! What the client needs from the outside: HTTP and time. The plugin has them from the contract, tests from sockets.

use std::time::Duration;

use cooperage_sdk::Result;
use cooperage_sdk::http::{Headers, Url, read_at_most};
use cooperage_sdk::time::Clock;

/// All of the outside.
#[derive(Clone, Copy)]
pub struct Edge<'a> {
    /// Sends requests.
    pub http: &'a dyn Http,
    /// Measures time and waits.
    pub clock: &'a dyn Clock,
}

/// One HTTP exchange, without redirects and retries.
pub trait Http {
    /// Sends a request; an answer of any status is no error.
    ///
    /// # Errors
    /// `unavailable` for what may pass, `denied` if the request is not allowed or the certificate not trusted.
    fn send(&self, exchange: &Exchange) -> Result<Answer>;
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
    pub body: Vec<u8>,
    /// How long the far side may send nothing.
    pub silence: Duration,
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
    /// The body, and whether there was more than `max` bytes of it.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks.
    pub fn read(&mut self, max: usize) -> Result<(Vec<u8>, bool)> {
        read_at_most(max, |max| self.body.chunk(max))
    }
}
