//! Servers that are no API servers, or do not want to be: nothing they say breaks more than the step.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use cooperage_plugin_kubernetes::edge::Edge;
use cooperage_plugin_kubernetes::parameters::Wanted;
use cooperage_plugin_kubernetes::run;
use cooperage_sdk::{Error, ErrorKind};
use serde_json::{Value, json};
use support::server::{deployment, done};
use support::sockets::Sockets;
use support::{TOKEN, Time, reveal};

/// Runs a step against a server that answers as `answer` says to a request line; endless where it gives no length.
fn against(answer: impl Fn(&str) -> (String, bool) + Send + 'static) -> Result<run::Outcome, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let mut request = vec![0; 64 << 10];
            let length = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let (text, endless) = answer(request.lines().next().unwrap_or_default());
            // The body may be on its way still; closed before it is read, the answer would be lost.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(text.as_bytes());
            while endless && stream.write_all(&[b' '; 4096]).is_ok() {}
        }
    });
    let parameters = json!({ "server": server, "token": { "secret": "TOKEN" }, "namespace": "shop", "deployment": "web",
        "image": "r.example/web:2", "wait": "5s" });
    let wanted = Wanted::new(serde_json::from_value(parameters).unwrap()).unwrap();
    run::run(&wanted, &[], Edge { http: &Sockets, clock: &Time::default() }, &reveal)
}

fn http(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[track_caller]
fn fails(answer: impl Fn(&str) -> (String, bool) + Send + 'static, kind: ErrorKind) {
    let error = against(answer).unwrap_err();
    assert_eq!(error.kind, kind, "{error:?}");
    assert!(!format!("{error:?}").contains(TOKEN), "{error:?}");
}

#[test]
fn answers_that_are_none() {
    let deep = "[".repeat(100_000);
    for (text, kind) in [
        (http(""), ErrorKind::Unsupported),
        (http("null"), ErrorKind::Unsupported),
        (http(&deep), ErrorKind::Unsupported),
        (http("{\"a\":1"), ErrorKind::Unsupported),
        (http("{}"), ErrorKind::InvalidInput),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), ErrorKind::Unavailable),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{".to_owned(), ErrorKind::Unavailable),
    ] {
        fails(move |_| (text.clone(), false), kind);
    }
}

#[test]
fn answers_without_end() {
    fails(|_| ("HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n".to_owned(), true), ErrorKind::Limit);
    fails(|_| ("HTTP/1.1 403 No\r\ncontent-length: 9999999999\r\n\r\n".to_owned(), true), ErrorKind::Denied);
}

#[test]
fn objects_of_any_shape() {
    let template = json!({ "spec": { "containers": [{ "name": "web", "image": "r.example/web:1" }] } });
    for object in [
        json!({ "metadata": 7, "spec": { "template": template } }),
        json!({ "apiVersion": 7, "kind": [], "metadata": { "name": {} }, "spec": { "template": template } }),
        json!({ "metadata": { "managedFields": { "a": 1 } }, "spec": { "template": template } }),
        json!({ "spec": { "template": { "spec": { "containers": [[], 7, { "name": 7 }] } } } }),
        json!({ "spec": [], "status": "x" }),
    ] {
        fails(move |_| (http(&object.to_string()), false), ErrorKind::InvalidInput);
    }
}

#[test]
fn watches_of_any_kind() {
    let mut object = deployment("web", "r.example/web:1");
    object["metadata"]["resourceVersion"] = "1".into();
    let with = |status: Value| {
        let mut object = object.clone();
        object["status"] = status;
        object.to_string()
    };
    let mut state = done();
    state["observedGeneration"] = 0.into();
    for (status, events, rolls_out) in [
        (json!({ "conditions": 7 }), "garbage\n".to_owned(), false),
        (json!({ "observedGeneration": -1 }), "{\"type\":7}\n\n\n{}\n".to_owned(), false),
        (json!({ "observedGeneration": -1 }), "{\"type\":\"MODIFIED\"}\n".to_owned(), false),
        (json!({ "observedGeneration": -1 }), "{\"type\":\"MODIFIED\",\"object\":[1]}\n".to_owned(), false),
        (json!({ "observedGeneration": -1 }), format!("{{\"type\":\"ADDED\",\"object\":{}}}\n", with(state)), true),
    ] {
        let object = with(status);
        let result = against(move |line| (http(if line.contains("watch=1") { &events } else { &object }), false));
        assert_eq!(result.is_ok(), rolls_out, "{result:?}");
    }
}
