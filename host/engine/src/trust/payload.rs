//! What a signature of an artifact signs: the "simple signing" payload (containers/image,
//! `docs/containers-signature.5.md`) with the type that cosign gives it.

use std::collections::BTreeMap;

use cooperage_store::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Error;
use super::fields::printable;

const TYPE: &str = "cosign container image signature";
const WHAT: &str = "the signed payload";
/// Payloads have some hundred bytes.
pub(super) const LARGEST: usize = 1 << 20;

/// That somebody signed an artifact.
#[derive(Debug, Clone, PartialEq)]
pub struct Payload {
    /// Where the artifact was when it was signed, without tag. Artifacts are copied, so nothing is concluded from it.
    pub reference: String,
    /// Digest of the artifact's manifest.
    pub digest: Digest,
    /// What the signer adds.
    pub optional: BTreeMap<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    critical: Critical,
    optional: Option<BTreeMap<String, Value>>,
}

#[derive(Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Serialize, Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: String,
}

impl Payload {
    /// The payload for the artifact with this manifest in a repository (`registry.example/acme/chat`).
    pub fn new(reference: impl Into<String>, digest: Digest) -> Self {
        Self { reference: reference.into(), digest, optional: BTreeMap::new() }
    }

    /// The bytes to sign and to keep.
    pub fn to_bytes(&self) -> Vec<u8> {
        let document = Document {
            critical: Critical {
                identity: Identity { docker_reference: self.reference.clone() },
                image: Image { docker_manifest_digest: self.digest.to_string() },
                kind: TYPE.to_owned(),
            },
            optional: (!self.optional.is_empty()).then(|| self.optional.clone()),
        };
        serde_json::to_vec(&document).expect("strings can be written")
    }

    /// Reads a payload and checks that it is one for `wanted`.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::OtherType`], and [`Error::OtherArtifact`] for one of another artifact.
    pub fn read(bytes: &[u8], wanted: &Digest) -> Result<Self, Error> {
        if bytes.len() > LARGEST {
            let reason = format!("it has {} bytes, more than the {LARGEST} allowed", bytes.len());
            return Err(Error::Malformed { what: WHAT, reason });
        }
        let document: Document = serde_json::from_slice(bytes).map_err(Error::malformed(WHAT))?;
        let Critical { identity, image, kind } = document.critical;
        if kind != TYPE {
            return Err(Error::OtherType { found: printable(&kind), expected: TYPE });
        }
        let signed = image.docker_manifest_digest;
        if signed.parse::<Digest>().ok() != Some(*wanted) {
            let signed = printable(&format!("{signed} ({})", identity.docker_reference));
            return Err(Error::OtherArtifact { signed, wanted: *wanted });
        }
        let optional = document.optional.unwrap_or_default();
        Ok(Self { reference: identity.docker_reference, digest: *wanted, optional })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_cosign() {
        let digest = Digest::of(b"");
        let payload = Payload::new("registry.example/acme/chat", digest);
        let expected = concat!(
            r#"{"critical":{"identity":{"docker-reference":"registry.example/acme/chat"},"#,
            r#""image":{"docker-manifest-digest":"#,
            r#""sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},"#,
            r#""type":"cosign container image signature"},"optional":null}"#
        );
        assert_eq!(String::from_utf8(payload.to_bytes()).unwrap(), expected);
        assert_eq!(Payload::read(expected.as_bytes(), &digest).unwrap(), payload);
        let mut more = payload;
        more.optional.insert("version".into(), "1.2".into());
        assert_eq!(Payload::read(&more.to_bytes(), &digest).unwrap(), more);
    }

    #[test]
    fn what_says_something_else_is_refused() {
        let (digest, other) = (Digest::of(b""), Digest::of(b"other"));
        let text = String::from_utf8(Payload::new("a.example/b", digest).to_bytes()).unwrap();
        let error = Payload::read(text.as_bytes(), &other).unwrap_err();
        assert_eq!(error, Error::OtherArtifact { signed: format!("{digest} (a.example/b)"), wanted: other });
        let error = |text: &str| Payload::read(text.as_bytes(), &digest).unwrap_err();
        assert!(matches!(error(&text.replace("container image", "blob")), Error::OtherType { .. }));
        assert!(matches!(error(&text.replace("docker-manifest", "x")), Error::Malformed { .. }));
        assert!(matches!(error(&" ".repeat(LARGEST + 1)), Error::Malformed { .. }));
    }
}
