//! Private keys as `cosign generate-key-pair` makes them: ECDSA P-256 in PKCS#8, in a box that a password opens (scrypt
//! and NaCl's secretbox), in JSON, in PEM.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::Aead as _;
use crypto_secretbox::{KeyInit as _, XSalsa20Poly1305};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};

use super::asn1::{self, BIT_STRING, OID, SEQUENCE};
use super::key::{EC_PUBLIC_KEY, P256};
use super::{Error, PublicKey, pem};

const LABEL: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// What cosign before 2.0 wrote.
const OLD_LABEL: &str = "ENCRYPTED COSIGN PRIVATE KEY";
const WHAT: &str = "the private key";
/// What cosign takes today. With r = 8 scrypt fills 64 MiB.
const COST: u32 = 1 << 16;
/// A key file may come from anywhere; 1 GiB is more than anyone asks for.
const HIGHEST_COST: u32 = 1 << 20;

/// A private key, ready to sign.
pub struct PrivateKey {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
    public: PublicKey,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

impl PrivateKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        Self::from_pkcs8(pkcs8.map_err(|_| Error::Crypto("the system gives no random numbers"))?.as_ref())
    }

    /// Reads what [`Self::to_pem`] or cosign wrote. The password may be empty.
    ///
    /// # Errors
    /// [`Error::Password`] for a wrong password; others when it is no such key.
    pub fn from_pem(text: &str, password: &[u8]) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Malformed { what: WHAT, reason };
        let blocks = pem::decode(WHAT, text)?;
        let [(label, json)] = blocks.as_slice() else { return Err(wrong("the text has several keys".to_owned())) };
        if ![LABEL, OLD_LABEL].contains(&label.as_str()) {
            return Err(wrong(format!("it is a `{label}`, expected `{LABEL}`")));
        }
        let envelope: Envelope = serde_json::from_slice(json).map_err(Error::malformed(WHAT))?;
        let bytes = |text: &str| STANDARD.decode(text).map_err(Error::malformed(WHAT));
        if (envelope.kdf.name.as_str(), envelope.cipher.name.as_str()) != ("scrypt", "nacl/secretbox") {
            let reason = format!("{} with {}", envelope.kdf.name, envelope.cipher.name);
            return Err(Error::Unsupported { what: "this protection of a private key", reason });
        }
        let cipher = derive(password, &bytes(&envelope.kdf.salt)?, &envelope.kdf.params)?;
        let nonce: [u8; 24] =
            bytes(&envelope.cipher.nonce)?.try_into().map_err(|_| wrong("its nonce has not 24 bytes".to_owned()))?;
        let opened = cipher.decrypt(&nonce.into(), bytes(&envelope.ciphertext)?.as_slice());
        Self::from_pkcs8(&opened.map_err(|_| Error::Password)?)
    }

    /// The key in PEM, for whoever knows the password. The same key looks different every time.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn to_pem(&self, password: &[u8]) -> Result<String, Error> {
        let (mut salt, mut nonce) = ([0; 32], [0; 24]);
        let random = SystemRandom::new();
        let filled = random.fill(&mut salt).and_then(|()| random.fill(&mut nonce));
        filled.map_err(|_| Error::Crypto("the system gives no random numbers"))?;
        let params = Params { n: COST, r: 8, p: 1 };
        let cipher = derive(password, &salt, &params)?;
        let ciphertext = cipher.encrypt(&nonce.into(), self.pkcs8.as_slice());
        let ciphertext = ciphertext.map_err(|_| Error::Crypto("it cannot be encrypted"))?;
        let envelope = Envelope {
            kdf: Kdf { name: "scrypt".to_owned(), params, salt: STANDARD.encode(salt) },
            cipher: Cipher { name: "nacl/secretbox".to_owned(), nonce: STANDARD.encode(nonce) },
            ciphertext: STANDARD.encode(ciphertext),
        };
        Ok(pem::encode(LABEL, &serde_json::to_vec(&envelope).map_err(Error::malformed(WHAT))?))
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message: ECDSA over its SHA-256, in DER.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| Error::Crypto("the system gives no random numbers"))?.as_ref().to_vec())
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, Error> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new());
        let pair = pair.map_err(|e| Error::Unsupported {
            what: "this kind of private key",
            reason: format!("it is not ECDSA P-256 in PKCS#8 ({e})"),
        })?;
        let algorithm = [asn1::element(OID, &[EC_PUBLIC_KEY]), asn1::element(OID, &[P256])].concat();
        let algorithm = asn1::element(SEQUENCE, &[&algorithm]);
        let bits = asn1::element(BIT_STRING, &[&[0], pair.public_key().as_ref()]);
        let public = PublicKey::from_der(&asn1::element(SEQUENCE, &[&algorithm, &bits]))?;
        Ok(Self { pair, pkcs8: pkcs8.to_vec(), public })
    }
}

/// Shows the public half only.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.public).finish_non_exhaustive()
    }
}

fn derive(password: &[u8], salt: &[u8], params: &Params) -> Result<XSalsa20Poly1305, Error> {
    let reason = || format!("scrypt with N = {}, r = {}, p = {}", params.n, params.r, params.p);
    let refused = || Error::Unsupported { what: "this protection of a private key", reason: reason() };
    if !params.n.is_power_of_two() || params.n < 2 || params.n > HIGHEST_COST || params.r != 8 || params.p != 1 {
        return Err(refused());
    }
    let scrypt_params = scrypt::Params::new(params.n.ilog2() as u8, params.r, params.p, 32).map_err(|_| refused())?;
    let mut key = [0; 32];
    scrypt::scrypt(password, salt, &scrypt_params, &mut key).map_err(|_| refused())?;
    Ok(XSalsa20Poly1305::new(&key.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by cosign, with an empty password.
    const BY_COSIGN: &str = include_str!("testdata/cosign_generated_encrypted_empty_private.key");

    #[test]
    fn a_key_of_cosign_is_read() {
        let key = PrivateKey::from_pem(BY_COSIGN, b"").unwrap();
        let signature = key.sign(b"message").unwrap();
        assert!(key.public().made(b"message", &signature));
        assert!(!key.public().made(b"another", &signature));
        let old = BY_COSIGN.replace(LABEL, OLD_LABEL);
        assert_eq!(PrivateKey::from_pem(&old, b"").unwrap().public(), key.public());
    }

    #[test]
    fn what_is_written_is_read() {
        let key = PrivateKey::generate().unwrap();
        let text = key.to_pem(b"secret").unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"));
        assert_eq!(PrivateKey::from_pem(&text, b"secret").unwrap().public(), key.public());
        assert_eq!(PrivateKey::from_pem(&text, b"Secret").unwrap_err(), Error::Password);
        let public = key.public().to_pem();
        assert_eq!(PublicKey::from_pem(&public).unwrap().fingerprint(), key.public().fingerprint());
        assert!(PublicKey::from_pem(&text).unwrap_err().to_string().contains("keep that one secret"));
        assert!(!format!("{key:?}").contains("pkcs8"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let error = |text: &str| PrivateKey::from_pem(text, b"").unwrap_err().to_string();
        assert!(error("").contains("not PEM"));
        assert!(error(&BY_COSIGN.replace("SIGSTORE", "RSA")).contains("expected"));
        assert!(error(&format!("{BY_COSIGN}{BY_COSIGN}")).contains("several"));
        let [(_, json)] = &pem::decode("", BY_COSIGN).unwrap()[..] else { panic!() };
        let json = String::from_utf8(json.clone()).unwrap();
        let changed = |from: &str, to: &str| error(&pem::encode(LABEL, json.replace(from, to).as_bytes()));
        assert!(changed("65536", "4294967295").contains("N = 4294967295"));
        assert!(changed("65536", "0").contains("N = 0"));
        assert!(changed("scrypt", "argon2").contains("argon2"));
        assert!(changed("\"nonce\":\"", "\"nonce\":\"AAAA").contains("24 bytes"));
        assert!(changed("ciphertext\":\"", "ciphertext\":\"AAAA").contains("password"));
    }
}
