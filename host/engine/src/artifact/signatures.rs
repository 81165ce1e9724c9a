//! The signatures of plugins in registries: fetches, keeps and makes them, and puts them before the policies. They lie
//! where cosign puts them: under the tag `sha256-<hex>.sig`, and as sigstore bundles that refer to the artifact.
//!
//! In the cache they are `signatures/<hex>.json`, by the digest of the artifact's manifest. What was kept is asked
//! first; the registry only when that is not enough, because somebody may have signed since.

use std::path::{Path, PathBuf};

use cooperage_store::Digest;
use hyper::body::Bytes;
use serde::Deserialize;

use super::layout::{blob, entries, read_limited, write_entry};
use super::pack::{Descriptor, LARGEST_MANIFEST};
use super::sources::write;
use super::{Error, RegistryReference, Sources};
use crate::trust::{
    Decision, Payload, Policies, PrivateKey, SIMPLE_SIGNING_TYPE, Signatures, Signed, Subject, signature_tag,
    with_signatures,
};

/// What bundles are called, whatever their version.
const BUNDLE_TYPES: &str = "application/vnd.dev.sigstore.bundle";
/// What all signatures of an artifact together may have. Anybody who can push can add some.
const LARGEST: u64 = 32 << 20;
/// Every bundle is two downloads.
const MOST_BUNDLES: usize = 64;

impl Sources {
    /// Whether the policies let a plugin of a registry be used that [`Sources::load`] brought. `pinned`: the digest in
    /// use is one that the user wrote.
    ///
    /// # Errors
    /// When signatures are wanted and the registry cannot be asked for them.
    pub async fn judge(
        &self,
        policies: &Policies,
        reference: &RegistryReference,
        pinned: bool,
        manifest: &Digest,
    ) -> Result<Decision, Error> {
        let policy = policies.of(reference);
        let bytes = self.kept_manifest(manifest);
        let subject = bytes.as_deref().map_or_else(|| Subject::digest(*manifest), Subject::manifest);
        let kept = self.kept_signatures(manifest);
        let decision = policy.decide(reference, pinned, &subject, &kept.clone().unwrap_or_default());
        if matches!(decision, Decision::Allowed { .. }) || !policy.asks_for_signatures(reference, pinned) {
            return Ok(decision);
        }
        let found = match self.signatures(reference, manifest).await {
            Ok(found) => found,
            // What is known without the registry is reason enough.
            Err(_) if kept.is_some() => return Ok(decision),
            Err(error) => return Err(error),
        };
        Ok(policy.decide(reference, pinned, &subject, &found))
    }

    /// All signatures that a registry has of an artifact, kept for the next time.
    pub async fn signatures(&self, reference: &RegistryReference, manifest: &Digest) -> Result<Signatures, Error> {
        let found = self.find(reference, manifest).await?;
        self.keep_signatures(manifest, &found)
    }

    /// Writes the signatures of an artifact of a registry into a layout directory.
    pub(super) async fn save_signatures(
        &self,
        reference: &RegistryReference,
        manifest: &Digest,
        directory: &Path,
    ) -> Result<(), Error> {
        for one in self.find(reference, manifest).await? {
            let config = document(&one.manifest).and_then(|document| document.config);
            let config = config.ok_or_else(|| Error::invalid(one.at.to_string(), "it has no configuration"))?;
            let bytes = self.remote.blob(&one.at, &config.digest, config.size).await?;
            Error::verify(|| format!("the configuration of {}", one.at), &config.digest, &bytes)?;
            let blobs = one.blobs.iter().chain([&bytes]).map(|bytes| (Digest::of(bytes), &bytes[..]));
            write_entry(directory, &one.at.to_string(), &one.manifest, blobs)?;
        }
        Ok(())
    }

    /// Brings the signatures of an artifact from a layout directory into the cache.
    pub(super) fn restore_signatures(
        &self,
        reference: &RegistryReference,
        manifest: &Digest,
        directory: &Path,
    ) -> Result<(), Error> {
        let (listed, mut found) = (beside(reference, manifest), Vec::new());
        for (name, digest) in entries(directory)? {
            let Ok(at) = name.parse::<RegistryReference>() else { continue };
            let same_place = (&at.host, &at.repository) == (&listed.host, &listed.repository);
            if !same_place || (at != listed && at.tag.is_some()) {
                continue;
            }
            let bytes = Bytes::from(blob(directory, &digest, LARGEST_MANIFEST)?);
            let Some(document) = document(&bytes).filter(|document| at == listed || document.is_about(manifest)) else {
                continue;
            };
            let blobs = document.signed().map(|layer| blob(directory, &layer.digest, LARGEST).map(Bytes::from));
            found.push(Found { at, blobs: blobs.collect::<Result<_, _>>()?, manifest: bytes });
        }
        self.keep_signatures(manifest, &found).map(drop)
    }

    fn keep_signatures(&self, manifest: &Digest, found: &[Found]) -> Result<Signatures, Error> {
        let (stored, bundles): (Vec<_>, Vec<_>) = found.iter().partition(|one| is_of_signatures(&one.at));
        let listed = stored.first().map(|one| &one.manifest[..]);
        let blobs = |found: Vec<&'_ Found>| found.into_iter().flat_map(|one| one.blobs.clone()).collect::<Vec<_>>();
        let (payloads, bundles) = (blobs(stored), blobs(bundles));
        let signatures =
            Signatures::new(listed, payloads.iter().map(|one| &one[..]), bundles.iter().map(|one| &one[..]));
        write(&self.signatures_path(manifest), &serde_json::to_vec(&signatures).expect("strings can be written"))?;
        Ok(signatures)
    }

    /// The documents with signatures of an artifact. Blobs that are missing or have other bytes are left out: anybody
    /// who can push could have named them.
    async fn find(&self, reference: &RegistryReference, manifest: &Digest) -> Result<Vec<Found>, Error> {
        let exact = RegistryReference { digest: Some(*manifest), ..reference.clone() };
        let referrers = absent(self.remote.referrers(&exact, BUNDLE_TYPES).await)?.unwrap_or_default();
        let bundles = referrers.into_iter().take(MOST_BUNDLES);
        let bundles = bundles.map(|digest| RegistryReference { tag: None, digest: Some(digest), ..reference.clone() });
        let (mut found, mut left) = (Vec::new(), LARGEST);
        for at in std::iter::once(beside(reference, manifest)).chain(bundles) {
            let Some((bytes, _)) = passable(self.remote.manifest(&at).await)? else { continue };
            let mut blobs = Vec::new();
            for layer in document(&bytes).iter().flat_map(Document::signed) {
                left = left.checked_sub(layer.size).ok_or_else(|| too_large(&at))?;
                let blob = passable(self.remote.blob(&at, &layer.digest, layer.size).await)?;
                blobs.extend(blob.filter(|blob| Digest::of(blob) == layer.digest));
            }
            found.push(Found { at, manifest: bytes, blobs });
        }
        Ok(found)
    }

    /// Signs an artifact of a registry, beside the signatures that it has. Gives what was signed.
    ///
    /// # Errors
    /// When there is no such plugin, or what lies under the tag of its signatures are none.
    pub async fn sign(&self, reference: &RegistryReference, key: &PrivateKey) -> Result<Digest, Error> {
        let (manifest, digest) = self.remote.manifest(reference).await?;
        super::pack::read_manifest(&manifest, &reference.to_string(), self.largest)?;
        let at = beside(reference, &digest);
        let existing = absent(self.remote.manifest(&at).await)?.map(|(bytes, _)| bytes);
        let failed = |error: crate::trust::Error| Error::invalid(at.to_string(), error);
        let payload = Payload::new(format!("{}/{}", reference.host, reference.repository), digest);
        let signed = Signed::new(&payload, key).map_err(failed)?;
        let all = with_signatures(existing.as_deref(), std::slice::from_ref(&signed)).map_err(failed)?;
        let blobs = [(Bytes::from(signed.payload), signed.digest), (Bytes::from(all.config), all.config_digest)];
        self.remote.put(&at, &blobs, &all.manifest).await?;
        // What was kept does not have it.
        let _ = std::fs::remove_file(self.signatures_path(&digest));
        Ok(digest)
    }

    fn kept_signatures(&self, manifest: &Digest) -> Option<Signatures> {
        let bytes = read_limited(&self.signatures_path(manifest), 2 * LARGEST).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn kept_manifest(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = read_limited(&self.manifest_path(digest), LARGEST_MANIFEST).ok()?;
        (Digest::of(&bytes) == *digest).then_some(bytes)
    }

    fn signatures_path(&self, manifest: &Digest) -> PathBuf {
        self.cache.join("signatures").join(format!("{}.json", manifest.hex()))
    }
}

/// A manifest with signatures, and what of its payloads or bundles can be had.
struct Found {
    at: RegistryReference,
    manifest: Bytes,
    blobs: Vec<Bytes>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    subject: Option<Descriptor>,
}

impl Document {
    /// The layers that are payloads or bundles.
    fn signed(&self) -> impl Iterator<Item = &Descriptor> {
        let is_signed = |kind: &str| kind == SIMPLE_SIGNING_TYPE || kind.starts_with(BUNDLE_TYPES);
        self.layers.iter().filter(move |layer| is_signed(&layer.media_type))
    }

    fn is_about(&self, manifest: &Digest) -> bool {
        self.subject.as_ref().is_some_and(|subject| subject.digest == *manifest)
    }
}

/// A manifest of signatures or of a bundle; none if it is neither.
fn document(manifest: &[u8]) -> Option<Document> {
    let document: Document = serde_json::from_slice(manifest).ok()?;
    let signed = document.signed().next().is_some();
    signed.then_some(document)
}

/// Whether a manifest is one of signatures.
pub(super) fn is_one(manifest: &[u8]) -> bool {
    document(manifest).is_some()
}

/// Whether what lies under a name are the signatures of something else.
fn is_of_signatures(reference: &RegistryReference) -> bool {
    reference.tag.as_deref().is_some_and(|tag| tag.starts_with("sha256-") && tag.ends_with(".sig"))
}

/// Where the signatures of an artifact lie.
fn beside(reference: &RegistryReference, manifest: &Digest) -> RegistryReference {
    RegistryReference { tag: Some(signature_tag(manifest)), digest: None, ..reference.clone() }
}

fn too_large(reference: &RegistryReference) -> Error {
    Error::invalid(reference.to_string(), format!("the signatures have more than {LARGEST} bytes"))
}

/// What is not there is no error.
fn absent<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same for what is there and wrong: anybody who can push could have put it there.
fn passable<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Err(Error::Digest { .. } | Error::TooLarge { .. }) => Ok(None),
        other => absent(other),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    use super::super::PluginReference;
    use super::super::pack::{PackOptions, Packed, pack};
    use super::super::remote::Remote;
    use super::super::section::{EMPTY_COMPONENT, embed_description};
    use super::*;
    use crate::http;
    use crate::testing::registry::Registry;
    use crate::trust::{Policy, Signer};

    fn packed() -> Packed {
        let component = embed_description(EMPTY_COMPONENT, "{}").unwrap();
        pack(component.into(), &PackOptions { name: "chat".into(), ..Default::default() }).unwrap()
    }

    fn sources(directory: &Path) -> Sources {
        let remote = Remote::new(http::Client::new(Default::default()).unwrap(), None, Vec::new());
        Sources { bundle: None, cache: directory.join("cache"), remote, base: directory.into(), largest: 1 << 20 }
    }

    /// A policy with keys by name; a name that begins with `old` is retired.
    fn policies(keys: &[(&str, &PrivateKey)]) -> Policies {
        let keys: serde_json::Map<_, _> = keys
            .iter()
            .map(|(name, key)| {
                ((*name).to_owned(), json!({ "pem": key.public().to_pem(), "retired": name.starts_with("old") }))
            })
            .collect();
        let policy: Policy = serde_json::from_value(json!({ "keys": keys })).unwrap();
        Policies::new(vec![policy.ready(|_| unreachable!()).unwrap()])
    }

    /// Who is found to have signed, or why it is refused.
    async fn judged(sources: &Sources, policies: &Policies, reference: &RegistryReference) -> String {
        let artifact = sources.load(&PluginReference::Registry(reference.clone()), true).await.unwrap();
        let manifest = artifact.manifest.unwrap();
        match sources.judge(policies, reference, false, &manifest).await.unwrap() {
            Decision::Allowed { signer: Some(Signer::Key { name, .. }) } => name,
            Decision::Allowed { signer } => format!("{signer:?}"),
            Decision::Refused(refusal) => refusal.found,
        }
    }

    #[tokio::test]
    async fn signed_kept_rotated_and_carried() {
        let Some(registry) = Registry::start(false, None) else { return };
        let directory = tempfile::tempdir().unwrap();
        let ours = sources(directory.path());
        let reference: RegistryReference = format!("{}/acme/chat:1", registry.host()).parse().unwrap();
        ours.remote.push(&reference, &packed()).await.unwrap();
        let (first, second) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let (known, rotated) = (policies(&[("acme", &first)]), policies(&[("acme-2", &second), ("old", &first)]));
        assert_eq!(
            judged(&ours, &known, &reference).await,
            format!("there is no signature of {}", packed().manifest_digest)
        );
        // Somebody signs later: what was kept is not enough, so the registry is asked again.
        assert_eq!(ours.sign(&reference, &first).await.unwrap(), packed().manifest_digest);
        assert_eq!(judged(&ours, &known, &reference).await, "acme");
        let retired = judged(&ours, &rotated, &reference).await;
        assert!(retired.contains("which is retired"), "{retired}");
        ours.sign(&reference, &second).await.unwrap();
        assert_eq!(judged(&ours, &rotated, &reference).await, "acme-2");
        let names = judged(&ours, &policies(&[]), &reference).await;
        assert!(names.contains("unknown key") && names.contains("; "), "both are told: {names}");

        let layout = directory.path().join("layout");
        ours.save(&reference, &layout).await.unwrap();
        drop(registry);
        let far_directory = tempfile::tempdir().unwrap();
        let far = sources(far_directory.path());
        assert_eq!(far.restore(&layout).unwrap(), std::slice::from_ref(&reference));
        let manifest = packed().manifest_digest;
        let decision = far.judge(&known, &reference, false, &manifest).await.unwrap();
        assert!(matches!(decision, Decision::Allowed { signer: Some(_) }), "no network is needed");
        let decision = far.judge(&policies(&[]), &reference, false, &manifest).await.unwrap();
        assert!(matches!(decision, Decision::Refused(_)), "nor for a refusal");
        assert!(far.judge(&known, &reference, false, &Digest::of(b"")).await.is_err(), "of this one nothing is known");
    }

    /// A bundle as cosign makes them with a key pair, as an artifact that refers to another one.
    fn bundle(of: &Packed, key: &PrivateKey) -> (Vec<u8>, Vec<(Bytes, Digest)>) {
        let bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": { "publicKey": { "hint": "" } },
            "messageSignature": {
                "messageDigest": { "algorithm": "SHA2_256", "digest": STANDARD.encode(of.manifest_digest.as_bytes()) },
                "signature": STANDARD.encode(key.sign(&of.manifest).unwrap()),
            },
        });
        let blobs = [bundle.to_string(), "{}".to_owned()].map(Bytes::from);
        let described = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": Digest::of(bytes).to_string(), "size": bytes.len() });
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest: Value = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "config": described("application/vnd.oci.empty.v1+json", &blobs[1]),
            "layers": [described("application/vnd.dev.sigstore.bundle.v0.3+json", &blobs[0])],
            "subject": described(manifest_type, &of.manifest),
        });
        (manifest.to_string().into_bytes(), blobs.into_iter().map(|one| (one.clone(), Digest::of(&one))).collect())
    }

    #[tokio::test]
    async fn bundles_are_found_where_registries_have_no_list_of_them() {
        let Some(registry) = Registry::start(false, None) else { return };
        let directory = tempfile::tempdir().unwrap();
        let ours = sources(directory.path());
        let reference: RegistryReference = format!("{}/acme/chat:1", registry.host()).parse().unwrap();
        let (packed, key) = (packed(), PrivateKey::generate().unwrap());
        ours.remote.push(&reference, &packed).await.unwrap();
        let (manifest, blobs) = bundle(&packed, &key);
        let holder = RegistryReference { tag: Some("holder".into()), ..reference.clone() };
        ours.remote.put(&holder, &blobs, &manifest).await.unwrap();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "digest": Digest::of(&manifest).to_string(),
                "size": manifest.len(),
            }],
        });
        // The tag schema of the distribution specification, for registries without the referrers API.
        let tag = format!("sha256-{}", packed.manifest_digest.hex());
        let put = std::process::Command::new("curl")
            .args(["--fail", "--silent", "--show-error", "--request", "PUT", "--data-binary", &index.to_string()])
            .args(["--header", "Content-Type: application/vnd.oci.image.index.v1+json"])
            .arg(format!("http://{}/v2/acme/chat/manifests/{tag}", registry.host()))
            .status();
        assert!(put.unwrap().success());
        assert_eq!(judged(&ours, &policies(&[("acme", &key)]), &reference).await, "acme");
        let stranger = PrivateKey::generate().unwrap();
        let refused = judged(&ours, &policies(&[("acme", &stranger)]), &reference).await;
        assert!(refused.contains("unknown key"), "{refused}");

        let layout = directory.path().join("layout");
        ours.save(&reference, &layout).await.unwrap();
        let far_directory = tempfile::tempdir().unwrap();
        let far = sources(far_directory.path());
        assert_eq!(far.restore(&layout).unwrap(), std::slice::from_ref(&reference));
        drop(registry);
        let decision =
            far.judge(&policies(&[("acme", &key)]), &reference, false, &packed.manifest_digest).await.unwrap();
        assert!(matches!(decision, Decision::Allowed { signer: Some(_) }));
    }
}
