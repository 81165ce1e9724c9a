//! Why a signature does not count.

use cooperage_store::Digest;

use super::fields::printable;

/// Why a key cannot be read, a signature cannot be made, or one that was found does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody signed it.
    #[error("there is no signature of {digest}")]
    NoSignature {
        /// What should be signed.
        digest: Digest,
    },
    /// None of the keys at hand made the signature.
    #[error("signed by an unknown key{}; known are {known}", in_brackets(named.as_deref()))]
    UnknownKey {
        /// What the signature says of its key; anybody can write that.
        named: Option<String>,
        /// The keys that were tried, or `no keys`.
        known: String,
    },
    /// A key made the signature that is no longer used.
    #[error("signed by the key {name} ({fingerprint}), which is retired")]
    RetiredKey {
        /// What the user calls the key.
        name: String,
        /// Its fingerprint.
        fingerprint: Digest,
    },
    /// The signature names a key or certificate that is known, but is none of it over this content.
    #[error("the signature does not fit what it is said to sign: {what} or the signature was changed")]
    BadSignature {
        /// What was signed, and by whom it is said to be.
        what: String,
    },
    /// The signed payload is another one than its descriptor says.
    #[error("the signed payload was changed: it is {actual}, its manifest says {expected}")]
    TamperedPayload {
        /// Digest in the manifest of signatures.
        expected: Digest,
        /// Digest of what came.
        actual: Digest,
    },
    /// The signature is good, but for something else: it was copied from there.
    #[error("the signature is one of {signed}, not of {wanted}: it was copied from another artifact")]
    OtherArtifact {
        /// What was signed.
        signed: String,
        /// What should have been.
        wanted: Digest,
    },
    /// What was signed says that it means something else than a signature of an artifact.
    #[error("what was signed is a `{found}`, expected `{expected}`")]
    OtherType {
        /// The type found.
        found: String,
        /// The type expected.
        expected: &'static str,
    },
    /// A key, manifest, payload, bundle, certificate or trust root cannot be read.
    #[error("{what} cannot be read: {reason}")]
    Malformed {
        /// Which of them.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// It can be read, and is of a kind that this program does not know.
    #[error("{what} is not supported: {reason}")]
    Unsupported {
        /// What.
        what: &'static str,
        /// Which kind it is, and which are known.
        reason: String,
    },
    /// The password does not open the private key.
    #[error("the password is wrong, or the private key is damaged")]
    Password,
    /// The system has no random numbers, or a library fails for no reason of ours.
    #[error("a key or signature cannot be made: {0}")]
    Crypto(&'static str),
    /// The certificate was not valid when the signature was made.
    #[error("the certificate was valid from {from} to {until}, the signature was made at {at}")]
    Expired {
        /// Begin of its validity.
        from: String,
        /// End of its validity.
        until: String,
        /// Time of the signature.
        at: String,
    },
    /// No authority of the trust root issued the certificate.
    #[error("the certificate comes from no authority of the trust root: {reason}")]
    ForeignCertificate {
        /// What is wrong with the chain.
        reason: String,
    },
    /// The certificate is for something else than to sign code.
    #[error("the certificate is not one for {wanted}")]
    CertificatePurpose {
        /// What it should be for.
        wanted: &'static str,
    },
    /// Nothing proves that the certificate was made public.
    #[error("the certificate is in no certificate transparency log of the trust root: {reason}")]
    Unlogged {
        /// What is missing or wrong.
        reason: String,
    },
    /// A log or authority is named that the trust root does not know (at that time).
    #[error("the trust root knows no {what} {id}")]
    UnknownLog {
        /// What kind of log.
        what: &'static str,
        /// Its id in hexadecimal digits, with the time if that is what excludes it.
        id: String,
    },
    /// The log's promise is not signed by the log.
    #[error("the transparency log's promise (signed entry timestamp) is not signed by the log")]
    BadPromise,
    /// The entry is not in the log that the proof is about.
    #[error("the proof that the signature is in the transparency log is wrong: {reason}")]
    BadInclusionProof {
        /// What is wrong.
        reason: String,
    },
    /// The log's tree head is not signed by the log, or is another one.
    #[error("the checkpoint of the transparency log is wrong: {reason}")]
    BadCheckpoint {
        /// What is wrong.
        reason: String,
    },
    /// The log's entry is about another signature.
    #[error("the transparency log's entry is about another {what}")]
    OtherEntry {
        /// What differs.
        what: &'static str,
    },
    /// The time stamp is none of this signature by an authority of the trust root.
    #[error("the time stamp of the signature is wrong: {reason}")]
    BadTimestamp {
        /// What is wrong.
        reason: String,
    },
    /// Something that must come with the signature is missing.
    #[error("{what} is missing: {reason}")]
    Missing {
        /// What.
        what: &'static str,
        /// Why it is needed.
        reason: &'static str,
    },
    /// Somebody else signed it.
    #[error("signed by {found}, wanted is {wanted}")]
    WrongIdentity {
        /// Who signed.
        found: String,
        /// Who should have.
        wanted: String,
    },
}

fn in_brackets(text: Option<&str>) -> String {
    text.map(|text| format!(" ({text})")).unwrap_or_default()
}

impl Error {
    /// Makes the error of something that cannot be read.
    pub(super) fn malformed<E: ToString>(what: &'static str) -> impl Fn(E) -> Self {
        move |reason| Self::Malformed { what, reason: printable(&reason.to_string()) }
    }
}
