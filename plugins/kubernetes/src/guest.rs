//! The outside as the contract gives it.

use cooperage_sdk::Result;
use cooperage_sdk::events::check_cancelled;
use cooperage_sdk::http::{self, Request, Response, Timeouts};
use cooperage_sdk::time::System;

use crate::edge::{Answer, Body, Edge, Exchange, Http};

struct Guest;

/// The outside of a plugin call.
pub fn edge() -> Edge<'static> {
    Edge { http: &Guest, clock: &System }
}

impl Http for Guest {
    fn send(&self, exchange: &Exchange) -> Result<Answer> {
        check_cancelled()?;
        let mut request = Request::new(exchange.method, exchange.url.clone());
        request.headers = exchange.headers.clone();
        if !exchange.body.is_empty() {
            request.body = http::Body::Bytes(exchange.body.clone());
        }
        let silence = Some(exchange.silence);
        request.timeouts = Timeouts { first_byte: silence, between_bytes: silence, ..Timeouts::default() };
        let mut response = request.send()?;
        let headers = std::mem::take(&mut response.headers);
        Ok(Answer { status: response.status, headers, body: Box::new(Incoming(response)) })
    }
}

struct Incoming(Response);

impl Body for Incoming {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        check_cancelled()?;
        self.0.chunk(max)
    }
}
