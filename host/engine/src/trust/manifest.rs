//! The manifest that holds the signatures of an artifact, beside it under the tag `sha256-<hex>.sig`, as cosign lays it
//! out: one layer per signature. Says nothing about whether the signatures are good.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cooperage_store::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Error, Payload, PrivateKey};

/// Media type of a layer that is a signed payload.
pub const SIMPLE_SIGNING_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const REKOR: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";
/// Ours; cosign passes it over. Nobody vouches for it, it only makes messages better.
const FINGERPRINT: &str = "dev.cooperage.signature/key";
const WHAT: &str = "the manifest of signatures";
/// What registries accept at most as a manifest.
const LARGEST: usize = 4 << 20;
/// Every signature costs a download and some work.
const MOST: usize = 128;

/// The tag of the signatures of a manifest, in the same repository.
pub fn signature_tag(digest: &Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}

/// A payload that was signed just now.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The payload, to be pushed as a blob.
    pub payload: Vec<u8>,
    /// Its digest.
    pub digest: Digest,
    signature: Vec<u8>,
    fingerprint: Digest,
}

impl Signed {
    /// Signs a payload.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(payload: &Payload, key: &PrivateKey) -> Result<Self, Error> {
        let payload = payload.to_bytes();
        let signature = key.sign(&payload)?;
        Ok(Self { digest: Digest::of(&payload), payload, signature, fingerprint: key.public().fingerprint() })
    }

    fn layer(&self) -> Value {
        let annotations = json!({SIGNATURE: STANDARD.encode(&self.signature), FINGERPRINT: self.fingerprint});
        let (digest, size) = (self.digest, self.payload.len());
        json!({"mediaType": SIMPLE_SIGNING_TYPE, "size": size, "digest": digest, "annotations": annotations})
    }
}

/// One signature of a manifest of signatures. Its payload is the blob `digest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSignature {
    /// Digest of the payload.
    pub digest: Digest,
    /// Size of the payload.
    pub size: u64,
    /// The signature over the payload.
    pub signature: Vec<u8>,
    /// The certificate in PEM, where it was made without a key pair.
    pub certificate: Option<String>,
    /// Further certificates in PEM, up to the root.
    pub chain: Option<String>,
    /// The transparency log's promise, in JSON.
    pub rekor: Option<String>,
    /// A time stamp, in JSON.
    pub timestamp: Option<String>,
    /// Fingerprint of the key, as whoever wrote the manifest says.
    pub fingerprint: Option<String>,
}

/// A manifest of signatures, to be pushed under [`signature_tag`] after its blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureManifest {
    /// The manifest.
    pub manifest: Vec<u8>,
    /// Its configuration, a blob.
    pub config: Vec<u8>,
    /// Digest of the configuration.
    pub config_digest: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The manifest with the signatures of `existing`, if there is one, and the new ones. An earlier signature of the same
/// payload by the same key is replaced.
///
/// # Errors
/// When the existing manifest is none of signatures: it is not overwritten silently.
pub fn with_signatures(existing: Option<&[u8]>, new: &[Signed]) -> Result<SignatureManifest, Error> {
    // Kept as they are, so that nothing is lost that a newer cosign put there.
    let mut layers: Vec<Value> = match existing {
        None => Vec::new(),
        Some(manifest) => {
            read_signatures(manifest)?;
            let value: Value = serde_json::from_slice(manifest).map_err(Error::malformed(WHAT))?;
            value["layers"].as_array().cloned().unwrap_or_default()
        }
    };
    for signed in new {
        let (digest, key) = (json!(signed.digest), json!(signed.fingerprint));
        layers.retain(|layer| layer["digest"] != digest || layer["annotations"][FINGERPRINT] != key);
        layers.push(signed.layer());
    }
    if layers.len() > MOST {
        return Err(too_many(layers.len()));
    }
    let digests: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
    const NEVER: &str = "0001-01-01T00:00:00Z";
    #[derive(Serialize)]
    struct Config {
        architecture: &'static str,
        created: &'static str,
        history: Vec<Value>,
        os: &'static str,
        rootfs: Value,
        config: Value,
    }
    let config = Config {
        architecture: "",
        created: NEVER,
        history: vec![json!({"created": NEVER}); layers.len()],
        os: "",
        rootfs: json!({"type": "layers", "diff_ids": digests}),
        config: json!({}),
    };
    let config = serde_json::to_vec(&config).map_err(Error::malformed(WHAT))?;
    let config_digest = Digest::of(&config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "size": config.len(), "digest": config_digest},
        "layers": layers,
    });
    let manifest = serde_json::to_vec(&manifest).map_err(Error::malformed(WHAT))?;
    Ok(SignatureManifest { manifest, config, config_digest })
}

/// The signatures in a manifest. Layers of other media types are passed over.
///
/// # Errors
/// When it is no manifest, has too many layers, or one of them lacks its signature.
pub fn read_signatures(manifest: &[u8]) -> Result<Vec<StoredSignature>, Error> {
    let wrong = |reason: String| Error::Malformed { what: WHAT, reason };
    if manifest.len() > LARGEST {
        return Err(wrong(format!("it has {} bytes, more than the {LARGEST} allowed", manifest.len())));
    }
    let manifest: Manifest = serde_json::from_slice(manifest).map_err(Error::malformed(WHAT))?;
    if manifest.schema_version != 2 {
        return Err(wrong(format!("schemaVersion is {}, expected 2", manifest.schema_version)));
    }
    if manifest.layers.len() > MOST {
        return Err(too_many(manifest.layers.len()));
    }
    manifest.layers.into_iter().filter(|layer| layer.media_type == SIMPLE_SIGNING_TYPE).map(stored).collect()
}

fn too_many(count: usize) -> Error {
    Error::Malformed { what: WHAT, reason: format!("it has {count} layers, more than the {MOST} allowed") }
}

fn stored(layer: Layer) -> Result<StoredSignature, Error> {
    let mut annotations = layer.annotations;
    let wrong = |reason: &str| Error::Malformed { what: WHAT, reason: format!("layer {}: {reason}", layer.digest) };
    let signature = annotations.remove(SIGNATURE).ok_or_else(|| wrong("it has no signature annotation"))?;
    let signature = STANDARD.decode(signature).map_err(|_| wrong("its signature is not base64"))?;
    Ok(StoredSignature {
        digest: layer.digest,
        size: layer.size,
        signature,
        certificate: annotations.remove(CERTIFICATE),
        chain: annotations.remove(CHAIN),
        rekor: annotations.remove(REKOR),
        timestamp: annotations.remove(TIMESTAMP),
        fingerprint: annotations.remove(FINGERPRINT),
    })
}

impl StoredSignature {
    /// Checks the blob that came for the payload.
    pub(super) fn accept(&self, payload: &[u8]) -> Result<(), Error> {
        let actual = Digest::of(payload);
        if actual == self.digest { Ok(()) } else { Err(Error::TamperedPayload { expected: self.digest, actual }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(name: &str, key: &PrivateKey) -> Signed {
        Signed::new(&Payload::new(name, Digest::of(b"artifact")), key).unwrap()
    }

    #[test]
    fn the_manifest_is_laid_out_as_by_cosign() {
        let key = PrivateKey::generate().unwrap();
        let one = signed("r.example/a", &key);
        let made = with_signatures(None, std::slice::from_ref(&one)).unwrap();
        let config = String::from_utf8(made.config.clone()).unwrap();
        let expected = concat!(
            r#"{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{"created":"0001-01-01T00:00:00Z"}],"#,
            r#""os":"","rootfs":{"diff_ids":["DIGEST"],"type":"layers"},"config":{}}"#
        );
        assert_eq!(config, expected.replace("DIGEST", &one.digest.to_string()));
        let manifest: Value = serde_json::from_slice(&made.manifest).unwrap();
        assert_eq!(manifest["config"]["digest"], json!(made.config_digest));
        assert_eq!(manifest["layers"][0]["mediaType"], SIMPLE_SIGNING_TYPE);
        assert_eq!(manifest["layers"][0]["annotations"][SIGNATURE], STANDARD.encode(&one.signature));
        assert_eq!(signature_tag(&Digest::of(b"")).len(), "sha256-.sig".len() + 64);
    }

    #[test]
    fn signatures_are_added_to_those_there_are() {
        let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let first = with_signatures(None, &[signed("r.example/a", &key)]).unwrap();
        let second = with_signatures(Some(&first.manifest), &[signed("r.example/a", &other)]).unwrap();
        let found = read_signatures(&second.manifest).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], read_signatures(&first.manifest).unwrap()[0]);
        assert_eq!(found[1].fingerprint, Some(other.public().fingerprint().to_string()));
        let again = with_signatures(Some(&second.manifest), &[signed("r.example/a", &key)]).unwrap();
        assert_eq!(read_signatures(&again.manifest).unwrap().len(), 2, "signing again adds nothing");
        let image = br#"{"schemaVersion":1,"layers":[]}"#;
        assert!(with_signatures(Some(image), &[]).is_err());
    }

    #[test]
    fn what_is_no_manifest_of_signatures_is_refused() {
        let key = PrivateKey::generate().unwrap();
        let made = with_signatures(None, &[signed("r.example/a", &key)]).unwrap();
        let text = String::from_utf8(made.manifest).unwrap();
        let error = |text: &str| read_signatures(text.as_bytes()).unwrap_err().to_string();
        assert!(error("[]").contains("cannot be read"));
        assert!(error(&text.replace(SIGNATURE, "x")).contains("no signature annotation"));
        assert!(error(&text.replace("signature\":\"", "signature\":\"!")).contains("not base64"));
        let layer = &text[text.find("\"layers\":[").unwrap() + 10..text.find("],\"mediaType").unwrap()];
        let many = format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, vec![layer; MOST + 1].join(","));
        assert!(error(&many).contains("129 layers"));
        let other = text.replace(SIMPLE_SIGNING_TYPE, "application/x-other");
        assert!(read_signatures(other.as_bytes()).unwrap().is_empty());
    }
}
