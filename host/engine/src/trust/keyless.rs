//! Verifies signatures that were made with a short-lived certificate instead of a key pair, and bundles of both kinds,
//! offline: all that is asked is a trust root. Four questions: is the signature over this artifact, by the key in the
//! certificate; is it in a transparency log, and since when; was the certificate valid then; who got the certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cooperage_store::Digest;
use serde::Deserialize;

use super::bundle::{Bundle, Material};
use super::certificate::Certificate;
use super::chain::verify_signer;
use super::fields::Bytes;
use super::rekor::{self, Entry};
use super::root::TrustRoot;
use super::{Error, NamedKey, Payload, Signer, StoredSignature, keyed, timestamp};

/// What should be signed: an artifact, by its manifest.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub(super) digest: Digest,
    pub(super) bytes: Option<&'a [u8]>,
}

impl<'a> Subject<'a> {
    /// The artifact with this manifest.
    pub fn manifest(bytes: &'a [u8]) -> Self {
        Self { digest: Digest::of(bytes), bytes: Some(bytes) }
    }

    /// The artifact whose manifest has this digest. Bundles that sign the bytes of the manifest cannot be verified so.
    pub fn digest(digest: Digest) -> Self {
        Self { digest, bytes: None }
    }
}

/// Verifies a bundle with a certificate. The signer is whoever the certificate names; whether that is somebody wanted
/// is for the policy.
///
/// # Errors
/// Each reason has its own [`Error`]. [`Error::UnknownKey`] for a bundle that was signed with a key pair.
pub fn verify_bundle(bundle: &Bundle, subject: &Subject<'_>, root: &TrustRoot) -> Result<Signer, Error> {
    let certificate = match &bundle.signer {
        Material::Certificate(certificate) => certificate,
        Material::Key(hint) => return keyed::maker(&[], &[], &[], Some(hint)),
    };
    bundle.content.check_message(subject)?;
    let (message, signature) = (bundle.content.signed(subject)?, bundle.content.signature());
    let evidence = Evidence {
        message: &message,
        logged: rekor::Subject {
            message: Digest::of(&message),
            payload: bundle.content.payload(),
            signature,
            certificate,
        },
        entries: &bundle.entries,
        timestamps: &bundle.timestamps,
    };
    let signer = evidence.verify(root)?;
    bundle.content.check_statement(subject)?;
    Ok(signer)
}

/// Verifies a bundle that was signed with a key pair, as cosign makes them with `--key`. What it brings from
/// transparency logs is passed over: the key is trusted by itself.
///
/// # Errors
/// As for [`verify_with_keys`](super::verify_with_keys).
pub fn verify_bundle_with_keys(bundle: &Bundle, subject: &Subject<'_>, keys: &[NamedKey]) -> Result<Signer, Error> {
    let hint = match &bundle.signer {
        Material::Key(hint) => Some(hint.as_str()),
        Material::Certificate(_) => None,
    };
    bundle.content.check_message(subject)?;
    let message = bundle.content.signed(subject)?;
    let signer = keyed::maker(keys, &message, bundle.content.signature(), hint)?;
    bundle.content.check_statement(subject)?;
    Ok(signer)
}

/// Verifies a signature with a certificate in a manifest of signatures, cosign's form before bundles.
///
/// # Errors
/// Each reason has its own [`Error`]; [`Error::Missing`] if it has no certificate.
pub fn verify_with_certificate(
    signature: &StoredSignature,
    payload: &[u8],
    wanted: &Digest,
    root: &TrustRoot,
) -> Result<Signer, Error> {
    signature.accept(payload)?;
    let reason = "a signature without a key pair has one";
    let missing = Error::Missing { what: "the certificate", reason };
    let certificate = Certificate::from_pem(signature.certificate.as_deref().ok_or(missing)?)?.remove(0);
    let entries: Vec<_> = signature.rekor.as_deref().map(promise).transpose()?.into_iter().collect();
    let timestamps: Vec<_> = signature.timestamp.as_deref().map(stamp).transpose()?.into_iter().collect();
    let logged = rekor::Subject {
        message: signature.digest,
        payload: None,
        signature: &signature.signature,
        certificate: &certificate,
    };
    let evidence = Evidence { message: payload, logged, entries: &entries, timestamps: &timestamps };
    let signer = evidence.verify(root)?;
    Payload::read(payload, wanted)?;
    Ok(signer)
}

/// Everything that must fit together.
struct Evidence<'a> {
    message: &'a [u8],
    logged: rekor::Subject<'a>,
    entries: &'a [Entry],
    timestamps: &'a [Vec<u8>],
}

impl Evidence<'_> {
    fn verify(&self, root: &TrustRoot) -> Result<Signer, Error> {
        let certificate = self.logged.certificate;
        if !certificate.key.made(self.message, self.logged.signature) {
            return Err(Error::BadSignature { what: "what the holder of the certificate signed".to_owned() });
        }
        if self.entries.is_empty() {
            let reason = "a signature without a key pair counts only if the world can see it";
            return Err(Error::Missing { what: "the entry of the transparency log", reason });
        }
        let stamps = self.stamps(root)?;
        let mut times = stamps.clone();
        for entry in self.entries {
            times.extend(entry.verify(&self.logged, root, &stamps)?);
        }
        if times.is_empty() {
            let reason = "neither the transparency log nor a time stamp says when the signature was made";
            return Err(Error::Missing { what: "the time of the signature", reason });
        }
        for at in times {
            verify_signer(certificate, root, at)?;
        }
        Ok(Signer::Identity { subject: certificate.subject()?, issuer: certificate.issuer()? })
    }

    /// Times for which time stamp authorities vouch. A trust root without any leaves them to the log.
    fn stamps(&self, root: &TrustRoot) -> Result<Vec<i64>, Error> {
        let promised = self.entries.iter().any(|entry| entry.promise.is_some());
        if root.timestamps.is_empty() && promised {
            return Ok(Vec::new());
        }
        self.timestamps.iter().map(|response| timestamp::verify(response, self.logged.signature, root)).collect()
    }
}

/// Reads the annotation with Rekor's promise.
pub(super) fn promise(json: &str) -> Result<Entry, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Document {
        signed_entry_timestamp: Bytes,
        payload: Inner,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Inner {
        body: Bytes,
        integrated_time: i64,
        log_index: u64,
        #[serde(rename = "logID")]
        log_id: String,
    }
    const WHAT: &str = "the transparency log's promise";
    let document: Document = serde_json::from_str(json).map_err(Error::malformed(WHAT))?;
    let inner = document.payload;
    let log = Digest::from_hex(&inner.log_id);
    Ok(Entry {
        log: log.map_err(Error::malformed(WHAT))?.as_bytes().to_vec(),
        index: inner.log_index,
        integrated: Some(inner.integrated_time),
        promise: Some(document.signed_entry_timestamp.0),
        proof: None,
        body: inner.body.0,
    })
}

/// Reads the annotation with a time stamp.
fn stamp(json: &str) -> Result<Vec<u8>, Error> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(rename = "SignedRFC3161Timestamp")]
        signed: String,
    }
    const WHAT: &str = "the time stamp";
    let document: Document = serde_json::from_str(json).map_err(Error::malformed(WHAT))?;
    STANDARD.decode(document.signed).map_err(Error::malformed(WHAT))
}
