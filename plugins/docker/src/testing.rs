//! The outside for tests: bodies in pieces, a store and a memory in vectors, an engine that answers from a script.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use cooperage_sdk::http::Headers;
use cooperage_sdk::{Descriptor, Error, Result};
use sha2::{Digest, Sha256};

use crate::edge::{Answer, Body, Edge, Event, Exchange, Http, Memory, Opened, Payload, Sink, Store};

/// A body that comes in pieces of a size.
pub struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    size: usize,
}

impl Pieces {
    pub fn of(bytes: &[u8], size: usize) -> Self {
        Self { bytes: bytes.to_vec(), at: 0, size }
    }
}

impl Body for Pieces {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        let end = (self.at + self.size.min(max as usize)).min(self.bytes.len());
        let piece = self.bytes[self.at..end].to_vec();
        self.at = end;
        Ok(piece)
    }
}

/// The digest of bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Contents in memory.
#[derive(Clone, Default)]
pub struct Contents(Rc<RefCell<BTreeMap<String, Vec<u8>>>>);

impl Contents {
    pub fn put(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        self.0.borrow_mut().insert(digest.clone(), bytes.to_vec());
        digest
    }

    pub fn get(&self, digest: &str) -> Option<Vec<u8>> {
        self.0.borrow().get(digest).cloned()
    }

    pub fn remove(&self, digest: &str) {
        self.0.borrow_mut().remove(digest);
    }

    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

impl Store for Contents {
    fn stat(&self, digest: &str) -> Result<Option<u64>> {
        Ok(self.0.borrow().get(digest).map(|bytes| bytes.len() as u64))
    }

    fn open(&self, digest: &str) -> Result<Box<dyn Body>> {
        let bytes = self.get(digest).ok_or_else(|| Error::not_found(digest))?;
        Ok(Box::new(Pieces { bytes, at: 0, size: 1 << 20 }))
    }

    fn sink(&self) -> Box<dyn Sink> {
        Box::new(Keeper { contents: self.clone(), bytes: Vec::new() })
    }
}

struct Keeper {
    contents: Contents,
    bytes: Vec<u8>,
}

impl Sink for Keeper {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>, media_type: &str, expected: Option<&str>) -> Result<Descriptor> {
        let digest = digest(&self.bytes);
        if expected.is_some_and(|expected| expected != digest) {
            return Err(Error::conflict(format!("{digest} is not {expected:?}")));
        }
        let size = self.bytes.len() as u64;
        self.contents.put(&self.bytes);
        Ok(Descriptor { media_type: media_type.to_owned(), digest, size, annotations: Vec::new() })
    }
}

/// Values in memory.
#[derive(Default)]
pub struct Values(RefCell<BTreeMap<String, Vec<u8>>>);

impl Memory for Values {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.borrow().get(key).cloned()
    }

    fn set(&self, key: &str, value: &[u8]) {
        self.0.borrow_mut().insert(key.to_owned(), value.to_vec());
    }
}

struct Scripted {
    status: u16,
    headers: Headers,
    body: Vec<u8>,
}

/// An engine that gives the same answer to the same request, and a store.
#[derive(Default)]
pub struct Script {
    answers: BTreeMap<String, Scripted>,
    pub contents: Contents,
    pub values: Values,
    /// Requests and what they carried, in order.
    pub seen: RefCell<Vec<(String, Vec<u8>)>>,
}

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    /// An engine that has said what it is.
    pub fn engine() -> Self {
        Self::new().answers("GET /_ping", 200, &[("Api-Version", "1.41")], "OK").answers(
            "GET /version",
            200,
            &[],
            r#"{"Version":"20.10.24","Os":"linux","Arch":"amd64"}"#,
        )
    }

    pub fn answers(mut self, request: &str, status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let mut all = Headers::default();
        headers.iter().for_each(|(name, value)| all.append(*name, *value));
        self.answers.insert(request.to_owned(), Scripted { status, headers: all, body: body.as_ref().to_vec() });
        self
    }

    pub fn edge(&self) -> Edge<'_> {
        Edge { http: self, store: &self.contents, memory: &self.values }
    }

    /// The requests that were made, without those by which the engine says what it is.
    pub fn requests(&self) -> Vec<String> {
        let seen = self.seen.borrow();
        let asked = seen.iter().map(|(request, _)| request.clone());
        asked.filter(|request| !request.ends_with("/_ping") && !request.ends_with("GET /version")).collect()
    }
}

impl Http for Script {
    fn upgrade(&self, _: Exchange, protocol: &str) -> Result<Opened> {
        Err(Error::unavailable(format!("the script speaks no {protocol}")))
    }

    fn send(&self, exchange: Exchange) -> Result<Answer> {
        let request = format!("{} {}", exchange.method, exchange.url.path_and_query());
        let sent = match exchange.payload {
            Payload::Empty => Vec::new(),
            Payload::Bytes(bytes) => bytes,
            Payload::Stream { mut next, length } => {
                let mut all = Vec::new();
                loop {
                    let chunk = next(1000)?;
                    if chunk.is_empty() {
                        break;
                    }
                    all.extend(chunk);
                }
                assert!(length.is_none_or(|length| length == all.len() as u64), "{length:?} but {}", all.len());
                all
            }
        };
        self.seen.borrow_mut().push((request.clone(), sent));
        let answer = self.answers.get(&request).ok_or_else(|| Error::unavailable(format!("no answer to {request}")))?;
        let body = Box::new(Pieces::of(&answer.body, 1000));
        Ok(Answer { status: answer.status, headers: answer.headers.clone(), body })
    }
}

/// Events in a short form.
pub fn shown(events: &[Event]) -> Vec<String> {
    let short = |event: &Event| match event {
        Event::Begin { key, name } => format!("{key} begin {name}"),
        Event::Output { key, bytes } => format!("{key} {}", String::from_utf8_lossy(bytes)),
        Event::Cached { key } => format!("{key} cached"),
        Event::Progress { key, done, total } => format!("{key} progress {done}/{total}"),
        Event::Done { key } => format!("{key} done"),
        Event::Failed { key, message } => format!("{key} failed {message}"),
        Event::Note(text) => format!("note {text}"),
        Event::Warning(text) => format!("warning {text}"),
    };
    events.iter().map(short).collect()
}
