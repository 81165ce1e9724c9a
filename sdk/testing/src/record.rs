//! Records the HTTP exchanges and TCP connections of a real run, in the form in which a case has them. What changes from run to run and what
//! nobody may see is left out: two recordings of the same run are the same text.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cooperage_engine::http::address::Reach;
use cooperage_engine::http::{Client, Error, Line, SendOptions, Transport};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use serde_json::{Map, Value, json};
use wasmtime_wasi_http::WasiBody;

use crate::listing::body;
use crate::overheard::Overheard;
use crate::tcp::place;
use crate::veil::Veil;

/// Header fields of requests that say what is asked for. Logins are not among them.
const REQUEST: [&str; 3] = ["content-type", "range", "content-range"];
/// Header fields of answers that mean something to a plugin; the others tell of the server and the hour.
const ANSWER: [&str; 14] = [
    "accept-ranges",
    "content-range",
    "content-type",
    "docker-content-digest",
    "docker-distribution-api-version",
    "docker-upload-uuid",
    "etag",
    "last-modified",
    "link",
    "location",
    "oci-filters-applied",
    "oci-subject",
    "range",
    "www-authenticate",
];
/// Fields of JSON answers that are credentials.
const TOKENS: [&str; 4] = ["token", "access_token", "refresh_token", "identity_token"];

/// Passes requests on to the network and keeps what was said.
pub(crate) struct Recorder {
    client: Client,
    veil: Mutex<Veil>,
    exchanges: Mutex<Vec<Recorded>>,
    connections: Mutex<Vec<Arc<Overheard>>>,
}

struct Recorded {
    method: String,
    url: String,
    request_headers: Map<String, Value>,
    request: Bytes,
    status: u16,
    headers: Map<String, Value>,
    answer: Bytes,
    is_head: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    pub(crate) fn new(client: Client, veil: Veil) -> Self {
        Self { client, veil: Mutex::new(veil), exchanges: Mutex::default(), connections: Mutex::default() }
    }

    /// The exchanges, in the form of `http`. What is too long for that is written into the folder of the case.
    pub(crate) fn exchanges(&self, folder: &Path) -> std::io::Result<Vec<Value>> {
        let mut veil = lock(&self.veil);
        lock(&self.exchanges).iter().map(|exchange| exchange.case(&mut veil, folder)).collect()
    }

    /// The connections, each with where it led and its turns, in the form of `tcp`.
    pub(crate) fn connections(&self, folder: &Path) -> std::io::Result<Vec<(String, Vec<Value>)>> {
        let veil = lock(&self.veil);
        lock(&self.connections).iter().map(|connection| connection.case(&veil, folder)).collect()
    }
}

impl Recorded {
    fn case(&self, veil: &mut Veil, folder: &Path) -> std::io::Result<Value> {
        let mut request = json!({ "method": self.method, "url": veil.text(&self.url) });
        if !self.request_headers.is_empty() {
            request["headers"] = veil.fields(&self.request_headers);
        }
        if !self.request.is_empty() {
            request["body"] = body(&veil.bytes(&self.request), &mut |text| veil.text(text), folder)?;
        }
        let mut response = json!({ "status": self.status, "headers": veil.fields(&self.headers) });
        if !self.is_head && !self.answer.is_empty() {
            response["body"] = body(&veil.bytes(&without_tokens(&self.answer)), &mut |text| veil.text(text), folder)?;
        }
        Ok(json!({ "request": request, "response": response }))
    }
}

/// The same answer with made-up tokens.
fn without_tokens(bytes: &Bytes) -> Bytes {
    let Ok(Value::Object(mut map)) = serde_json::from_slice(bytes) else { return bytes.clone() };
    let mut found = false;
    for name in TOKENS {
        if let Some(token) = map.get_mut(name).filter(|token| token.is_string()) {
            *token = json!("recorded-token");
            found = true;
        }
    }
    if !found {
        return bytes.clone();
    }
    // They come with the hour and the length of their life.
    map.remove("issued_at");
    Value::Object(map).to_string().into()
}

fn kept(headers: &HeaderMap, names: &[&str]) -> Map<String, Value> {
    let mut kept = BTreeMap::new();
    for name in names {
        if let Some(value) = headers.get(*name) {
            kept.insert((*name).to_owned(), json!(String::from_utf8_lossy(value.as_bytes())));
        }
    }
    kept.into_iter().collect()
}

#[async_trait]
impl Transport for Recorder {
    async fn carry(&self, request: Request<WasiBody>, options: &SendOptions) -> Result<Response<WasiBody>, Error> {
        let (head, body) = request.into_parts();
        let sent = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let (method, url) = (head.method.to_string(), head.uri.to_string());
        let (is_head, request_headers) = (head.method == http::Method::HEAD, kept(&head.headers, &REQUEST));
        let again = Full::new(sent.clone()).map_err(|never| match never {}).boxed_unsync();
        let answer = self.client.carry(Request::from_parts(head, again), options).await?;
        let (head, body) = answer.into_parts();
        let broken = |_| Error::Closed { peer: url.clone() };
        let received = body.collect().await.map_err(broken)?.to_bytes();
        let mut headers = kept(&head.headers, &ANSWER);
        if is_head && let Some(length) = head.headers.get(http::header::CONTENT_LENGTH) {
            headers.insert("content-length".to_owned(), json!(String::from_utf8_lossy(length.as_bytes())));
        }
        let status = head.status.as_u16();
        let answer = received.clone();
        lock(&self.exchanges).push(Recorded {
            method,
            url,
            request_headers,
            request: sent,
            status,
            headers,
            answer,
            is_head,
        });
        let body = Full::new(received).map_err(|never| match never {}).boxed_unsync();
        Ok(Response::from_parts(head, body))
    }
    async fn open(&self, host: &str, port: u16, reach: Reach, limit: Duration) -> Result<Box<dyn Line>, Error> {
        let line = self.client.open(host, port, reach, limit).await?;
        let (overheard, line) = Overheard::on(line, place(host, port));
        lock(&self.connections).push(overheard);
        Ok(line)
    }
}
