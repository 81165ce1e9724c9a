//! One exchange over `wasi:http`: hands the request to the host, feeds its body, waits for the head of the answer.

use std::time::Duration;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::poll::{self, Pollable};
use wasip2::io::streams::OutputStream;

use super::{Body, Request, Response, Timeouts, Url, fault};
use crate::{Error, Result};

/// A request that was sent, and whose answer has not been waited for.
#[derive(Debug)]
pub struct Pending {
    answer: FutureIncomingResponse,
    url: Url,
    unsent: Option<OutgoingBody>,
}

impl Pending {
    /// Ready as soon as `answer` would not wait.
    #[must_use]
    pub fn subscribe(&self) -> Pollable {
        self.answer.subscribe()
    }

    /// Waits for the head of the answer.
    ///
    /// # Errors
    /// Those of [`Request::send`].
    pub fn answer(self) -> Result<Response> {
        let response = wait(&self.answer, &self.url)?;
        Response::new(response, self.url, self.unsent)
    }
}

pub(super) fn begin(request: Request) -> Result<Pending> {
    let Request { method, url, mut headers, mut body, timeouts } = request;
    let length = body.length();
    match length {
        Some(0) if !matches!(method.as_str(), "POST" | "PUT" | "PATCH") => {}
        Some(length) => headers.set("content-length", length.to_string()),
        // Without a length the host sends chunks; a length that the caller gave would contradict them.
        None => headers.remove("content-length"),
    }
    let fields = Fields::new();
    for (name, value) in headers.iter() {
        fields
            .append(name, value.as_bytes())
            .map_err(|error| Error::invalid_input(format!("header {name} cannot be sent: {error}")))?;
    }
    let outgoing = OutgoingRequest::new(fields);
    let path = url.path_and_query();
    let scheme = if url.is_https() { Scheme::Https } else { Scheme::Http };
    outgoing
        .set_method(&to_method(&method))
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(url.authority())))
        .and_then(|()| outgoing.set_path_with_query(Some(&path)))
        .map_err(|()| Error::invalid_input(format!("{method} {url} cannot be sent")))?;
    // A body that was taken counts as one of unknown length, even if nothing is ever written to it.
    let taken = |()| Error::internal("the body of a request was taken before");
    let sink = if length == Some(0) { None } else { Some(outgoing.body().map_err(taken)?) };
    let answer = outgoing_handler::handle(outgoing, options(timeouts)?).map_err(|code| fault::of_code(&code, &url))?;
    let unsent = match sink {
        Some(sink) => feed(sink, &mut body, &answer)?,
        None => None,
    };
    Ok(Pending { answer, url, unsent })
}

/// Sends the body, and gives it back if the far side did not want it to the end.
///
/// A broken stream is no error here: the answer, or the fault of the exchange, says why it broke.
fn feed(sink: OutgoingBody, body: &mut Body, answer: &FutureIncomingResponse) -> Result<Option<OutgoingBody>> {
    let length = body.length();
    let stream = sink.write().map_err(|()| Error::internal("the body of a request was taken before"))?;
    let mut sent = 0;
    while length.is_none_or(|length| sent < length) {
        let Some(room) = room(&stream, answer) else { return Ok(Some(sink)) };
        let chunk = body.chunk(sent, room)?;
        if chunk.is_empty() {
            break;
        }
        if stream.write(&chunk).is_err() {
            return Ok(Some(sink));
        }
        sent += chunk.len() as u64;
    }
    if stream.flush().is_err() || room(&stream, answer).is_none() {
        return Ok(Some(sink));
    }
    drop(stream);
    // An error shows in the answer as well, with more to say.
    let _ = OutgoingBody::finish(sink, None);
    Ok(None)
}

/// Waits until bytes can be written, and says how many; none if the stream is closed or the answer is there already.
fn room(stream: &OutputStream, answer: &FutureIncomingResponse) -> Option<u64> {
    loop {
        match stream.check_write() {
            Ok(0) => {}
            Ok(room) => return Some(room),
            Err(_) => return None,
        }
        let (writable, answered) = (stream.subscribe(), answer.subscribe());
        if poll::poll(&[&writable, &answered]).contains(&1) {
            return None;
        }
    }
}

fn wait(answer: &FutureIncomingResponse, url: &Url) -> Result<IncomingResponse> {
    loop {
        match answer.get() {
            Some(Ok(Ok(response))) => return Ok(response),
            Some(Ok(Err(code))) => return Err(fault::of_code(&code, url)),
            Some(Err(())) => return Err(Error::internal("an answer was taken before")),
            None => answer.subscribe().block(),
        }
    }
}

fn options(timeouts: Timeouts) -> Result<Option<RequestOptions>> {
    let Timeouts { connect, first_byte, between_bytes } = timeouts;
    if connect.or(first_byte).or(between_bytes).is_none() {
        return Ok(None);
    }
    let nanoseconds = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let options = RequestOptions::new();
    options
        .set_connect_timeout(nanoseconds(connect))
        .and_then(|()| options.set_first_byte_timeout(nanoseconds(first_byte)))
        .and_then(|()| options.set_between_bytes_timeout(nanoseconds(between_bytes)))
        .map_err(|()| Error::unsupported("the host takes no timeouts for HTTP"))?;
    Ok(Some(options))
}

fn to_method(method: &str) -> Method {
    match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "PATCH" => Method::Patch,
        "OPTIONS" => Method::Options,
        other => Method::Other(other.to_owned()),
    }
}
