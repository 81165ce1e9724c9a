//! The outside as the contract gives it.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use cooperage_sdk::Result;
use cooperage_sdk::events::check_cancelled;
use cooperage_sdk::http::{self, Request, Response, Timeouts};

use crate::edge::{Answer, Body, Clock, Edge, Exchange, Http};

struct Guest;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The outside of a plugin call.
pub fn edge() -> Edge<'static> {
    Edge { http: &Guest, clock: &Guest }
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

impl Clock for Guest {
    fn pause(&self, time: Duration) -> Result<()> {
        const SLICE: Duration = Duration::from_millis(200);
        let mut left = time;
        while !left.is_zero() {
            check_cancelled()?;
            let now = left.min(SLICE);
            std::thread::sleep(now);
            left -= now;
        }
        check_cancelled()
    }

    fn elapsed(&self) -> Duration {
        START.elapsed()
    }
}
