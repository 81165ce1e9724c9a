//! What the contract says for each way in which a registry refuses (OCI distribution 1.1, "Error Codes"). What a
//! registry writes is shown to the user shortened and without control characters, and never parsed beyond its codes.

use cooperage_sdk::retry::milliseconds;
use cooperage_sdk::{Error, ErrorKind};
use serde::Deserialize;

use crate::edge::Answer;

/// More of an error's body is not read.
const LARGEST: usize = 64 << 10;
const LONGEST_TEXT: usize = 400;

/// What is needed to help the user along.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// `host` or `host:port` of the registry.
    pub host: &'a str,
    /// The repository, if one is concerned.
    pub repository: &'a str,
    /// Whether there is a credential.
    pub has_credential: bool,
    /// Seconds since 1970.
    pub now: u64,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<Entry>,
    /// Token servers write this.
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    error_description: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    detail: serde_json::Value,
}

/// The error for an answer that is not what was hoped for; `what` says what could not be done.
pub fn of_answer(what: &str, mut answer: Answer, situation: &Situation) -> Error {
    // An error page that breaks off tells as much as there was of it.
    let text = answer.read(LARGEST).map(|(bytes, _)| bytes).unwrap_or_default();
    let body: Option<Body> = serde_json::from_slice(&text).ok();
    let code = body.as_ref().and_then(|body| body.errors.first()).map_or("", |entry| entry.code.as_str());
    let kind = of_code(code).unwrap_or_else(|| of_status(answer.status));
    let mut error = Error::new(kind, what);
    error.context.push(format!("{} answers {} {}", answer.url.authority(), answer.status, reason(answer.status)));
    if let Some(body) = &body {
        error.context.extend(body.errors.iter().take(4).map(entry));
        error.context.extend(body.error_description.iter().chain(&body.details).take(1).map(|text| clean(text)));
    }
    error.hint = hint(kind, code, situation);
    if kind == ErrorKind::Unavailable {
        let asked = answer.headers.retry_after(situation.now);
        error.retry_after = asked.map(milliseconds);
    }
    error
}

fn entry(entry: &Entry) -> String {
    let mut text = clean(&entry.code);
    if !entry.message.is_empty() {
        text = format!("{text}: {}", clean(&entry.message));
    }
    match &entry.detail {
        serde_json::Value::Null => text,
        serde_json::Value::String(detail) if detail.is_empty() => text,
        serde_json::Value::String(detail) => format!("{text} ({})", clean(detail)),
        detail => format!("{text} ({})", clean(&detail.to_string())),
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

fn of_code(code: &str) -> Option<ErrorKind> {
    Some(match code {
        "UNAUTHORIZED" => ErrorKind::Unauthenticated,
        "DENIED" => ErrorKind::Denied,
        "NAME_UNKNOWN" | "MANIFEST_UNKNOWN" | "BLOB_UNKNOWN" => ErrorKind::NotFound,
        "NAME_INVALID" | "TAG_INVALID" | "MANIFEST_INVALID" | "MANIFEST_UNVERIFIED" => ErrorKind::InvalidInput,
        "MANIFEST_BLOB_UNKNOWN"
        | "DIGEST_INVALID"
        | "SIZE_INVALID"
        | "BLOB_UPLOAD_INVALID"
        | "BLOB_UPLOAD_UNKNOWN"
        | "RANGE_INVALID" => ErrorKind::Conflict,
        "UNSUPPORTED" => ErrorKind::Unsupported,
        "TOOMANYREQUESTS" => ErrorKind::Unavailable,
        _ => return None,
    })
}

fn of_status(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::Unauthenticated,
        403 | 451 => ErrorKind::Denied,
        404 | 410 => ErrorKind::NotFound,
        405 | 501 => ErrorKind::Unsupported,
        409 | 412 | 416 => ErrorKind::Conflict,
        413 | 414 | 431 => ErrorKind::Limit,
        408 | 425 | 429 | 500..=599 => ErrorKind::Unavailable,
        400..=499 => ErrorKind::InvalidInput,
        _ => ErrorKind::Conflict,
    }
}

fn hint(kind: ErrorKind, code: &str, situation: &Situation) -> Option<String> {
    let Situation { host, repository, has_credential, .. } = situation;
    Some(match (kind, code) {
        (ErrorKind::Unauthenticated, _) if *has_credential => {
            format!("{host} does not accept the stored credential; renew it with `coop registry login {host}`")
        }
        (ErrorKind::Unauthenticated, _) => format!("log in with `coop registry login {host}`"),
        (ErrorKind::Denied, _) if *has_credential => {
            format!(
                "the account used for {host} has no right to do this in {repository}; ask its owner, or log in as another"
            )
        }
        (ErrorKind::Denied, _) => format!("if {repository} is private, log in with `coop registry login {host}`"),
        (ErrorKind::NotFound, "NAME_UNKNOWN") if !has_credential => {
            format!("check the name; if {repository} is private, log in with `coop registry login {host}`")
        }
        (ErrorKind::NotFound, _) => "check name and tag".to_owned(),
        (ErrorKind::Conflict, "MANIFEST_BLOB_UNKNOWN") => {
            "the registry lacks a blob of this manifest; push again".to_owned()
        }
        (ErrorKind::Unavailable, "TOOMANYREQUESTS") if !has_credential => {
            format!("{host} limits anonymous clients; log in with `coop registry login {host}`, or try later")
        }
        _ => return None,
    })
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::Result;
    use cooperage_sdk::http::Headers;

    use super::*;
    use crate::edge;

    struct Text(Vec<u8>);

    impl edge::Body for Text {
        fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
            let take = self.0.len().min(max as usize);
            Ok(self.0.drain(..take).collect())
        }
    }

    fn fault(status: u16, body: &str, has_credential: bool) -> Error {
        let answer = Answer {
            status,
            headers: Headers::default(),
            url: "https://registry.example/v2/".parse().unwrap(),
            body: Box::new(Text(body.as_bytes().to_vec())),
        };
        let situation = Situation { host: "registry.example", repository: "team/app", has_credential, now: 0 };
        of_answer("cannot do it", answer, &situation)
    }

    #[test]
    fn codes_rule_over_statuses() {
        for (status, code, kind) in [
            (401, "UNAUTHORIZED", ErrorKind::Unauthenticated),
            (401, "DENIED", ErrorKind::Denied),
            (404, "NAME_UNKNOWN", ErrorKind::NotFound),
            (404, "MANIFEST_UNKNOWN", ErrorKind::NotFound),
            (429, "TOOMANYREQUESTS", ErrorKind::Unavailable),
            (400, "DIGEST_INVALID", ErrorKind::Conflict),
            (400, "something else", ErrorKind::InvalidInput),
            (405, "UNSUPPORTED", ErrorKind::Unsupported),
            (500, "", ErrorKind::Unavailable),
            (302, "", ErrorKind::Conflict),
        ] {
            let error = fault(status, &format!(r#"{{"errors":[{{"code":"{code}","message":"m"}}]}}"#), false);
            assert_eq!(error.kind, kind, "{status} {code}");
        }
    }

    #[test]
    fn the_user_learns_what_to_do() {
        let body =
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":[{"Name":"x"}]}]}"#;
        let error = fault(401, body, false);
        assert_eq!(error.message, "cannot do it");
        assert_eq!(
            error.context,
            ["registry.example answers 401 Unauthorized", r#"UNAUTHORIZED: authentication required ([{"Name":"x"}])"#]
        );
        assert_eq!(error.hint.as_deref(), Some("log in with `coop registry login registry.example`"));
        assert!(fault(401, body, true).hint.unwrap().contains("renew"));
    }

    #[test]
    fn hostile_bodies_are_tamed() {
        let error = fault(500, &"x".repeat(10 << 20), false);
        assert_eq!(error.context.len(), 1);
        let long = format!(r#"{{"errors":[{{"code":"A\u001b[2J","message":"{}"}}]}}"#, "y".repeat(5000));
        let error = fault(500, &long, false);
        assert!(error.context[1].len() < 1000);
        assert!(!error.context[1].contains('\u{1b}'));
        for nonsense in ["", "null", "[]", r#"{"errors":null}"#, r#"{"errors":[{"code":5}]}"#, "<html>"] {
            assert_eq!(fault(404, nonsense, false).kind, ErrorKind::NotFound, "{nonsense}");
        }
    }
}
