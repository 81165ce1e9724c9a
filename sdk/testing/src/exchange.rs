//! HTTP as a case has it: exchanges instead of a network. Requests come here after the engine has checked the grants.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use cooperage_engine::http::address::Reach;
use cooperage_engine::http::{Error, Line, SendOptions, Transport};
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wasmtime_wasi_http::WasiBody;

use crate::compare::shown;
use crate::fault::{Failure, Faults, Kind, Place};
use crate::problems::Problems;
use crate::tcp::{Conversation, Conversations, place};
use crate::veil::Veil;

/// A request that the plugin makes, and the answer that it gets.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Exchange {
    /// What the plugin asks for.
    pub request: RequestCase,
    /// What it gets.
    #[serde(default)]
    pub response: ResponseCase,
    /// How often; 0 is any number of times, also none.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

/// What a request has to be.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RequestCase {
    /// The method.
    #[serde(default = "get")]
    pub method: String,
    /// The whole URL, with its query.
    pub url: String,
    /// Header fields that it must have; others do not matter.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body that it must have; without it the body does not matter.
    pub body: Option<Body>,
}

fn get() -> String {
    "GET".to_owned()
}

/// An answer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ResponseCase {
    /// The status.
    #[serde(default = "ok")]
    pub status: u16,
    /// Header fields. The length of the body is added.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body; by default empty.
    pub body: Option<Body>,
}

fn ok() -> u16 {
    200
}

impl Default for ResponseCase {
    fn default() -> Self {
        Self { status: ok(), headers: BTreeMap::new(), body: None }
    }
}

/// Bytes, in the form in which they are easiest to read.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Body {
    /// A text.
    Text(String),
    /// JSON; in a request it is compared as such.
    Json {
        /// The value.
        json: Value,
    },
    /// A file of the case.
    File {
        /// Its path.
        file: String,
    },
    /// Any bytes.
    Base64 {
        /// In base64.
        base64: String,
    },
}

impl Body {
    /// The bytes; a path is below `folder`.
    pub(crate) fn bytes(&self, folder: &Path) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::Json { json } => Ok(json.to_string().into_bytes()),
            Self::File { file } => {
                let path = folder.join(file);
                std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
            }
            Self::Base64 { base64 } => {
                let standard = base64::engine::general_purpose::STANDARD;
                standard.decode(base64.as_bytes()).map_err(|error| format!("{base64:?} is no base64: {error}"))
            }
        }
    }
}

/// An exchange with everything read that it names.
struct Ready {
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    body: Option<Wanted>,
    answer: Answer,
    left: Option<u32>,
}

enum Wanted {
    Json(Value),
    Bytes(Vec<u8>),
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// What a plugin has asked for.
struct Asked {
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
    /// URL and body as a recording has them, without secrets.
    veiled: (String, Bytes),
}

/// Answers requests as a case says.
pub(crate) struct Script {
    exchanges: Mutex<Vec<Ready>>,
    log: Mutex<Vec<Value>>,
    faults: Faults,
    problems: Problems,
    veil: Veil,
    conversations: Conversations,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Script {
    /// Reads what the exchanges name.
    pub(crate) fn new(
        exchanges: &[Exchange],
        folder: &Path,
        veil: Veil,
        (faults, problems, tcp): (Faults, Problems, &[Conversation]),
    ) -> Result<Self, String> {
        let conversations = Conversations::new(tcp, folder, &veil, problems.clone())?;
        let ready = exchanges.iter().map(|exchange| Ready::new(exchange, folder)).collect::<Result<_, _>>()?;
        Ok(Self { exchanges: Mutex::new(ready), log: Mutex::default(), faults, problems, veil, conversations })
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        lock(&self.log).clone()
    }

    /// Waits for what is still said on connections; what is wrong with them becomes a problem.
    pub(crate) async fn hang_up(&self) {
        self.conversations.finish().await;
    }

    /// Exchanges that were to take place and did not.
    pub(crate) fn unused(&self) -> Vec<String> {
        let unused = |exchange: &Ready| exchange.left.filter(|left| *left > 0).map(|_| exchange.to_string());
        let unused: Vec<_> = lock(&self.exchanges).iter().filter_map(unused).collect();
        unused.into_iter().map(|exchange| format!("the plugin never asked for {exchange}")).collect()
    }

    /// The answer of the first exchange that fits.
    fn find(&self, asked: &Asked, use_up: bool) -> Option<Answer> {
        let mut exchanges = lock(&self.exchanges);
        let exchange =
            exchanges.iter_mut().find(|exchange| exchange.left != Some(0) && exchange.misfit(asked).is_none())?;
        if let (Some(left), true) = (&mut exchange.left, use_up) {
            *left -= 1;
        }
        Some(exchange.answer.clone())
    }

    fn unexpected(&self, asked: &Asked) -> String {
        let mut text = format!(
            "the plugin asked for what the case has no exchange for\n  asked    {} {}",
            asked.method, asked.url
        );
        let exchanges = lock(&self.exchanges);
        let left: Vec<_> = exchanges.iter().filter(|exchange| exchange.left != Some(0)).collect();
        for exchange in left.iter().take(5) {
            text.push_str(&format!("\n  expected {exchange}{}", exchange.misfit(asked).unwrap_or_default()));
        }
        if left.is_empty() {
            text.push_str("\n  expected no further request");
        }
        text
    }
}

impl Ready {
    fn new(exchange: &Exchange, folder: &Path) -> Result<Self, String> {
        let Exchange { request, response, times } = exchange;
        let mut headers = HeaderMap::new();
        for (name, value) in &response.headers {
            let wrong = |what: String| format!("the header field {name} of an answer: {what}");
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|error| wrong(error.to_string()))?;
            headers.insert(key, HeaderValue::from_str(value).map_err(|error| wrong(error.to_string()))?);
        }
        let body = response.body.as_ref().map_or(Ok(Vec::new()), |body| body.bytes(folder))?;
        if !headers.contains_key(http::header::TRANSFER_ENCODING) {
            headers.entry(http::header::CONTENT_LENGTH).or_insert_with(|| body.len().into());
        }
        let status = StatusCode::from_u16(response.status).map_err(|_| format!("{} is no status", response.status))?;
        let wanted = match &request.body {
            None => None,
            Some(Body::Json { json }) => Some(Wanted::Json(json.clone())),
            Some(other) => Some(Wanted::Bytes(other.bytes(folder)?)),
        };
        Ok(Self {
            method: request.method.to_ascii_uppercase(),
            url: request.url.clone(),
            headers: request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect(),
            body: wanted,
            answer: Answer { status, headers, body: body.into() },
            left: (*times > 0).then_some(*times),
        })
    }

    /// What of a request is not as it should be; empty if it is another request altogether.
    fn misfit(&self, asked: &Asked) -> Option<String> {
        if asked.method.as_str() != self.method || (asked.url != self.url && asked.veiled.0 != self.url) {
            return Some(String::new());
        }
        for (name, expected) in &self.headers {
            let actual = asked.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            if actual.as_deref() != Some(expected) {
                let actual = actual.map_or_else(|| "not there".to_owned(), |actual| format!("{actual:?}"));
                return Some(format!(" with the header field {name}: {expected:?}, which is {actual}"));
            }
        }
        let (fits, expected) = match self.body.as_ref()? {
            Wanted::Json(json) => {
                let is = |body: &Bytes| serde_json::from_slice::<Value>(body).ok().as_ref() == Some(json);
                (is(&asked.body) || is(&asked.veiled.1), shown(json))
            }
            Wanted::Bytes(bytes) => (asked.body == bytes[..] || asked.veiled.1 == bytes[..], shown(&text(bytes))),
        };
        (!fits).then(|| format!(" with the body {expected}, which is {}", shown(&text(&asked.body))))
    }
}

impl std::fmt::Display for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

fn text(bytes: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(bytes).into_owned())
}

impl Asked {
    async fn of(request: Request<WasiBody>, veil: &Veil) -> Self {
        let (head, body) = request.into_parts();
        // What the guest did not send to its end it is told by the guest's own error.
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let url = head.uri.to_string();
        let veiled = (veil.secrets(&url), veil.bytes(&body).into());
        Self { method: head.method, url, headers: head.headers, body, veiled }
    }

    fn logged(&self) -> Value {
        let field = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), text(value.as_bytes()));
        let headers: Map<String, Value> = self.headers.iter().map(field).collect();
        json!({ "method": self.method.as_str(), "url": self.url, "headers": headers, "body": text(&self.body) })
    }
}

#[async_trait]
impl Transport for Script {
    async fn carry(&self, request: Request<WasiBody>, options: &SendOptions) -> Result<Response<WasiBody>, Error> {
        let asked = Asked::of(request, &self.veil).await;
        lock(&self.log).push(asked.logged());
        let peer = asked.url.clone();
        let fault = self.faults.next(Place::Http);
        match &fault {
            Some(Failure::Kind(Kind::Timeout)) => {
                let after = options.first_byte_timeout.unwrap_or_default();
                return Err(Error::ReadTimeout { peer, after });
            }
            Some(Failure::Kind(Kind::Denied)) => return Err(Error::Denied("the case refuses the request".to_owned())),
            // Nothing is heard any more; the engine gives the plugin up after its grace.
            Some(Failure::Kind(Kind::Cancelled)) => return std::future::pending().await,
            Some(Failure::Kind(_)) => {
                return Err(Error::Connect { peer, source: std::io::ErrorKind::ConnectionRefused.into() });
            }
            Some(Failure::Status { status }) => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                return Ok(respond(Answer { status, headers: HeaderMap::new(), body: Bytes::new() }, None));
            }
            Some(Failure::Cut { .. }) | None => {}
        }
        let cut = match fault {
            Some(Failure::Cut { cut_after }) => Some(cut_after),
            _ => None,
        };
        // An answer that does not arrive whole is there for the next try.
        let Some(mut answer) = self.find(&asked, cut.is_none()) else {
            let problem = self.unexpected(&asked);
            self.problems.add(problem);
            return Err(Error::Denied(format!("{} {peer}: the case has no such exchange", asked.method)));
        };
        if asked.method == Method::HEAD {
            answer.body = Bytes::new();
        }
        Ok(respond(answer, cut))
    }

    async fn open(&self, host: &str, port: u16, _: Reach, _: Duration) -> Result<Box<dyn Line>, Error> {
        let peer = place(host, port);
        match self.faults.next(Place::Tcp) {
            Some(Failure::Kind(Kind::Timeout)) => return Err(Error::ConnectTimeout { peer, after: Duration::ZERO }),
            Some(Failure::Kind(Kind::Denied)) => return Err(Error::Denied(format!("the case refuses {peer}"))),
            Some(_) => return Err(Error::Connect { peer, source: std::io::ErrorKind::ConnectionRefused.into() }),
            None => {}
        }
        self.conversations.begin(&peer).map_err(|problem| {
            self.problems.add(problem);
            Error::Denied(format!("{peer}: the case has no such connection"))
        })
    }
}

fn respond(answer: Answer, cut: Option<usize>) -> Response<WasiBody> {
    let body = match cut {
        None => Full::new(answer.body).map_err(|never| match never {}).boxed_unsync(),
        Some(length) => {
            let arrived = answer.body.slice(..length.min(answer.body.len()));
            let frames = [Ok(Frame::data(arrived)), Err(wasmtime_wasi_http::Error::ConnectionTerminated)];
            StreamBody::new(stream::iter(frames)).boxed_unsync()
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}
