//! What the contract says for each status that was not expected. What a far side writes is shown to the user shortened
//! and without control characters, and never parsed for anything but its message.

use cooperage_sdk::http::number;
use cooperage_sdk::retry::milliseconds;
use cooperage_sdk::{Error, ErrorKind};
use serde_json::Value;

use crate::edge::Answer;

/// More of an error's body is not read.
const LARGEST: usize = 16 << 10;
const LONGEST_TEXT: usize = 400;

/// The error for an answer; `now` in seconds since 1970.
pub fn of_answer(what: &str, mut answer: Answer, has_credential: bool, now: u64) -> Error {
    let (status, kind) = (answer.status, of_status(answer.status));
    let mut error = Error::new(kind, what).because(line(&answer));
    // An error page that breaks off tells as much as there was of it.
    let body = answer.read(LARGEST).map(|(bytes, _)| bytes).unwrap_or_default();
    if let Some(said) = said(answer.headers.get("content-type").unwrap_or_default(), &body) {
        error = error.because(said);
    }
    error.hint = hint(status, has_credential, &answer);
    if kind == ErrorKind::Unavailable {
        let asked = answer.headers.retry_after(now);
        error.retry_after = asked.map(milliseconds);
    }
    error
}

/// `HOST answers 404 Not Found`.
#[must_use]
pub fn line(answer: &Answer) -> String {
    format!("{} answers {} {}", answer.url.authority(), answer.status, reason(answer.status)).trim_end().to_owned()
}

/// What the far side says of it, if it is made for reading.
fn said(media_type: &str, body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let message = serde_json::from_str(&text).ok().and_then(|value: Value| message(&value));
    let readable = || media_type.starts_with("text/plain") || is_json(media_type);
    let text = message.or_else(|| readable().then(|| text.into_owned()))?;
    Some(clean(text.trim())).filter(|text| !text.is_empty())
}

/// The message of an error as most APIs write it (RFC 9457 among them).
fn message(value: &Value) -> Option<String> {
    let texts = ["message", "detail", "error_description", "title", "error"].map(|name| match &value[name] {
        Value::String(text) => Some(text.clone()),
        Value::Object(_) => message(&value[name]),
        _ => None,
    });
    texts.into_iter().flatten().find(|text| !text.trim().is_empty())
}

/// Whether a media type is JSON.
#[must_use]
pub fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
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

fn of_status(status: u16) -> ErrorKind {
    match status {
        401 | 407 => ErrorKind::Unauthenticated,
        403 | 451 | 511 => ErrorKind::Denied,
        404 | 410 => ErrorKind::NotFound,
        405 | 501 | 505 => ErrorKind::Unsupported,
        409 | 412 | 416 | 423 => ErrorKind::Conflict,
        413 | 414 | 431 | 507 => ErrorKind::Limit,
        408 | 425 | 429 | 500 | 502..=504 | 520..=599 => ErrorKind::Unavailable,
        400..=499 => ErrorKind::InvalidInput,
        _ => ErrorKind::Conflict,
    }
}

fn hint(status: u16, has_credential: bool, answer: &Answer) -> Option<String> {
    Some(match status {
        401 if has_credential => "the far side does not accept the credentials; check the secret".to_owned(),
        401 => "give credentials with `bearer` or `basic`".to_owned(),
        403 if has_credential => "the account has no right to do this".to_owned(),
        403 => "if it is not public, give credentials with `bearer` or `basic`".to_owned(),
        404 => "check the URL; some far sides answer this for what one may not see".to_owned(),
        405 => match answer.headers.get("allow") {
            Some(allowed) => format!("there, `method` may be {}", clean(allowed)),
            None => "try another `method`".to_owned(),
        },
        411 => "the far side wants to know the length of the body; with `pack` or `image`, add `known_length: true`"
            .to_owned(),
        413 => "the far side takes no body of this size".to_owned(),
        415 => "set the header `content-type` to what the far side takes".to_owned(),
        429 => match answer.headers.get("retry-after").and_then(number) {
            Some(seconds) => format!("try again in {seconds} s"),
            None => "try again later".to_owned(),
        },
        507 => "the far side has no room left".to_owned(),
        200..=299 => "if this is right, add it to `expect`".to_owned(),
        _ => return None,
    })
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        507 => "Insufficient Storage",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use cooperage_sdk::http::Headers;

    use super::*;

    fn fault(status: u16, media_type: &str, body: &str, has_credential: bool) -> Error {
        let mut headers = Headers::default();
        headers.append("Content-Type", media_type);
        let body = Box::new(Cursor::new(body.as_bytes().to_vec()));
        let url = "https://api.example/v1?token=x".parse().unwrap();
        of_answer("GET failed", Answer { status, headers, url, body }, has_credential, 0)
    }

    #[test]
    fn statuses_have_kinds() {
        for (status, kind) in [
            (401, ErrorKind::Unauthenticated),
            (403, ErrorKind::Denied),
            (404, ErrorKind::NotFound),
            (409, ErrorKind::Conflict),
            (413, ErrorKind::Limit),
            (422, ErrorKind::InvalidInput),
            (429, ErrorKind::Unavailable),
            (500, ErrorKind::Unavailable),
            (501, ErrorKind::Unsupported),
            (507, ErrorKind::Limit),
            (302, ErrorKind::Conflict),
            (204, ErrorKind::Conflict),
        ] {
            assert_eq!(fault(status, "", "", false).kind, kind, "{status}");
        }
    }

    #[test]
    fn the_far_side_is_quoted() {
        for (media_type, body, expected) in [
            ("application/json", r#"{"message":"no such \u001b[2Jthing"}"#, Some("no such  [2Jthing")),
            ("application/problem+json", r#"{"title":"Out of credit","detail":"Costs 50"}"#, Some("Costs 50")),
            ("application/json", r#"{"error":{"message":"quota"}}"#, Some("quota")),
            ("application/json", r#"{"error":"invalid_grant","error_description":"expired"}"#, Some("expired")),
            ("application/json", r#"{"code":5}"#, Some(r#"{"code":5}"#)),
            ("text/plain", "no\nroom ", Some("no room")),
            ("text/html", "<h1>404</h1>", None),
            ("application/json", "", None),
        ] {
            let error = fault(404, media_type, body, false);
            assert_eq!(error.context[0], "api.example answers 404 Not Found");
            assert_eq!(error.context.get(1).map(String::as_str), expected, "{body}");
        }
        assert!(fault(500, "text/plain", &"x".repeat(1 << 20), false).context[1].len() < 500);
    }

    #[test]
    fn the_user_learns_what_to_do() {
        assert!(fault(401, "", "", false).hint.unwrap().contains("bearer"));
        assert!(fault(401, "", "", true).hint.unwrap().contains("check the secret"));
    }
}
