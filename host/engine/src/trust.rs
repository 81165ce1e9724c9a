//! Who signed a plugin, and whether that is enough.
//!
//! Signatures are those of sigstore's cosign, so that either program verifies what the other one signed: with a key
//! pair (`private`, `key`, `payload`, `manifest`, `keyed`), or with a certificate that names a person or a build job
//! (`bundle`, `keyless`, below them `certificate`, `chain`, `rekor`, `merkle`, `timestamp`, and `root`, which says whom
//! to believe). Verifying says who signed (`signatures`, `verified`); `policy` and `policies` say who must have, and
//! `decision` compares. Nothing here fetches, reads files or knows the time: a signature is judged by the time at which
//! it was made, never by today's.

mod asn1;
mod bundle;
mod certificate;
mod chain;
mod decision;
mod error;
mod fields;
mod key;
mod keyed;
mod keyless;
mod manifest;
mod merkle;
mod payload;
mod pem;
mod policies;
mod policy;
mod private;
mod rekor;
mod root;
mod signatures;
mod timestamp;
mod verified;

use std::fmt;

use cooperage_store::Digest;

pub use bundle::{BUNDLE_TYPE, Bundle};
pub use decision::{Decision, Facts, Refusal, decide};
pub use error::Error;
pub use key::{NamedKey, PublicKey};
pub use keyed::verify_with_keys;
pub use keyless::{Subject, verify_bundle, verify_bundle_with_keys, verify_with_certificate};
pub use manifest::{
    SIMPLE_SIGNING_TYPE, SignatureManifest, Signed, StoredSignature, read_signatures, signature_tag, with_signatures,
};
pub use payload::Payload;
pub use policies::{Policies, ReadyPolicy};
pub use policy::{Identity, KeySource, Policy, PolicyError, Requirement, Rule};
pub use private::PrivateKey;
pub use root::TrustRoot;
pub use signatures::Signatures;
pub use verified::{Trusted, Verified, verify_all};

/// Who signed an artifact, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// Whoever has a private key.
    Key {
        /// What the user calls the key.
        name: String,
        /// SHA-256 of the public key as SubjectPublicKeyInfo.
        fingerprint: Digest,
    },
    /// Whoever an OpenID issuer vouched for.
    Identity {
        /// E-mail address, URI or user name.
        subject: String,
        /// URL of the issuer.
        issuer: String,
    },
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { name, fingerprint } => write!(f, "the key {name} ({fingerprint})"),
            Self::Identity { subject, issuer } => write!(f, "{subject} (vouched for by {issuer})"),
        }
    }
}

#[cfg(test)]
mod tests;
