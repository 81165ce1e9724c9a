//! What the contract says for each way in which an engine refuses. What an engine writes is shown shortened and without
//! control characters; of its words only those are looked for that engines pass on from registries.

use cooperage_sdk::{Error, ErrorKind, Result};
use serde::Deserialize;

use crate::edge::Answer;

/// More of an error's body is not read.
const LARGEST: usize = 64 << 10;
const LONGEST_TEXT: usize = 2000;

#[derive(Deserialize)]
struct Body {
    message: String,
}

/// The answer if it is a good one, else its error; `what` says what was tried.
///
/// # Errors
/// The engine's.
pub fn expect(answer: Answer, what: &str) -> Result<Answer> {
    if answer.is_success() { Ok(answer) } else { Err(of_answer(answer, what)) }
}

/// The error that an answer stands for.
#[must_use]
pub fn of_answer(mut answer: Answer, what: &str) -> Error {
    let bytes = answer.read(LARGEST).unwrap_or_default();
    let text = serde_json::from_slice(&bytes)
        .map_or_else(|_| String::from_utf8_lossy(&bytes).into_owned(), |body: Body| body.message);
    let said = said(&text);
    let kind = match answer.status {
        400 | 406 => of_words(&said).unwrap_or(ErrorKind::InvalidInput),
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        501 => ErrorKind::Unsupported,
        // Engines answer 500 to nearly everything that goes wrong behind them, and most of it goes wrong again.
        500 => of_words(&said).unwrap_or(ErrorKind::Conflict),
        502.. => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    let cause = if said.is_empty() {
        format!("the engine answers {}", answer.status)
    } else {
        format!("the engine answers {}: {said}", answer.status)
    };
    hinted(Error::new(kind, what).because(cause))
}

/// The error that an engine reports within a stream of progress, when the head of its answer was sent long ago.
#[must_use]
pub fn of_stream(what: &str, message: &str, code: Option<i64>) -> Error {
    let said = said(message);
    // A command that fails is no wrong use of ours, whatever words it consists of.
    let ended = ["returned a non-zero code: ", "exit code: ", "exit status "].iter().any(|words| said.contains(words));
    let kind = if ended { Some(ErrorKind::Conflict) } else { of_words(&said) };
    let error = Error::new(kind.unwrap_or(ErrorKind::InvalidInput), what).because(said.clone());
    // A failed command has its exit status in the words, too, but not in those of every engine.
    let told =
        code.is_none_or(|code| said.contains(&format!("code: {code}")) || said.contains(&format!("status {code}")));
    hinted(match code {
        Some(code) if !told => error.because(format!("code {code}")),
        _ => error,
    })
}

fn of_words(said: &str) -> Option<ErrorKind> {
    let said = said.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&[
        "unauthorized",
        "authentication required",
        "no basic auth credentials",
        "incorrect username",
        "invalid username/password",
    ]) {
        Some(ErrorKind::Unauthenticated)
    } else if has(&["access denied", "access to the resource is denied", "insufficient_scope"]) {
        Some(ErrorKind::Denied)
    } else if has(&["no space left on device"]) {
        Some(ErrorKind::Limit)
    } else if has(&["context canceled", "context cancelled"]) {
        Some(ErrorKind::Cancelled)
    } else if has(&["no such host", "connection refused", "i/o timeout", "tls handshake timeout"]) {
        Some(ErrorKind::Unavailable)
    } else if has(&["manifest unknown", "no such image", "image not known"]) {
        Some(ErrorKind::NotFound)
    } else {
        None
    }
}

fn hinted(error: Error) -> Error {
    match error.kind {
        ErrorKind::Unauthenticated | ErrorKind::Denied => {
            error.hint("give the engine a credential for the registry; it does not use those of `coop registry login`")
        }
        ErrorKind::Limit => error.hint("`docker system prune` makes room in the engine"),
        _ => error,
    }
}

/// Words of the engine, fit to be shown in one line.
#[must_use]
pub fn said(text: &str) -> String {
    let mut tame = String::new();
    for c in text.trim().chars().take(LONGEST_TEXT) {
        tame.push(if c.is_control() { ' ' } else { c });
    }
    if text.trim().chars().nth(LONGEST_TEXT).is_some() {
        tame.push_str(" ...");
    }
    tame
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::http::Headers;

    use super::*;
    use crate::testing::Pieces;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, headers: Headers::default(), body: Box::new(Pieces::of(body.as_bytes(), 7)) }
    }

    #[test]
    fn statuses_and_words_become_kinds() {
        use ErrorKind::*;
        for (status, body, kind, cause) in [
            (404, r#"{"message":"no such image: x"}"#, NotFound, "the engine answers 404: no such image: x"),
            (404, r#"{"cause":"a","message":"b","response":404}"#, NotFound, "the engine answers 404: b"),
            (
                400,
                r#"{"message":"dockerfile parse error"}"#,
                InvalidInput,
                "the engine answers 400: dockerfile parse error",
            ),
            (
                500,
                r#"{"message":"Get x: unauthorized: no"}"#,
                Unauthenticated,
                "the engine answers 500: Get x: unauthorized: no",
            ),
            (
                500,
                "write /x: no space left on device",
                Limit,
                "the engine answers 500: write /x: no space left on device",
            ),
            (
                500,
                r#"{"message":"invalid reference format"}"#,
                Conflict,
                "the engine answers 500: invalid reference format",
            ),
            (503, "", Unavailable, "the engine answers 503"),
            (409, "\u{1b}[2Jgone", Conflict, "the engine answers 409:  [2Jgone"),
            (302, "null", Internal, "the engine answers 302: null"),
        ] {
            let error = of_answer(answer(status, body), "cannot do it");
            assert_eq!((error.kind, error.message.as_str()), (kind, "cannot do it"), "{body}");
            assert_eq!(error.context, [cause], "{body}");
        }
        let long = of_answer(answer(500, &"x".repeat(1 << 20)), "cannot");
        assert!(long.context[0].len() < 2100);
        assert!(expect(answer(204, ""), "fine").is_ok());
    }

    #[test]
    fn codes_are_told_once() {
        let error = of_stream("the build failed", "The command 'x' returned a non-zero code: 7", Some(7));
        assert_eq!((error.kind, error.context.len()), (ErrorKind::Conflict, 1));
        let error = of_stream("the build failed", "executor failed running [echo unauthorized]: exit code: 7", None);
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert_eq!(of_stream("the build failed", "odd", Some(7)).context, ["odd", "code 7"]);
        assert_eq!(of_stream("push", "unauthorized: authentication required", None).kind, ErrorKind::Unauthenticated);
    }
}
