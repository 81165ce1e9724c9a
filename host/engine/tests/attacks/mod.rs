//! Each attack runs beside a peaceful call. It ends in time and by what it ran into, the peaceful call ends right, and
//! the host is as it was: no blob, no temporary file, no open file and no memory more than before.

use std::path::Path;
use std::time::{Duration, Instant};

use cooperage_engine::{CallError, Limit, Limits, TaskRequest};
use cooperage_solve::{ErrorKind, Event};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::guest::House;
use super::peak;

const MIB: usize = 1 << 20;

/// What becomes of an attack.
#[derive(Debug, PartialEq)]
enum End {
    Limit(Limit),
    Refused(ErrorKind),
    Crash,
    Done,
}

fn end<T>(result: &Result<T, CallError>) -> End {
    match result {
        Ok(_) => End::Done,
        Err(CallError::Limit { limit, .. }) => End::Limit(*limit),
        Err(CallError::Trap { .. }) => End::Crash,
        Err(CallError::Failed(error)) => End::Refused(error.kind),
        Err(other) => panic!("neither limit nor crash nor failure: {other:?}"),
    }
}

/// What every attack of this page may use up. On a machine with much else to do a call waits for its turn, so only the
/// limit that an attack is expected to meet is short.
fn small(house: &House, expected: &End) -> Limits {
    let short = |limit, time| if *expected == End::Limit(limit) { time } else { Duration::from_secs(60) };
    Limits {
        memory: 32 * MIB,
        time: short(Limit::Time, Duration::from_secs(1)),
        cpu: short(Limit::Cpu, Duration::from_millis(300)),
        blob_bytes: 8 * MIB as u64,
        log_bytes: 4 * MIB as u64,
        operation_bytes: 32 * MIB as u64,
        ..house.limits.clone()
    }
}

fn attack(what: &str, n: u64) -> Value {
    json!({ "do": what, "n": n })
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn files_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.path() {
            // What was evaluated to its end is kept, whoever asked for it.
            path if path.ends_with("store/cache") || path.ends_with("store/layers") => {}
            path if path.is_dir() => found.extend(files_below(&path)),
            path => found.push(path.display().to_string()),
        }
    }
    found
}

/// Runs an attack, with a peaceful call of the same plugin beside it.
async fn check(parameters: Value, expected: End) {
    let mut house = House::new();
    let plugin = house.plugin().await;
    let peaceful = house.context(json!({})).await;
    house.limits = small(&house, &expected);
    let peace = async || {
        for _ in 0..10 {
            let request = TaskRequest { parameters: attack("peace", 5), inputs: Vec::new() };
            let outputs = plugin.run_task(&peaceful, request).await.unwrap();
            assert_eq!(outputs.values["total"], json!(5 * 12), "{parameters}");
        }
    };
    // The blobs of the peaceful call are there before anything is counted.
    peace().await;
    let (files, before, began) = (files_below(house.root.path()), open_files(), Instant::now());
    let (result, ()) = tokio::join!(house.go_with(json!({}), parameters.clone()), peace());
    assert_eq!(end(&result), expected, "{parameters}: {result:?}");
    assert!(began.elapsed() < Duration::from_secs(55), "{parameters}: {:?}", began.elapsed());
    let mut left = files_below(house.root.path());
    left.retain(|file| !files.contains(file));
    assert_eq!(left, Vec::<String>::new(), "{parameters} leaves files");
    // Connections that others of this process keep for a while come and go.
    let mut left = open_files();
    for _ in 0..50 {
        if left <= before + 8 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        left = open_files();
    }
    assert!(left <= before + 8, "{parameters} leaves open files: {before} before, {left} after");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_ends_and_hurts_nobody() {
    use End::{Crash, Done, Limit as Stopped, Refused};
    House::new().go("nothing", 0).await.unwrap();
    let before = peak();
    for (what, n, expected) in [
        ("spin", 0, Stopped(Limit::Cpu)),
        ("memory-fill", 0, Stopped(Limit::Memory)),
        ("spin-in-poll", 0, Stopped(Limit::Time)),
        ("sleep", 0, Stopped(Limit::Time)),
        ("deaf", 0, Stopped(Limit::Time)),
        ("memory", 0, Stopped(Limit::Memory)),
        ("panic", 7, Crash),
        ("exit", 0, Crash),
        ("crash-with-full-hands", 0, Crash),
        ("huge-line", 20 << 20, Stopped(Limit::HostCall)),
        ("steps-held", 1_000_000, Stopped(Limit::Handles)),
        ("trees-held", 1_000_000, Stopped(Limit::Handles)),
        ("requests", 1_000_000, Stopped(Limit::Handles)),
        ("trees-nested", 1_000_000, Stopped(Limit::Operations)),
        ("files", 1_000, Stopped(Limit::Operations)),
        ("writers", 100, Refused(ErrorKind::Limit)),
        ("archives", 10_000, Refused(ErrorKind::Limit)),
        ("blob", 100, Refused(ErrorKind::Limit)),
        ("log", 20_000, Done),
        ("output", 200, Done),
        ("progress", 100_000, Done),
        ("insist", 10, Done),
        ("escapes", 0, Refused(ErrorKind::Conflict)),
    ] {
        check(attack(what, n), expected).await;
    }
    let grown = peak().saturating_sub(before);
    assert!(grown < 400, "the host grew by {grown} MiB");
}

/// Answers each request with a head, then with `chunk` whenever `pause` is over, and never ends.
async fn endless(chunk: Vec<u8>, pause: Duration) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let chunk = chunk.clone();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let mut more = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                while more.is_ok() {
                    more = stream.write_all(&chunk).await;
                    tokio::time::sleep(pause).await;
                }
            });
        }
    });
    port
}

/// A server that drips keeps no call longer than its time; one that pours fills no memory but the guest's.
#[tokio::test(flavor = "multi_thread")]
async fn answers_without_end_are_left_at_the_deadline() {
    let drip = endless(vec![b'x'], Duration::from_millis(20)).await;
    let pour = endless(vec![b'x'; 1 << 16], Duration::ZERO).await;
    House::new().go("nothing", 0).await.unwrap();
    let before = peak();
    for (port, n) in [(drip, 1), (drip, 1 << 20), (pour, 1 << 16), (pour, 1 << 30)] {
        let url = format!("http://127.0.0.1:{port}/");
        check(json!({ "do": "listen-to", "at": url, "n": n }), End::Limit(Limit::Time)).await;
    }
    let grown = peak().saturating_sub(before);
    assert!(grown < 200, "the host grew by {grown} MiB");
}

/// Heads that never end, and heads with more fields than any server has to say.
#[tokio::test(flavor = "multi_thread")]
async fn heads_without_end_are_refused() {
    for (line, pause) in [(&b"x-flood: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"[..], 0), (b"x", 5)] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let mut more = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
                while more.is_ok() {
                    more = stream.write_all(line).await;
                    if pause > 0 {
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                    }
                }
            }
        });
        let expected = if pause > 0 { End::Limit(Limit::Time) } else { End::Refused(ErrorKind::Limit) };
        let mut house = House::new();
        house.limits = small(&house, &expected);
        let result = house.go_with(json!({}), json!({ "do": "listen-to", "at": url, "n": 1 })).await;
        assert_eq!(end(&result), expected, "{result:?}");
    }
}

/// Two plugins of one name, as somebody's own that calls itself like one that comes with the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_does_not_open_the_state_of_another_one() {
    let house = House::new();
    let plugin = house.plugin().await;
    let found = async |keeper: &str, project: &str, n: u64| {
        let mut context = house.context(json!({ "state": true })).await;
        context.keeper = (!keeper.is_empty()).then(|| keeper.to_owned());
        context.project = project.to_owned();
        let parameters = json!({ "do": "other-state", "at": "token", "n": n });
        let request = TaskRequest { parameters, inputs: Vec::new() };
        plugin.run_task(&context, request).await.unwrap().values["found"].clone()
    };
    assert_eq!(found("bundled oci", "/a", 1).await, json!("mine"));
    assert_eq!(found("bundled oci", "/a", 0).await, json!("mine"));
    for (keeper, project) in [("oci file:oci.wasm", "/a"), ("bundled oci", "/b"), ("", "/a"), ("bundled", " oci/a")] {
        assert_eq!(found(keeper, project, 0).await, json!(""), "{keeper} {project}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_commands_the_terminal() {
    let house = House::new();
    let result = house.go("escapes", 0).await;
    // What a step puts out and what an error says are bytes and text of their own, made harmless where they are shown.
    house.recorder.0.lock().unwrap().retain(|event| !matches!(event, Event::Output { .. }));
    let text = house.recorder.text();
    assert!(text.contains("\\u{1b}[2J"), "{text}");
    for control in ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}'] {
        assert!(!text.contains(control), "{control:?} in {text:?}");
    }
    assert_eq!(end(&result), End::Refused(ErrorKind::Conflict));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_says_what_raises_it() {
    let mut house = House::new();
    for (what, n, line) in [
        ("spin", 0, "limits: { cpu: 600ms }"),
        ("sleep", 0, "limits: { time: 2s }"),
        ("memory", 0, "limits: { memory: 64MiB }"),
        ("steps-held", 1_000_000, "limits: { handles: 20000 }"),
        ("huge-line", 20 << 20, "limits: { host_call: 16MiB }"),
        ("blob", 100, "limits: { blob_bytes: 16MiB }"),
        ("writers", 100, "limits: { writers: 64 }"),
    ] {
        let hit = match what {
            "spin" => End::Limit(Limit::Cpu),
            "sleep" => End::Limit(Limit::Time),
            _ => End::Done,
        };
        house.limits = small(&house, &hit);
        let error = cooperage_solve::Error::from(house.go(what, n).await.unwrap_err());
        assert_eq!(error.kind, ErrorKind::Limit, "{what}");
        let hint = error.hint.unwrap_or_default();
        assert!(hint.contains(line) && hint.contains("adversary"), "{what}: {hint}");
    }
}
