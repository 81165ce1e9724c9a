//! Public keys: what they are, what they are called, and whether they made a signature. Knows no artifact.

use std::fmt;

use cooperage_store::Digest;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use super::asn1::{self, BIT_STRING, Broken, OID, SEQUENCE};
use super::{Error, pem};

pub(super) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
pub(super) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// A public key: ECDSA P-256 or P-384, Ed25519 or RSA.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// SubjectPublicKeyInfo.
    spki: Vec<u8>,
    kind: Kind,
    /// The key itself, as `ring` takes it.
    bits: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

type Algorithms = &'static [&'static dyn VerificationAlgorithm];

// A signature does not say which hash it has; cosign takes SHA-256 with any key, other signers the hash that fits the
// curve.
static WITH_P256: Algorithms = &[&signature::ECDSA_P256_SHA256_ASN1, &signature::ECDSA_P256_SHA384_ASN1];
static WITH_P384: Algorithms = &[&signature::ECDSA_P384_SHA384_ASN1, &signature::ECDSA_P384_SHA256_ASN1];
static WITH_ED25519: Algorithms = &[&signature::ED25519];
static WITH_RSA: Algorithms = &[
    &signature::RSA_PKCS1_2048_8192_SHA256,
    &signature::RSA_PKCS1_2048_8192_SHA384,
    &signature::RSA_PKCS1_2048_8192_SHA512,
    &signature::RSA_PSS_2048_8192_SHA256,
];

impl Kind {
    /// The algorithms that a signature by such a key may use.
    fn algorithms(self) -> Algorithms {
        match self {
            Self::P256 => WITH_P256,
            Self::P384 => WITH_P384,
            Self::Ed25519 => WITH_ED25519,
            Self::Rsa => WITH_RSA,
        }
    }
}

impl PublicKey {
    /// Reads the `PUBLIC KEY` of a PEM text, as cosign's `cosign.pub` has it.
    ///
    /// # Errors
    /// When it is no such text, or a key of another kind; a private key is told apart.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        const WHAT: &str = "the public key";
        let blocks = pem::decode(WHAT, text)?;
        let [(label, der)] = blocks.as_slice() else {
            return Err(Error::Malformed { what: WHAT, reason: "the text has several keys".to_owned() });
        };
        match label.as_str() {
            "PUBLIC KEY" => Self::from_der(der),
            other if other.contains("PRIVATE") => {
                let reason = "it is a private key; keep that one secret and use the `.pub` file".to_owned();
                Err(Error::Malformed { what: WHAT, reason })
            }
            other => Err(Error::Malformed { what: WHAT, reason: format!("it is a `{other}`, expected `PUBLIC KEY`") }),
        }
    }

    /// Reads a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// When it is none, or a key of another kind.
    pub fn from_der(spki: &[u8]) -> Result<Self, Error> {
        let (algorithm, parameter, bits) = parts(spki).map_err(Error::malformed("the public key"))?;
        let kind = match (algorithm, parameter) {
            (EC_PUBLIC_KEY, Some(P256)) => Kind::P256,
            (EC_PUBLIC_KEY, Some(P384)) => Kind::P384,
            (ED25519, None) => Kind::Ed25519,
            (RSA, _) => Kind::Rsa,
            _ => {
                let reason = "it is none of ECDSA P-256, ECDSA P-384, Ed25519 and RSA".to_owned();
                return Err(Error::Unsupported { what: "this kind of public key", reason });
            }
        };
        Ok(Self { spki: spki.to_vec(), kind, bits: bits.to_vec() })
    }

    /// The key as SubjectPublicKeyInfo in DER.
    pub fn as_der(&self) -> &[u8] {
        &self.spki
    }

    /// The key as PEM, as in `cosign.pub`.
    pub fn to_pem(&self) -> String {
        pem::encode("PUBLIC KEY", &self.spki)
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.spki)
    }

    /// Whether this key made the signature (ECDSA: in DER) over the message.
    pub fn made(&self, message: &[u8], signature: &[u8]) -> bool {
        let made = |algorithm: &&'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(*algorithm, &self.bits).verify(message, signature).is_ok()
        };
        self.kind.algorithms().iter().any(made)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?}, {})", self.kind, self.fingerprint())
    }
}

/// Algorithm, its parameter if that is an object identifier, and the key.
type Parts<'a> = (&'a [u8], Option<&'a [u8]>, &'a [u8]);

fn parts(spki: &[u8]) -> Result<Parts<'_>, Broken> {
    let mut fields = asn1::single(spki, SEQUENCE)?.inside();
    let mut algorithm = fields.expect(SEQUENCE)?.inside();
    let bits = fields.expect(BIT_STRING)?.bits()?;
    fields.end()?;
    let name = algorithm.expect(OID)?.content;
    Ok((name, algorithm.optional(OID)?.map(|parameter| parameter.content), bits))
}

/// A public key and what the user calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// The name, as in the policy.
    pub name: String,
    /// The key.
    pub key: PublicKey,
    /// Whether it is no longer used: its signatures are recognised and do not count.
    pub retired: bool,
}

/// The names of keys in a sentence.
pub(super) fn names(keys: &[NamedKey]) -> String {
    let one = |key: &NamedKey| format!("{} ({})", key.name, key.key.fingerprint());
    if keys.is_empty() { "no keys".to_owned() } else { keys.iter().map(one).collect::<Vec<_>>().join(", ") }
}
