//! What no plugin should do, done by one: each call ends in time, is told for what it is, and hurts nobody.

mod attacks;
mod guest;

use std::time::{Duration, Instant};

use cooperage_engine::{CallError, Limit, Limits, TaskRequest};
use cooperage_solve::ErrorKind;
use guest::House;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

fn limit_of<T: std::fmt::Debug>(result: Result<T, CallError>) -> (Limit, String) {
    match result {
        Err(CallError::Limit { limit, message, .. }) => (limit, message),
        other => panic!("no limit: {other:?}"),
    }
}

fn kind_of<T: std::fmt::Debug>(result: Result<T, CallError>) -> (ErrorKind, String) {
    match result {
        Err(CallError::Failed(error)) => (error.kind, error.to_string() + error.hint.as_deref().unwrap_or_default()),
        other => panic!("no failure: {other:?}"),
    }
}

/// The most memory that this process ever had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computing_guest_is_stopped() {
    let mut house = House::new();
    house.plugin().await;
    house.limits.cpu = SECOND / 2;
    for what in ["spin", "memory-fill"] {
        let start = Instant::now();
        let (limit, message) = limit_of(house.go(what, 0).await);
        assert_eq!((limit, message.as_str()), (Limit::Cpu, "it computes for more than 500ms"), "{what}");
        assert!(start.elapsed() < 10 * SECOND, "{what} {:?}", start.elapsed());
    }
    house.go("nothing", 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_guest_is_stopped() {
    let mut house = House::new();
    house.plugin().await;
    house.limits.time = SECOND / 2;
    for what in ["spin", "spin-in-poll", "sleep", "polite"] {
        let start = Instant::now();
        assert_eq!(limit_of(house.go(what, 0).await).0, Limit::Time, "{what}");
        assert!(start.elapsed() < 5 * SECOND, "{what} {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_the_polite_and_the_others() {
    let house = House::new();
    let plugin = house.plugin().await;
    for what in ["polite", "sleep", "spin"] {
        let cancel = cooperage_solve::Cancel::new().unwrap();
        let context = cooperage_engine::CallContext { cancel: Some(cancel.clone()), ..house.context(json!({})).await };
        let call = plugin.run_task(&context, TaskRequest { parameters: json!({ "do": what }), inputs: Vec::new() });
        let stop = async {
            tokio::time::sleep(SECOND / 10).await;
            cancel.cancel();
        };
        let start = Instant::now();
        let (result, ()) = tokio::join!(call, stop);
        assert!(matches!(result, Err(CallError::Cancelled)), "{what}: {result:?}");
        assert!(start.elapsed() < 5 * SECOND, "{what} {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_ends() {
    let house = House::new();
    let plugin = house.plugin().await;
    let context = house.context(json!({})).await;
    let parameters = json!({ "do": "log", "n": u64::MAX });
    let call = plugin.run_task(&context, TaskRequest { parameters, inputs: Vec::new() });
    assert!(tokio::time::timeout(SECOND / 5, call).await.is_err());
    assert!(house.recorder.count() > 100, "it was at work");
    tokio::time::sleep(SECOND / 5).await;
    let before = house.recorder.count();
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!(house.recorder.count(), before, "it is not at work any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded() {
    let house = House::new();
    let (limit, message) = limit_of(house.go("memory", 0).await);
    assert_eq!(limit, Limit::Memory);
    assert!(message.ends_with("MiB of memory and may have 64"), "{message}");
    let polite = house.go("memory-politely", 0).await.unwrap();
    assert_eq!(polite.values["refused"], json!(true), "whoever asks is told, and goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_are_told_with_their_place() {
    let house = House::new();
    let result = house.go("panic", 7).await;
    let Err(CallError::Trap { message, backtrace, .. }) = result else { panic!("{result:?}") };
    assert!(message.starts_with("index out of bounds: the len is 0 but the index is 7 (src/lib.rs:"), "{message}");
    assert!(backtrace.iter().any(|frame| frame.contains("cooperage_adversary::deep")), "{backtrace:#?}");
    let result = house.go("exit", 0).await;
    let Err(CallError::Trap { message, .. }) = result else { panic!("{result:?}") };
    assert!(message.contains("xit"), "{message}");
    match house.go("recursion", 100_000_000).await {
        Err(CallError::Trap { .. } | CallError::Limit { limit: Limit::Stack, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(house.go("recursion", 100).await.unwrap().values["depth"], json!(100));
    let (kind, text) = kind_of(house.go("error", 0).await);
    assert_eq!((kind, text.as_str()), (ErrorKind::Conflict, "what happenedwhat to do"));
}

#[tokio::test(flavor = "multi_thread")]
async fn talk_is_bounded() {
    let mut house = House::new();
    house.plugin().await;
    house.limits.log_bytes = 10 << 20;
    for (what, n) in [("log", 200_000), ("stdout", 200_000), ("stderr-without-end", 2_000), ("progress", 1_000_000)] {
        let before = house.recorder.count();
        let start = Instant::now();
        house.go(what, n).await.unwrap();
        let events = house.recorder.count() - before;
        let seconds = 2 + usize::try_from(start.elapsed().as_secs()).unwrap();
        assert!(events < 2_000 * seconds, "{what}: {events} events");
    }
    assert!(house.recorder.text().contains("suppressed"));
    house.recorder.0.lock().unwrap().clear();
    house.go("huge-line", 6 << 20).await.unwrap();
    house.go("output", 1_000).await.unwrap();
    let length = house.recorder.text().len();
    assert!(length < 11 << 20, "{length}");
    house.recorder.0.lock().unwrap().clear();
    house.go("log-escapes", 0).await.unwrap();
    assert!(!house.recorder.text().contains('\u{1b}') && house.recorder.text().contains("\\u{1b}[2J"));
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_end() {
    let mut house = House::new();
    house.limits = Limits {
        blob_bytes: 20 << 20,
        operation_bytes: 64 << 20,
        time: 300 * SECOND,
        cpu: 300 * SECOND,
        ..house.limits
    };
    house.go("nothing", 0).await.unwrap();
    let before = peak();
    let expected = [
        ("huge-line", 20 << 20, Limit::HostCall),
        ("steps-held", 1_000_000, Limit::Handles),
        ("trees-held", 1_000_000, Limit::Handles),
        ("requests", 1_000_000, Limit::Handles),
        ("trees-chained", 1_000_000, Limit::Operations),
        ("trees-nested", 1_000_000, Limit::Operations),
        ("files", 1_000, Limit::Operations),
    ];
    for (what, n, limit) in expected {
        assert_eq!(limit_of(house.go(what, n).await).0, limit, "{what}");
    }
    assert_eq!(kind_of(house.go("writers", 100).await).0, ErrorKind::Limit);
    assert_eq!(kind_of(house.go("archives", 10_000).await).0, ErrorKind::Limit);
    assert_eq!(kind_of(house.go("blob", 100).await).0, ErrorKind::Limit);
    assert_eq!(house.store.blobs().list().unwrap(), [], "what was not committed is gone");
    house.go("trees-evaluated", u64::from(house.limits.tree_length)).await.unwrap();
    house.go("trees-nested", u64::from(house.limits.tree_depth)).await.unwrap();
    house.go("trees-broad", 60).await.unwrap();
    house.go("steps", 100_000).await.unwrap();
    house.go("empty-writes", 100_000).await.unwrap();
    match house.go("headers", 10_000).await {
        Ok(outputs) => assert!(outputs.values.contains_key("refused"), "{outputs:?}"),
        Err(error) => assert!(matches!(error, CallError::Trap { .. }), "{error:?}"),
    }
    assert!(house.go("random", 1 << 30).await.is_err());
    let grown = peak().saturating_sub(before);
    assert!(grown < 600, "the host grew by {grown} MiB");
    house.go("nothing", 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_inherited() {
    let house = House::new();
    let seen = house.go("environment", 0).await.unwrap().values;
    assert_eq!(seen["variables"], json!([]));
    assert_eq!((&seen["stdin"], &seen["files"], &seen["arguments"]), (&json!(0), &json!(0), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_is_denied() {
    let house = House::new();
    let nothing = || json!({});
    let denied = |result| {
        let (kind, text) = kind_of(result);
        assert_eq!(kind, ErrorKind::Denied, "{text}");
        text
    };
    let text = denied(house.at(nothing(), "secret", "GRANTED").await);
    assert!(text.contains(r#"`plugins: { adversary: { allow: { secrets: ["GRANTED"] } } }`"#), "{text}");
    let text = denied(house.at(nothing(), "push", "r.example/app:1").await);
    assert!(text.contains(r#"registries: ["push r.example/app:1"]"#), "{text}");
    denied(house.go("keep", 1).await);
    let text = denied(house.go("run", 0).await);
    assert!(text.contains("run: true"), "{text}");
    let (kind, text) = kind_of(house.at(json!({ "run": true }), "odd-mount", "").await);
    assert_eq!(kind, ErrorKind::Unsupported, "{text}");

    let allow = || json!({ "secrets": ["GRANTED", "OTHER"] });
    house.at(allow(), "secret", "GRANTED").await.unwrap();
    denied(house.at(allow(), "secret", "OTHER").await);
    let granted = house.go_with(json!({ "state": true }), json!({ "do": "keep", "n": 3 })).await.unwrap();
    assert_eq!(granted.values["kept"], json!(true));
    let (kind, _) = kind_of(house.go_with(json!({ "state": true }), json!({ "do": "keep", "n": 300 })).await);
    assert_eq!(kind, ErrorKind::Limit);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_shown() {
    let house = House::new();
    let result = house.at(json!({ "secrets": "GRANTED" }), "print-secret", "GRANTED").await;
    let Err(error @ CallError::Trap { .. }) = result else { panic!("{result:?}") };
    assert!(!format!("{error:?}").contains("hunter2hunter2"), "{error:?}");
    let text = house.recorder.text();
    assert!(!text.contains("hunter2hunter2") && text.contains("it is ***") && text.contains("step ***"), "{text}");
}

/// Answers `hello` with `hello`.
async fn echo(address: &str) -> u16 {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut word = [0; 5];
            if stream.read_exact(&mut word).await.is_ok() {
                let _ = stream.write_all(&word).await;
            }
        }
    });
    port
}

/// Answers whatever comes with words, and stays.
async fn chatter() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut heard = [0; 4096];
            while stream.read(&mut heard).await.is_ok_and(|length| length > 0) {
                let _ = stream.write_all(b"220 I speak no TLS\r\n").await;
            }
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_reach_what_is_granted() {
    let house = House::new();
    let port = echo("127.0.0.1:0").await;
    let other = echo("127.0.0.1:0").await;
    let result = async |allow: Value, what: &str, at: String| {
        house.at(allow, what, &at).await.unwrap().values["result"].as_str().unwrap().to_owned()
    };
    let here = format!("127.0.0.1:{port}");
    let allow = || json!({ "tcp": here });
    assert_eq!(result(json!({}), "tcp", format!("at {here}")).await, "PermissionDenied");
    assert_eq!(result(allow(), "tcp", format!("at {here}")).await, "reached");
    assert_eq!(result(allow(), "tcp", format!("at 127.0.0.1:{other}")).await, "PermissionDenied");
    assert!(
        house.recorder.text().contains(&format!("tcp: [\"127.0.0.1:{other}\"]")),
        "the log says what would allow it"
    );
    assert_ne!(result(allow(), "udp", here.clone()).await, "reached");
    assert_ne!(result(allow(), "listen", "127.0.0.1:0".to_owned()).await, "reached");
    assert_ne!(result(allow(), "resolve", "localhost".to_owned()).await, "reached");
    assert_eq!(
        result(json!({ "tcp": format!("localhost:{port}") }), "tcp", format!("at localhost:{port}")).await,
        "reached"
    );
    // A place or a URL in the parameters is the user's word.
    assert_eq!(result(json!({}), "tcp", here.clone()).await, "reached");
    assert_eq!(result(json!({}), "tcp", format!("ftp://127.0.0.1:{port}")).await, "reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_the_host_reach_what_is_granted() {
    let house = House::new();
    let port = echo("127.0.0.1:0").await;
    let other = echo("127.0.0.1:0").await;
    let here = format!("127.0.0.1:{port}");
    let allow = || json!({ "tcp": here });
    let reached = house.at(allow(), "connection", &here).await.unwrap();
    assert_eq!(reached.values["result"], json!("hello"));
    let (kind, message) = kind_of(house.at(json!({}), "connection", &format!("at {here}")).await);
    assert_eq!(kind, ErrorKind::Denied);
    assert!(message.contains(&format!("allow: {{ tcp: [\"{here}\"] }}")), "{message}");
    for elsewhere in [format!("127.0.0.1:{other}"), format!("localhost:{port}"), format!("127.0.0.2:{port}")] {
        let result = house.at(allow(), "connection", &format!("at {elsewhere}")).await;
        assert_eq!(kind_of(result).0, ErrorKind::Denied, "{elsewhere}");
    }
    // The trust of one place is not lent to another, and what does not speak TLS is told.
    let (kind, message) = kind_of(house.at(allow(), "connection", &format!("{here} other.example")).await);
    assert!(kind == ErrorKind::Denied && message.contains("and not to other.example"), "{message}");
    let plain = format!("127.0.0.1:{}", chatter().await);
    let (kind, message) = kind_of(house.at(json!({ "tcp": plain }), "connection", &format!("{plain} 127.0.0.1")).await);
    assert!(kind == ErrorKind::Unavailable && message.contains("does not speak TLS"), "{message}");
    let nobody = "127.0.0.1:1";
    let (kind, message) = kind_of(house.at(json!({ "tcp": nobody }), "connection", nobody).await);
    assert!(kind == ErrorKind::Unavailable && message.contains("127.0.0.1:1"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_not_made_to_reach_what_is_not_granted() {
    let house = House::new();
    let (kind, message) = kind_of(house.at(json!({}), "fetch", "https://evil.example/?stolen").await);
    assert_eq!(kind, ErrorKind::Denied);
    assert!(message.contains("sources: [\"https://evil.example/?stolen\"]"), "{message}");
    let allow = json!({ "sources": "https://good.example/**" });
    assert_eq!(kind_of(house.at(allow.clone(), "fetch", "https://evil.example/x").await).0, ErrorKind::Denied);
    let (kind, message) = kind_of(house.at(allow, "fetch", "https://good.example/x").await);
    assert!(kind == ErrorKind::Unsupported && message.contains("there is no source"), "{message}");
    // A source plugin may read the secrets that its parameters name; this one must not put names in its mouth.
    let fetch = async |allow: Value| kind_of(house.at(allow, "fetch-with-secret", "https://good.example/x").await);
    let (kind, message) = fetch(json!({ "sources": "https://good.example/**", "secrets": "GRANTED" })).await;
    assert!(kind == ErrorKind::Denied && message.contains("use the secret `OTHER`"), "{message}");
    assert_eq!(kind_of(house.at(json!({}), "save", "private/app:1").await).0, ErrorKind::Denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_directory_is_all_there_is() {
    use std::os::unix::fs::symlink;
    let house = House::new();
    let data = house.root.path().join("data");
    for access in ["read", "write"] {
        let _ = std::fs::remove_dir_all(&data);
        std::fs::create_dir_all(data.join("dir")).unwrap();
        std::fs::write(data.join("file"), "inside").unwrap();
        let secret = house.root.path().join("secret");
        std::fs::write(&secret, "outside-4711").unwrap();
        symlink(&secret, data.join("link")).unwrap();
        symlink("/etc", data.join("dir-link")).unwrap();
        symlink("..", data.join("up")).unwrap();
        let allow = json!({ "fs": { "mount": "/data", "path": data, "access": access } });
        let seen = house.at(allow, "fs", "outside-4711").await.unwrap().values;
        assert_eq!(seen["escapes"], json!([]), "{access}");
        assert_eq!(seen["read"], json!("inside"));
        assert_eq!(seen["wrote"], json!(access == "write"));
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "outside-4711");
        assert!(!house.root.path().join("moved").exists() && !house.root.path().join("new").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_checked_first() {
    let house = House::new();
    let result = house.go_with(json!({}), json!({ "do": "spin", "n": -1 })).await;
    let Err(CallError::Parameters { pointer, .. }) = result else { panic!("{result:?}") };
    assert_eq!(pointer, "/n");
    let result = house.go_with(json!({}), json!({ "do": "nothing", "more": 1 })).await;
    assert!(matches!(result, Err(CallError::Parameters { .. })), "{result:?}");
}
