//! What is sent, what is expected, and what becomes of an answer.

mod support;

use cooperage_plugin_http::parameters::Parameters;
use cooperage_plugin_http::task::perform;
use cooperage_sdk::ErrorKind;
use serde_json::{Value, json};
use support::peer::{Peer, Seen, json as answer, reply};
use support::{World, output, shown};

/// The parameters with a URL.
fn with(url: String, more: Value) -> Value {
    let mut all = json!({ "url": url });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// Sends a call to a peer that is content with everything; what it saw.
fn sent(more: Value) -> Seen {
    let (mut world, peer) = (World::new(), Peer::start(|_| Some(reply(204))));
    world.input.insert("file.bin".to_owned(), support::noise(12_345));
    world.run(with(peer.url("/path?a=1"), more)).unwrap();
    let seen = peer.seen();
    assert_eq!(seen.len(), 1);
    seen[0].clone()
}

#[test]
fn methods_follow_from_bodies() {
    for (more, line) in [
        (json!({}), "GET /path?a=1"),
        (json!({ "method": "delete" }), "DELETE /path?a=1"),
        (json!({ "json": { "a": 1 } }), "POST /path?a=1"),
        (json!({ "form": { "a": 1 } }), "POST /path?a=1"),
        (json!({ "body": "text", "method": "PATCH" }), "PATCH /path?a=1"),
        (json!({ "file": "file.bin" }), "PUT /path?a=1"),
        (json!({ "pack": "/" }), "PUT /path?a=1"),
        (json!({ "image": { "image": "app" }, "method": "POST" }), "POST /path?a=1"),
        (json!({ "query": { "b": ["x y", "&"], "t": { "secret": "TOKEN" } } }), "GET /path?a=1&b=x%20y&b=%26&t=s3cret"),
    ] {
        assert_eq!(sent(more.clone()).line, line, "{more}");
    }
}

#[test]
fn bodies() {
    for (more, media_type, text) in [
        (json!({ "json": { "a": [{ "secret": "TOKEN" }] } }), "application/json", r#"{"a":["s3cret"]}"#),
        (json!({ "json": "text" }), "application/json", r#""text""#),
        (
            json!({ "form": { "a": ["1", "2 &"], "b": { "secret": "TOKEN" } } }),
            "application/x-www-form-urlencoded",
            "a=1&a=2+%26&b=s3cret",
        ),
        (json!({ "body": "plain é" }), "text/plain; charset=utf-8", "plain é"),
        (json!({ "body": "<a/>", "headers": { "Content-Type": "text/xml" } }), "text/xml", "<a/>"),
        (json!({ "pack": "/docs" }), "application/x-tar", "packed /docs"),
        (json!({ "image": { "image": "app:1" } }), "application/x-tar", "image app:1 oci None"),
        (
            json!({ "image": { "image": "app:1", "format": "docker", "name": "b:2" } }),
            "application/x-tar",
            "image app:1 docker Some(\"b:2\")",
        ),
    ] {
        let seen = sent(more.clone());
        assert_eq!((seen.header("content-type"), seen.text().as_str()), (media_type, text), "{more}");
    }
    let seen = sent(json!({ "file": "file.bin" }));
    assert_eq!((seen.header("content-length"), &seen.body), ("12345", &support::noise(12_345)));
    let seen = sent(json!({ "pack": "/" }));
    assert_eq!((seen.header("content-length"), seen.header("transfer-encoding")), ("", "chunked"));
    let seen = sent(json!({ "pack": "/", "known_length": true }));
    assert_eq!((seen.header("content-length"), seen.text().as_str()), ("8", "packed /"));
}

#[test]
fn forms_with_files() {
    let seen = sent(json!({ "multipart": [
        { "name": "a\"b\r\nc", "value": { "secret": "TOKEN" } },
        { "name": "f", "file": "file.bin", "content_type": "image/png" },
        { "name": "g", "file": "file.bin", "filename": "x\".txt" },
    ] }));
    let boundary = seen.header("content-type").strip_prefix("multipart/form-data; boundary=").unwrap().to_owned();
    assert_eq!(seen.header("content-length"), seen.body.len().to_string());
    let file = support::noise(12_345);
    let mut expected = Vec::new();
    for (fields, content) in [
        ("form-data; name=\"a%22b%0D%0Ac\"", &b"s3cret"[..]),
        ("form-data; name=\"f\"; filename=\"file.bin\"\r\ncontent-type: image/png", &file),
        ("form-data; name=\"g\"; filename=\"x%22.txt\"\r\ncontent-type: application/octet-stream", &file),
    ] {
        expected.extend(format!("--{boundary}\r\ncontent-disposition: {fields}\r\n\r\n").bytes());
        expected.extend(content);
        expected.extend(b"\r\n");
    }
    expected.extend(format!("--{boundary}--\r\n").bytes());
    assert!(seen.body == expected, "{}", seen.text());
}

#[test]
fn headers_and_credentials() {
    for (more, name, value) in [
        (json!({}), "user-agent", concat!("cooperage-http/", env!("CARGO_PKG_VERSION"))),
        (json!({ "headers": { "User-Agent": "mine" } }), "user-agent", "mine"),
        (json!({ "headers": { "x-number": 3 } }), "x-number", "3"),
        (
            json!({ "headers": { "Authorization": { "join": ["Token ", { "secret": "TOKEN" }] } } }),
            "authorization",
            "Token s3cret",
        ),
        (json!({ "bearer": { "secret": "TOKEN" } }), "authorization", "Bearer s3cret"),
        (
            json!({ "basic": { "username": "alice", "password": { "secret": "TOKEN" } } }),
            "authorization",
            "Basic YWxpY2U6czNjcmV0",
        ),
    ] {
        assert_eq!(sent(more.clone()).header(name), value, "{more}");
    }
}

#[test]
fn parameters_that_contradict_each_other() {
    let secret = json!({ "secret": "TOKEN" });
    for (more, says) in [
        (json!({ "json": 1, "body": "x" }), "both `json` and `body`"),
        (json!({ "file": "a", "pack": "/" }), "both `file` and `pack`"),
        (json!({ "method": "HEAD", "body": "x" }), "a HEAD has no body"),
        (json!({ "method": "GE T" }), "is no method"),
        (json!({ "method": "CONNECT" }), "is for proxies"),
        (json!({ "bearer": secret, "basic": { "username": "a", "password": secret } }), "one of `bearer`"),
        (json!({ "bearer": secret, "headers": { "Authorization": "x" } }), "one of `bearer`"),
        (json!({ "headers": { "a": "1", "A": "2" } }), "given twice"),
        (json!({ "headers": { "Content-Length": "1" } }), "belongs to the connection"),
        (json!({ "headers": { "a b": "1" } }), "no name of a header"),
        (json!({ "headers": { "a": "x\r\nb: y" } }), "has a line end"),
        (json!({ "headers": { "content-type": "x" }, "multipart": [] }), "is made with its body"),
        (json!({ "multipart": [{ "name": "a" }] }), "neither `value` nor `file`"),
        (json!({ "multipart": [{ "name": "a", "value": "x", "file": "y" }] }), "both `value` and `file`"),
        (json!({ "body": "x", "retries": 2 }), "not sent twice"),
        (json!({ "retries": 1000 }), "`retries` is more than"),
        (json!({ "timeout": 0 }), "`timeout` is not between"),
        (json!({ "timeout": u64::MAX }), "`timeout` is not between"),
        (json!({ "redirects": 1000 }), "`redirects` is more than"),
        (json!({ "expect": "ok" }), "is no status"),
        (json!({ "mode": "644" }), "there is no `save`"),
        (json!({ "checksum": "sha256:00" }), "there is no `save`"),
        (json!({ "keep_input": true }), "there is no `save`"),
        (json!({ "file": "a", "known_length": true }), "about an archive"),
        (json!({ "save": "../a" }), "no path of a file"),
        (json!({ "save": "a/" }), "no path of a file"),
        (json!({ "save": "a/.wh.b" }), "stand for removed files"),
        (json!({ "save": "a", "mode": "rwx" }), "no octal number"),
        (json!({ "save": "a", "mode": "17777" }), "no octal number"),
        (json!({ "save": "a", "checksum": "md5:00" }), "64 hexadecimal digits"),
        (json!({ "save": "a", "method": "HEAD" }), "has no body to save"),
        (json!({ "save": "a", "outputs": { "x": "/x" } }), "`save` makes a file of"),
        (json!({ "outputs": { "status": "/x" } }), "give yours another name"),
        (json!({ "outputs": { "x": "items" } }), "output `x` is \"items\""),
        (json!({ "until": {} }), "does not say what to wait for"),
        (json!({ "until": { "status": 200, "equals": 1 } }), "there is none"),
        (json!({ "until": { "pointer": "status" } }), "no JSON pointer"),
        (json!({ "until": { "pointer": "/a", "equals": 1, "fails_on": [1] } }), "both waited for and a failure"),
        (json!({ "until": { "status": 200, "every": 0 } }), "`every` is 0"),
        (json!({ "until": { "status": 200, "at_most": -1 } }), "`at_most` is -1"),
        (json!({ "until": { "status": 200, "every": 1e300 } }), "`every` is 1"),
        (json!({ "until": { "status": 200 }, "save": "a" }), "do not go together"),
        (json!({ "until": { "status": 200 }, "retries": 1 }), "asks again anyway"),
        (json!({ "until": { "status": 200 }, "expect": 200 }), "no meaning"),
        (json!({ "until": { "status": 200 }, "body": "x" }), "again and again"),
    ] {
        let (world, peer) = (World::new(), Peer::start(|_| Some(reply(204))));
        let error = match serde_json::from_value::<Parameters>(with(peer.url("/"), more.clone())) {
            Ok(parameters) => perform(world.edge(), &parameters).unwrap_err(),
            Err(error) => panic!("{more}: {error}"),
        };
        assert_eq!(error.kind, ErrorKind::InvalidInput, "{more}");
        assert!(shown(&error).contains(says), "{more}: {}", shown(&error));
        assert_eq!(peer.lines(), [""; 0], "nothing was sent for {more}");
    }
}

#[test]
fn outputs() {
    let (world, peer) = (
        World::new(),
        Peer::start(|_| {
            Some(answer(json!({ "items": [{ "id": 7 }], "a/b": null })).header("X-Many", "1").header("x-many", "2"))
        }),
    );
    let named = json!({ "id": "/items/0/id", "odd": "/a~1b", "all": "", "kind": "header:content-type", "code": "status", "text": "body" });
    let done = world.run(with(peer.url("/"), json!({ "outputs": named }))).unwrap();
    for (name, expected) in [
        ("status", json!(200)),
        ("id", json!(7)),
        ("odd", json!(null)),
        ("all", json!({ "items": [{ "id": 7 }], "a/b": null })),
        ("json", json!({ "items": [{ "id": 7 }], "a/b": null })),
        ("kind", json!("application/json; charset=utf-8")),
        ("code", json!(200)),
        ("text", json!(r#"{"a/b":null,"items":[{"id":7}]}"#)),
        ("body", json!(r#"{"a/b":null,"items":[{"id":7}]}"#)),
    ] {
        assert_eq!(*output(&done, name), expected, "{name}");
    }
    assert_eq!(output(&done, "headers")["x-many"], "1, 2");
}

#[test]
fn outputs_that_are_not_there() {
    for (body, wanted, says) in [
        (&br#"{"items":[{"id":7,"name":"x"}]}"#[..], "/items/0/uid", "at /items/0 there is an object with id, name"),
        (br#"{"items":[]}"#, "/items/0/id", "at /items there is a list of 0"),
        (br#"{"a":1}"#, "/a/b/c", "at /a there is a plain value"),
        (b"<html>\x1b[2J", "/a", "it begins with \"<html> [2J\""),
        (b"", "/a", "the answer is no JSON"),
        (b"\xff", "body", "not text in UTF-8"),
        (b"{}", "header:x-absent", "no header `x-absent`"),
    ] {
        let (world, peer) = (World::new(), Peer::start(move |_| Some(reply(200).body(body))));
        let error = world.run(with(peer.url("/"), json!({ "outputs": { "x": wanted } }))).unwrap_err();
        assert!(shown(&error).contains(says), "{wanted}: {}", shown(&error));
        assert!(shown(&error).contains("output `x`"), "{}", shown(&error));
    }
}

#[test]
fn large_answers_are_no_outputs() {
    let (world, peer) = (World::new(), Peer::start(|_| Some(reply(200).body(vec![b' '; 9 << 20]))));
    let done = world.run(with(peer.url("/"), json!({}))).unwrap();
    assert_eq!(*output(&done, "body"), Value::Null);
    let error = world.run(with(peer.url("/"), json!({ "outputs": { "x": "/x" } }))).unwrap_err();
    assert_eq!((error.kind, error.hint.as_deref()), (ErrorKind::Limit, Some("make it a file with `save`")));
}

#[test]
fn only_what_is_safe_is_sent_again() {
    for (more, times) in [
        (json!({}), 4),
        (json!({ "retries": 1 }), 2),
        (json!({ "retries": 0 }), 1),
        (json!({ "method": "DELETE" }), 4),
        (json!({ "method": "PUT", "body": "x" }), 4),
        (json!({ "body": "x" }), 1),
        (json!({ "method": "PATCH", "body": "x" }), 1),
        (json!({ "body": "x", "retry_unsafe": true }), 4),
        (json!({ "body": "x", "headers": { "Idempotency-Key": "1" } }), 4),
        (json!({ "expect": [503] }), 1),
    ] {
        // A fault of each sort: before an answer, in the middle of one, and one that the far side tells.
        for fault in [|| None, || Some(reply(200).body("abc").announce(10)), || Some(reply(503))] {
            let (world, peer) = (World::new(), Peer::start(move |_| fault()));
            let done = world.run(with(peer.url("/"), more.clone()));
            if more.get("expect").is_some() {
                continue;
            }
            assert_eq!(done.unwrap_err().kind, ErrorKind::Unavailable, "{more}");
            assert_eq!(peer.lines().len(), times, "{more}");
            assert_eq!(world.pauses.borrow().len(), times - 1, "{more}");
        }
    }
}

#[test]
fn faults_that_do_not_pass_are_told_at_once() {
    for (status, kind, hint) in [
        (401, ErrorKind::Unauthenticated, "does not accept the credentials"),
        (403, ErrorKind::Denied, "no right to do this"),
        (404, ErrorKind::NotFound, "check the URL"),
        (405, ErrorKind::Unsupported, "`method` may be GET, PUT"),
        (409, ErrorKind::Conflict, ""),
        (413, ErrorKind::Limit, "of this size"),
        (507, ErrorKind::Limit, "no room left"),
        (304, ErrorKind::Conflict, ""),
    ] {
        let (world, peer) = (
            World::new(),
            Peer::start(move |_| {
                Some(
                    reply(status)
                        .header("Allow", "GET, PUT")
                        .header("Content-Type", "text/plain")
                        .body("because of s\x07"),
                )
            }),
        );
        let error = world.run(with(peer.url("/x?token=y"), json!({ "bearer": { "secret": "TOKEN" } }))).unwrap_err();
        assert_eq!(error.kind, kind, "{status}");
        assert!(error.hint.clone().unwrap_or_default().contains(hint), "{status}: {error:?}");
        assert_eq!(error.message, format!("GET {} failed", peer.url("/x")));
        assert_eq!(peer.lines().len(), 1, "{status}");
        assert!(!shown(&error).contains("s3cret") && !shown(&error).contains('\x07'));
    }
}

#[test]
fn the_wish_of_the_far_side_is_heeded_up_to_a_point() {
    for (wish, pauses) in [("7", vec![7]), ("Sun, 06 Nov 1994 08:49:57 GMT", vec![20]), ("100000", vec![])] {
        let mut first = true;
        let (world, peer) = (
            World::new(),
            Peer::start(move |_| {
                let busy = std::mem::take(&mut first);
                Some(if busy { reply(429).header("Retry-After", wish) } else { reply(204) })
            }),
        );
        let done = world.run(with(peer.url("/"), json!({})));
        assert_eq!(done.is_ok(), !pauses.is_empty());
        assert_eq!(world.pauses.borrow().iter().map(|pause| pause.as_secs()).collect::<Vec<_>>(), pauses);
    }
}

#[test]
fn time_for_one_try_is_bounded() {
    let (world, peer) = (
        World::new(),
        Peer::start(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1500));
            Some(reply(204))
        }),
    );
    let error = world.run(with(peer.url("/"), json!({ "timeout": 1, "retries": 0 }))).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
}
