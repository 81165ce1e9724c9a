//! Verifies signatures with keys that the user has.

use cooperage_store::Digest;

use super::fields::printable;
use super::key::names;
use super::{Error, NamedKey, Payload, Signer, StoredSignature};

/// Verifies that one of `keys` signed the artifact `wanted`; `payload` is the blob that the signature names.
///
/// # Errors
/// [`Error::TamperedPayload`], [`Error::UnknownKey`], [`Error::RetiredKey`], [`Error::BadSignature`] where the manifest
/// names a key at hand that did not make it, [`Error::OtherArtifact`] for a signature copied from elsewhere,
/// [`Error::OtherType`] and [`Error::Malformed`].
pub fn verify_with_keys(
    signature: &StoredSignature,
    payload: &[u8],
    wanted: &Digest,
    keys: &[NamedKey],
) -> Result<Signer, Error> {
    signature.accept(payload)?;
    let signer = maker(keys, payload, &signature.signature, signature.fingerprint.as_deref())?;
    Payload::read(payload, wanted)?;
    Ok(signer)
}

/// Which of the keys made a signature. `named` is what the signature says of its key.
pub(super) fn maker(keys: &[NamedKey], message: &[u8], signature: &[u8], named: Option<&str>) -> Result<Signer, Error> {
    // The same key may be listed as retired and, by mistake, once more; retired wins.
    let mut makers: Vec<_> = keys.iter().filter(|known| known.key.made(message, signature)).collect();
    makers.sort_by_key(|known| !known.retired);
    if let Some(known) = makers.first() {
        let (name, fingerprint) = (known.name.clone(), known.key.fingerprint());
        return if known.retired {
            Err(Error::RetiredKey { name, fingerprint })
        } else {
            Ok(Signer::Key { name, fingerprint })
        };
    }
    let is_named = |known: &&NamedKey| named == Some(known.key.fingerprint().to_string().as_str());
    match keys.iter().find(is_named) {
        Some(known) => Err(Error::BadSignature { what: format!("what {} signed", known.name) }),
        None => Err(Error::UnknownKey { named: named.map(printable), known: names(keys) }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PrivateKey, Signed, read_signatures, with_signatures};
    use super::*;

    fn named(name: &str, key: &PrivateKey) -> NamedKey {
        NamedKey { name: name.to_owned(), key: key.public().clone(), retired: false }
    }

    fn stored(digest: Digest, key: &PrivateKey) -> (StoredSignature, Vec<u8>) {
        let signed = Signed::new(&Payload::new("r.example/a", digest), key).unwrap();
        let manifest = with_signatures(None, std::slice::from_ref(&signed)).unwrap().manifest;
        (read_signatures(&manifest).unwrap().remove(0), signed.payload)
    }

    #[test]
    fn each_lie_has_its_own_error() {
        let (key, other, digest) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap(), Digest::of(b"a"));
        let (signature, payload) = stored(digest, &key);
        let verify = |signature: &StoredSignature, payload: &[u8], keys: &[NamedKey]| {
            verify_with_keys(signature, payload, &digest, keys)
        };
        let fingerprint = key.public().fingerprint();
        let keys = [named("other", &other), named("ours", &key)];
        assert_eq!(verify(&signature, &payload, &keys), Ok(Signer::Key { name: "ours".into(), fingerprint }));

        let error = verify(&signature, &payload, &keys[..1]).unwrap_err();
        let known = format!("other ({})", other.public().fingerprint());
        assert_eq!(error, Error::UnknownKey { named: Some(fingerprint.to_string()), known });
        let retired = [NamedKey { retired: true, ..named("ours", &key) }];
        let error = verify(&signature, &payload, &retired).unwrap_err();
        assert_eq!(error, Error::RetiredKey { name: "ours".into(), fingerprint });

        let mut changed = payload.clone();
        changed[0] ^= 1;
        assert!(matches!(verify(&signature, &changed, &keys), Err(Error::TamperedPayload { .. })));
        let both = StoredSignature { digest: Digest::of(&changed), ..signature.clone() };
        assert!(matches!(verify(&both, &changed, &keys), Err(Error::BadSignature { .. })));
        let mut broken = signature.clone();
        broken.signature.truncate(10);
        assert!(matches!(verify(&broken, &payload, &keys), Err(Error::BadSignature { .. })));

        let (copied, copied_payload) = stored(Digest::of(b"b"), &key);
        assert!(matches!(verify(&copied, &copied_payload, &keys), Err(Error::OtherArtifact { .. })));
    }
}
