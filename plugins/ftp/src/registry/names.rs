//! Names of repositories, tags and digests. What becomes part of a path is checked here first.

use cooperage_sdk::{Error, Result};
use serde_json::Value;

/// Checks a repository name (OCI distribution 1.1, "Pulling manifests"). What a layout has itself cannot be part of
/// one, or one repository would lie within another.
///
/// # Errors
/// `invalid-input`.
pub fn check_repository(name: &str) -> Result<()> {
    let wrong = |why: &str| Err(Error::invalid_input(format!("{name:?} is no repository name: {why}")));
    if name.len() > 255 {
        return wrong("it is longer than 255 characters");
    }
    for part in name.split('/') {
        let word = |c: Option<char>| c.is_some_and(|c| matches!(c, 'a'..='z' | '0'..='9'));
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
        if !word(part.chars().next()) || !word(part.chars().last()) || !part.chars().all(allowed) || part.contains("..")
        {
            return wrong("parts are lower-case letters and digits with `.`, `_` and `-` between them");
        }
        if matches!(part, "blobs" | "index.json" | "oci-layout") {
            return wrong(&format!("{part} is a part of every image layout"));
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
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let bytes = text.as_bytes();
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

/// Whether the text is a media type.
#[must_use]
pub fn is_media_type(text: &str) -> bool {
    let part = |p: &str| {
        !p.is_empty() && p.len() <= 127 && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    text.split_once('/').is_some_and(|(kind, sub)| part(kind) && part(sub))
}

/// The media type of a manifest or index, from what it says or has.
///
/// # Errors
/// `conflict` if it is neither.
pub fn media_type(manifest: &[u8]) -> Result<String> {
    let neither = |why: String| Error::conflict("what is there is neither manifest nor index").because(why);
    let body: Value = serde_json::from_slice(manifest).map_err(|error| neither(error.to_string()))?;
    let media_type = match body["mediaType"].as_str() {
        Some(named) if is_media_type(named) => named,
        _ if body["manifests"].is_array() => "application/vnd.oci.image.index.v1+json",
        _ if body["config"].is_object() => "application/vnd.oci.image.manifest.v1+json",
        _ => return Err(neither("it has no media type".to_owned())),
    };
    Ok(media_type.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        for good in ["a", "library/busybox", "a.b/c_d/e__f/g--h", "0/1", "blobs2"] {
            check_repository(good).unwrap();
        }
        let long = "a".repeat(256);
        for bad in
            ["", "/a", "a/", "a//b", "A", "a/../b", "a/.", "..", ".coop-lock", "a\r\nb", "-a", "a..b", "a/blobs", &long]
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
        for bad in ["", ".x", "-x", "a/b", "a b", "a\r\nb", "sha256:00", &digest.to_uppercase()] {
            assert!(check_reference(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn media_types_of_manifests() {
        for (text, expected) in [
            (r#"{"mediaType":"a/b"}"#, Some("a/b")),
            (r#"{"manifests":[]}"#, Some("application/vnd.oci.image.index.v1+json")),
            (r#"{"config":{}}"#, Some("application/vnd.oci.image.manifest.v1+json")),
            ("{}", None),
            ("<html>", None),
        ] {
            assert_eq!(media_type(text.as_bytes()).ok().as_deref(), expected, "{text}");
        }
    }
}
