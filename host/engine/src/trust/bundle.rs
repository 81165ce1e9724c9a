//! Sigstore bundles, versions 0.1 to 0.3: a signature and all that is needed to verify it, in one JSON document. Reads
//! them and knows what they sign; believes nothing in them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cooperage_store::Digest;
use serde::Deserialize;

use super::certificate::Certificate;
use super::fields::{Bytes, Number, hex, printable};
use super::rekor::{Entry, Proof};
use super::root::{CertificateDocument, ChainDocument, IdDocument};
use super::{Error, Subject};

/// Media type of the bundles that are made today.
pub const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const WHAT: &str = "the sigstore bundle";
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Bundles have some ten thousand bytes; the rest is room for large attestations.
const LARGEST: usize = 16 << 20;
/// Each costs some work.
const MOST_ENTRIES: usize = 16;

/// A sigstore bundle that was read.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub(super) signer: Material,
    pub(super) content: Content,
    pub(super) entries: Vec<Entry>,
    pub(super) timestamps: Vec<Vec<u8>>,
}

/// By what the signature is to be verified.
#[derive(Debug, Clone)]
pub(super) enum Material {
    Certificate(Box<Certificate>),
    /// A key that the bundle only alludes to.
    Key(String),
}

/// What is signed.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// The artifact itself.
    Message { digest: Vec<u8>, signature: Vec<u8> },
    /// An in-toto statement about it in an envelope.
    Envelope { payload: Vec<u8>, signature: Vec<u8> },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: String,
    verification_material: MaterialDocument,
    message_signature: Option<MessageDocument>,
    dsse_envelope: Option<EnvelopeDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MaterialDocument {
    certificate: Option<CertificateDocument>,
    x509_certificate_chain: Option<ChainDocument>,
    public_key: Option<KeyDocument>,
    #[serde(default)]
    tlog_entries: Vec<EntryDocument>,
    timestamp_verification_data: Option<TimestampsDocument>,
}

#[derive(Deserialize)]
struct KeyDocument {
    #[serde(default)]
    hint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TimestampsDocument {
    #[serde(default)]
    rfc3161_timestamps: Vec<TimestampDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TimestampDocument {
    signed_timestamp: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryDocument {
    #[serde(default)]
    log_index: Number,
    log_id: IdDocument,
    integrated_time: Option<Number>,
    inclusion_promise: Option<PromiseDocument>,
    inclusion_proof: Option<ProofDocument>,
    canonicalized_body: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PromiseDocument {
    signed_entry_timestamp: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProofDocument {
    #[serde(default)]
    log_index: Number,
    root_hash: Bytes,
    tree_size: Number,
    #[serde(default)]
    hashes: Vec<Bytes>,
    checkpoint: Option<CheckpointDocument>,
}

#[derive(Deserialize)]
struct CheckpointDocument {
    envelope: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageDocument {
    message_digest: DigestDocument,
    signature: Bytes,
}

#[derive(Deserialize)]
struct DigestDocument {
    algorithm: String,
    digest: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EnvelopeDocument {
    payload: Bytes,
    payload_type: String,
    signatures: Vec<SignatureDocument>,
}

#[derive(Deserialize)]
struct SignatureDocument {
    sig: Bytes,
}

impl Bundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// [`Error::Malformed`], or [`Error::Unsupported`] for other versions and contents.
    pub fn read(json: &[u8]) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Malformed { what: WHAT, reason: reason.to_owned() };
        if json.len() > LARGEST {
            return Err(wrong(&format!("it has {} bytes, more than the {LARGEST} allowed", json.len())));
        }
        let document: Document = serde_json::from_slice(json).map_err(Error::malformed(WHAT))?;
        let proofs = demands_proofs(&document.media_type)?;
        let material = document.verification_material;
        if material.tlog_entries.len() > MOST_ENTRIES {
            return Err(wrong("it has too many entries of transparency logs"));
        }
        let entries: Vec<_> = material.tlog_entries.into_iter().map(entry).collect();
        if proofs && entries.iter().any(|entry| entry.proof.as_ref().is_none_or(|proof| proof.checkpoint.is_none())) {
            let reason = "bundles since version 0.2 have one for each entry of the transparency log";
            return Err(Error::Missing { what: "the inclusion proof", reason });
        }
        let timestamps = material.timestamp_verification_data.map_or_else(Vec::new, |data| data.rfc3161_timestamps);
        if timestamps.len() > MOST_ENTRIES {
            return Err(wrong("it has too many time stamps"));
        }
        let signer = match (material.certificate, material.x509_certificate_chain, material.public_key) {
            (Some(certificate), None, None) => leaf(&[certificate])?,
            (None, Some(chain), None) => leaf(&chain.certificates)?,
            (None, None, Some(key)) => Material::Key(key_name(&key.hint)),
            _ => return Err(wrong("it has not exactly one of certificate, certificate chain and public key")),
        };
        let content = match (document.message_signature, document.dsse_envelope) {
            (Some(message), None) => self::message(message)?,
            (None, Some(envelope)) => self::envelope(envelope)?,
            _ => return Err(wrong("it has not exactly one of message signature and envelope")),
        };
        let timestamps = timestamps.into_iter().map(|stamp| stamp.signed_timestamp.0).collect();
        Ok(Self { signer, content, entries, timestamps })
    }

    /// Whether it was signed with a certificate, not a key pair.
    pub fn has_certificate(&self) -> bool {
        matches!(self.signer, Material::Certificate(_))
    }
}

/// Whether bundles of this type must prove that they are in the log.
fn demands_proofs(media_type: &str) -> Result<bool, Error> {
    match media_type {
        "application/vnd.dev.sigstore.bundle+json;version=0.1" => Ok(false),
        "application/vnd.dev.sigstore.bundle+json;version=0.2"
        | "application/vnd.dev.sigstore.bundle+json;version=0.3"
        | BUNDLE_TYPE => Ok(true),
        other => {
            let reason = format!("it is `{}`, known are versions 0.1 to 0.3", printable(other));
            Err(Error::Unsupported { what: WHAT, reason })
        }
    }
}

fn leaf(chain: &[CertificateDocument]) -> Result<Material, Error> {
    let wrong = |reason: &str| Error::Malformed { what: WHAT, reason: reason.to_owned() };
    let (first, others) = chain.split_first().ok_or_else(|| wrong("its certificate chain is empty"))?;
    // The root is known from the trust root or not at all.
    for other in others {
        if Certificate::from_der(&other.raw_bytes.0)?.self_issued {
            return Err(wrong("it brings a root certificate of its own"));
        }
    }
    Ok(Material::Certificate(Box::new(Certificate::from_der(&first.raw_bytes.0)?)))
}

/// The hint is by convention the digest of the key in base64.
fn key_name(hint: &str) -> String {
    let digest = STANDARD.decode(hint).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    digest.map_or_else(|| printable(hint), |bytes| Digest::from_bytes(bytes).to_string())
}

fn entry(document: EntryDocument) -> Entry {
    let proof = document.inclusion_proof.map(|proof| Proof {
        index: proof.log_index.0,
        size: proof.tree_size.0,
        root: proof.root_hash.0,
        hashes: proof.hashes.into_iter().map(|hash| hash.0).collect(),
        checkpoint: proof.checkpoint.map(|checkpoint| checkpoint.envelope),
    });
    Entry {
        log: document.log_id.key_id.0,
        index: document.log_index.0,
        // Nought is how protocol buffers say that there is none.
        integrated: document.integrated_time.filter(|time| time.0 != 0).and_then(|time| i64::try_from(time.0).ok()),
        promise: document.inclusion_promise.map(|promise| promise.signed_entry_timestamp.0),
        proof,
        body: document.canonicalized_body.0,
    }
}

fn message(document: MessageDocument) -> Result<Content, Error> {
    let DigestDocument { algorithm, digest } = document.message_digest;
    if algorithm != "SHA2_256" {
        let reason = format!("it is `{}`, expected `SHA2_256`", printable(&algorithm));
        return Err(Error::Unsupported { what: "the digest in the sigstore bundle", reason });
    }
    Ok(Content::Message { digest: digest.0, signature: document.signature.0 })
}

fn envelope(document: EnvelopeDocument) -> Result<Content, Error> {
    if document.payload_type != IN_TOTO {
        let found = printable(&document.payload_type);
        return Err(Error::OtherType { found, expected: IN_TOTO });
    }
    let signatures: Result<[_; 1], _> = document.signatures.try_into();
    let [signature] = signatures.map_err(|all: Vec<_>| Error::Malformed {
        what: WHAT,
        reason: format!("its envelope has {} signatures, expected one", all.len()),
    })?;
    Ok(Content::Envelope { payload: document.payload.0, signature: signature.sig.0 })
}

#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(default)]
    subject: Vec<StatementSubject>,
}

#[derive(Deserialize)]
struct StatementSubject {
    #[serde(default)]
    digest: std::collections::BTreeMap<String, String>,
}

impl Content {
    pub fn signature(&self) -> &[u8] {
        match self {
            Self::Message { signature, .. } | Self::Envelope { signature, .. } => signature,
        }
    }

    /// The bytes that the signature is over.
    pub fn signed(&self, subject: &Subject<'_>) -> Result<Vec<u8>, Error> {
        match self {
            Self::Message { .. } => match subject.bytes {
                Some(bytes) => Ok(bytes.to_vec()),
                None => Err(Error::Missing { what: "the manifest", reason: "its bytes themselves are signed" }),
            },
            // The pre-authentication encoding of DSSE (secure-systems-lab/dsse, `protocol.md`).
            Self::Envelope { payload, .. } => {
                let mut signed = format!("DSSEv1 {} {IN_TOTO} {} ", IN_TOTO.len(), payload.len()).into_bytes();
                signed.extend_from_slice(payload);
                Ok(signed)
            }
        }
    }

    /// Digest of the payload of an envelope.
    pub fn payload(&self) -> Option<Digest> {
        match self {
            Self::Message { .. } => None,
            Self::Envelope { payload, .. } => Some(Digest::of(payload)),
        }
    }

    /// Verifies that a message is the artifact. Its signature is over the artifact itself, so that this comes first.
    pub fn check_message(&self, subject: &Subject<'_>) -> Result<(), Error> {
        match self {
            Self::Message { digest, .. } if digest != subject.digest.as_bytes() => {
                Err(Error::OtherArtifact { signed: format!("sha256:{}", hex(digest)), wanted: subject.digest })
            }
            _ => Ok(()),
        }
    }

    /// Verifies that the statement in an envelope is about the artifact, once its signature is verified.
    pub fn check_statement(&self, subject: &Subject<'_>) -> Result<(), Error> {
        let Self::Envelope { payload, .. } = self else { return Ok(()) };
        let statement: Statement = serde_json::from_slice(payload).map_err(Error::malformed("the signed statement"))?;
        if !statement.kind.starts_with("https://in-toto.io/Statement/") {
            let found = printable(&statement.kind);
            return Err(Error::OtherType { found, expected: "https://in-toto.io/Statement/v1" });
        }
        let digests = || statement.subject.iter().filter_map(|subject| subject.digest.get("sha256"));
        if digests().any(|digest| *digest == subject.digest.hex()) {
            return Ok(());
        }
        let signed: Vec<_> = digests().map(|digest| format!("sha256:{}", printable(digest))).take(3).collect();
        let signed = if signed.is_empty() { "something without SHA-256 digest".to_owned() } else { signed.join(", ") };
        Err(Error::OtherArtifact { signed, wanted: subject.digest })
    }
}
