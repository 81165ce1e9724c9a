//! The outside as the contract gives it.

use std::time::Duration;

use cooperage_sdk::events::check_cancelled;
use cooperage_sdk::http::{self, Request, Response, Timeouts};
use cooperage_sdk::secrets::reveal_text;
use cooperage_sdk::{ErrorKind, Result};

use crate::edge::{Answer, Body, Exchange, Http};

/// A server may count objects for long before it sends the first of them.
const FIRST_BYTE: Duration = Duration::from_secs(300);
/// Once it sends, git sends at least a sign of life every few seconds.
const BETWEEN_BYTES: Duration = Duration::from_secs(60);

/// HTTP through the host.
pub struct Guest;

impl Http for Guest {
    fn send(&self, exchange: Exchange) -> Result<Answer> {
        check_cancelled()?;
        let mut request = Request::new(exchange.method, exchange.url);
        request.headers = exchange.headers;
        if !exchange.body.is_empty() {
            request.body = http::Body::Bytes(exchange.body);
        }
        request.timeouts = Timeouts { connect: None, first_byte: Some(FIRST_BYTE), between_bytes: Some(BETWEEN_BYTES) };
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

/// The value of a secret that need not be there.
///
/// # Errors
/// `invalid-input` if it is there and no text.
pub fn reveal_if_there(name: &str) -> Result<Option<String>> {
    match reveal_text(name) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind, ErrorKind::Denied | ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
