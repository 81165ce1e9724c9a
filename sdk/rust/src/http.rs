//! HTTP over `wasi:http`, blocking, one exchange at a time. The host opens connections, does TLS, and refuses what is
//! not granted; redirects and retries are the caller's.
//!
//! ```no_run
//! # fn main() -> cooperage_sdk::Result<()> {
//! use cooperage_sdk::http::Request;
//!
//! let mut response = Request::get("https://service.example/v1/items")?.header("accept", "application/json").send()?;
//! if response.status != 200 {
//!     return Err(cooperage_sdk::Error::unavailable(format!("the service answers {}", response.status)));
//! }
//! let items: serde_json::Value = serde_json::from_slice(&response.bytes(1 << 20)?)?;
//! # Ok(())
//! # }
//! ```

mod fault;
mod fields;
mod headers;
mod response;
mod send;
mod url;

use std::fmt;
use std::time::Duration;

pub use fields::number;
pub use headers::Headers;
pub use response::{Response, read_at_most};
pub use send::Pending;
pub use url::Url;

use crate::content::{CHUNK, Reader};
use crate::{Error, Result};

/// One request.
#[derive(Debug)]
pub struct Request {
    /// `GET`, `POST` and so on, in capitals.
    pub method: String,
    /// Where to.
    pub url: Url,
    /// Header fields. `host`, `connection` and `transfer-encoding` are the host's; `content-length` is set by `send`
    /// unless the length is unknown.
    pub headers: Headers,
    /// What to send.
    pub body: Body,
    /// How long to wait; the host has limits of its own.
    pub timeouts: Timeouts,
}

/// What a request carries.
#[derive(Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes.
    Bytes(Vec<u8>),
    /// Bytes of the content store, streamed.
    Reader {
        /// From its current position.
        reader: Reader,
        /// How many bytes.
        length: u64,
    },
    /// Bytes as they are asked for.
    Stream {
        /// Gives the next bytes, at least one and at most so many.
        next: Box<dyn FnMut(u32) -> Result<Vec<u8>>>,
        /// How many bytes.
        length: u64,
    },
    /// Bytes as they are asked for, when nobody knows how many there will be.
    Chunked {
        /// Gives the next bytes, at most so many; empty at the end.
        next: Box<dyn FnMut(u32) -> Result<Vec<u8>>>,
    },
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.length() {
            Some(length) => write!(f, "Body of {length} bytes"),
            None => write!(f, "Body of unknown length"),
        }
    }
}

/// How long to wait for the far side. None leaves it to the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Option<Duration>,
    /// For the head of the answer.
    pub first_byte: Option<Duration>,
    /// Between chunks of the answer's body.
    pub between_bytes: Option<Duration>,
}

impl Request {
    /// A request of any method.
    #[must_use]
    pub fn new(method: impl Into<String>, url: Url) -> Self {
        Self {
            method: method.into(),
            url,
            headers: Headers::default(),
            body: Body::Empty,
            timeouts: Timeouts::default(),
        }
    }

    /// A GET.
    ///
    /// # Errors
    /// `invalid-input` if the text is no `http` or `https` URL.
    pub fn get(url: &str) -> Result<Self> {
        Ok(Self::new("GET", url.parse()?))
    }

    /// A POST.
    ///
    /// # Errors
    /// `invalid-input` if the text is no `http` or `https` URL.
    pub fn post(url: &str) -> Result<Self> {
        Ok(Self::new("POST", url.parse()?))
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.append(name, value.into());
        self
    }

    /// Sets what to send.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Sets how long to wait.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Sends it, and gives the answer as soon as its head is there. An answer of any status is no error. If the far
    /// side answers before it has read the whole body, the rest is not sent.
    ///
    /// # Errors
    /// `denied` when the grants do not allow it (with the host's explanation), `unavailable` for faults of the
    /// network that may pass.
    pub fn send(self) -> Result<Response> {
        self.begin()?.answer()
    }

    /// Sends it with its body, and does not wait for the answer.
    ///
    /// # Errors
    /// `denied` when the grants do not allow it; what goes wrong later is told by the answer.
    pub fn begin(self) -> Result<Pending> {
        send::begin(self)
    }
}

impl Body {
    /// How many bytes, if that is known.
    fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::Reader { length, .. } | Self::Stream { length, .. } => Some(*length),
            Self::Chunked { .. } => None,
        }
    }

    /// At most `max` bytes from `offset`, where `offset` grows by what the calls before gave; empty at the end.
    fn chunk(&mut self, offset: u64, max: u64) -> Result<Vec<u8>> {
        let left = self.length().map_or(u64::MAX, |length| length - offset);
        let max = u32::try_from(max.min(left)).unwrap_or(CHUNK).min(CHUNK);
        let bytes = match self {
            Self::Empty => Vec::new(),
            Self::Bytes(bytes) => {
                let from = usize::try_from(offset).expect("an offset within memory");
                bytes[from..from + max as usize].to_vec()
            }
            Self::Reader { reader, .. } => reader.read(max)?,
            Self::Stream { next, .. } | Self::Chunked { next } => next(max)?,
        };
        // Sent on, either would break the framing of the request.
        let ends_early = bytes.is_empty() && max > 0 && self.length().is_some();
        if ends_early || bytes.len() > max as usize {
            return Err(Error::internal(format!("{} bytes of a body instead of 1 to {max}", bytes.len())));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_in_chunks() {
        let mut body = Body::Bytes(b"abcde".to_vec());
        assert_eq!(body.length(), Some(5));
        assert_eq!(body.chunk(0, 2).unwrap(), b"ab");
        assert_eq!(body.chunk(4, 2).unwrap(), b"e");
        assert_eq!(body.chunk(5, 2).unwrap(), b"");
    }

    #[test]
    fn a_stream_keeps_to_what_it_promised() {
        let mut honest = Body::Stream { next: Box::new(|max| Ok(vec![7; max.min(3) as usize])), length: 5 };
        assert_eq!(honest.chunk(0, u64::MAX).unwrap(), [7, 7, 7]);
        assert_eq!(honest.chunk(3, u64::MAX).unwrap(), [7, 7]);
        let mut short = Body::Stream { next: Box::new(|_| Ok(Vec::new())), length: 5 };
        assert!(short.chunk(0, 10).is_err());
        let mut long = Body::Stream { next: Box::new(|max| Ok(vec![0; max as usize + 1])), length: 5 };
        assert!(long.chunk(0, 10).is_err());
    }

    #[test]
    fn a_chunked_body_says_itself_where_it_ends() {
        let mut left = vec![b"de".to_vec(), b"abc".to_vec()];
        let mut body = Body::Chunked { next: Box::new(move |_| Ok(left.pop().unwrap_or_default())) };
        assert_eq!(body.length(), None);
        assert_eq!(body.chunk(0, 10).unwrap(), b"abc");
        assert_eq!(body.chunk(3, 10).unwrap(), b"de");
        assert_eq!(body.chunk(5, 10).unwrap(), b"");
        let mut long = Body::Chunked { next: Box::new(|max| Ok(vec![0; max as usize + 1])) };
        assert!(long.chunk(0, 10).is_err());
    }
}
