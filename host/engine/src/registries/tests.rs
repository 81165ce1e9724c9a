//! The service over registries in memory, which count what they are asked and fail when told to.

mod real;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cooperage_solve::{Error, ErrorKind, ImageSource, Reporter, Step};
use cooperage_store::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Store, media_types};
use serde_json::json;

use super::*;
use crate::ports::Registries;

/// Every registry of the test's world, as `host/repository`.
#[derive(Default)]
struct World {
    repositories: BTreeMap<String, Contents>,
}

#[derive(Default, Clone)]
struct Contents {
    blobs: BTreeMap<Digest, Vec<u8>>,
    manifests: BTreeMap<Digest, (String, Vec<u8>)>,
    tags: BTreeMap<String, Digest>,
}

struct Fake {
    store: Store,
    world: Arc<Mutex<World>>,
    log: Arc<Mutex<Vec<String>>>,
    /// Calls whose log line begins with this fail.
    broken: Mutex<Option<(String, Error)>>,
    /// Get nothing, but say that all is well.
    lies: bool,
    now: AtomicUsize,
    most: AtomicUsize,
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    fn begin(&self, line: String) -> Result<Running<'_>, Error> {
        self.log.lock().unwrap().push(line.clone());
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let running = Running(&self.now);
        match &*self.broken.lock().unwrap() {
            Some((prefix, error)) if line.starts_with(prefix) => Err(error.clone()),
            _ => Ok(running),
        }
    }

    fn contents(&self, at: &Repository) -> Contents {
        self.world.lock().unwrap().repositories.get(&format!("{}/{}", at.host, at.name)).cloned().unwrap_or_default()
    }

    fn change(&self, at: &Repository, change: impl FnOnce(&mut Contents)) {
        change(self.world.lock().unwrap().repositories.entry(format!("{}/{}", at.host, at.name)).or_default());
    }

    fn find(&self, at: &Repository, reference: &str) -> Result<(Descriptor, Vec<u8>), Error> {
        let contents = self.contents(at);
        let digest = contents.tags.get(reference).copied().or_else(|| reference.parse().ok());
        let found = digest.and_then(|digest| Some((digest, contents.manifests.get(&digest)?.clone())));
        let (digest, (kind, bytes)) = found.ok_or_else(|| Error::not_found("manifest unknown"))?;
        Ok((Descriptor::new(kind, digest, bytes.len() as u64), bytes))
    }
}

#[async_trait]
impl RegistryBackend for Fake {
    async fn resolve(&self, at: &Repository, reference: &str, _: &Step) -> Result<Descriptor, Error> {
        let _running = self.begin(format!("resolve {}/{} {reference}", at.host, at.name))?;
        Ok(self.find(at, reference)?.0)
    }

    async fn get_manifest(&self, at: &Repository, reference: &str, _: &Step) -> Result<Descriptor, Error> {
        let _running = self.begin(format!("get-manifest {}/{} {reference}", at.host, at.name))?;
        let (descriptor, bytes) = self.find(at, reference)?;
        if !self.lies {
            self.store.blobs().put(&bytes)?;
        }
        Ok(descriptor)
    }

    async fn put_manifest(
        &self,
        at: &Repository,
        manifest: &Descriptor,
        tag: Option<&str>,
        _: &Step,
    ) -> Result<(), Error> {
        let _running = self.begin(format!("put-manifest {}/{} {}", at.host, at.name, tag.unwrap_or("-")))?;
        let bytes = self.store.blobs().read(&manifest.digest, 1 << 20)?;
        let contents = self.contents(at);
        let missing =
            |digest: &Digest| !contents.blobs.contains_key(digest) && !contents.manifests.contains_key(digest);
        if media_types::is_index(&manifest.media_type) {
            let index: Index = serde_json::from_slice(&bytes).unwrap();
            assert!(!index.manifests.iter().any(|m| missing(&m.digest)), "an index before its manifests");
        } else {
            let parsed: Manifest = serde_json::from_slice(&bytes).unwrap();
            assert!(
                !parsed.layers.iter().chain([&parsed.config]).any(|b| missing(&b.digest)),
                "a manifest before its blobs"
            );
        }
        self.change(at, |contents| {
            contents.manifests.insert(manifest.digest, (manifest.media_type.clone(), bytes));
            contents.tags.extend(tag.map(|tag| (tag.to_owned(), manifest.digest)));
        });
        Ok(())
    }

    async fn has_blob(&self, at: &Repository, digest: &Digest, _: &Step) -> Result<bool, Error> {
        let _running = self.begin(format!("has-blob {}/{}", at.host, at.name))?;
        Ok(self.contents(at).blobs.contains_key(digest))
    }

    async fn get_blob(&self, at: &Repository, blob: &Descriptor, _: &Step) -> Result<(), Error> {
        let _running = self.begin(format!("get-blob {}/{}", at.host, at.name))?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let bytes =
            self.contents(at).blobs.get(&blob.digest).cloned().ok_or_else(|| Error::not_found("blob unknown"))?;
        if !self.lies {
            self.store.blobs().put(&bytes)?;
        }
        Ok(())
    }

    async fn put_blob(
        &self,
        at: &Repository,
        blob: &Descriptor,
        mount_from: &[String],
        _: &Step,
    ) -> Result<BlobOutcome, Error> {
        let _running = self.begin(format!("put-blob {}/{} [{}]", at.host, at.name, mount_from.join(" ")))?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        if self.contents(at).blobs.contains_key(&blob.digest) {
            return Ok(BlobOutcome::Exists);
        }
        for from in mount_from {
            let other = Repository { name: from.clone(), ..at.clone() };
            if let Some(bytes) = self.contents(&other).blobs.get(&blob.digest) {
                self.change(at, |contents| drop(contents.blobs.insert(blob.digest, bytes.clone())));
                return Ok(BlobOutcome::Mounted);
            }
        }
        let bytes = self.store.blobs().read(&blob.digest, 1 << 20)?;
        self.change(at, |contents| drop(contents.blobs.insert(blob.digest, bytes)));
        Ok(BlobOutcome::Uploaded)
    }

    async fn tags(&self, at: &Repository, _: &Step) -> Result<Vec<String>, Error> {
        Ok(self.contents(at).tags.into_keys().collect())
    }

    async fn referrers(&self, _: &Repository, _: &Digest, _: &Step) -> Result<Vec<Descriptor>, Error> {
        Ok(Vec::new())
    }

    async fn delete(&self, at: &Repository, reference: &str, _: &Step) -> Result<(), Error> {
        self.change(at, |contents| {
            contents.tags.remove(reference);
        });
        Ok(())
    }

    async fn login(&self, at: &Repository, _: &Step) -> Result<(), Error> {
        let known = at.credential.as_ref().is_some_and(|c| c.password == "s3cret");
        if known { Ok(()) } else { Err(Error::new(ErrorKind::Unauthenticated, "unauthorized")) }
    }
}

struct Only(Arc<Fake>);

#[async_trait]
impl Backends for Only {
    async fn backend(&self, plugin: &str) -> Result<Arc<dyn RegistryBackend>, Error> {
        assert_eq!(plugin, DEFAULT_PLUGIN);
        Ok(self.0.clone())
    }
}

/// One machine: a store of its own, and the world it reaches.
struct Machine {
    _directory: tempfile::TempDir,
    fake: Arc<Fake>,
    service: RegistryService,
}

impl Machine {
    fn new(world: &Arc<Mutex<World>>) -> Self {
        Self::with(world, PullPolicy::Missing, Routing::default(), false)
    }

    fn with(world: &Arc<Mutex<World>>, policy: PullPolicy, routing: Routing, lies: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let fake = Arc::new(Fake {
            store: store.clone(),
            world: world.clone(),
            log: Arc::default(),
            broken: Mutex::default(),
            lies,
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let service = service(&fake, policy, routing);
        Self { _directory: directory, fake, service }
    }

    fn store(&self) -> &Store {
        &self.fake.store
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.fake.log.lock().unwrap())
    }

    fn fail(&self, prefix: &str, error: Error) {
        *self.fake.broken.lock().unwrap() = Some((prefix.to_owned(), error));
    }

    async fn push(&self, image: &str, reference: &str) -> Result<Descriptor, Error> {
        self.service.push(image, reference, &Reporter::silent().step(None, "push")).await
    }

    async fn pull(&self, reference: &str, platform: Option<&Platform>) -> Result<Descriptor, Error> {
        self.service.pull(reference, platform, &Reporter::silent().step(None, "pull")).await
    }

    async fn resolve(&self, reference: &str) -> Result<cooperage_solve::Base, Error> {
        ImageSource::resolve(&self.service, reference, &amd64()).await
    }
}

fn service(fake: &Arc<Fake>, policy: PullPolicy, routing: Routing) -> RegistryService {
    RegistryService::new(ServiceOptions {
        store: fake.store.clone(),
        routing,
        backends: Arc::new(Only(fake.clone())),
        credentials: None,
        reporter: Reporter::silent(),
        policy,
        parallel: 4,
    })
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// An image of the store with layers of these contents.
fn image(store: &Store, architecture: &str, layers: &[&str]) -> Descriptor {
    let ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer.as_bytes())).collect();
    let config = json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}});
    let config = store.images().put_config(&ImageConfig::new(config)).unwrap();
    let layers = layers.iter().map(|layer| {
        Descriptor::new(media_types::LAYER, store.blobs().put(layer.as_bytes()).unwrap(), layer.len() as u64)
    });
    let manifest = Manifest { config, layers: layers.collect(), ..Default::default() };
    let platform = format!("linux/{architecture}").parse().unwrap();
    Descriptor { platform: Some(platform), ..store.images().put_manifest(&manifest).unwrap() }
}

fn index(store: &Store, manifests: Vec<Descriptor>) -> Descriptor {
    store.images().put_index(&Index { manifests, ..Default::default() }).unwrap()
}

/// A world in which an author has pushed `reference`.
async fn world(reference: &str, layers: &[&str]) -> Arc<Mutex<World>> {
    let world = Arc::default();
    publish(&world, reference, layers).await;
    world
}

async fn publish(world: &Arc<Mutex<World>>, reference: &str, layers: &[&str]) -> Descriptor {
    let author = Machine::new(world);
    let images = vec![image(author.store(), "arm64", &["arm"]), image(author.store(), "amd64", layers)];
    let top = index(author.store(), images);
    author.push(&top.digest.to_string(), reference).await.unwrap()
}

#[tokio::test]
async fn a_base_is_resolved_once_and_then_without_network() {
    let world = world("busybox:1", &["base"]).await;
    let machine = Machine::new(&world);
    let base = machine.resolve("busybox:1").await.unwrap();
    assert_eq!(base.reference, format!("docker.io/library/busybox:1@{}", base.manifest.digest));
    assert_eq!(base.platform, amd64());
    assert_eq!(base.config.diff_ids().unwrap(), [Digest::of(b"base")]);
    assert_eq!(machine.store().blobs().size(&base.layers[0].digest).unwrap(), None, "no layer was moved");
    assert_eq!(machine.log().len(), 3, "index, manifest, configuration");
    machine.fail("", Error::new(ErrorKind::Unavailable, "no network"));
    for reference in ["busybox:1", "docker.io/library/busybox:1", base.reference.as_str()] {
        assert_eq!(machine.resolve(reference).await.unwrap().manifest, base.manifest);
    }
    assert!(machine.log().is_empty());
    let error = machine.resolve("busybox:2").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("docker.io/library/busybox:2"), "{error}");
}

#[tokio::test]
async fn policies_decide_who_is_asked() {
    let world = world("r.example/os:1", &["old"]).await;
    let machine = Machine::new(&world);
    let old = machine.resolve("r.example/os:1").await.unwrap();
    publish(&world, "r.example/os:1", &["new"]).await;
    assert_eq!(machine.resolve("r.example/os:1").await.unwrap().manifest, old.manifest);
    let always = service(&machine.fake, PullPolicy::Always, Routing::default());
    let new = ImageSource::resolve(&always, "r.example/os:1", &amd64()).await.unwrap();
    assert_ne!(new.manifest.digest, old.manifest.digest);
    machine.log();
    ImageSource::resolve(&always, "r.example/os:1", &amd64()).await.unwrap();
    assert_eq!(machine.log(), ["resolve r.example/os 1"], "asked, but nothing moved");
    let never = service(&machine.fake, PullPolicy::Never, Routing::default());
    assert_eq!(ImageSource::resolve(&never, "r.example/os:1", &amd64()).await.unwrap().manifest, new.manifest);
    let error = ImageSource::resolve(&never, "r.example/os:2", &amd64()).await.unwrap_err();
    assert!(error.hint.unwrap().contains("coop image pull r.example/os:2"));
}

#[tokio::test]
async fn a_local_tag_comes_first() {
    let machine = Machine::new(&Arc::default());
    let built = image(machine.store(), "amd64", &["mine"]);
    machine.store().images().tag("docker.io/library/mine:latest", &built).unwrap();
    assert_eq!(machine.resolve("mine").await.unwrap().manifest.digest, built.digest);
    let arm = image(machine.store(), "arm64", &["arm"]);
    machine.store().images().tag("docker.io/library/arm:latest", &arm).unwrap();
    assert_eq!(machine.resolve("arm").await.unwrap_err().kind, ErrorKind::NotFound, "not for this platform");
    assert_eq!(machine.log().len(), 1, "so a registry was asked");
}

#[tokio::test]
async fn a_layer_wanted_by_many_is_fetched_once() {
    let world = world("r.example/os:1", &["base"]).await;
    let machine = Machine::new(&world);
    let base = machine.resolve("r.example/os:1").await.unwrap();
    machine.log();
    let all = (0..8).map(|_| machine.service.fetch_layer(&base, &base.layers[0]));
    futures::future::try_join_all(all).await.unwrap();
    machine.service.fetch_layer(&base, &base.layers[0]).await.unwrap();
    assert_eq!(machine.log(), ["get-blob r.example/os"]);
}

#[tokio::test]
async fn a_failed_fetch_fails_all_and_is_tried_when_asked_again() {
    let world = world("r.example/os:1", &["base"]).await;
    let machine = Machine::new(&world);
    let base = machine.resolve("r.example/os:1").await.unwrap();
    machine.log();
    machine.fail("get-blob", Error::new(ErrorKind::Unavailable, "cut"));
    let all = (0..4).map(|_| machine.service.fetch_layer(&base, &base.layers[0]));
    assert!(futures::future::join_all(all).await.iter().all(Result::is_err));
    machine.fail("nothing", Error::cancelled());
    machine.service.fetch_layer(&base, &base.layers[0]).await.unwrap();
    let log = machine.log();
    // Each may ask twice, where the layer was seen and by the name of the image, if it comes when the others have failed.
    assert!(log.len() <= 4 * 2 + 1, "{log:?}");
    assert!(machine.store().blobs().size(&base.layers[0].digest).unwrap().is_some());
}

#[tokio::test]
async fn what_a_plugin_says_is_checked() {
    let world = world("r.example/os:1", &["base"]).await;
    let liar = Machine::with(&world, PullPolicy::Missing, Routing::default(), true);
    let error = liar.resolve("r.example/os:1").await.unwrap_err();
    assert!(error.to_string().contains("but it did not"), "{error}");
    let machine = Machine::new(&world);
    let other = Digest::of(b"other");
    let found = machine.resolve(&format!("r.example/os@{other}")).await.unwrap_err();
    assert_eq!(found.kind, ErrorKind::NotFound);
    let host = "r.example/os".to_owned();
    let real = world.lock().unwrap().repositories[&host].tags["1"];
    world.lock().unwrap().repositories.get_mut(&host).unwrap().tags.insert(other.to_string(), real);
    let error = machine.resolve(&format!("r.example/os@{other}")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn an_image_that_cannot_be_built_upon_is_refused() {
    let world: Arc<Mutex<World>> = Arc::default();
    let author = Machine::new(&world);
    let good = image(author.store(), "amd64", &["a"]);
    let mut manifest = author.store().images().manifest(&good.digest).unwrap();
    manifest.layers.push(manifest.layers[0].clone());
    let bad = author.store().images().put_manifest(&manifest).unwrap();
    author.push(&bad.digest.to_string(), "r.example/bad:1").await.unwrap();
    let arm = image(author.store(), "arm64", &["arm"]);
    author.push(&arm.digest.to_string(), "r.example/arm:1").await.unwrap();
    let machine = Machine::new(&world);
    assert_eq!(machine.resolve("r.example/bad:1").await.unwrap_err().kind, ErrorKind::Unsupported);
    assert!(machine.resolve("r.example/arm:1").await.unwrap_err().message.contains("not for linux/amd64"));
    publish(&world, "r.example/both:1", &["x"]).await;
    let error =
        ImageSource::resolve(&machine.service, "r.example/both:1", &"linux/s390x".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("linux/arm64, linux/amd64"), "{error}");
}

#[tokio::test]
async fn routes_leave_names_alone() {
    let world = world("registry.company.example/os:1", &["base"]).await;
    let route =
        |location: &str| vec![Route { prefix: "company".into(), location: location.into(), ..Default::default() }];
    let routing = Routing {
        pull: route("registry.company.example"),
        push: route("registry.alice.company.example"),
        ..Default::default()
    };
    let machine = Machine::with(&world, PullPolicy::Missing, routing, false);
    let base = machine.resolve("company/os:1").await.unwrap();
    assert!(base.reference.starts_with("docker.io/company/os:1@"), "{}", base.reference);
    machine.service.fetch_layer(&base, &base.layers[0]).await.unwrap();
    machine.push(&base.manifest.digest.to_string(), "company/os:2").await.unwrap();
    assert!(world.lock().unwrap().repositories["registry.alice.company.example/os"].tags.contains_key("2"));
}

#[tokio::test]
async fn blobs_go_up_in_parallel_and_once() {
    let world: Arc<Mutex<World>> = Arc::default();
    let machine = Machine::new(&world);
    let layers: Vec<String> = (0..12).map(|i| format!("layer {i}")).collect();
    let layers: Vec<&str> = layers.iter().map(String::as_str).chain(["layer 0"]).collect();
    let built = image(machine.store(), "amd64", &layers);
    machine.store().images().tag("docker.io/library/app:latest", &built).unwrap();
    let pushed = machine.push("app", "r.example/app:1").await.unwrap();
    assert_eq!(pushed.digest, built.digest);
    let log = machine.log();
    assert_eq!(log.iter().filter(|line| line.starts_with("put-blob")).count(), 13, "12 layers and the configuration");
    assert_eq!(log.last().unwrap(), "put-manifest r.example/app 1");
    assert_eq!(machine.fake.most.load(Ordering::SeqCst), 4);
    machine.push("app", "r.example/other:1").await.unwrap();
    assert!(
        machine.log().iter().filter(|l| l.starts_with("put-blob")).all(|l| l.ends_with("[app]")),
        "mounts are offered"
    );
}

#[tokio::test]
async fn an_index_goes_up_children_first() {
    let world = world("r.example/os:1", &["base"]).await;
    let contents = world.lock().unwrap().repositories["r.example/os"].clone();
    assert_eq!((contents.manifests.len(), contents.tags.len()), (3, 1));
    let machine = Machine::new(&world);
    let base = machine.resolve("r.example/os:1").await.unwrap();
    let top = contents.tags["1"].to_string();
    let error = machine.push(&top, "r.example/copy:1").await.unwrap_err();
    assert!(error.message.contains("linux/arm64"), "only one platform is here: {error}");
    machine.push(&base.manifest.digest.to_string(), "r.example/copy:1").await.unwrap();
}

#[tokio::test]
async fn a_base_layer_that_was_never_here_is_mounted_or_fetched() {
    let world = world("r.example/os:1", &["base"]).await;
    let machine = Machine::new(&world);
    let base = machine.resolve("r.example/os:1").await.unwrap();
    let layer = base.layers[0].digest;
    machine.log();
    machine.push(&base.manifest.digest.to_string(), "r.example/app:1").await.unwrap();
    assert!(!machine.log().iter().any(|line| line.starts_with("get-blob")), "mounted");
    assert_eq!(machine.store().blobs().size(&layer).unwrap(), None);
    machine.push(&base.manifest.digest.to_string(), "r.example/app:2").await.unwrap();
    assert!(!machine.log().iter().any(|line| line.starts_with("get-blob")), "it is there");
    machine.push(&base.manifest.digest.to_string(), "other.example/app:1").await.unwrap();
    assert!(machine.log().iter().any(|line| line == "get-blob r.example/os"), "another registry cannot mount it");
    assert!(world.lock().unwrap().repositories["other.example/app"].blobs.contains_key(&layer));
}

#[tokio::test]
async fn a_mount_that_is_refused_becomes_an_upload() {
    let world = world("r.example/os:1", &["base"]).await;
    let machine = Machine::new(&world);
    let base = machine.resolve("r.example/os:1").await.unwrap();
    // The blob has gone from the repository it was seen in, but the image is still at another one.
    publish(&world, "mirror.example/os:1", &["base"]).await;
    machine.resolve("mirror.example/os:1").await.unwrap();
    world.lock().unwrap().repositories.get_mut("r.example/os").unwrap().blobs.remove(&base.layers[0].digest);
    machine.push(&base.manifest.digest.to_string(), "r.example/app:1").await.unwrap();
    assert!(world.lock().unwrap().repositories["r.example/app"].blobs.contains_key(&base.layers[0].digest));
}

#[tokio::test]
async fn a_failed_blob_leaves_no_manifest() {
    let world: Arc<Mutex<World>> = Arc::default();
    let machine = Machine::new(&world);
    let built = image(machine.store(), "amd64", &["a", "b"]);
    machine.fail("put-blob", Error::new(ErrorKind::Unauthenticated, "unauthorized"));
    let error = machine.push(&built.digest.to_string(), "r.example/app:1").await.unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("log in with `coop registry login r.example`"));
    assert!(machine.log().iter().all(|line| line.starts_with("put-blob")));
    let error = machine.push("nothing:1", "r.example/app:1").await.unwrap_err();
    assert!(error.message.contains("`nothing:1`") && error.kind == ErrorKind::NotFound);
}

#[tokio::test]
async fn pull_brings_everything() {
    let world = world("r.example/os:1", &["base", "more"]).await;
    let machine = Machine::new(&world);
    let one = machine.pull("r.example/os:1", Some(&amd64())).await.unwrap();
    assert!(media_types::is_manifest(&one.media_type));
    assert_eq!(machine.store().images().get("r.example/os:1").unwrap().unwrap().manifest.digest, one.digest);
    assert!(machine.store().blobs().size(&Digest::of(b"more")).unwrap().is_some());
    assert_eq!(machine.store().blobs().size(&Digest::of(b"arm")).unwrap(), None);
    let all = machine.pull("r.example/os:1", None).await.unwrap();
    assert!(media_types::is_index(&all.media_type));
    assert!(machine.store().blobs().size(&Digest::of(b"arm")).unwrap().is_some());
    let copied = machine.push("r.example/os:1", "other.example/os:1").await.unwrap();
    assert_eq!(copied.digest, all.digest);
    assert_eq!(Registries::resolve(&machine.service, "other.example/os:1").await.unwrap().digest, all.digest);
    let names: BTreeSet<_> = world.lock().unwrap().repositories.keys().cloned().collect();
    assert_eq!(names, BTreeSet::from(["other.example/os".to_owned(), "r.example/os".to_owned()]));
}

#[tokio::test]
async fn a_login_is_proved() {
    let machine = Machine::new(&Arc::default());
    let step = Reporter::silent().step(None, "login");
    let login = |password: &str| crate::credentials::Credential {
        username: "alice".into(),
        password: password.into(),
        identity_token: false,
    };
    machine.service.login("r.example", login("s3cret"), &step).await.unwrap();
    let error = machine.service.login("r.example", login("wrong"), &step).await.unwrap_err();
    assert!(error.to_string().contains("r.example") && !error.to_string().contains("wrong"), "{error}");
}
