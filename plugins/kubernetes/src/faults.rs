//! What the contract says for each way in which an API server refuses. Servers answer with a `Status` object (Kubernetes
//! API conventions, "Response Status Kind"); what they write is shown shortened and without control characters.

use cooperage_sdk::{Error, ErrorKind};
use serde::Deserialize;

use crate::edge::Answer;

/// More of an error's body is not read.
const LARGEST: usize = 256 << 10;
const LONGEST_TEXT: usize = 600;
const MOST_CAUSES: usize = 8;
/// The reason of a cause that names a field which somebody else has set.
const OWNED_BY_OTHER: &str = "FieldManagerConflict";

/// The answer of a server that refuses.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    kind: String,
    message: Option<String>,
    reason: Option<String>,
    details: Option<Details>,
    /// The HTTP status, which the events of a watch have nowhere else.
    pub code: Option<u16>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Details {
    kind: Option<String>,
    name: Option<String>,
    causes: Option<Vec<Cause>>,
    #[serde(rename = "retryAfterSeconds")]
    retry_after_seconds: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: Option<String>,
    message: Option<String>,
    field: Option<String>,
}

/// A refusal, before it is told to the user.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// What the server says.
    status: Status,
    /// When it wants to be asked again, in seconds.
    retry_after: Option<u64>,
    /// Where it sends clients.
    location: Option<String>,
    /// The beginning of an answer that is no `Status`.
    text: Option<String>,
}

/// What is needed to help the user along.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// `host` or `host:port` of the server.
    pub host: &'a str,
    /// Whether there is a token.
    pub has_token: bool,
}

impl Refusal {
    /// Reads it from an answer, `now` in seconds since 1970. One that breaks off tells as much as there was of it.
    #[must_use]
    pub fn of(answer: &mut Answer, now: u64) -> Self {
        let bytes = answer.read(LARGEST).map(|(bytes, _)| bytes).unwrap_or_default();
        let status: Option<Status> =
            serde_json::from_slice(&bytes).ok().filter(|status: &Status| status.kind == "Status");
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim();
        let is_plain = status.is_none() && !text.is_empty() && !text.starts_with('<');
        Self {
            code: answer.status,
            text: is_plain.then(|| clean(text)),
            status: status.unwrap_or_default(),
            retry_after: answer.headers.retry_after(now).map(|time| time.as_secs()),
            location: answer.headers.get("location").map(clean),
        }
    }

    /// Whether the object has changed since it was read; reading it again helps. Fields of others are another matter.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.code == 409 && self.status.reason.as_deref() == Some("Conflict") && !self.is_contested()
    }

    fn is_contested(&self) -> bool {
        self.causes().iter().any(|cause| cause.reason.as_deref() == Some(OWNED_BY_OTHER))
    }

    fn causes(&self) -> &[Cause] {
        self.status.details.as_ref().and_then(|details| details.causes.as_deref()).unwrap_or_default()
    }

    /// The error; `what` could not be done.
    #[must_use]
    pub fn error(&self, what: &str, situation: &Situation) -> Error {
        let kind = of_code(self.code);
        let mut error = Error::new(kind, what);
        let reason = self.status.reason.as_deref().map(|reason| format!(" ({})", clean(reason))).unwrap_or_default();
        error.context.push(format!("{} answers {}{reason}", situation.host, self.code));
        // The message of a conflict repeats its causes in one long line.
        let message = self.status.message.as_deref().filter(|_| !self.is_contested());
        error.context.extend(message.map(clean).or_else(|| self.text.clone()));
        error.context.extend(self.causes().iter().take(MOST_CAUSES).filter_map(cause));
        let more = self.causes().len().saturating_sub(MOST_CAUSES);
        if more > 0 {
            error.context.push(format!("and {more} more"));
        }
        error.hint = self.hint(situation);
        if kind == ErrorKind::Unavailable {
            let seconds =
                self.retry_after.or(self.status.details.as_ref().and_then(|d| d.retry_after_seconds.map(u64::from)));
            error.retry_after = seconds.map(|seconds| u32::try_from(seconds.saturating_mul(1000)).unwrap_or(u32::MAX));
        }
        error
    }

    fn hint(&self, situation: &Situation) -> Option<String> {
        let Situation { host, has_token } = situation;
        let details = self.status.details.clone().unwrap_or_default();
        Some(match self.code {
            401 if *has_token => {
                format!("{host} does not accept the token: it may have expired, or be for another cluster")
            }
            401 => "give the token of a service account: `token: { secret: NAME }`".to_owned(),
            403 if self.status.kind.is_empty() => format!("check that {host} is an API server"),
            403 => {
                "give the account a role that allows what the message says, with the verbs `get`, `list`, `watch` and \
                    `patch` for workloads, and `create` and `patch` for what is applied"
                    .to_owned()
            }
            404 if details.kind.as_deref() == Some("namespaces") => {
                let name = details.name.map(|name| clean(&name)).unwrap_or_default();
                format!("make the namespace {name} first, for instance with a manifest under `apply`")
            }
            404 if self.status.kind.is_empty() => {
                format!("check that {host} is an API server, and the path of `server`")
            }
            404 => "check name and `namespace`".to_owned(),
            409 if self.is_contested() => {
                "set `force: true` to take these fields over, or leave them to who has set them".to_owned()
            }
            415 => format!("{host} does not know server-side apply, which servers have since version 1.22"),
            422 => "mend what the server names; what it does not know may be newer than the server".to_owned(),
            300..=399 => match &self.location {
                Some(location) => format!("it points at {location}; write that as `server` if it is the API server"),
                None => return None,
            },
            _ => return None,
        })
    }
}

impl Status {
    /// What it says, for one line.
    #[must_use]
    pub fn line(&self) -> String {
        clean(self.message.as_deref().or(self.reason.as_deref()).unwrap_or("no reason given"))
    }
}

fn cause(cause: &Cause) -> Option<String> {
    let message = cause.message.as_deref().filter(|message| !message.is_empty()).map(clean);
    let field = cause.field.as_deref().filter(|field| !field.is_empty()).map(clean);
    match (field, message) {
        (Some(field), Some(message)) => Some(format!("{field}: {message}")),
        (field, message) => field.or(message),
    }
}

/// Text of the far side, made harmless.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut out: String = text.chars().take(LONGEST_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST_TEXT).is_some() {
        out.push('…');
    }
    out
}

fn of_code(code: u16) -> ErrorKind {
    match code {
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::Denied,
        404 | 410 => ErrorKind::NotFound,
        405 | 406 | 415 | 501 => ErrorKind::Unsupported,
        409 | 412 => ErrorKind::Conflict,
        413 | 431 => ErrorKind::Limit,
        408 | 425 | 429 | 500..=599 => ErrorKind::Unavailable,
        400..=499 => ErrorKind::InvalidInput,
        _ => ErrorKind::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::Result;
    use cooperage_sdk::http::Headers;
    use serde_json::{Value, json};

    use super::*;
    use crate::edge;

    struct Text(Vec<u8>);

    impl edge::Body for Text {
        fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
            let take = self.0.len().min(max as usize);
            Ok(self.0.drain(..take).collect())
        }
    }

    fn refusal(code: u16, body: &str) -> Refusal {
        let mut headers = Headers::default();
        headers.append("retry-after", "7");
        headers.append("location", "https://other.example/");
        Refusal::of(&mut Answer { status: code, headers, body: Box::new(Text(body.as_bytes().to_vec())) }, 0)
    }

    fn error(code: u16, body: Value) -> Error {
        let situation = Situation { host: "cluster.example:6443", has_token: true };
        refusal(code, &body.to_string()).error("cannot do it", &situation)
    }

    #[test]
    fn the_user_learns_what_the_server_says() {
        let conflict = json!({ "kind": "Status", "reason": "Conflict", "message": "Apply failed with 1 conflict: ...",
            "details": { "causes": [{ "reason": "FieldManagerConflict",
                "message": "conflict with \"helm\" using apps/v1", "field": ".spec.replicas" }] } });
        let found = error(409, conflict.clone());
        assert_eq!(found.message, "cannot do it");
        assert_eq!(
            found.context,
            ["cluster.example:6443 answers 409 (Conflict)", ".spec.replicas: conflict with \"helm\" using apps/v1"]
        );
        assert!(found.hint.unwrap().contains("`force: true`"));
        assert!(!refusal(409, &conflict.to_string()).is_stale());
        let stale = json!({ "kind": "Status", "reason": "Conflict", "message": "the object has been modified" });
        assert!(refusal(409, &stale.to_string()).is_stale());

        let invalid = json!({ "kind": "Status", "reason": "Invalid", "message": "Deployment is invalid",
            "details": { "causes": [{ "field": "spec.replicas", "message": "must be positive" }, {}] } });
        let found = error(422, invalid);
        assert_eq!(found.kind, ErrorKind::InvalidInput);
        assert_eq!(found.context[1..], ["Deployment is invalid", "spec.replicas: must be positive"]);

        let namespace = json!({ "kind": "Status", "details": { "kind": "namespaces", "name": "shop" } });
        assert!(error(404, namespace).hint.unwrap().contains("namespace shop"));
    }

    #[test]
    fn every_status_has_its_kind() {
        for (code, kind, hint) in [
            (301, ErrorKind::Conflict, "https://other.example/"),
            (400, ErrorKind::InvalidInput, ""),
            (401, ErrorKind::Unauthenticated, "token"),
            (403, ErrorKind::Denied, "API server"),
            (404, ErrorKind::NotFound, "API server"),
            (415, ErrorKind::Unsupported, "server-side apply"),
            (429, ErrorKind::Unavailable, ""),
            (503, ErrorKind::Unavailable, ""),
        ] {
            let found = error(code, json!({}));
            assert_eq!(found.kind, kind, "{code}");
            assert!(found.hint.unwrap_or_default().contains(hint), "{code}");
            assert_eq!(found.retry_after, (kind == ErrorKind::Unavailable).then_some(7000));
        }
    }

    #[test]
    fn hostile_bodies_are_tamed() {
        let found = error(
            500,
            json!({ "kind": "Status", "message": "\u{1b}[2J".repeat(5000),
            "details": { "causes": vec![json!({ "field": "f" }); 500] } }),
        );
        assert_eq!(found.context.len(), 2 + MOST_CAUSES + 1);
        assert!(found.context.iter().all(|line| line.chars().count() <= LONGEST_TEXT + 1 && !line.contains('\u{1b}')));
        let situation = Situation { host: "h", has_token: false };
        for nonsense in ["", "null", "[]", "{\"kind\":\"Status\",\"details\":7}", "<html>"] {
            let found = refusal(404, nonsense).error("x", &situation);
            assert_eq!(found.kind, ErrorKind::NotFound, "{nonsense}");
        }
        assert_eq!(refusal(502, "upstream is away\n").error("x", &situation).context[1], "upstream is away");
    }
}
