//! An outside for the client that lives in memory, with HTTP that a test scripts or that goes over sockets.

#![allow(dead_code)] // each test binary uses a part of it

pub mod sockets;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use cooperage_plugin_oci::client::{Actions, Client};
use cooperage_plugin_oci::edge::{Answer, Body, Edge, Exchange, Http, Memory, Payload, Sink, Store};
use cooperage_sdk::http::Headers;
use cooperage_sdk::roles::registry::{Credential, Repository};
use cooperage_sdk::time::Clock;
use cooperage_sdk::{Descriptor, Error, Result};
use sha2::{Digest as _, Sha256};

/// Content by digest.
pub type Contents = Rc<RefCell<HashMap<String, Vec<u8>>>>;

/// What a test has instead of a host.
pub struct World<H> {
    pub http: H,
    pub contents: Contents,
    pub memory: RefCell<HashMap<String, Vec<u8>>>,
    pub pauses: RefCell<Vec<Duration>>,
}

impl<H: Http> World<H> {
    pub fn new(http: impl FnOnce(Contents) -> H) -> Self {
        let contents = Contents::default();
        let (memory, pauses) = (RefCell::default(), RefCell::default());
        Self { http: http(contents.clone()), contents, memory, pauses }
    }

    pub fn edge(&self) -> Edge<'_> {
        Edge { http: &self.http, store: self, memory: self, clock: self }
    }

    pub fn client<'a>(&'a self, repository: &'a Repository, actions: Actions) -> Client<'a> {
        Client::new(self.edge(), repository, actions).unwrap()
    }

    pub fn keep(&self, bytes: &[u8], media_type: &str) -> Descriptor {
        let digest = digest(bytes);
        self.contents.borrow_mut().insert(digest.clone(), bytes.to_vec());
        Descriptor { media_type: media_type.into(), digest, size: bytes.len() as u64, annotations: Vec::new() }
    }

    pub fn has(&self, digest: &str) -> bool {
        self.contents.borrow().contains_key(digest)
    }
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: "application/octet-stream".into(),
        digest: digest(bytes),
        size: bytes.len() as u64,
        annotations: Vec::new(),
    }
}

pub fn repository(host: &str, name: &str) -> Repository {
    Repository { host: host.into(), name: name.into(), plain_http: false, credential: None, options: Vec::new() }
}

pub fn password() -> Option<Credential> {
    Some(Credential { username: "alice".into(), password: "s3cret".into(), identity_token: false })
}

/// Bytes without a pattern that a mistake in offsets could hide in.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(length)
    .collect()
}

impl<H> Store for World<H> {
    fn stat(&self, digest: &str) -> Result<Option<u64>> {
        Ok(self.contents.borrow().get(digest).map(|bytes| bytes.len() as u64))
    }

    fn read(&self, digest: &str, max: u64) -> Result<Vec<u8>> {
        let contents = self.contents.borrow();
        let bytes = contents.get(digest).ok_or_else(|| Error::not_found("not in the store"))?;
        if bytes.len() as u64 > max { Err(Error::limit("too large")) } else { Ok(bytes.clone()) }
    }

    fn sink(&self) -> Box<dyn Sink> {
        Box::new(Hashing { bytes: Vec::new(), contents: self.contents.clone() })
    }
}

struct Hashing {
    bytes: Vec<u8>,
    contents: Contents,
}

impl Sink for Hashing {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>, media_type: &str, expected: Option<&str>) -> Result<Descriptor> {
        let digest = digest(&self.bytes);
        if expected.is_some_and(|expected| expected != digest) {
            return Err(Error::conflict(format!("the content is {digest}")));
        }
        let size = self.bytes.len() as u64;
        self.contents.borrow_mut().insert(digest.clone(), self.bytes);
        Ok(Descriptor { media_type: media_type.into(), digest, size, annotations: Vec::new() })
    }
}

impl<H> Memory for World<H> {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.memory.borrow().get(key).cloned()
    }

    fn set(&self, key: &str, value: &[u8], _seconds: u32) {
        self.memory.borrow_mut().insert(key.into(), value.to_vec());
    }
}

impl<H> Clock for World<H> {
    fn pause(&self, time: Duration) -> Result<()> {
        self.pauses.borrow_mut().push(time);
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        self.pauses.borrow().iter().sum()
    }

    fn now(&self) -> u64 {
        784_111_777
    }
}

/// A request as a scripted server sees it.
pub struct Seen {
    pub method: String,
    pub url: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Seen {
    /// `GET https://...`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.url)
    }

    pub fn authorization(&self) -> &str {
        self.headers.get("authorization").unwrap_or_default()
    }
}

/// What a scripted server answers.
pub struct Reply {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
    /// The connection breaks after the body instead of ending well.
    pub breaks: bool,
}

pub fn reply(status: u16) -> Reply {
    Reply { status, headers: Headers::default(), body: Vec::new(), breaks: false }
}

impl Reply {
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.append(name, value);
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn breaks(mut self) -> Self {
        self.breaks = true;
        self
    }
}

type Handler = Box<dyn FnMut(&Seen) -> Option<Reply>>;

/// HTTP as a test wants it. The handler gives none where the connection is to break before an answer.
pub struct Script {
    contents: Contents,
    handler: RefCell<Handler>,
    pub seen: RefCell<Vec<Seen>>,
    /// A request body is cut after so many bytes, once.
    pub cut: Cell<Option<usize>>,
}

pub fn script(handler: impl FnMut(&Seen) -> Option<Reply> + 'static) -> World<Script> {
    World::new(|contents| Script {
        contents,
        handler: RefCell::new(Box::new(handler)),
        seen: RefCell::default(),
        cut: Cell::new(None),
    })
}

impl World<Script> {
    /// The requests so far, one line each.
    pub fn lines(&self) -> Vec<String> {
        self.http.seen.borrow().iter().map(Seen::line).collect()
    }
}

impl Http for Script {
    fn send(&self, exchange: &Exchange) -> Result<Answer> {
        let mut body = payload(&exchange.payload, &self.contents);
        if let Some(cut) = self.cut.get().filter(|cut| body.len() > *cut) {
            self.cut.set(None);
            body.truncate(cut);
        }
        let seen = Seen {
            method: exchange.method.into(),
            url: exchange.url.to_string(),
            headers: exchange.headers.clone(),
            body,
        };
        let reply = (self.handler.borrow_mut())(&seen);
        self.seen.borrow_mut().push(seen);
        let reply = reply.ok_or_else(|| Error::unavailable("the connection broke"))?;
        let body = if exchange.method == "HEAD" { Vec::new() } else { reply.body };
        Ok(Answer {
            status: reply.status,
            headers: reply.headers,
            url: exchange.url.clone(),
            body: Box::new(Remaining { bytes: body, breaks: reply.breaks }),
        })
    }
}

pub fn payload(payload: &Payload, contents: &Contents) -> Vec<u8> {
    match payload {
        Payload::Empty => Vec::new(),
        Payload::Bytes(bytes) => bytes.to_vec(),
        Payload::Blob { digest, offset, length, .. } => {
            let from = usize::try_from(*offset).unwrap();
            contents.borrow()[digest][from..from + usize::try_from(*length).unwrap()].to_vec()
        }
    }
}

struct Remaining {
    bytes: Vec<u8>,
    breaks: bool,
}

impl Body for Remaining {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        // Small pieces, so that every loop over a body goes round more than once.
        let take = self.bytes.len().min(max as usize).min(1000);
        if take == 0 && self.breaks {
            return Err(Error::unavailable("the connection broke"));
        }
        Ok(self.bytes.drain(..take).collect())
    }
}
