//! What the contract demands of every registry plugin that speaks HTTP, made of the author's cases: the far side is changed
//! so that it does not have what is asked for, or has something else.

use serde_json::Value;

use crate::case::{BlobCase, RegistryCall, RegistryCase};
use crate::exchange::{Body, Exchange, ResponseCase};
use crate::read::CaseFolder;

/// A case with another far side.
pub(super) struct Variation {
    pub(super) name: &'static str,
    pub(super) folder: CaseFolder,
    expected: Expected,
}

enum Expected {
    /// The call fails as this kind.
    Kind(&'static str),
    /// The call fails.
    Failure,
    /// The call answers this.
    Answer(Value),
}

impl Variation {
    /// What is wrong with what came of it.
    pub(super) fn judge(&self, actual: &Value) -> Vec<String> {
        let kind = actual.pointer("/error/kind").and_then(Value::as_str);
        let (fits, expected) = match &self.expected {
            Expected::Kind(wanted) => (kind == Some(wanted), format!("it fails as {wanted}")),
            Expected::Failure => (kind.is_some(), "it fails".to_owned()),
            Expected::Answer(answer) => (actual.get("answer") == Some(answer), format!("it answers {answer}")),
        };
        if fits {
            return Vec::new();
        }
        let actual = kind.map_or_else(|| "the call succeeds".to_owned(), |kind| format!("it fails as {kind}"));
        vec![format!("expected that {expected}, and {actual}")]
    }
}

/// The variations of a case; none where it says nothing about what the far side has.
pub(super) fn variations(folder: &CaseFolder) -> Vec<Variation> {
    let Some(asked) = &folder.case.registry else { return Vec::new() };
    let mut merged = folder.clone();
    folder.recording.add_to(&mut merged.case);
    merged.recording = Default::default();
    let with = |name, expected, http: Option<Vec<Exchange>>| {
        let mut folder = merged.clone();
        folder.case.http = http?;
        Some(Variation { name, folder, expected })
    };
    let http = &merged.case.http;
    let all = match asked.call {
        RegistryCall::Resolve | RegistryCall::GetManifest => {
            vec![with("an unknown tag is not-found", Expected::Kind("not-found"), absent(http, &asked.reference))]
        }
        RegistryCall::HasBlob => {
            let expected = Expected::Answer(Value::Bool(false));
            vec![with("a blob that is absent is not there", expected, absent(http, &asked.reference))]
        }
        RegistryCall::GetBlob => {
            let (digest, bytes) = content(asked, folder);
            vec![
                with("a blob that is absent is not-found", Expected::Kind("not-found"), absent(http, &digest)),
                with("other content than the digest says is refused", Expected::Failure, other(http, folder, &bytes)),
            ]
        }
        _ => Vec::new(),
    };
    all.into_iter().flatten().collect()
}

/// The digest and the bytes of the blob of a case.
fn content(asked: &RegistryCase, folder: &CaseFolder) -> (String, Vec<u8>) {
    let bytes = |blob: &BlobCase| blob.content.bytes(&folder.path).unwrap_or_default();
    let bytes = asked.blob.as_ref().map(bytes).unwrap_or_default();
    (cooperage_store::Digest::of(&bytes).to_string(), bytes)
}

/// The exchanges with a far side that does not have what is named at the end of the path.
fn absent(http: &[Exchange], name: &str) -> Option<Vec<Exchange>> {
    let names = |exchange: &Exchange| {
        let path = exchange.request.url.split('?').next().unwrap_or_default();
        !name.is_empty() && path.rsplit('/').next().is_some_and(|last| last == name || last.replace("%3A", ":") == name)
    };
    let mut changed: Vec<Exchange> = http.to_vec();
    for exchange in changed.iter_mut().filter(|exchange| names(exchange)) {
        exchange.response = ResponseCase { status: 404, ..ResponseCase::default() };
        exchange.times = 0;
        // It may ask in another way before it believes it.
        exchange.request.body = None;
    }
    let mut more: Vec<Exchange> = changed.iter().filter(|exchange| names(exchange)).cloned().collect();
    for exchange in &mut more {
        let other = if exchange.request.method.eq_ignore_ascii_case("HEAD") { "GET" } else { "HEAD" };
        other.clone_into(&mut exchange.request.method);
    }
    let found = !more.is_empty();
    changed.extend(more);
    found.then_some(changed)
}

/// The exchanges with a far side that gives other bytes, as often as it is asked.
fn other(http: &[Exchange], folder: &CaseFolder, bytes: &[u8]) -> Option<Vec<Exchange>> {
    let mut changed = http.to_vec();
    let mut found = false;
    for exchange in &mut changed {
        let body = exchange.response.body.as_ref().and_then(|body| body.bytes(&folder.path).ok());
        if body.is_some_and(|body| body == bytes && !bytes.is_empty()) {
            // As many bytes, so that the length does not tell.
            exchange.response.body = Some(Body::Text("?".repeat(bytes.len())));
            exchange.times = 0;
            found = true;
        }
    }
    found.then_some(changed)
}
