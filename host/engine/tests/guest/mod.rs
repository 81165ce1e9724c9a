//! Builds the adversarial guest once and sets an engine up around it.
//! Each test binary uses a part of it.

#![allow(dead_code, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use cooperage_engine::http::{Client, Settings};
use cooperage_engine::{
    CallContext, CallError, CompileLimits, Config, Engine, Limits, Plugin, Scopes, StandIns, TaskOutputs, TaskRequest,
    Trust, Wasm,
};
use cooperage_solve::{
    Base, Build, BuildOptions, CacheMode, Cancel, Error, Event, ImageSource, Network, Observer, Reporter, Secrets,
};
use cooperage_store::layers::Compression;
use cooperage_store::{Descriptor, Platform, Store};
use serde_json::{Value, json};

/// The guest's bytes, built as its author would.
pub fn wasm() -> Arc<[u8]> {
    static WASM: OnceLock<Arc<[u8]>> = OnceLock::new();
    WASM.get_or_init(|| built("adversarial/guests", "cooperage_adversary")).clone()
}

/// The component that the crate in a folder below `tests` makes.
pub fn built(folder: &str, name: &str) -> Arc<[u8]> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(folder);
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--release", "--target", "wasm32-wasip2", "--manifest-path"]);
    cargo.arg(folder.join("Cargo.toml")).env("CARGO_TARGET_DIR", &target);
    for leaks in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(leaks);
    }
    assert!(cargo.status().expect("cargo runs").success(), "{} builds", folder.display());
    std::fs::read(target.join(format!("wasm32-wasip2/release/{name}.wasm"))).unwrap().into()
}

/// Keeps what is reported.
#[derive(Default)]
pub struct Recorder(pub Mutex<Vec<Event>>);

impl Observer for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Recorder {
    /// All text that was reported.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for event in self.0.lock().unwrap().iter() {
            match event {
                Event::Log { message, .. } => text.push_str(message),
                Event::Output { bytes, .. } => text.push_str(&String::from_utf8_lossy(bytes)),
                other => text.push_str(&format!("{other:?}")),
            }
            text.push('\n');
        }
        text
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

struct NoImages;

#[async_trait::async_trait]
impl ImageSource for NoImages {
    async fn resolve(&self, reference: &str, _: &Platform) -> Result<Base, Error> {
        Err(Error::not_found(format!("no {reference}")))
    }

    async fn fetch_layer(&self, _: &Base, layer: &Descriptor) -> Result<(), Error> {
        Err(Error::not_found(format!("no {}", layer.digest)))
    }
}

/// A directory with everything that a call needs.
pub struct House {
    pub root: tempfile::TempDir,
    pub engine: Engine,
    pub store: Store,
    pub recorder: Arc<Recorder>,
    pub limits: Limits,
}

/// Compiled code is shared by the tests, so that the guest is compiled once.
fn code() -> &'static Path {
    static CODE: OnceLock<tempfile::TempDir> = OnceLock::new();
    CODE.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

impl House {
    pub fn new() -> Self {
        Self::with(&code().join("shared"), None)
    }

    pub fn with(cache: &Path, helper: Option<PathBuf>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let limits = Limits {
            memory: 64 << 20,
            time: std::time::Duration::from_secs(20),
            cpu: std::time::Duration::from_secs(10),
            grace: std::time::Duration::from_millis(200),
            ..Limits::default()
        };
        let engine = Engine::new(Config {
            cache_dir: cache.to_owned(),
            state_dir: root.path().join("state"),
            helper,
            limits: limits.clone(),
            compile: CompileLimits::default(),
            services: BTreeMap::new(),
            policy: Scopes::everything(),
            unreleased_contract: false,
            http: Client::new(Settings::default()).unwrap(),
            stand_ins: StandIns::default(),
        })
        .unwrap();
        let store = Store::open(&root.path().join("store")).unwrap();
        Self { root, engine, store, recorder: Arc::default(), limits }
    }

    pub async fn plugin(&self) -> Plugin {
        self.engine.load("adversary", Wasm::Bytes(wasm()), Trust::Bundled).await.unwrap()
    }

    pub fn reporter(&self) -> Reporter {
        Reporter::new(self.recorder.clone())
    }

    pub fn build(&self) -> Build {
        Build::new(BuildOptions {
            store: self.store.clone(),
            sandbox: Err("there is none in this test".to_owned()),
            userxattr: true,
            privileged: false,
            images: Arc::new(NoImages),
            sources: Arc::new(cooperage_solve::NoSources),
            contexts: BTreeMap::new(),
            secrets: Secrets::default(),
            network: Network::None,
            limits: cooperage_solve::Limits::default(),
            platform: Platform::host(),
            compression: Compression::None,
            epoch: None,
            cache: CacheMode::Use,
            parallel: 1,
            reporter: self.reporter(),
            cancel: Cancel::new().unwrap(),
        })
    }

    pub async fn context(&self, allow: Value) -> CallContext {
        let allow = Scopes::allow(&serde_json::from_value(allow).unwrap()).unwrap();
        CallContext {
            build: Some(self.build()),
            reporter: self.reporter(),
            grants: self.plugin().await.grants(&allow),
            secrets: Secrets::new(BTreeMap::from([
                ("GRANTED".to_owned(), b"hunter2hunter2".to_vec()),
                ("OTHER".to_owned(), b"correct horse".to_vec()),
            ])),
            limits: Some(self.limits.clone()),
            ..CallContext::new(self.store.clone())
        }
    }

    /// Does one thing with nothing granted.
    pub async fn go(&self, what: &str, n: u64) -> Result<TaskOutputs, CallError> {
        self.go_with(json!({}), json!({ "do": what, "n": n })).await
    }

    /// Does one thing at a place.
    pub async fn at(&self, allow: Value, what: &str, at: &str) -> Result<TaskOutputs, CallError> {
        self.go_with(allow, json!({ "do": what, "at": at })).await
    }

    pub async fn go_with(&self, allow: Value, parameters: Value) -> Result<TaskOutputs, CallError> {
        let context = self.context(allow).await;
        self.plugin().await.run_task(&context, TaskRequest { parameters, inputs: Vec::new() }).await
    }
}
