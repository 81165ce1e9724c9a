//! Entries of Rekor, sigstore's transparency log: that one is in the log (a promise of the log, or a proof with a
//! signed tree head), when it came there, and that it is about the signature at hand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cooperage_store::Digest;
use serde_json::Value;

use super::certificate::Certificate;
use super::fields::{hex, printable, time};
use super::root::{Log, TrustRoot};
use super::{Error, merkle, pem};

const WHAT: &str = "the transparency log's entry";

/// An entry as it comes with a signature.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub log: Vec<u8>,
    pub index: u64,
    /// Seconds since 1970; the log vouches for it by its promise only.
    pub integrated: Option<i64>,
    /// The log's signature over the entry, its time and place ("signed entry timestamp").
    pub promise: Option<Vec<u8>>,
    pub proof: Option<Proof>,
    pub body: Vec<u8>,
}

/// A proof of inclusion.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    pub index: u64,
    pub size: u64,
    pub root: Vec<u8>,
    pub hashes: Vec<Vec<u8>>,
    pub checkpoint: Option<String>,
}

/// What an entry must be about.
pub(super) struct Subject<'a> {
    /// SHA-256 of the signed message.
    pub message: Digest,
    /// SHA-256 of the payload, if the message is an envelope's.
    pub payload: Option<Digest>,
    pub signature: &'a [u8],
    pub certificate: &'a Certificate,
}

impl Entry {
    /// Verifies the entry; gives the time for which the log vouches, if it does. `stamps` are times at which the
    /// signature is known to have existed from elsewhere.
    pub fn verify(&self, subject: &Subject<'_>, root: &TrustRoot, stamps: &[i64]) -> Result<Option<i64>, Error> {
        let promised = self.promise.is_some().then_some(self.integrated).flatten();
        let proven = self.proof.as_ref().filter(|proof| proof.checkpoint.is_some());
        if promised.is_none() && proven.is_none() {
            let reason = "without a promise or a proof with a checkpoint, anybody can write such an entry";
            return Err(Error::Missing { what: "the proof that the signature is in the transparency log", reason });
        }
        let times = promised.as_slice().iter().chain(stamps);
        let logs = self.logs(root, &times.copied().collect::<Vec<_>>())?;
        if let (Some(promise), Some(at)) = (&self.promise, promised) {
            let signed = self.promised(at);
            if !logs.iter().any(|log| log.key.made(&signed, promise)) {
                return Err(Error::BadPromise);
            }
        }
        if let Some(proof) = &self.proof {
            proof.verify(&self.body, &logs)?;
        }
        about(&self.body, subject)?;
        Ok(promised)
    }

    /// The keys of the log, as far as they were in use at all of these times.
    fn logs<'a>(&self, root: &'a TrustRoot, times: &[i64]) -> Result<Vec<&'a Log>, Error> {
        let unknown = |id| Error::UnknownLog { what: "transparency log", id };
        let known: Vec<_> = root.transparency.iter().filter(|log| log.id == self.log).collect();
        if known.is_empty() {
            return Err(unknown(hex(&self.log)));
        }
        let valid: Vec<_> =
            known.into_iter().filter(|log| times.iter().all(|time| log.validity.includes(*time))).collect();
        if valid.is_empty() {
            let at: Vec<_> = times.iter().map(|at| time(*at)).collect();
            return Err(unknown(format!("{} at {}", hex(&self.log), at.join(" and "))));
        }
        Ok(valid)
    }

    /// What the log signs with its promise: canonical JSON (RFC 8785). No text in it needs escaping.
    fn promised(&self, at: i64) -> Vec<u8> {
        let (body, log, index) = (STANDARD.encode(&self.body), hex(&self.log), self.index);
        format!(r#"{{"body":"{body}","integratedTime":{at},"logID":"{log}","logIndex":{index}}}"#).into_bytes()
    }
}

impl Proof {
    fn verify(&self, body: &[u8], logs: &[&Log]) -> Result<(), Error> {
        let wrong = |reason: &str| Error::BadInclusionProof { reason: reason.to_owned() };
        let digest = |bytes: &Vec<u8>| <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Digest::from_bytes);
        let hashes: Option<Vec<_>> = self.hashes.iter().map(digest).collect();
        let hashes = hashes.ok_or_else(|| wrong("a hash has not 32 bytes"))?;
        let root = merkle::root(merkle::leaf(body), self.index, self.size, &hashes)
            .ok_or_else(|| wrong("it has another length than the tree demands"))?;
        if self.root != root.as_bytes() {
            return Err(wrong("it leads to another root"));
        }
        self.checkpoint.as_deref().map_or(Ok(()), |text| checkpoint(text, &root, self.size, logs))
    }
}

/// Verifies a tree head: a signed note (c2sp.org/tlog-checkpoint) of origin, size and root, and signatures of the log
/// and perhaps of witnesses, which are not known here.
fn checkpoint(text: &str, root: &Digest, size: u64, logs: &[&Log]) -> Result<(), Error> {
    let wrong = |reason: &str| Error::BadCheckpoint { reason: reason.to_owned() };
    let end = text.find("\n\n").ok_or_else(|| wrong("it has no signatures"))?;
    let (note, signatures) = (&text[..=end], &text[end + 2..]);
    let mut lines = note.lines();
    let (origin, tree, hash) = (lines.next(), lines.next(), lines.next());
    let (Some(origin), Some(tree), Some(hash)) = (origin, tree, hash) else {
        return Err(wrong("it has fewer than three lines"));
    };
    if origin.is_empty() || tree.parse::<u64>().is_err() {
        return Err(wrong("it has no origin or no size"));
    }
    let signed_by = |line: &str| {
        let (_, signature) = line.strip_prefix("\u{2014} ")?.rsplit_once(' ')?;
        let signature = STANDARD.decode(signature).ok()?;
        // The first four bytes say which key it is.
        let (hint, signature) = signature.split_at_checked(4)?;
        let log = |log: &&&Log| log.id.starts_with(hint) && log.key.made(note.as_bytes(), signature);
        logs.iter().find(log).map(|_| ())
    };
    if !signatures.lines().any(|line| signed_by(line).is_some()) {
        return Err(wrong("it is not signed by the log"));
    }
    if tree.parse() != Ok(size) || STANDARD.decode(hash).ok().as_deref() != Some(&root.as_bytes()[..]) {
        return Err(wrong("it is of another tree than the proof"));
    }
    Ok(())
}

/// Verifies that an entry is about a signature. Signature, certificate and signed bytes must all be the same: else an
/// entry that anybody made would give the time for a signature that was made long after its certificate expired.
fn about(body: &[u8], subject: &Subject<'_>) -> Result<(), Error> {
    let body: Value = serde_json::from_slice(body).map_err(Error::malformed(WHAT))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, version, spec) = (text(&body["kind"]), text(&body["apiVersion"]), &body["spec"]);
    // Signatures of envelopes are logged as such, by newer clients also like any other signature.
    let found = match (kind.as_str(), version.as_str(), subject.payload) {
        ("hashedrekord", "0.0.1", _) => Found {
            expected: subject.message,
            digest: &spec["data"]["hash"]["value"],
            signature: &spec["signature"]["content"],
            verifier: &spec["signature"]["publicKey"]["content"],
        },
        ("hashedrekord", "0.0.2", _) => {
            let spec = &spec["hashedRekordV002"];
            Found {
                expected: subject.message,
                digest: &spec["data"]["digest"],
                signature: &spec["signature"]["content"],
                verifier: &spec["signature"]["verifier"]["x509Certificate"]["rawBytes"],
            }
        }
        ("dsse", "0.0.1", Some(expected)) => {
            let signature = only(&spec["signatures"])?;
            Found {
                expected,
                digest: &spec["payloadHash"]["value"],
                signature: &signature["signature"],
                verifier: &signature["verifier"],
            }
        }
        ("dsse", "0.0.2", Some(expected)) => {
            let spec = &spec["dsseV002"];
            let signature = only(&spec["signatures"])?;
            Found {
                expected,
                digest: &spec["payloadHash"]["digest"],
                signature: &signature["content"],
                verifier: &signature["verifier"]["x509Certificate"]["rawBytes"],
            }
        }
        ("intoto", "0.0.2", Some(expected)) => {
            let content = &spec["content"];
            let signature = only(&content["envelope"]["signatures"])?;
            Found {
                expected,
                digest: &content["payloadHash"]["value"],
                signature: &signature["sig"],
                verifier: &signature["publicKey"],
            }
        }
        _ => {
            let what = if subject.payload.is_some() { "an attestation" } else { "a signature" };
            let reason = format!("it is `{}` {} for {what}", printable(&kind), printable(&version));
            return Err(Error::Unsupported { what: "this kind of entry in the transparency log", reason });
        }
    };
    found.check(subject, kind == "intoto")
}

/// The only element of a list.
fn only(list: &Value) -> Result<&Value, Error> {
    match list.as_array().map(Vec::as_slice) {
        Some([one]) => Ok(one),
        _ => Err(Error::OtherEntry { what: "number of signatures" }),
    }
}

/// Where an entry has what must be compared.
struct Found<'a> {
    expected: Digest,
    digest: &'a Value,
    signature: &'a Value,
    verifier: &'a Value,
}

impl Found<'_> {
    fn check(&self, subject: &Subject<'_>, twice: bool) -> Result<(), Error> {
        let decode = |value: &Value| value.as_str().and_then(|text| STANDARD.decode(text).ok());
        let hash = self.digest.as_str().unwrap_or_default();
        if hash != self.expected.hex() && hash != STANDARD.encode(self.expected.as_bytes()) {
            return Err(Error::OtherEntry { what: "artifact" });
        }
        let mut signature = decode(self.signature);
        if twice {
            // Entries of this kind have the envelope's base64 in base64 once more.
            signature = signature.and_then(|text| STANDARD.decode(text).ok());
        }
        if signature.as_deref() != Some(subject.signature) {
            return Err(Error::OtherEntry { what: "signature" });
        }
        let verifier = decode(self.verifier).unwrap_or_default();
        let text = std::str::from_utf8(&verifier).ok().filter(|text| text.contains("-----BEGIN "));
        let der = match text {
            Some(text) => pem::decode(WHAT, text)?.remove(0).1,
            None => verifier,
        };
        if der == subject.certificate.der { Ok(()) } else { Err(Error::OtherEntry { what: "certificate" }) }
    }
}
