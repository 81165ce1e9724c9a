//! The signatures of an artifact as they were found, in a form that can be kept: nothing in here is verified.

use std::collections::BTreeMap;

use cooperage_store::Digest;
use serde::{Deserialize, Serialize};

use super::keyless::Subject;
use super::{Error, Trusted, Verified, read_signatures, verify_all};

/// All signatures of one artifact. They are JSON documents; what is not text becomes text that no digest fits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signatures {
    /// The manifest of signatures, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
    /// The payloads that it names, by digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    payloads: BTreeMap<Digest, String>,
    /// Sigstore bundles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bundles: Vec<String>,
}

impl Signatures {
    /// What was found: the manifest of signatures, the payloads that it names, and bundles.
    pub fn new<'a>(
        manifest: Option<&[u8]>,
        payloads: impl IntoIterator<Item = &'a [u8]>,
        bundles: impl IntoIterator<Item = &'a [u8]>,
    ) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            manifest: manifest.map(text),
            payloads: payloads.into_iter().map(|bytes| (Digest::of(bytes), text(bytes))).collect(),
            bundles: bundles.into_iter().map(text).collect(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Who signed, and why other signatures do not count.
    pub fn verify(&self, subject: &Subject<'_>, trusted: Trusted<'_>) -> Verified {
        let mut failures = Vec::new();
        let stored = match self.manifest.as_deref().map(|manifest| read_signatures(manifest.as_bytes())) {
            None => Vec::new(),
            Some(Ok(stored)) => stored,
            Some(Err(error)) => {
                failures.push(error);
                Vec::new()
            }
        };
        let mut whole = Vec::new();
        for signature in stored {
            match self.payloads.get(&signature.digest) {
                Some(payload) => whole.push((signature, payload.clone().into_bytes())),
                None => failures.push(Error::Missing { what: "the signed payload", reason: "its signature names it" }),
            }
        }
        let bundles: Vec<Vec<u8>> = self.bundles.iter().map(|bundle| bundle.clone().into_bytes()).collect();
        let mut verified = verify_all(subject, &whole, &bundles, trusted);
        if !failures.is_empty() {
            // That there is no signature is not the reason then.
            verified.failures.retain(|error| !matches!(error, Error::NoSignature { .. }));
            verified.failures.extend(failures);
        }
        verified
    }
}
