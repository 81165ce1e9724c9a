//! Loading plugins: compiled once, in a child where they are strangers, kept, refused with a reason.

mod guest;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cooperage_engine::{CompileError, CompileLimits, Config, Engine, LoadError, Scopes, TaskRequest, Trust, Wasm};
use cooperage_store::Digest;
use guest::House;
use serde_json::json;

fn engine(root: &Path, change: impl FnOnce(&mut Config)) -> Engine {
    let mut config = House::with(root, None).engine.config().clone();
    change(&mut config);
    config.state_dir = root.join("state");
    Engine::new(config).unwrap()
}

/// A helper of a shell script, which has the path of the input in `$2` and of the output in `$3`.
fn helper(root: &Path, script: &str) -> PathBuf {
    let path = root.join("helper");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn leftovers(root: &Path) -> Vec<String> {
    let names = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("tmp-")).collect()
}

#[tokio::test]
async fn a_second_load_needs_neither_the_file_nor_the_compiler() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    let wasm = guest::wasm();
    let first = engine(&cache, |_| {}).load("one", Wasm::Bytes(wasm.clone()), Trust::Bundled).await.unwrap();
    assert_eq!(first.description().name, "adversary");
    let digest = Digest::of(&wasm);
    let nowhere = Wasm::File { path: root.path().join("not-there"), digest };
    let again = engine(&cache, |config| config.helper = Some("/not/there".into()));
    let second = again.load("two", nowhere, Trust::Stranger).await.unwrap();
    assert_eq!((second.name(), second.description()), ("two", first.description()));
    assert_eq!(leftovers(&cache), Vec::<String>::new());

    let other = root.path().join("other.wasm");
    std::fs::write(&other, b"something else").unwrap();
    let fresh = engine(&root.path().join("fresh"), |_| {});
    let error = fresh.load("x", Wasm::File { path: other, digest }, Trust::Stranger).await.unwrap_err();
    assert!(matches!(error, LoadError::Digest { .. }), "{error}");
}

/// Two processes know nothing of one another: both compile, the code of one is kept, and both go on with it.
#[tokio::test(flavor = "multi_thread")]
async fn who_compiles_the_same_at_once_does_no_harm() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    let (wasm, digest) = (guest::wasm(), Digest::of(&guest::wasm()));
    let engines: Vec<Engine> = (0..3).map(|_| engine(&cache, |_| {})).collect();
    assert!(engines[0].load_compiled("x", digest).await.unwrap().is_none());
    let load = |engine: Engine| {
        let wasm = Wasm::Bytes(wasm.clone());
        tokio::spawn(async move { engine.load("x", wasm, Trust::Bundled).await.unwrap() })
    };
    let loading: Vec<_> = engines.iter().cloned().map(load).collect();
    let house = House::new();
    let context = house.context(json!({})).await;
    for plugin in loading {
        let request = TaskRequest { parameters: json!({ "do": "nothing" }), inputs: Vec::new() };
        plugin.await.unwrap().run_task(&context, request).await.unwrap();
    }
    for engine in &engines {
        assert!(engine.load_compiled("x", digest).await.unwrap().is_some());
    }
    let kept = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut endings: Vec<String> = kept.map(|name| name.rsplit('.').next().unwrap().to_owned()).collect();
    endings.sort();
    assert_eq!(endings, ["cwasm", "json", "state"], "one of each, the state of plugins, and nothing left over");
}

#[tokio::test]
async fn strangers_are_compiled_in_a_child_that_may_fail() {
    let root = tempfile::tempdir().unwrap();
    let wasm = guest::wasm();
    let load = async |script: &str| {
        let cache = tempfile::tempdir_in(root.path()).unwrap();
        let helper = helper(root.path(), script);
        let engine = engine(cache.path(), |config| {
            config.helper = Some(helper);
            config.compile = CompileLimits { time: Duration::from_secs(2), ..CompileLimits::default() };
        });
        let result = engine.load("x", Wasm::Bytes(wasm.clone()), Trust::Stranger).await;
        assert_eq!(leftovers(cache.path()), Vec::<String>::new(), "{script}");
        match result.unwrap_err() {
            LoadError::Compile(error) => error,
            other => panic!("{script}: {other}"),
        }
    };
    assert!(matches!(load("kill -9 $$").await, CompileError::Exceeded { .. }));
    assert!(matches!(load("exec sleep 60").await, CompileError::Exceeded { .. }));
    assert_eq!(load("printf 'not this one' >\"$3\"; exit 1").await, CompileError::Refused("not this one".to_owned()));
    assert!(matches!(load("exit 7").await, CompileError::Machine(_)));
    assert!(matches!(load("printf nonsense >\"$3\"").await, CompileError::Machine(_)));
    assert!(matches!(load("test \"$1\" = __compile && test -s \"$2\" && env >\"$3\"; exit 1").await,
        CompileError::Refused(environment) if !environment.contains("CARGO")));
}

#[tokio::test]
async fn what_cannot_be_loaded_says_why() {
    let root = tempfile::tempdir().unwrap();
    let engine = engine(root.path(), |config| config.compile.component = 4 << 20);
    let refused = async |bytes: Vec<u8>| {
        engine.load("x", Wasm::Bytes(bytes.into()), Trust::Bundled).await.unwrap_err().to_string()
    };
    assert!(refused(b"#!/bin/sh\n".to_vec()).await.contains("not a WebAssembly component: it begins with"));
    assert!(refused(wat::parse_str("(module)").unwrap()).await.contains("wasm32-wasip2"));
    assert!(refused(wat::parse_str("(component)").unwrap()).await.contains("it is no Cooperage plugin"));
    let text = refused(
        wat::parse_str(
            r#"(component (import "cooperage:plugin/trees@0.9.0" (instance)) (import "acme:x/y@1.0.0" (instance)))"#,
        )
        .unwrap(),
    )
    .await;
    assert!(text.contains("host offers cooperage:plugin/trees@0.1.0") && text.contains("acme:x/y@1.0.0"), "{text}");
    // A role with another type than the contract's is found before it is called.
    let text = refused(wat::parse_str(r#"(component (instance $i) (export "cooperage:plugin/plugin@0.1.0" (instance $i)) (export "cooperage:plugin/task@0.1.0" (instance $i)))"#).unwrap()).await;
    assert!(text.contains("it does not fit this host") && text.contains("describe"), "{text}");
    let mut damaged = guest::wasm().to_vec();
    damaged[200..264].fill(0xff);
    assert!(!refused(damaged).await.is_empty());
    let mut large = guest::wasm().to_vec();
    large.resize(5 << 20, 0);
    assert!(refused(large).await.contains("more than the limit"));
}

#[tokio::test]
async fn what_is_asked_for_is_shown() {
    let house = House::new();
    let plugin = house.plugin().await;
    assert_eq!(plugin.roles().names().collect::<Vec<_>>(), ["task"]);
    let nothing = Scopes::allow(&[].into()).unwrap();
    let lines: Vec<String> = plugin.ungranted(&nothing).into_iter().map(|ungranted| ungranted.line).collect();
    assert!(lines.contains(&"plugins: { adversary: { allow: { run: true } } }".to_owned()), "{lines:#?}");
    assert_eq!(lines.len(), 8);
}

/// Wide bounds: the figures that count are measured in a release build on a quiet machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_cached_load_and_a_call_are_quick() {
    let house = House::new();
    let plugin = house.plugin().await;
    let digest = *plugin.digest();
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let mut loads = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        let wasm = Wasm::File { path: "/not/there".into(), digest };
        house.engine.load("again", wasm, Trust::Stranger).await.unwrap();
        loads.push(start.elapsed());
    }
    let context = Arc::new(house.context(json!({})).await);
    let mut calls = Vec::new();
    for _ in 0..500 {
        let request = TaskRequest { parameters: json!({ "do": "nothing" }), inputs: Vec::new() };
        let start = Instant::now();
        plugin.run_task(&context, request).await.unwrap();
        calls.push(start.elapsed());
    }
    let (load, call) = (median(loads), median(calls));
    assert!(load < Duration::from_millis(20) && call < Duration::from_millis(5), "{load:?} {call:?}");
}
