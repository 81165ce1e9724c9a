//! From an answer to values for later steps.

use std::cell::OnceCell;

use cooperage_sdk::http::Headers;
use cooperage_sdk::{Error, Result};
use serde_json::{Map, Value};

use crate::client::Client;
use crate::edge::Answer;
use crate::faults::{clean, is_json};
use crate::patience::Patience;
use crate::save::Saved;

/// The most that is read of an answer that becomes no file.
pub const LARGEST: usize = 8 << 20;
/// Larger texts are no outputs unless they are named as such.
const SMALL: usize = 256 << 10;
/// What every step gives.
const ALWAYS: [&str; 6] = ["status", "headers", "body", "json", "path", "size"];

/// What an output is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A value within the JSON of the body.
    Pointer(String),
    /// A header field.
    Header(String),
    /// The status.
    Status,
    /// The body as text.
    Body,
}

impl Wanted {
    /// What a parameter says.
    ///
    /// # Errors
    /// `invalid-input` for what is none of these.
    pub fn read(name: &str, from: &str) -> Result<Self> {
        if ALWAYS.contains(&name) {
            return Err(Error::invalid_input(format!("every step has an output `{name}`; give yours another name")));
        }
        match from {
            "status" => Ok(Self::Status),
            "body" => Ok(Self::Body),
            _ if from.starts_with("header:") && from.len() > "header:".len() => {
                Ok(Self::Header(from["header:".len()..].to_owned()))
            }
            _ if from.starts_with('/') || from.is_empty() => Ok(Self::Pointer(from.to_owned())),
            _ => Err(Error::invalid_input(format!("output `{name}` is {from:?}"))
                .hint("write a JSON pointer such as /items/0/id, `header:NAME`, `status` or `body`")),
        }
    }

    /// Whether it is in the body.
    #[must_use]
    pub fn needs_body(&self) -> bool {
        matches!(self, Self::Pointer(_) | Self::Body)
    }
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Received {
    /// For instance 200.
    pub status: u16,
    /// Header fields.
    pub headers: Headers,
    /// The body; none if it is too large.
    pub body: Option<Vec<u8>>,
    document: OnceCell<Value>,
}

impl Received {
    /// Reads an answer.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks.
    pub fn read(client: Client, mut answer: Answer) -> Result<Self> {
        let (bytes, more) = answer.read(LARGEST).map_err(|error| error.context(client.what()))?;
        let announced =
            answer.headers.content_length().filter(|_| client.call.method != "HEAD" && answer.status != 304);
        if let Some(length) = announced.filter(|length| !more && *length != bytes.len() as u64) {
            let why = format!("the answer ends after {} of {length} bytes", bytes.len());
            return Err(Error::unavailable(client.what()).because(why));
        }
        Ok(Self {
            status: answer.status,
            headers: answer.headers,
            body: (!more).then_some(bytes),
            document: OnceCell::new(),
        })
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// `conflict` if it is none.
    pub fn json(&self) -> Result<&Value> {
        if let Some(document) = self.document.get() {
            return Ok(document);
        }
        let body = self.body()?;
        let document = serde_json::from_slice(body).map_err(|error| {
            let beginning = String::from_utf8_lossy(&body[..body.len().min(200)]);
            Error::conflict(format!("the answer is no JSON: {error}"))
                .because(format!("it begins with {:?}", clean(beginning.trim())))
        })?;
        Ok(self.document.get_or_init(|| document))
    }

    fn body(&self) -> Result<&[u8]> {
        let large =
            || Error::limit(format!("the answer has more than {LARGEST} bytes")).hint("make it a file with `save`");
        self.body.as_deref().ok_or_else(large)
    }

    fn value(&self, wanted: &Wanted) -> Result<Value> {
        Ok(match wanted {
            Wanted::Status => self.status.into(),
            Wanted::Header(name) => {
                let missing = || Error::not_found(format!("the answer has no header `{name}`"));
                self.headers.get(name).ok_or_else(missing)?.into()
            }
            Wanted::Body => String::from_utf8(self.body()?.to_vec())
                .map_err(|_| Error::conflict("the answer is not text in UTF-8").hint("make it a file with `save`"))?
                .into(),
            Wanted::Pointer(pointer) => {
                let document = self.json()?;
                document.pointer(pointer).cloned().ok_or_else(|| missing(document, pointer))?
            }
        })
    }
}

/// Says how far a pointer leads, and what is there.
fn missing(document: &Value, pointer: &str) -> Error {
    let error = Error::not_found(format!("the answer has nothing at {pointer}"));
    let mut reached = pointer;
    while let Some(slash) = reached.rfind('/') {
        reached = &reached[..slash];
        if let Some(value) = document.pointer(reached) {
            let what = match value {
                Value::Object(map) => {
                    let names: Vec<_> = map.keys().take(20).map(|name| clean(name)).collect();
                    format!("an object with {}", names.join(", "))
                }
                Value::Array(items) => format!("a list of {}", items.len()),
                _ => "a plain value".to_owned(),
            };
            let place = if reached.is_empty() { "its root" } else { reached };
            return error.because(format!("at {place} there is {what}"));
        }
    }
    error
}

/// Sends a call and reads its answer, both again if the connection breaks and that does no harm.
///
/// # Errors
/// Those of the client.
pub fn receive(client: Client) -> Result<Received> {
    let mut patience = Patience::new(client.call.retries);
    loop {
        let answer = client.send(&mut patience)?;
        match Received::read(client, answer) {
            Ok(received) => return Ok(received),
            Err(error) if client.call.repeatable => client.again(&mut patience, error)?,
            Err(error) => return Err(error.hint("the far side has answered, so the request was probably acted upon")),
        }
    }
}

/// The outputs that every step has, and those that were named.
///
/// # Errors
/// `not-found` or `conflict` for a named output that the answer does not have.
pub fn values(client: Client, received: &Received, wanted: &[(String, Wanted)]) -> Result<Vec<(String, Value)>> {
    let mut values = head(received.status, &received.headers);
    let small = received.body.as_deref().filter(|body| body.len() <= SMALL);
    if let Some(text) = small.and_then(|body| std::str::from_utf8(body).ok()) {
        values.push(("body".to_owned(), text.into()));
        let media_type = received.headers.get("content-type").unwrap_or_default();
        if is_json(media_type)
            && let Ok(json) = received.json()
        {
            values.push(("json".to_owned(), json.clone()));
        }
    }
    add(client, received, wanted, &mut values)?;
    Ok(values)
}

/// The outputs of a step that made a file.
///
/// # Errors
/// `not-found` for a named header that the answer does not have.
pub fn of_file(client: Client, saved: &Saved, wanted: &[(String, Wanted)]) -> Result<Vec<(String, Value)>> {
    let mut values = head(saved.status, &saved.headers);
    values.push(("path".to_owned(), saved.path.clone().into()));
    values.push(("size".to_owned(), saved.size.into()));
    let received =
        Received { status: saved.status, headers: saved.headers.clone(), body: None, document: OnceCell::new() };
    add(client, &received, wanted, &mut values)?;
    Ok(values)
}

fn add(
    client: Client,
    received: &Received,
    wanted: &[(String, Wanted)],
    values: &mut Vec<(String, Value)>,
) -> Result<()> {
    for (name, wanted) in wanted {
        let failed = |error: Error| error.context(format!("output `{name}`")).context(client.what());
        values.push((name.clone(), received.value(wanted).map_err(failed)?));
    }
    Ok(())
}

/// `status` and `headers`.
fn head(status: u16, headers: &Headers) -> Vec<(String, Value)> {
    let mut map = Map::new();
    for (name, value) in headers.iter() {
        match map.entry(name.to_ascii_lowercase()).or_insert(Value::Null) {
            Value::String(all) => {
                all.push_str(", ");
                all.push_str(value);
            }
            first => *first = value.into(),
        }
    }
    vec![("status".to_owned(), status.into()), ("headers".to_owned(), map.into())]
}
