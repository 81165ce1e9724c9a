//! The answer to a request: its head at once, its body as it comes.

use std::io;

use wasip2::http::types::{IncomingBody, IncomingResponse, OutgoingBody};
use wasip2::io::poll::Pollable;
use wasip2::io::streams::{InputStream, StreamError};

use super::{Headers, Url, fault};
use crate::content::{CHUNK, Writer};
use crate::{Error, Result};

/// An answer.
///
/// Resources are dropped in the order of the fields: a stream must go before the body that it belongs to.
#[derive(Debug)]
pub struct Response {
    /// For instance 200.
    pub status: u16,
    /// Header fields.
    pub headers: Headers,
    /// Where it came from.
    pub url: Url,
    stream: Option<InputStream>,
    _body: IncomingBody,
    _response: IncomingResponse,
    /// A request body that was not sent to its end; dropping it may close the connection.
    _unsent: Option<OutgoingBody>,
}

impl Response {
    pub(super) fn new(response: IncomingResponse, url: Url, unsent: Option<OutgoingBody>) -> Result<Self> {
        let mut headers = Headers::default();
        for (name, value) in response.headers().entries() {
            headers.append(name, String::from_utf8_lossy(&value).into_owned());
        }
        let taken = |()| Error::internal("the body of an answer was taken before");
        let body = response.consume().map_err(taken)?;
        let stream = body.stream().map_err(taken)?;
        Ok(Self {
            status: response.status(),
            headers,
            url,
            stream: Some(stream),
            _body: body,
            _response: response,
            _unsent: unsent,
        })
    }

    /// The next bytes of the body, at most `max`; empty at the end.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks before the announced end.
    pub fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        let Some(stream) = &self.stream else { return Ok(Vec::new()) };
        loop {
            match stream.blocking_read(u64::from(max.max(1))) {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(bytes),
                Err(error) => return self.ended(error),
            }
        }
    }

    fn ended(&mut self, error: StreamError) -> Result<Vec<u8>> {
        let fault = fault::of_stream(error, &self.url);
        self.stream = None;
        fault.map_or(Ok(Vec::new()), Err)
    }

    /// Ready as soon as `try_chunk` would give something; none at the end of the body.
    #[must_use]
    pub fn subscribe(&self) -> Option<Pollable> {
        self.stream.as_ref().map(InputStream::subscribe)
    }

    /// What is there of the body, at most `max` bytes: none if that is nothing yet, and empty at the end.
    ///
    /// # Errors
    /// Those of [`Response::chunk`].
    pub fn try_chunk(&mut self, max: u32) -> Result<Option<Vec<u8>>> {
        let Some(stream) = &self.stream else { return Ok(Some(Vec::new())) };
        match stream.read(u64::from(max.max(1))) {
            Ok(bytes) => Ok((!bytes.is_empty()).then_some(bytes)),
            Err(error) => self.ended(error).map(Some),
        }
    }

    /// The whole body of at most `max` bytes.
    ///
    /// # Errors
    /// `limit` if it is larger.
    pub fn bytes(&mut self, max: usize) -> Result<Vec<u8>> {
        let (bytes, has_more) = read_at_most(max, |max| self.chunk(max))?;
        if has_more {
            let host = self.url.authority();
            return Err(Error::limit(format!("the answer of {host} has more than {max} bytes")));
        }
        Ok(bytes)
    }

    /// Streams the rest of the body into the content store; gives the number of bytes.
    ///
    /// # Errors
    /// Those of the network and of the store.
    pub fn copy_to(&mut self, writer: &Writer) -> Result<u64> {
        let mut total = 0;
        loop {
            let chunk = self.chunk(CHUNK)?;
            if chunk.is_empty() {
                return Ok(total);
            }
            writer.write(&chunk)?;
            total += chunk.len() as u64;
        }
    }
}

/// At most `max` bytes of a body, and whether there is more of it. `chunk` gives the next bytes, at most so many; empty at
/// the end.
///
/// # Errors
/// Those of `chunk`.
pub fn read_at_most(max: usize, mut chunk: impl FnMut(u32) -> Result<Vec<u8>>) -> Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    loop {
        let chunk = chunk(64 << 10)?;
        if chunk.is_empty() {
            return Ok((bytes, false));
        }
        let room = max - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((bytes, true));
        }
    }
}

impl io::Read for Response {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let chunk = self.chunk(u32::try_from(buffer.len()).unwrap_or(CHUNK))?;
        buffer[..chunk.len()].copy_from_slice(&chunk);
        Ok(chunk.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_is_wanted() {
        for (max, expected, more) in [(9, "abcde", false), (5, "abcde", false), (4, "abcd", true), (0, "", true)] {
            let mut chunks = ["abc", "de", "", ""].into_iter();
            let read = read_at_most(max, |_| Ok(chunks.next().unwrap().into())).unwrap();
            assert_eq!(read, (expected.into(), more), "{max}");
        }
        assert!(read_at_most(9, |_| Err(Error::unavailable("it breaks off"))).is_err());
    }
}
