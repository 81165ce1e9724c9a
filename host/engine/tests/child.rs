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
        attacks_on_the_compiler().await;
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

/// A component with one module of one function from i64 to i64, whose body is `code` and then the parameter. Written by
/// hand: text of that length would cost this process more than the attack.
fn function(code: &[u8]) -> Vec<u8> {
    fn length(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let low = u8::try_from(number & 0x7f).unwrap();
            number >>= 7;
            bytes.push(if number == 0 { low } else { low | 0x80 });
            if number == 0 {
                return bytes;
            }
        }
    }
    let framed = |bytes: &[u8]| [length(bytes.len()), bytes.to_vec()].concat();
    let section = |id: u8, bytes: &[u8]| [vec![id], framed(bytes)].concat();
    let body = [&[0], code, &[0x20, 0, 0x0b]].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 1, 0x7e, 1, 0x7e]),
        section(3, &[1, 0]),
        section(10, &[vec![1], framed(&body)].concat()),
    ];
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module.concat())].concat()
}

/// What is meant for the compiler costs this process next to nothing, and is told for what it is.
async fn attacks_on_the_compiler() {
    let before = peak();
    let wat = |text: String| wat::parse_str(text).unwrap();
    let nested = function(&[&[2, 0x40].repeat(2_000_000)[..], &[0x0b].repeat(2_000_000)].concat());
    // local.get 0, i64.const 3, i64.mul, local.set 0
    let step = [0x20, 0, 0x42, 3, 0x7e, 0x21, 0];
    let locals = wat(format!("(component (core module (func (local {}))))", "i64 ".repeat(60_000)));
    let mut claims = b"\0asm\x0d\0\x01\0\x01".to_vec();
    // A core module of a gigabyte, of which nothing follows.
    claims.extend_from_slice(&[0x80, 0x80, 0x80, 0x80, 0x04, 0, b'a', b's', b'm']);
    let mut large = b"\0asm\x0d\0\x01\0".to_vec();
    large.resize(65 << 20, 0);
    let attacks = [
        ("nested blocks", nested, "compil"),
        ("a long function", function(&step.repeat(1_000_000)), "compil"),
        ("a longer function", function(&step.repeat(1_200_000)), "size"),
        ("many locals", locals, "locals"),
        ("many modules", wat(format!("(component {})", "(core module)".repeat(2_000))), "modules"),
        ("a claimed gigabyte", claims, "damaged"),
        ("one that is too large", large, "more than the limit"),
    ];
    for (what, bytes, word) in attacks {
        let limits = |limits: &mut CompileLimits| {
            limits.cpu = Duration::from_secs(2);
            limits.memory = 1 << 30;
        };
        let error = load(Wasm::Bytes(bytes.into()), limits).await.expect_err(what).to_string();
        assert!(error.contains(word), "{what}: {error}");
    }
    let grown = peak().saturating_sub(before);
    assert!(grown < 300, "this process grew by {grown} MiB");
}

/// The most memory that this process ever had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
