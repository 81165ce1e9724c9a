//! Signatures that others made, with cosign and the public instance of sigstore; and what becomes of them when
//! something is changed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cooperage_store::Digest;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::*;

const BUNDLE: &str = include_str!("testdata/bundle_v03.json");
const ROOT: &str = include_str!("testdata/trusted_root.json");
/// Digest of the manifest that the bundle signs.
const SIGNED: &str = "sha256:c811d58de79c92f03214e63aa339484e488d694ae8a6283b5f3f17a9faf50172";

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn verify(bundle: &Value, root: &Value) -> Result<Signer, Error> {
    let bundle = Bundle::read(&serde_json::to_vec(bundle).unwrap())?;
    let root = TrustRoot::read(&serde_json::to_vec(root).unwrap())?;
    verify_bundle(&bundle, &Subject::digest(SIGNED.parse().unwrap()), &root)
}

/// One bit of some base64 changed.
fn flip(value: &mut Value, at: usize) {
    let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
    bytes[at] ^= 1;
    *value = json!(STANDARD.encode(bytes));
}

#[test]
fn a_bundle_of_cosign() {
    let signer = verify(&parse(BUNDLE), &parse(ROOT)).unwrap();
    let (subject, issuer) = (
        "https://github.com/kubewarden/kubewarden-controller/.github/workflows/release.yml@refs/tags/v1.34.0",
        "https://token.actions.githubusercontent.com",
    );
    assert_eq!(signer, Signer::Identity { subject: subject.into(), issuer: issuer.into() });
    let pattern = "https://github.com/kubewarden/*/.github/workflows/release.yml@refs/tags/*";
    let wanted = Identity { issuer: issuer.into(), subject: pattern.into() };
    assert_eq!(wanted.check(&signer), Ok(()));
    let other = Identity { issuer: "https://accounts.example".into(), ..wanted };
    let error = other.check(&signer).unwrap_err().to_string();
    assert!(error.contains(subject) && error.contains("wanted is") && error.contains("accounts.example"), "{error}");
}

/// Changes the bundle, and compares the beginning of the error.
#[track_caller]
fn check(change: impl FnOnce(&mut Value), expected: &str) {
    let mut bundle = parse(BUNDLE);
    change(&mut bundle);
    let error = verify(&bundle, &parse(ROOT)).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn each_changed_part_of_a_bundle_has_its_own_error() {
    const ENTRY: &str = "/verificationMaterial/tlogEntries/0";
    let at = |path: &'static str| move |bundle: &mut Value| bundle.pointer_mut(path).unwrap().take();
    let entry = |path: &str, change: fn(&mut Value)| {
        let path = format!("{ENTRY}{path}");
        move |bundle: &mut Value| change(bundle.pointer_mut(&path).unwrap())
    };
    check(|b| flip(&mut b["dsseEnvelope"]["signatures"][0]["sig"], 20), "the signature does not fit");
    check(|b| flip(&mut b["dsseEnvelope"]["payload"], 3), "the signature does not fit");
    check(|b| b["dsseEnvelope"]["payloadType"] = json!("text/plain"), "what was signed is a `text/plain`");
    check(
        |b| flip(&mut b["verificationMaterial"]["certificate"]["rawBytes"], 700),
        "the transparency log's entry is about another certificate",
    );
    check(|b| b["mediaType"] = json!("application/x"), "the sigstore bundle is not supported");
    check(|b| drop(at("/verificationMaterial")(b)), "the sigstore bundle cannot be read");
    check(|b| b["verificationMaterial"]["tlogEntries"] = json!([]), "the entry of the transparency log is missing");
    check(entry("/inclusionProof", |v| *v = Value::Null), "the inclusion proof is missing");
    check(entry("/inclusionPromise/signedEntryTimestamp", |v| flip(v, 20)), "the transparency log's promise");
    check(entry("/integratedTime", |v| *v = json!("1775719410")), "the transparency log's promise");
    check(entry("/inclusionProof/hashes/0", |v| flip(v, 0)), "the proof that the signature is in");
    check(entry("/inclusionProof/logIndex", |v| *v = json!("1")), "the proof that the signature is in");
    check(entry("/inclusionProof/treeSize", |v| *v = json!("0")), "the proof that the signature is in");
    check(entry("/inclusionProof/checkpoint/envelope", |v| *v = json!("x")), "the checkpoint of the");
    check(
        entry("/inclusionProof/checkpoint/envelope", |v| *v = json!(v.as_str().unwrap().replacen("rekor", "recor", 1))),
        "the checkpoint of the",
    );
    check(entry("/canonicalizedBody", |v| flip(v, 30)), "the transparency log's promise");
    check(entry("/logId/keyId", |v| flip(v, 0)), "the trust root knows no transparency log c1d2");
    let stamp = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
    let length = STANDARD.decode(parse(BUNDLE).pointer(stamp).unwrap().as_str().unwrap()).unwrap().len();
    for place in [5, 60, 120, length / 2, length - 3] {
        check(|b| flip(b.pointer_mut(stamp).unwrap(), place), "the time stamp of the signature is wrong");
    }
}

#[test]
fn a_bundle_of_another_artifact_is_refused() {
    let bundle = Bundle::read(BUNDLE.as_bytes()).unwrap();
    let root = TrustRoot::read(ROOT.as_bytes()).unwrap();
    let wanted = Subject::manifest(b"another");
    let error = verify_bundle(&bundle, &wanted, &root).unwrap_err();
    assert_eq!(error, Error::OtherArtifact { signed: SIGNED.into(), wanted: Digest::of(b"another") });
    // With a key, a bundle that has a certificate is one by an unknown key.
    let wanted = Subject::digest(SIGNED.parse().unwrap());
    let error = verify_bundle_with_keys(&bundle, &wanted, &[]).unwrap_err();
    assert_eq!(error, Error::UnknownKey { named: None, known: "no keys".into() });
    let all = verify_all(&wanted, &[], &[BUNDLE.into()], Trusted { keys: &[], root: None });
    assert!(all.failures[0].to_string().contains("trusted-root"));
    let all = verify_all(&wanted, &[], &[BUNDLE.into(), BUNDLE.into()], Trusted { keys: &[], root: Some(&root) });
    assert_eq!((all.signers.len(), all.failures.len()), (1, 0));
    assert!(matches!(verify_all(&wanted, &[], &[], Trusted::default()).failures[..], [Error::NoSignature { .. }]));
}

#[test]
fn another_trust_root_is_not_enough() {
    let check = |change: fn(&mut Value), expected: &str| {
        let mut root = parse(ROOT);
        change(&mut root);
        let error = verify(&parse(BUNDLE), &root).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check(|root| root["certificateAuthorities"] = json!([]), "the certificate comes from no authority");
    check(|root| root["ctlogs"] = json!([]), "the trust root knows no certificate transparency log");
    check(|root| root["tlogs"] = json!([]), "the trust root knows no transparency log");
    check(
        |root| {
            root["timestampAuthorities"][0]["validFor"] =
                json!({"start": "2000-01-01T00:00:00Z", "end": "2001-01-01T00:00:00Z"})
        },
        "the time stamp of the signature is wrong: the trust root knows no",
    );
    check(|root| root["tlogs"][0]["publicKey"]["validFor"] = json!({}), "the trust root knows no transparency log");
    check(|root| root["mediaType"] = json!("x"), "the trust root is not supported");
    check(|root| drop(root["tlogs"][0].take()), "the trust root cannot be read");
    let mut root = parse(ROOT);
    root["timestampAuthorities"] = json!([]);
    assert!(verify(&parse(BUNDLE), &root).is_ok(), "the log's promise has a time, too");
}

/// The form before bundles, as far as what was signed is at hand: the log's promise and the certificate.
#[test]
fn a_promise_of_the_log_from_2022() {
    let document = parse(include_str!("testdata/blob_signature_2022.json"));
    let decode = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let pem = String::from_utf8(decode(&document["cert"])).unwrap();
    let leaf = certificate::Certificate::from_pem(&pem).unwrap().remove(0);
    let signature = decode(&document["base64Signature"]);
    let entry = keyless::promise(&document["rekorBundle"].to_string()).unwrap();
    let body: Value = serde_json::from_slice(&entry.body).unwrap();
    let message = Digest::from_hex(body["spec"]["data"]["hash"]["value"].as_str().unwrap()).unwrap();
    let subject = rekor::Subject { message, payload: None, signature: &signature, certificate: &leaf };
    let root = TrustRoot::read(ROOT.as_bytes()).unwrap();
    let at = entry.verify(&subject, &root, &[]).unwrap().unwrap();
    chain::verify_signer(&leaf, &root, at).unwrap();
    assert!(matches!(chain::verify_signer(&leaf, &root, at + 3600), Err(Error::Expired { .. })));
    assert!(leaf.subject().unwrap().contains('@'), "an e-mail address");
    assert!(leaf.issuer().unwrap().starts_with("https://"), "from the older extension");
    let other = rekor::Subject { signature: b"x", ..subject };
    assert_eq!(entry.verify(&other, &root, &[]), Err(Error::OtherEntry { what: "signature" }));
    let other = rekor::Subject { message: Digest::of(b"x"), signature: &signature, ..other };
    assert_eq!(entry.verify(&other, &root, &[]), Err(Error::OtherEntry { what: "artifact" }));
}

/// A signature by cosign with a key pair, from the same library's tests.
#[test]
fn a_signature_of_cosign() {
    let key = PublicKey::from_pem(
        "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENptdY/l3nB0yqkXLBWkZWQwo6+cu
OSWS1X9vPavpiQOoTTGC0xX57OojUadxF1cdQmrsiReWg2Wn4FneJfa8xw==
-----END PUBLIC KEY-----",
    );
    let key = NamedKey { name: "kubewarden".into(), key: key.unwrap(), retired: false };
    let signature = "MEUCIQD6q/COgzOyW0YH1Dk+CCYSt4uAhm3FDHUwvPI55zwnlwIgE0ZK58ZOWpZw8YVmBapJhBqCfdPekIknimuO0xH8Jh8=";
    let digest = "sha256:f3cfc9d0dbf931d3db4685ec659b7ac68e2a578219da4aae65427886e649b06b".parse().unwrap();
    let payload = Payload::new("registry-testing.svc.lan/busybox", digest).to_bytes();
    let layer = json!({
        "mediaType": SIMPLE_SIGNING_TYPE, "size": payload.len(), "digest": Digest::of(&payload),
        "annotations": {"dev.cosignproject.cosign/signature": signature},
    });
    let manifest = json!({"schemaVersion": 2, "layers": [layer]}).to_string();
    let stored = read_signatures(manifest.as_bytes()).unwrap().remove(0);
    let fingerprint = key.key.fingerprint();
    let keys = [key];
    let signer = Signer::Key { name: "kubewarden".into(), fingerprint };
    assert_eq!(verify_with_keys(&stored, &payload, &digest, &keys), Ok(signer));
    let all = verify_all(&Subject::digest(digest), &[(stored, payload)], &[], Trusted { keys: &keys, root: None });
    assert_eq!((all.signers.len(), all.failures.len()), (1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to the bytes: an answer, never a panic, and never another signer.
    #[test]
    fn nothing_panics(cut in 0..BUNDLE.trim_end().len(), at in 0..BUNDLE.len(), byte in 0x20..0x7fu8) {
        let mut bytes = BUNDLE.as_bytes().to_vec();
        bytes[at] = byte;
        let root = TrustRoot::read(ROOT.as_bytes()).unwrap();
        let subject = Subject::digest(SIGNED.parse().unwrap());
        if let Ok(bundle) = Bundle::read(&bytes)
            && let Ok(signer) = verify_bundle(&bundle, &subject, &root)
        {
            prop_assert!(signer.to_string().starts_with("https://github.com/kubewarden/kubewarden-controller/"));
        }
        prop_assert!(Bundle::read(&bytes[..cut]).is_err());
        let mut bytes = ROOT.as_bytes().to_vec();
        let place = at % bytes.len();
        bytes[place] = byte;
        if let Ok(root) = TrustRoot::read(&bytes) {
            let _ = verify_bundle(&Bundle::read(BUNDLE.as_bytes()).unwrap(), &subject, &root);
        }
    }

    /// The same for DER, where lengths lie.
    #[test]
    fn no_certificate_or_time_stamp_panics(at in any::<Index>(), byte in any::<u8>(), cut in any::<Index>()) {
        let document = parse(BUNDLE);
        let root = TrustRoot::read(ROOT.as_bytes()).unwrap();
        let material = &document["verificationMaterial"];
        let stamp = &material["timestampVerificationData"]["rfc3161Timestamps"][0]["signedTimestamp"];
        for value in [&material["certificate"]["rawBytes"], stamp] {
            let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
            let place = at.index(bytes.len());
            let same = bytes[place] == byte;
            bytes[place] = byte;
            let cut = &bytes[..cut.index(bytes.len())];
            for bytes in [&bytes[..], cut] {
                prop_assert!(same || timestamp::verify(bytes, b"signature", &root).is_err());
                let _ = PublicKey::from_der(bytes);
                if let Ok(certificate) = certificate::Certificate::from_der(bytes) {
                    let _ = (certificate.subject(), certificate.issuer());
                    let verified = chain::verify_signer(&certificate, &root, 1_775_719_409);
                    prop_assert!(same || verified.is_err());
                }
            }
        }
    }
}
