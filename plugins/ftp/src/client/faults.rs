//! What a refusal of a server means for the user. It knows codes and the words that servers use with them.

use cooperage_sdk::{Error, ErrorKind, Result};

use super::reply::Reply;

/// The error of a reply that is none of those hoped for.
#[must_use]
pub fn fault(reply: &Reply) -> Error {
    let (kind, hint) = meaning(reply);
    let error = Error::new(kind, format!("the server answers {}", reply.shown()));
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The reply, if it says that what was asked for is done.
///
/// # Errors
/// The [`fault`] otherwise.
pub fn done(reply: Reply) -> Result<Reply> {
    if reply.is_done() { Ok(reply) } else { Err(fault(&reply)) }
}

fn meaning(reply: &Reply) -> (ErrorKind, Option<&'static str>) {
    let words = reply.lines.join(" ").to_ascii_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| words.contains(text));
    let full = Some("free space on the server, or ask for a larger quota");
    match reply.code {
        452 | 552 => (ErrorKind::Limit, full),
        _ if reply.code >= 400
            && says(&["no space", "quota", "disk full", "storage allocation", "writing to local file"]) =>
        {
            (ErrorKind::Limit, full)
        }
        530 if says(&["encrypt", "ssl", "tls"]) => (ErrorKind::Denied, Some("the server wants TLS; see `tls`")),
        430 | 530 | 532 => (ErrorKind::Unauthenticated, Some("check the user name and the password")),
        331 | 332 => (ErrorKind::Unauthenticated, Some("the server wants a password; give it with `password`")),
        400..500 => (ErrorKind::Unavailable, None),
        522 if says(&["reuse"]) => (
            ErrorKind::Denied,
            Some(
                "the server wants data to resume the TLS session of the control connection; see its `require_ssl_reuse`",
            ),
        ),
        522 | 533..=537 => (ErrorKind::Denied, Some("the server wants TLS in another way; see `tls`")),
        500..=504 => (ErrorKind::Unsupported, None),
        550 | 553 if says(&["ssl", "tls", "encrypt"]) => (ErrorKind::Denied, Some("the server wants TLS; see `tls`")),
        550 | 553 if says(&["exist"]) && !says(&["not exist", "n't exist", "no such"]) => (ErrorKind::Conflict, None),
        550 | 553 if says(&["permission", "denied", "not allowed", "forbidden", "privilege", "read-only"]) => {
            (ErrorKind::Denied, Some("the user may not do this on the server"))
        }
        550 => (ErrorKind::NotFound, None),
        551 | 553 => (ErrorKind::Denied, None),
        _ => (ErrorKind::Conflict, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_refusals() {
        for (code, text, kind) in [
            (550, "Failed to open file.", ErrorKind::NotFound),
            (550, "No such file or directory", ErrorKind::NotFound),
            (550, "/a: File does not exist", ErrorKind::NotFound),
            (550, "File exists", ErrorKind::Conflict),
            (550, "Permission denied.", ErrorKind::Denied),
            (550, "Not enough privileges.", ErrorKind::Denied),
            (553, "Could not create file.", ErrorKind::Denied),
            (552, "Disk full", ErrorKind::Limit),
            (452, "No room", ErrorKind::Limit),
            (451, "write: No space left on device", ErrorKind::Limit),
            (451, "Failure writing to local file.", ErrorKind::Limit),
            (451, "Local error", ErrorKind::Unavailable),
            (425, "Failed to establish connection.", ErrorKind::Unavailable),
            (426, "Failure writing network stream.", ErrorKind::Unavailable),
            (530, "Login incorrect.", ErrorKind::Unauthenticated),
            (530, "Please login with USER and PASS.", ErrorKind::Unauthenticated),
            (530, "Non-anonymous sessions must use encryption.", ErrorKind::Denied),
            (522, "SSL connection failed: session reuse required", ErrorKind::Denied),
            (550, "SSL/TLS required on the data channel", ErrorKind::Denied),
            (502, "No such command.", ErrorKind::Unsupported),
            (200, "Fine", ErrorKind::Conflict),
        ] {
            let reply = Reply { code, lines: vec![text.into()] };
            assert_eq!(fault(&reply).kind, kind, "{code} {text}");
        }
    }
}
