//! All signatures of an artifact at once: who signed, and why others do not count. One bad signature spoils nothing:
//! anybody who can push to a repository can add one.

use super::keyless::{Subject, verify_bundle, verify_bundle_with_keys, verify_with_certificate};
use super::{Bundle, Error, NamedKey, Signer, StoredSignature, TrustRoot, verify_with_keys};

/// What the signatures of an artifact say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Who signed, each once.
    pub signers: Vec<Signer>,
    /// Why further signatures do not count; [`Error::NoSignature`] if there are none.
    pub failures: Vec<Error>,
}

/// What there is to verify with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trusted<'a> {
    /// Keys, those that are retired included.
    pub keys: &'a [NamedKey],
    /// For signatures without key pair.
    pub root: Option<&'a TrustRoot>,
}

/// Verifies all signatures of an artifact: those of its manifest of signatures, each with the blob that came for its
/// payload, and its bundles as they came.
pub fn verify_all(
    subject: &Subject<'_>,
    signatures: &[(StoredSignature, Vec<u8>)],
    bundles: &[Vec<u8>],
    trusted: Trusted<'_>,
) -> Verified {
    let stored = signatures.iter().map(|(signature, payload)| trusted.stored(subject, signature, payload));
    let bundles = bundles.iter().map(|json| trusted.bundle(subject, json));
    let mut verified = Verified::default();
    for result in stored.chain(bundles) {
        match result {
            Ok(signer) if verified.signers.contains(&signer) => {}
            Ok(signer) => verified.signers.push(signer),
            Err(error) => verified.failures.push(error),
        }
    }
    if verified.signers.is_empty() && verified.failures.is_empty() {
        verified.failures.push(Error::NoSignature { digest: subject.digest });
    }
    verified
}

impl Trusted<'_> {
    fn stored(&self, subject: &Subject<'_>, signature: &StoredSignature, payload: &[u8]) -> Result<Signer, Error> {
        if signature.certificate.is_some() {
            verify_with_certificate(signature, payload, &subject.digest, self.root()?)
        } else {
            verify_with_keys(signature, payload, &subject.digest, self.keys)
        }
    }

    fn bundle(&self, subject: &Subject<'_>, json: &[u8]) -> Result<Signer, Error> {
        let bundle = Bundle::read(json)?;
        if bundle.has_certificate() {
            verify_bundle(&bundle, subject, self.root()?)
        } else {
            verify_bundle_with_keys(&bundle, subject, self.keys)
        }
    }

    fn root(&self) -> Result<&TrustRoot, Error> {
        let reason = "the signature has a certificate, and nothing says whose certificates count";
        self.root.ok_or(Error::Missing { what: "the trust root (`trusted-root` of the policy)", reason })
    }
}
