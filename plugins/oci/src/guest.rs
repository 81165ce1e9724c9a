//! The outside as the contract gives it.

use std::time::Duration;

use cooperage_sdk::content::{self, Writer};
use cooperage_sdk::events::check_cancelled;
use cooperage_sdk::http::{self, Request, Response, Timeouts};
use cooperage_sdk::time::System;
use cooperage_sdk::{Descriptor, Result, state};

use crate::edge::{Answer, Body, Edge, Exchange, Http, Memory, Payload, Sink, Store};

struct Guest;

/// The outside of a plugin call.
pub fn edge() -> Edge<'static> {
    Edge { http: &Guest, store: &Guest, memory: &Guest, clock: &System }
}

impl Http for Guest {
    fn send(&self, exchange: &Exchange) -> Result<Answer> {
        check_cancelled()?;
        let mut request = Request::new(exchange.method, exchange.url.clone());
        request.headers = exchange.headers.clone();
        request.body = body(&exchange.payload)?;
        // A registry may take its time over the end of a large upload.
        request.timeouts = Timeouts { first_byte: Some(Duration::from_secs(300)), ..Timeouts::default() };
        let mut response = request.send()?;
        Ok(Answer {
            status: response.status,
            headers: std::mem::take(&mut response.headers),
            url: response.url.clone(),
            body: Box::new(Incoming(response)),
        })
    }
}

fn body(payload: &Payload) -> Result<http::Body> {
    Ok(match payload {
        Payload::Empty => http::Body::Empty,
        Payload::Bytes(bytes) => http::Body::Bytes(bytes.to_vec()),
        Payload::Blob { digest, offset, length, progress } => {
            let reader = content::open(digest)?;
            reader.seek(*offset)?;
            let (mut done, progress) = (*offset, progress.clone());
            let next = Box::new(move |max| {
                check_cancelled()?;
                let bytes = reader.read(max)?;
                done += bytes.len() as u64;
                if let Some((step, total)) = &progress {
                    step.bytes(done, Some(*total));
                }
                Ok(bytes)
            });
            http::Body::Stream { next, length: *length }
        }
    })
}

struct Incoming(Response);

impl Body for Incoming {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        check_cancelled()?;
        self.0.chunk(max)
    }
}

impl Store for Guest {
    fn stat(&self, digest: &str) -> Result<Option<u64>> {
        content::stat(digest)
    }

    fn read(&self, digest: &str, max: u64) -> Result<Vec<u8>> {
        content::read(digest, max)
    }

    fn sink(&self) -> Box<dyn Sink> {
        Box::new(Keeper(Writer::new()))
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

    fn set(&self, key: &str, value: &[u8], seconds: u32) {
        let _ = state::set(key, value, Some(seconds));
    }
}
