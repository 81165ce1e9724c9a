//! What the contract says for each way in which a server refuses over HTTP.

use cooperage_sdk::http::Url;
use cooperage_sdk::{Error, ErrorKind};

use crate::edge::Answer;
use crate::login::Login;
use crate::packet::shown;

/// More of an error page is not read.
const LONGEST: usize = 2 << 10;

/// The error for an answer that is not what was hoped for.
pub fn of_answer(mut answer: Answer, url: &Url, login: &Login<'_>, has_login: bool) -> Error {
    let host = url.authority();
    let status = answer.status;
    let (kind, message) = match status {
        401 if has_login => (ErrorKind::Unauthenticated, format!("{host} does not accept the credentials")),
        401 => (ErrorKind::Unauthenticated, format!("{host} wants credentials")),
        403 | 451 => (ErrorKind::Denied, format!("{host} refuses access to the repository")),
        404 | 410 => (ErrorKind::NotFound, format!("{host} has no such repository")),
        408 | 425 | 429 | 500..=599 => (ErrorKind::Unavailable, format!("{host} cannot answer now")),
        _ => (ErrorKind::Conflict, format!("{host} does not answer as a git server")),
    };
    let mut error = Error::new(kind, message).because(format!("it answers {status}"));
    // Of a page for browsers, a line would say nothing.
    let text = answer.text(LONGEST);
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if !first.is_empty() && !first.starts_with('<') {
        error = error.because(shown(first.as_bytes()));
    }
    if kind == ErrorKind::Unavailable {
        let seconds = answer.headers.get("retry-after").and_then(|field| field.trim().parse::<u32>().ok());
        error.retry_after = seconds.map(|seconds| seconds.saturating_mul(1000));
    }
    match (kind, has_login) {
        (ErrorKind::Unauthenticated, true) => error.hint("check the name, and whether the secret is still valid"),
        (ErrorKind::Unauthenticated, false) if !login.is_for(url) => error.hint(format!(
            "credentials go only to the host of the URL, and this is another one; fetch from https://{host} directly"
        )),
        (ErrorKind::Unauthenticated, false) => error.hint(
            "give a step `token: { secret: NAME }`, or `username` and `password: { secret: NAME }`; a build takes the \
             secret GIT_AUTH_TOKEN",
        ),
        (ErrorKind::NotFound, false) => error.hint("check the URL; a private repository needs credentials"),
        (ErrorKind::NotFound | ErrorKind::Denied, true) => {
            error.hint("check the URL, and whether the account may read the repository")
        }
        _ => error,
    }
}
