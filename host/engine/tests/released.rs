//! Plugins that were compiled for a release go on working: the bytes in `tests/contract`, run through the real engine.
//! The registry keeps what the task pushes, the source serves what the task fetches.

mod guest;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cooperage_engine::registries::{
    Backends, PullPolicy, RegistryBackend, RegistryService, Repository, Route, Routing, ServiceOptions,
};
use cooperage_engine::{
    BuildRequest, CallContext, CallError, ContractVersion, Engine, Plugin, RegistryPlugin, Scopes, TaskRequest, Trust,
    Wasm,
};
use cooperage_solve::{
    Base, Build, BuildOptions, Context, Error, ErrorKind, Image, ImageSource, Origin, Secrets, SourceProvider,
    SourceRequest, SourceVersion, Step, Tree,
};
use cooperage_store::{Descriptor, Digest, Platform};
use guest::{House, Recorder};
use serde_json::{Value, json};

const NAME: &str = "released.example/team/app:1";

/// A house in which the plugins of one release do everything.
struct Release {
    house: House,
    engine: Engine,
    service: RegistryService,
    base: Base,
    project: tempfile::TempDir,
    plugins: Arc<Plugins>,
}

/// Finds the plugins for the ports of build and registries.
struct Plugins {
    version: &'static str,
    engine: Engine,
    store: cooperage_store::Store,
}

impl Plugins {
    async fn load(&self, role: &str) -> Plugin {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/contract").join(self.version);
        let bytes = std::fs::read(folder.join(role).with_extension("wasm")).unwrap();
        self.engine.load(role, Wasm::Bytes(bytes.into()), Trust::Bundled).await.unwrap()
    }

    fn context(&self, plugin: &Plugin) -> CallContext {
        let grants = plugin.grants(&Scopes::everything());
        CallContext { grants, project: "test".to_owned(), ..CallContext::new(self.store.clone()) }
    }
}

#[async_trait]
impl Backends for Plugins {
    async fn backend(&self, _: &str) -> Result<Arc<dyn RegistryBackend>, Error> {
        let plugin = self.load("registry").await;
        let context = self.context(&plugin);
        Ok(Arc::new(RegistryPlugin::new(plugin, context)?))
    }
}

#[async_trait]
impl SourceProvider for Plugins {
    async fn resolve(&self, build: &Build, request: &SourceRequest) -> Result<SourceVersion, Error> {
        let plugin = self.load("source").await;
        let context = CallContext { build: Some(build.clone()), ..self.context(&plugin) };
        Ok(plugin.resolve_source(&context, request).await?)
    }

    async fn fetch(
        &self,
        build: &Build,
        request: &SourceRequest,
        version: &SourceVersion,
        step: &Step,
    ) -> Result<Tree, Error> {
        let plugin = self.load("source").await;
        let reporter = step.reporter().clone();
        let context =
            CallContext { build: Some(build.clone()), reporter, step: Some(step.id()), ..self.context(&plugin) };
        Ok(plugin.fetch_source(&context, request, version).await?)
    }
}

struct OneImage(Base);

#[async_trait]
impl ImageSource for OneImage {
    async fn resolve(&self, reference: &str, _: &Platform) -> Result<Base, Error> {
        if reference == "base:1" { Ok(self.0.clone()) } else { Err(Error::not_found(format!("no {reference}"))) }
    }

    async fn fetch_layer(&self, _: &Base, _: &Descriptor) -> Result<(), Error> {
        Ok(())
    }
}

fn origin() -> Origin {
    Origin { name: "test".into(), created_by: "test".into(), location: None }
}

fn write(tree: Tree, path: &str, bytes: &[u8]) -> Tree {
    tree.write_file(path.to_owned(), bytes.to_vec(), 0o644, None, origin())
}

impl Release {
    async fn new(version: &'static str) -> Self {
        let house = House::new();
        let project = tempfile::tempdir().unwrap();
        for name in ["Releasefile", "unwanted", "noise.log"] {
            std::fs::write(project.path().join(name), name).unwrap();
        }
        let mut config = house.engine.config().clone();
        config.services.insert("released".to_owned(), project.path().join("socket"));
        let engine = Engine::new(config).unwrap();
        let plugins = Arc::new(Plugins { version, engine: engine.clone(), store: house.store.clone() });
        let base = base(&house).await;
        let route = Route { prefix: "released.example".into(), plugin: Some("registry".into()), ..Route::default() };
        let service = RegistryService::new(ServiceOptions {
            store: house.store.clone(),
            routing: Routing { pull: vec![route.clone()], push: vec![route], ..Routing::default() },
            backends: plugins.clone(),
            credentials: None,
            reporter: house.reporter(),
            policy: PullPolicy::Missing,
            parallel: 2,
        });
        Self { house, engine, service, base, project, plugins }
    }

    fn build(&self) -> Build {
        let context = Context::Directory(self.project.path().to_owned());
        Build::new(BuildOptions {
            images: Arc::new(OneImage(self.base.clone())),
            sources: self.plugins.clone(),
            contexts: BTreeMap::from([(String::new(), context)]),
            ..self.house.build().options().clone()
        })
    }

    fn context(&self, plugin: &Plugin, build: &Build) -> CallContext {
        let secrets = BTreeMap::from([("TOKEN".to_owned(), b"hunter2".to_vec()), ("OTHER".to_owned(), b"x".to_vec())]);
        CallContext {
            build: Some(build.clone()),
            reporter: self.house.reporter(),
            registries: Some(Arc::new(self.service.clone())),
            secrets: Secrets::new(secrets),
            ..self.plugins.context(plugin)
        }
    }

    /// What the task gives back: its values, and the files of its tree.
    async fn task(&self, parameters: Value, input: Option<Tree>) -> (Value, Vec<String>) {
        let (build, plugin) = (self.build(), self.plugins.load("task").await);
        let inputs = input.into_iter().map(|tree| (String::new(), tree)).collect();
        let outputs =
            plugin.run_task(&self.context(&plugin, &build), TaskRequest { parameters, inputs }).await.unwrap();
        let files = match &outputs.tree {
            Some(tree) => build.walk(tree, "/").await.unwrap().into_iter().map(|(info, _)| info.path).collect(),
            None => Vec::new(),
        };
        (serde_json::to_value(outputs.values).unwrap(), files)
    }
}

/// An image in the store, as a registry would have given it.
async fn base(house: &House) -> Base {
    let tree = write(Tree::scratch(), "/bin/true", b"#!");
    let platform = Platform::host();
    let config = json!({ "config": { "Env": ["A=b"] } });
    let image = Image { tree, platform: platform.clone(), config, annotations: BTreeMap::new() };
    let manifest = house.build().image(image).await.unwrap();
    let document = house.store.images().manifest(&manifest.digest).unwrap();
    let config = house.store.images().config(&document).unwrap();
    Base { reference: "base:1".into(), manifest, layers: document.layers, config, platform }
}

#[tokio::test]
async fn the_task_uses_what_there_is() {
    let release = Release::new("0.1.0").await;
    let image = release.base.manifest.digest;
    release.house.store.images().tag(NAME, &release.base.manifest).unwrap();
    let digest = Digest::of(b"stave and hoop").to_string();
    let input = write(write(Tree::scratch(), "/dir/file", b"hello"), "/other", b"");
    let tree = release.build().digest(&input).await.unwrap().to_string();
    let port = answering(&release.project.path().join("socket"));
    let cases = [
        (json!({ "do": "events" }), json!({ "cancelled": "false" }), vec![]),
        (
            json!({ "do": "content" }),
            json!({
                "written": "14", "digest": digest, "stat": "Some(14)", "size": "14", "tail": "and hoop",
                "mismatch": "ErrorKind::Conflict",
            }),
            vec![],
        ),
        (
            json!({ "do": "trees" }),
            json!({
                "digest": tree, "file": "hello", "missing": "ErrorKind::NotFound", "opened": "ell", "entries": "dir other",
                "walk": "/dir:false /dir/file:true", "stat": "FileKind::Regular 5 644 0:0", "odd": "ErrorKind::Unsupported",
            }),
            vec!["/", "/file"],
        ),
        (
            json!({ "do": "images" }),
            json!({
                "pushed": image, "resolved": image, "pulled": image, "elsewhere": "ErrorKind::Denied", "saved": "true",
            }),
            vec![],
        ),
        (
            json!({ "do": "sources" }),
            json!({ "version": "v-oak true [(\"name\", \"oak\")]", "elsewhere": "ErrorKind::Denied" }),
            vec!["/", "/name"],
        ),
        (
            json!({ "do": "connection", "port": port }),
            json!({ "peer": "127.0.0.1", "answer": "hello back", "tls": "true" }),
            vec![],
        ),
        (json!({ "do": "service" }), json!({ "answer": "pong", "elsewhere": "ErrorKind::Denied" }), vec![]),
        (json!({ "do": "secrets" }), json!({ "length": "7", "other": "ErrorKind::Denied" }), vec![]),
    ];
    for (parameters, values, files) in cases {
        let (seen, tree) = release.task(parameters.clone(), Some(input.clone())).await;
        assert_eq!(seen, values, "{parameters}");
        assert_eq!(tree, files, "{parameters}");
    }
    reported(&release.house.recorder);
}

fn reported(recorder: &Recorder) {
    let text = recorder.text();
    for part in ["at trace", "at error", "outer", "inner", "said inside", "why it failed", "bring oak", "fetching"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

/// Answers a connection by TCP once it ends, and one to a socket that switches protocols.
fn answering(socket: &Path) -> u16 {
    let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(socket).unwrap());
    let port = tcp.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let (mut stream, mut seen) = (stream.unwrap(), Vec::new());
            if stream.read_to_end(&mut seen).is_ok() {
                let _ = stream.write_all(&[&seen[..], b" back"].concat());
            }
        }
    });
    std::thread::spawn(move || {
        for stream in unix.incoming() {
            let (mut stream, mut seen) = (stream.unwrap(), [0; 4096]);
            let _ = stream.read(&mut seen);
            let _ = stream.write_all(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n");
            let size = stream.read(&mut seen).unwrap_or(0);
            let _ = stream.write_all(if &seen[..size] == b"ping" { b"pong" } else { b"what" });
        }
    });
    port
}

#[tokio::test]
async fn the_builder_describes_an_image() {
    let release = Release::new("0.1.0").await;
    let (build, plugin) = (release.build(), release.plugins.load("builder").await);
    let context = release.context(&plugin, &build);
    assert_eq!(plugin.detect(&context).await.unwrap(), 100);
    let request = |parameters: Value| BuildRequest {
        labels: vec![("label".into(), "l".into())],
        arguments: vec![("argument".into(), "a".into())],
        epoch: Some(7),
        ..BuildRequest::new(parameters, Platform::host())
    };
    let mut images = plugin.build(&context, request(json!({}))).await.unwrap();
    let image = images.remove(0);
    let base = &release.base;
    let expected = BTreeMap::from([
        ("argument".to_owned(), "a".to_owned()),
        ("base".to_owned(), base.reference.clone()),
        ("base-config".to_owned(), base.config.value().to_string().len().to_string()),
        ("base-platform".to_owned(), base.platform.architecture.clone()),
        ("epoch".to_owned(), "7".to_owned()),
        ("label".to_owned(), "l".to_owned()),
        ("manifest".to_owned(), base.manifest.digest.to_string()),
    ]);
    assert_eq!(image.annotations, expected);
    let files = build.walk(&image.tree, "/").await.unwrap();
    let files: Vec<_> =
        files.into_iter().map(|(info, _)| format!("{} {:o} {}", info.path, info.mode, info.uid)).collect();
    assert!(files.contains(&"/app/release 640 7".to_owned()), "{files:?}");
    assert!(files.iter().any(|file| file.starts_with("/stage/Releasefile")), "{files:?}");
    assert!(!files.iter().any(|file| file.contains("unwanted") || file.contains("noise")), "{files:?}");
    let manifest = build.image(image.into()).await.unwrap();
    let layers = release.house.store.images().manifest(&manifest.digest).unwrap().layers;
    assert_eq!(layers[0].digest, base.layers[0].digest, "the base is a layer of the image");

    let ran = plugin.build(&context, request(json!({ "what": "run" }))).await.unwrap().remove(0);
    let error = build.digest(&ran.tree).await.unwrap_err();
    assert!(error.to_string().contains("there is none in this test"), "{error}");
    let Err(CallError::Failed(error)) = plugin.build(&context, request(json!({ "what": "fail" }))).await else {
        panic!("it does not fail");
    };
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Conflict, "what happened"));
    assert_eq!((error.context.len(), error.hint.as_deref()), (2, Some("what to do")));
}

#[tokio::test]
async fn the_registry_keeps_images() {
    let release = Release::new("0.1.0").await;
    let step = release.house.reporter().step(None, "test");
    let registry = release.plugins.backend("registry").await.unwrap();
    let credential = |username: &str| cooperage_engine::credentials::Credential {
        username: username.into(),
        password: "stave".into(),
        identity_token: false,
    };
    let at = Repository {
        host: "released.example".into(),
        name: "team/app".into(),
        plain_http: false,
        credential: Some(credential("cooper")),
        options: Vec::new(),
    };
    registry.login(&at, &step).await.unwrap();
    let stranger = Repository { credential: Some(credential("miller")), ..at.clone() };
    assert_eq!(registry.login(&stranger, &step).await.unwrap_err().kind, ErrorKind::Unauthenticated);
    let manifest = release.base.manifest.clone();
    let layer = &release.base.layers[0];
    assert!(!registry.has_blob(&at, &layer.digest, &step).await.unwrap());
    assert_eq!(format!("{:?}", registry.put_blob(&at, layer, &[], &step).await.unwrap()), "Uploaded");
    assert_eq!(format!("{:?}", registry.put_blob(&at, layer, &[], &step).await.unwrap()), "Exists");
    registry.get_blob(&at, layer, &step).await.unwrap();
    registry.put_manifest(&at, &manifest, Some("1"), &step).await.unwrap();
    let fallback = manifest.digest.to_string().replace(':', "-");
    registry.put_manifest(&at, &manifest, Some(&fallback), &step).await.unwrap();
    assert_eq!(registry.resolve(&at, "1", &step).await.unwrap().digest, manifest.digest);
    assert_eq!(registry.get_manifest(&at, "1", &step).await.unwrap().size, manifest.size);
    assert_eq!(registry.referrers(&at, &manifest.digest, &step).await.unwrap()[0].digest, manifest.digest);
    registry.delete(&at, &fallback, &step).await.unwrap();
    assert!(registry.referrers(&at, &manifest.digest, &step).await.unwrap().is_empty());
    assert_eq!(registry.tags(&at, &step).await.unwrap(), ["1"]);
    assert_eq!(registry.resolve(&at, "2", &step).await.unwrap_err().kind, ErrorKind::NotFound);
    assert!(release.engine.config().services.contains_key("released"));
}

#[tokio::test]
async fn a_builder_of_the_next_version_works_beside_one_of_the_release() {
    let release = Release::new("0.1.0").await;
    let wasm = || Wasm::Bytes(guest::built("contract/next", "next_builder"));
    let refused = release.engine.load("next", wasm(), Trust::Bundled).await.unwrap_err().to_string();
    assert!(refused.contains("builder@0.2.0-next, which is not released"), "{refused}");

    let config = cooperage_engine::Config { unreleased_contract: true, ..release.engine.config().clone() };
    let next = Engine::new(config).unwrap().load("next", wasm(), Trust::Bundled).await.unwrap();
    let old = release.plugins.load("builder").await;
    assert_eq!((old.contract(), next.contract()), (ContractVersion::V0_1_0, ContractVersion::Next));
    assert_eq!(next.description().name, "next-builder");

    let (build, base) = (release.build(), &release.base);
    let context = release.context(&next, &build);
    let request = |parameters: Value| BuildRequest::new(parameters, Platform::host());
    let images = async |parameters| next.build(&context, request(parameters)).await.unwrap().remove(0);
    assert_eq!(next.detect(&context).await.unwrap(), 1);
    let existing = images(json!({ "base": "base:1" })).await;
    assert_eq!(existing.existing.as_ref().unwrap().manifest, base.manifest, "it stays what it is");
    assert_eq!(
        build.digest(&existing.tree).await.unwrap(),
        build.digest(&Tree::image(Arc::new(base.clone()))).await.unwrap()
    );

    let described = images(json!({ "base": "base:1", "make": true })).await;
    assert!(described.existing.is_none());
    let of_old = old.build(&release.context(&old, &build), request(json!({}))).await.unwrap().remove(0);
    for (image, file) in [(described, "/made"), (of_old, "/app/release")] {
        assert!(build.stat(&image.tree, file, true).await.unwrap().is_some(), "{file}");
        let manifest = build.image(image.into()).await.unwrap();
        let layers = release.house.store.images().manifest(&manifest.digest).unwrap().layers;
        assert_eq!(layers[0].digest, base.layers[0].digest, "{file}");
    }
    let Err(CallError::Failed(error)) = next.build(&context, request(json!({ "base": "other:1" }))).await else {
        panic!("there is no such image");
    };
    assert_eq!(error.kind, ErrorKind::NotFound);
}
