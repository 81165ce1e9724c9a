//! PEM (RFC 7468): base64 between a begin and an end line. What stands before, between and after is passed over.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Error;

/// The bytes as PEM.
pub(super) fn encode(label: &str, bytes: &[u8]) -> String {
    let base64 = STANDARD.encode(bytes);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out + &format!("-----END {label}-----\n")
}

/// All blocks of a text: label and bytes.
pub(super) fn decode(what: &'static str, text: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let wrong = |reason: &str| Error::Malformed { what, reason: reason.to_owned() };
    let (mut blocks, mut rest) = (Vec::new(), text);
    while let Some((_, tail)) = rest.split_once("-----BEGIN ") {
        let (label, tail) = tail.split_once("-----").ok_or_else(|| wrong("its PEM is cut off"))?;
        let end = format!("-----END {label}-----");
        let (body, tail) = tail.split_once(&end).ok_or_else(|| wrong("its PEM has no end line"))?;
        let body: String = body.split_ascii_whitespace().collect();
        let bytes = STANDARD.decode(body).map_err(|_| wrong("its PEM is not base64"))?;
        blocks.push((label.to_owned(), bytes));
        rest = tail;
    }
    if blocks.is_empty() { Err(wrong("it is not PEM (no line `-----BEGIN ...-----`)")) } else { Ok(blocks) }
}
