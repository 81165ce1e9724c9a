//! Compiling in a real child: this binary is its own helper, as `coop` is.

mod guest;

use std::process::ExitCode;
use std::time::Duration;

use cooperage_engine::{CompileError, CompileLimits, Config, Engine, LoadError, Plugin, Trust, Wasm, compile_child};
use guest::House;

fn main() -> ExitCode {
    if let Some(status) = compile_child(std::env::args_os()) {
        return ExitCode::from(u8::try_from(status).unwrap_or(255));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        works().await;
        memory_is_bounded().await;
        time_is_bounded().await;
        refusals_come_back().await;
    });
    ExitCode::SUCCESS
}

async fn load(wasm: Wasm, change: impl FnOnce(&mut CompileLimits)) -> Result<Plugin, LoadError> {
    let root = tempfile::tempdir().unwrap();
    let mut config: Config = House::with(&root.path().join("unused"), None).engine.config().clone();
    config.cache_dir = root.path().join("cache");
    config.state_dir = root.path().join("state");
    config.helper = Some(std::env::current_exe().unwrap());
    change(&mut config.compile);
    let loaded = Engine::new(config).unwrap().load("adversary", wasm, Trust::Stranger).await;
    let left = std::fs::read_dir(root.path().join("cache"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.starts_with("tmp-")).count(), 0, "no temporary file is left");
    loaded
}

async fn works() {
    let plugin = load(Wasm::Bytes(guest::wasm()), |_| {}).await.unwrap();
    assert_eq!(plugin.description().name, "adversary");
}

async fn memory_is_bounded() {
    let error = load(Wasm::Bytes(guest::wasm()), |limits| limits.memory = 64 << 20).await.unwrap_err();
    // What a child does that gets no memory is its allocator's choice; that it gives no code is ours.
    assert!(matches!(error, LoadError::Compile(_)), "{error:?}");
}

/// Functions enough to keep a compiler busy for much longer than a second.
fn heavy() -> Wasm {
    let body = "local.get 0 i64.const 3 i64.mul local.set 0 ".repeat(2_000);
    let functions = format!("(func (param i64) (result i64) {body} local.get 0)").repeat(400);
    Wasm::Bytes(wat::parse_str(format!("(component (core module {functions}))")).unwrap().into())
}

async fn time_is_bounded() {
    for (what, change) in [
        ("cpu", (|limits: &mut CompileLimits| limits.cpu = Duration::from_secs(1)) as fn(&mut CompileLimits)),
        ("time", |limits| limits.time = Duration::from_millis(300)),
    ] {
        let start = std::time::Instant::now();
        let error = load(heavy(), change).await.unwrap_err();
        assert!(matches!(error, LoadError::Compile(CompileError::Exceeded { .. })), "{what}: {error:?}");
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", start.elapsed());
    }
}

/// Valid by its outline, wrong inside.
async fn refusals_come_back() {
    let wrong = wat::parse_str("(component (core module (func (result i32) i64.const 1)))").unwrap();
    let error = load(Wasm::Bytes(wrong.into()), |_| {}).await.unwrap_err();
    let LoadError::Compile(CompileError::Refused(message)) = error else { panic!("{error:?}") };
    assert!(message.contains("type mismatch"), "{message}");
}
