//! The outside as the contract gives it.

mod streams;

use std::collections::HashMap;

use cooperage_sdk::content::{self, Reader, Writer};
use cooperage_sdk::events::{Step, check_cancelled};
use cooperage_sdk::http::{self, Request, Response, Timeouts};
use cooperage_sdk::net;
use cooperage_sdk::trees::Tree;
use cooperage_sdk::{Context, Descriptor, ErrorKind, Result, info, state, warn};

use crate::edge::{Answer, Body, Edge, Event, Exchange, Http, Memory, Opened, Payload, Show, Sink, Store};
use crate::engine::EVER;
use streams::Streams;

struct Guest;

/// The outside of a plugin call.
pub fn edge() -> Edge<'static> {
    Edge { http: &Guest, store: &Guest, memory: &Guest }
}

fn request(exchange: Exchange) -> Request {
    let patience = Some(exchange.patience);
    Request {
        method: exchange.method.to_owned(),
        url: exchange.url,
        headers: exchange.headers,
        body: match exchange.payload {
            Payload::Empty => http::Body::Empty,
            Payload::Bytes(bytes) => http::Body::Bytes(bytes),
            Payload::Stream { next, length: Some(length) } => http::Body::Stream { next, length },
            Payload::Stream { next, length: None } => http::Body::Chunked { next },
        },
        timeouts: Timeouts { connect: None, first_byte: patience, between_bytes: patience },
    }
}

impl Http for Guest {
    fn send(&self, exchange: Exchange) -> Result<Answer> {
        check_cancelled()?;
        let mut response = request(exchange).send().map_err(|error| match error.kind {
            ErrorKind::Unavailable => error.context("the engine cannot be reached"),
            _ => error,
        })
        .hint(
            "see that the engine runs, and that `services: { docker: SOCKET }` of the configuration names its socket",
        )?;
        Ok(Answer {
            status: response.status,
            headers: std::mem::take(&mut response.headers),
            body: Box::new(Incoming(response)),
        })
    }

    fn upgrade(&self, exchange: Exchange, protocol: &str) -> Result<Opened> {
        check_cancelled()?;
        let headers: Vec<_> =
            exchange.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        // A session is silent for as long as a step of its build takes.
        let patience = net::Patience { connect: Some(exchange.patience), idle: Some(EVER) };
        let session = net::upgrade(exchange.method, &exchange.url.to_string(), protocol, &headers, patience)?;
        Ok(Box::new(move |build| Ok(Box::new(Streams::new(session, request(build).begin()?)))))
    }
}

/// A file of a tree.
///
/// # Errors
/// Those of the tree.
pub fn open(tree: &Tree, path: &str) -> Result<Box<dyn Body>> {
    Ok(Box::new(Kept(tree.open(path)?)))
}

struct Incoming(Response);

impl Body for Incoming {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        check_cancelled()?;
        self.0.chunk(max).context("the engine broke off its answer")
    }
}

impl Store for Guest {
    fn stat(&self, digest: &str) -> Result<Option<u64>> {
        content::stat(digest)
    }

    fn open(&self, digest: &str) -> Result<Box<dyn Body>> {
        content::open(digest).map(|reader| Box::new(Kept(reader)) as _)
    }

    fn sink(&self) -> Box<dyn Sink> {
        Box::new(Keeper(Writer::new()))
    }
}

struct Kept(Reader);

impl Body for Kept {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        check_cancelled()?;
        self.0.read(max)
    }
}

struct Keeper(Writer);

impl Sink for Keeper {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Writer::write(&self.0, bytes)
    }

    fn commit(self: Box<Self>, media_type: &str, expected: Option<&str>) -> Result<Descriptor> {
        Writer::commit(self.0, media_type, expected)
    }
}

impl Memory for Guest {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        // Without a grant there is no memory, and everything works all the same.
        state::get(key).ok().flatten()
    }

    fn set(&self, key: &str, value: &[u8]) {
        let _ = state::set(key, value, None);
    }
}

/// Shows the engine's steps as steps of this call.
#[derive(Default)]
pub struct Screen(HashMap<String, Step>);

impl Show for Screen {
    fn show(&mut self, event: Event) {
        match event {
            Event::Begin { key, name } => drop(self.0.insert(key, Step::new(name))),
            Event::Output { key, bytes } => match self.0.get(&key) {
                Some(step) => step.output(&bytes),
                None => info!("{}", String::from_utf8_lossy(&bytes).trim_end()),
            },
            Event::Cached { key } => self.with(&key, Step::cached),
            Event::Progress { key, done, total } => self.with(&key, |step| step.bytes(done, Some(total))),
            Event::Done { key } => drop(self.0.remove(&key)),
            Event::Failed { key, message } => {
                self.with(&key, |step| step.fail(&message));
                self.0.remove(&key);
            }
            Event::Note(text) => info!("{text}"),
            Event::Warning(text) => warn!("{text}"),
        }
    }
}

impl Screen {
    fn with(&self, key: &str, what: impl FnOnce(&Step)) {
        if let Some(step) = self.0.get(key) {
            what(step);
        }
    }
}
