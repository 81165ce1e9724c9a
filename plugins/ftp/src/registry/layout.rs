//! What a layout on a server demands of repositories and manifests beyond the names that every registry knows.

use cooperage_sdk::{Error, Result, names};
use serde_json::Value;

/// Checks a repository name (OCI distribution 1.1, "Pulling manifests"). What a layout has itself cannot be part of
/// one, or one repository would lie within another.
///
/// # Errors
/// `invalid-input`.
pub fn check_repository(name: &str) -> Result<()> {
    names::check_repository(name)?;
    match name.split('/').find(|part| matches!(*part, "blobs" | "index.json" | "oci-layout")) {
        Some(part) => {
            Err(Error::invalid_input(format!("{name:?} is no repository name: {part} is a part of every image layout")))
        }
        None => Ok(()),
    }
}

/// The media type of a manifest or index, from what it says or has.
///
/// # Errors
/// `conflict` if it is neither.
pub fn media_type(manifest: &[u8]) -> Result<String> {
    let neither = |why: String| Error::conflict("what is there is neither manifest nor index").because(why);
    let body: Value = serde_json::from_slice(manifest).map_err(|error| neither(error.to_string()))?;
    let media_type = match body["mediaType"].as_str() {
        Some(named) if names::is_media_type(named) => named,
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
