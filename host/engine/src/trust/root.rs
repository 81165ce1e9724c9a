//! Sigstore's trust root: the keys and authorities that keyless signatures lead back to. It is given by the caller; how
//! it gets to the machine and is renewed is not known here.

use serde::Deserialize;

use super::certificate::Certificate;
use super::fields::{Bytes, Validity};
use super::{Error, PublicKey};

const MEDIA_TYPES: [&str; 2] =
    ["application/vnd.dev.sigstore.trustedroot+json;version=0.1", "application/vnd.dev.sigstore.trustedroot.v0.1+json"];
const WHAT: &str = "the trust root";

/// The keys and authorities of one sigstore instance, read from its `trusted_root.json`.
#[derive(Debug, Clone)]
pub struct TrustRoot {
    pub(super) transparency: Vec<Log>,
    pub(super) certificate_logs: Vec<Log>,
    pub(super) authorities: Vec<Authority>,
    pub(super) timestamps: Vec<Authority>,
}

/// A log and its key.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub id: Vec<u8>,
    pub key: PublicKey,
    pub validity: Validity,
}

/// Certificates from whoever signs (a certificate authority, a time stamp authority) up to the root.
#[derive(Debug, Clone)]
pub(super) struct Authority {
    pub chain: Vec<Certificate>,
    pub validity: Validity,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: String,
    #[serde(default)]
    tlogs: Vec<LogDocument>,
    #[serde(default)]
    certificate_authorities: Vec<AuthorityDocument>,
    #[serde(default)]
    ctlogs: Vec<LogDocument>,
    #[serde(default)]
    timestamp_authorities: Vec<AuthorityDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogDocument {
    public_key: KeyDocument,
    log_id: IdDocument,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyDocument {
    raw_bytes: Bytes,
    #[serde(default)]
    valid_for: Validity,
}

/// The name of a log, in trust roots and bundles alike: by convention the digest of its key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IdDocument {
    pub key_id: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorityDocument {
    cert_chain: ChainDocument,
    #[serde(default)]
    valid_for: Validity,
}

/// Certificates in trust roots and bundles alike, whoever signs first.
#[derive(Deserialize)]
pub(super) struct ChainDocument {
    pub certificates: Vec<CertificateDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CertificateDocument {
    pub raw_bytes: Bytes,
}

impl TrustRoot {
    /// Reads a `trusted_root.json`. Logs with keys of kinds that are not supported are left out: what they signed is
    /// then of an unknown log.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it cannot be read, [`Error::Unsupported`] for another version.
    pub fn read(json: &[u8]) -> Result<Self, Error> {
        let document: Document = serde_json::from_slice(json).map_err(Error::malformed(WHAT))?;
        if !MEDIA_TYPES.contains(&document.media_type.as_str()) {
            let reason = format!("it is `{}`, expected `{}`", document.media_type, MEDIA_TYPES[0]);
            return Err(Error::Unsupported { what: WHAT, reason });
        }
        let authorities = |documents: Vec<AuthorityDocument>| {
            documents.into_iter().map(authority).collect::<Result<_, _>>().map_err(Error::malformed(WHAT))
        };
        Ok(Self {
            transparency: document.tlogs.into_iter().filter_map(log).collect(),
            certificate_logs: document.ctlogs.into_iter().filter_map(log).collect(),
            authorities: authorities(document.certificate_authorities)?,
            timestamps: authorities(document.timestamp_authorities)?,
        })
    }
}

fn log(document: LogDocument) -> Option<Log> {
    let key = PublicKey::from_der(&document.public_key.raw_bytes.0).ok()?;
    Some(Log { id: document.log_id.key_id.0, key, validity: document.public_key.valid_for })
}

fn authority(document: AuthorityDocument) -> Result<Authority, Error> {
    let chain = document.cert_chain.certificates.iter().map(|one| Certificate::from_der(&one.raw_bytes.0));
    let chain: Vec<_> = chain.collect::<Result<_, _>>()?;
    if chain.is_empty() {
        return Err(Error::Malformed { what: WHAT, reason: "an authority has no certificate".to_owned() });
    }
    Ok(Authority { chain, validity: document.valid_for })
}
