//! Gets a plugin from wherever its reference says, asking the network only when nothing at hand will do.
//!
//! Cache layout below one directory: `components/<hex>.wasm`, `manifests/<hex>.json`, `signatures/<hex>.json`,
//! `pins/<hex>.json`, which holds the manifest digest that a tag stood for when it was last asked for, and `files` (see there).

use std::io::Write as _;
use std::path::{Path, PathBuf};

use cooperage_store::Digest;
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};

use super::Error;
use super::layout::{Bundle, read_layout, read_limited};
use super::pack::{Artifact, Component, LARGEST_MANIFEST, read_manifest};
use super::reference::{PluginReference, RegistryReference};
use super::remote::Remote;

/// What a component may have at most unless the user says otherwise.
pub const LARGEST_COMPONENT: u64 = 256 << 20;

/// Where plugins come from.
pub struct Sources {
    /// The plugins that are part of the program.
    pub bundle: Option<Bundle>,
    /// Directory of the cache; made when needed, readable by the user alone.
    pub cache: PathBuf,
    /// Reaches registries.
    pub remote: Remote,
    /// Relative paths of files and layouts begin here.
    pub base: PathBuf,
    /// Largest component in bytes.
    pub largest: u64,
}

#[derive(Serialize, Deserialize)]
struct Pin {
    reference: String,
    manifest: Digest,
}

impl Sources {
    /// The plugin that `reference` names. With a digest, or a tag that was asked for before, no registry is asked
    /// unless the component is missing; `refresh` asks again what a tag stands for.
    pub async fn load(&self, reference: &PluginReference, refresh: bool) -> Result<Artifact, Error> {
        match reference {
            PluginReference::Bundled(name) => match &self.bundle {
                Some(bundle) => bundle.get(name),
                None => Err(Error::NotFound(format!("no plugin `{name}` is bundled with this program"))),
            },
            PluginReference::File(path) => self.load_file(&self.base.join(path)),
            PluginReference::Layout { directory, name } => {
                read_layout(&self.base.join(directory), name.as_deref(), self.largest)
            }
            PluginReference::Registry(reference) => self.load_remote(reference, refresh).await,
        }
    }

    /// The plugin of a registry, if it is in the cache; no registry is asked.
    pub fn at_hand(&self, reference: &RegistryReference) -> Option<Artifact> {
        let manifest = reference.digest.or_else(|| self.pin(reference))?;
        let artifact = self.cached(reference, &manifest)?;
        let component = Component::Bytes(self.checked(&artifact.digest)?);
        Some(Artifact { component, ..artifact })
    }

    async fn load_remote(&self, reference: &RegistryReference, refresh: bool) -> Result<Artifact, Error> {
        let pinned = match reference.digest {
            Some(digest) => Some(digest),
            None if refresh => None,
            None => self.pin(reference),
        };
        if let Some(manifest) = pinned
            && let Some(artifact) = self.cached(reference, &manifest)
        {
            return Ok(artifact);
        }
        let exact = RegistryReference { digest: pinned, ..reference.clone() };
        let (manifest, digest) = self.remote.manifest(&exact).await?;
        let origin = format!("oci://{}", RegistryReference { digest: Some(digest), ..reference.clone() });
        let layer = read_manifest(&manifest, &origin, self.largest)?;
        let component = match self.checked(&layer.descriptor.digest) {
            Some(bytes) => bytes,
            None => self.remote.blob(&exact, &layer.descriptor.digest, layer.descriptor.size).await?,
        };
        let artifact = layer.accept(component.clone(), digest, origin)?;
        self.keep(reference, &manifest, &artifact, &component)?;
        Ok(artifact)
    }

    /// The bytes of a component. What is damaged in the cache is fetched again.
    pub async fn component(&self, artifact: &Artifact) -> Result<Bytes, Error> {
        let (from, size) = match &artifact.component {
            Component::Bytes(bytes) => return Ok(bytes.clone()),
            Component::Cached { from, size } => (from, *size),
            Component::File { path, .. } => {
                let bytes = Bytes::from(read_limited(path, self.largest)?);
                let changed = || Error::invalid(path.display().to_string(), "it changed just now; try it again");
                return (Digest::of(&bytes) == artifact.digest).then_some(bytes).ok_or_else(changed);
            }
        };
        if let Some(bytes) = self.checked(&artifact.digest) {
            return Ok(bytes);
        }
        let bytes = self.remote.blob(from, &artifact.digest, size).await?;
        Error::verify(|| format!("the component of {}", artifact.origin), &artifact.digest, &bytes)?;
        write(&self.component_path(&artifact.digest), &bytes)?;
        Ok(bytes)
    }

    /// The bytes of a component in the cache, if they are what the digest says.
    fn checked(&self, digest: &Digest) -> Option<Bytes> {
        let bytes = read_limited(&self.component_path(digest), self.largest).ok()?;
        (Digest::of(&bytes) == *digest).then(|| bytes.into())
    }

    /// Puts an artifact into the cache, as what the reference stands for.
    pub(super) fn keep(
        &self,
        reference: &RegistryReference,
        manifest: &[u8],
        artifact: &Artifact,
        component: &[u8],
    ) -> Result<(), Error> {
        super::section::surface(component).map_err(|error| error.about(&artifact.origin))?;
        let digest = Digest::of(manifest);
        write(&self.component_path(&artifact.digest), component)?;
        write(&self.manifest_path(&digest), manifest)?;
        if reference.digest.is_none() {
            let pin = Pin { reference: reference.to_string(), manifest: digest };
            write(&self.pin_path(reference), &serde_json::to_vec(&pin).expect("strings can be written"))?;
        }
        Ok(())
    }

    /// What is in the cache for a manifest; none if anything is missing. The component is not read.
    fn cached(&self, reference: &RegistryReference, digest: &Digest) -> Option<Artifact> {
        let manifest = read_limited(&self.manifest_path(digest), LARGEST_MANIFEST)
            .ok()
            .filter(|bytes| Digest::of(bytes) == *digest)?;
        let from = RegistryReference { digest: Some(*digest), ..reference.clone() };
        let origin = format!("oci://{from}");
        let layer = read_manifest(&manifest, &origin, self.largest).ok()?;
        let size = std::fs::metadata(self.component_path(&layer.descriptor.digest)).ok()?.len();
        (size == layer.descriptor.size).then(|| layer.artifact(Component::Cached { from, size }, *digest, origin))
    }

    fn pin(&self, reference: &RegistryReference) -> Option<Digest> {
        let bytes = read_limited(&self.pin_path(reference), 1 << 16).ok()?;
        let pin: Pin = serde_json::from_slice(&bytes).ok()?;
        (pin.reference == reference.to_string()).then_some(pin.manifest)
    }

    fn pin_path(&self, reference: &RegistryReference) -> PathBuf {
        let name = Digest::of(reference.to_string().as_bytes()).hex();
        self.cache.join("pins").join(format!("{name}.json"))
    }

    pub(super) fn manifest_path(&self, digest: &Digest) -> PathBuf {
        self.cache.join("manifests").join(format!("{}.json", digest.hex()))
    }

    fn component_path(&self, digest: &Digest) -> PathBuf {
        self.cache.join("components").join(format!("{}.wasm", digest.hex()))
    }
}

/// Puts a file into place in one step, so that another process sees all of it or nothing.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let directory = path.parent().expect("every path of the cache has a directory");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(Error::file(directory))?;
    let temporary = directory.join(format!(".{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let put = || {
        let mut file = std::fs::File::create_new(&temporary)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        std::fs::rename(&temporary, path)
    };
    put().map_err(|source| {
        let _ = std::fs::remove_file(&temporary);
        Error::File { path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt as _;

    use super::super::pack::{MANIFEST_TYPE, PackOptions, Packed, pack};
    use super::super::section::{EMPTY_COMPONENT, embed_description};
    use super::*;
    use crate::credentials::{Credential, Credentials};
    use crate::http;
    use crate::testing::certificates::Certificates;
    use crate::testing::registry::{PASSWORD, Registry, USER};
    use crate::testing::server::{self, Server};

    fn packed(version: u32) -> Packed {
        let component = embed_description(EMPTY_COMPONENT, &format!("{{\"version\":{version}}}")).unwrap();
        pack(component.into(), &PackOptions { name: "chat".into(), ..Default::default() }).unwrap()
    }

    fn sources(directory: &Path, http: http::Settings, credentials: Option<Credentials>) -> Sources {
        let remote = Remote::new(http::Client::new(http).unwrap(), credentials.map(Arc::new), Vec::new());
        Sources { bundle: None, cache: directory.join("cache"), remote, base: directory.into(), largest: 1 << 20 }
    }

    fn parse(text: &str) -> (PluginReference, RegistryReference) {
        let PluginReference::Registry(reference) = text.parse().unwrap() else { panic!("{text}") };
        (PluginReference::Registry(reference.clone()), reference)
    }

    #[tokio::test]
    async fn a_second_use_asks_no_network() {
        let Some(registry) = Registry::start(false, None) else { return };
        let directory = tempfile::tempdir().unwrap();
        let sources = sources(directory.path(), Default::default(), None);
        let (tagged, reference) = parse(&format!("oci://{}/acme/chat:1", registry.host()));
        assert!(matches!(sources.load(&tagged, false).await, Err(Error::NotFound(_))));
        let digest = sources.remote.push(&reference, &packed(1)).await.unwrap();
        let first = sources.load(&tagged, false).await.unwrap();
        assert_eq!((first.digest, first.manifest), (packed(1).component_digest, Some(digest)));
        sources.remote.push(&reference, &packed(2)).await.unwrap();
        assert_eq!(sources.load(&tagged, false).await.unwrap().digest, packed(1).component_digest, "the tag is pinned");
        assert_eq!(sources.load(&tagged, true).await.unwrap().digest, packed(2).component_digest, "until refreshed");
        let (exact, _) = parse(&format!("oci://{}/acme/chat@{digest}", registry.host()));
        drop(registry);
        assert_eq!(sources.load(&exact, true).await.unwrap().digest, packed(1).component_digest);
        assert_eq!(sources.load(&tagged, false).await.unwrap().digest, packed(2).component_digest);
        assert!(matches!(sources.load(&tagged, true).await, Err(Error::Registry { .. })));
        let cached = sources.component_path(&packed(1).component_digest);
        let mut damaged = packed(1).component.to_vec();
        damaged.reverse();
        std::fs::write(&cached, &damaged).unwrap();
        let artifact = sources.load(&exact, false).await.unwrap();
        assert!(sources.component(&artifact).await.is_err(), "damage is noticed, and the registry is gone");
        std::fs::write(&cached, b"short").unwrap();
        assert!(sources.load(&exact, false).await.is_err());
    }

    #[tokio::test]
    async fn credentials_and_own_authorities_are_used() {
        let certificates = Certificates::make();
        let Some(registry) = Registry::start(true, Some(&certificates)) else { return };
        let directory = tempfile::tempdir().unwrap();
        let trusted = || http::Settings {
            tls: http::TlsSettings {
                certificate_directories: vec![certificates.certs_d(&registry.host(), false)],
                ..Default::default()
            },
            ..Default::default()
        };
        let (tagged, reference) = parse(&format!("oci://{}/acme/chat:1", registry.host()));
        let stranger = sources(directory.path(), trusted(), None);
        for refused in [
            stranger.remote.push(&reference, &packed(1)).await.map(drop),
            stranger.load(&tagged, false).await.map(drop),
        ] {
            let error = refused.unwrap_err();
            assert!(matches!(error, Error::Unauthenticated { .. }), "{error}");
            assert!(error.to_string().contains("coop registry login"), "{error}");
        }
        let credentials = Credentials::new(directory.path().join("config.json"), Vec::new());
        let login = Credential { username: USER.into(), password: PASSWORD.into(), identity_token: false };
        credentials.store(&registry.host(), &login).unwrap();
        let known = sources(directory.path(), trusted(), Some(credentials));
        known.remote.push(&reference, &packed(1)).await.unwrap();
        assert_eq!(known.load(&tagged, false).await.unwrap().digest, packed(1).component_digest);
    }

    #[tokio::test]
    async fn an_image_is_no_plugin() {
        let Some(registry) = Registry::start(false, None) else { return };
        let directory = tempfile::tempdir().unwrap();
        let sources = sources(directory.path(), Default::default(), None);
        let (tagged, reference) = parse(&format!("oci://{}/os:1", registry.host()));
        let mut image = packed(1);
        let text = String::from_utf8(image.manifest).unwrap();
        image.manifest = text.replace("application/wasm", "application/vnd.oci.image.layer.v1.tar").into_bytes();
        sources.remote.push(&reference, &image).await.unwrap();
        let error = sources.load(&tagged, false).await.unwrap_err().to_string();
        assert!(error.contains("layer.v1.tar"), "{error}");
        assert!(!directory.path().join("cache").exists(), "nothing stays behind");
    }

    /// A registry that serves `packed` as `acme/chat:1`, but for what `spoil` answers instead.
    async fn spoiled(packed: Packed, spoil: impl Fn(&str) -> Option<server::Answer> + Send + Sync + 'static) -> Server {
        Server::start(move |request| {
            let path = request.uri().path().to_owned();
            let usual = || {
                if path == "/v2/" {
                    return server::answer(200, &[], "{}");
                }
                if path.contains("/manifests/") {
                    return server::answer(200, &[("content-type", MANIFEST_TYPE)], packed.manifest.clone());
                }
                server::answer(200, &[], packed.component.clone())
            };
            let answer = spoil(&path).unwrap_or_else(usual);
            async move { answer }.boxed()
        })
        .await
    }

    #[tokio::test]
    async fn faults_leave_nothing() {
        let short = Bytes::from_static(b"\0asm");
        let other = Bytes::from(vec![0; packed(1).component.len()]);
        let long = Bytes::from(vec![0; 1 << 20]);
        let cases: Vec<(&str, u16, Bytes, &str)> = vec![
            (
                "/manifests/",
                429,
                Bytes::from_static(br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#),
                "slow down",
            ),
            ("/manifests/", 500, Bytes::new(), "500"),
            ("/manifests/", 200, Bytes::from(vec![b' '; (4 << 20) + 1]), "more than the 4194304 allowed"),
            ("/manifests/", 200, Bytes::from_static(b"<html>"), "manifest"),
            ("/blobs/", 200, short, "xpected sha256"),
            ("/blobs/", 200, other, "xpected sha256"),
            ("/blobs/", 200, long, "more than the"),
            ("/blobs/", 503, Bytes::new(), "503"),
        ];
        for (part, status, body, expected) in cases {
            let server =
                spoiled(packed(1), move |path| path.contains(part).then(|| server::answer(status, &[], body.clone())))
                    .await;
            let directory = tempfile::tempdir().unwrap();
            let sources = sources(directory.path(), Default::default(), None);
            let (tagged, _) = parse(&format!("oci://{}/acme/chat:1", server.address));
            let error = sources.load(&tagged, false).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{part} {status}: {error}");
            assert!(!directory.path().join("cache").exists(), "{part} {status}");
        }
    }

    #[tokio::test]
    async fn a_manifest_other_than_asked_for_is_refused() {
        let server = spoiled(packed(1), |_| None).await;
        let directory = tempfile::tempdir().unwrap();
        let sources = sources(directory.path(), Default::default(), None);
        let (exact, _) = parse(&format!("oci://{}/acme/chat@{}", server.address, packed(2).manifest_digest));
        let error = sources.load(&exact, false).await.unwrap_err().to_string();
        assert!(error.contains(&packed(2).manifest_digest.to_string()), "{error}");
        let (right, _) = parse(&format!("oci://{}/acme/chat@{}", server.address, packed(1).manifest_digest));
        assert_eq!(sources.load(&right, false).await.unwrap().digest, packed(1).component_digest);
    }

    #[tokio::test]
    async fn a_registry_that_says_nothing_is_left() {
        let server = Server::start(|_| std::future::pending().boxed()).await;
        let directory = tempfile::tempdir().unwrap();
        let http = http::Settings { idle_timeout: std::time::Duration::from_millis(200), ..Default::default() };
        let (tagged, _) = parse(&format!("oci://{}/acme/chat:1", server.address));
        assert!(matches!(
            sources(directory.path(), http, None).load(&tagged, false).await,
            Err(Error::Registry { .. })
        ));
    }
}
