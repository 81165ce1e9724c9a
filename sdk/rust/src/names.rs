//! Names of repositories, tags, digests and media types. What becomes part of a URL or a path is checked here first.

use crate::{Error, Result};

/// Checks a repository name (OCI distribution 1.1, "Pulling manifests").
///
/// # Errors
/// `invalid-input`.
pub fn check_repository(name: &str) -> Result<()> {
    let wrong = |why: &str| Err(Error::invalid_input(format!("{name:?} is no repository name: {why}")));
    if name.len() > 255 {
        return wrong("it is longer than 255 characters");
    }
    for part in name.split('/') {
        if part.is_empty() {
            return wrong("a part is empty");
        }
        if let Some(bad) = part.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-')) {
            return wrong(&format!("{bad:?} is not allowed"));
        }
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        if !edge(part.chars().next()) || !edge(part.chars().last()) || part.contains("..") {
            return wrong("separators stand alone between letters and digits");
        }
    }
    Ok(())
}

/// Whether the text is `sha256:` and 64 lower-case hexadecimal digits.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// Whether the text is a tag.
#[must_use]
pub fn is_tag(text: &str) -> bool {
    let bytes = text.as_bytes();
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    bytes.len() <= 128 && bytes.first().is_some_and(word) && bytes.iter().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// Checks a digest.
///
/// # Errors
/// `invalid-input`.
pub fn check_digest(text: &str) -> Result<()> {
    if is_digest(text) {
        return Ok(());
    }
    Err(Error::invalid_input(format!("{text:?} is no digest")).hint("a digest is `sha256:` and 64 hexadecimal digits"))
}

/// Checks a tag or digest.
///
/// # Errors
/// `invalid-input`.
pub fn check_reference(text: &str) -> Result<()> {
    if is_tag(text) || is_digest(text) {
        return Ok(());
    }
    Err(Error::invalid_input(format!("{text:?} is neither a tag nor a digest")))
}

/// The beginning of a digest, for people.
#[must_use]
pub fn short(digest: &str) -> &str {
    digest.strip_prefix("sha256:").and_then(|hex| hex.get(..12)).unwrap_or(digest)
}

/// Whether the text may stand in a `Content-Type`, and so in a descriptor.
#[must_use]
pub fn is_media_type(text: &str) -> bool {
    let part = |p: &str| {
        !p.is_empty() && p.len() <= 127 && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    text.split_once('/').is_some_and(|(kind, sub)| part(kind) && part(sub))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        for good in ["a", "library/busybox", "a.b/c_d/e__f/g--h", "0/1"] {
            check_repository(good).unwrap();
        }
        let long = "a".repeat(256);
        for bad in
            ["", "/a", "a/", "a//b", "A", "a/../b", "a/.", "..", "a?b", "a#b", "a:b", "a%2e", "-a", "a-", "a..b", &long]
        {
            assert!(check_repository(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn references() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for good in ["latest", "_x", "1.2-rc", &digest] {
            check_reference(good).unwrap();
        }
        let (upper, long) = (digest.to_uppercase(), "a".repeat(129));
        for bad in ["", ".x", "-x", "a/b", "a b", "a?b", "sha256:00", "sha512:00", &upper, &long] {
            assert!(check_reference(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn media_types() {
        assert!(is_media_type("application/vnd.oci.image.manifest.v1+json"));
        for bad in ["", "text", "a/", "/b", "a/b/c", "a/b c", "a/b\r\nx"] {
            assert!(!is_media_type(bad), "{bad:?}");
        }
    }

    #[test]
    fn digests_for_people() {
        assert_eq!(short(&format!("sha256:{}", "0a".repeat(32))), "0a0a0a0a0a0a");
        for other in ["", "sha256:00", "latest"] {
            assert_eq!(short(other), other);
        }
    }
}
