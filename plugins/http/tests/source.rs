//! URLs as sources: what they stand for, and the file behind them.

mod support;

use cooperage_plugin_http::source::{Parameters, fetch, resolve};
use cooperage_sdk::ErrorKind;
use cooperage_sdk::roles::source::Version;
use serde_json::{Value, json};
use support::peer::{Peer, reply};
use support::{World, digest, noise, shown};

fn parameters(value: Value) -> Parameters {
    serde_json::from_value(value).unwrap()
}

#[test]
fn what_a_url_stands_for() {
    for (fields, expected) in [
        (&[("ETag", "\"abc\""), ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")][..], "etag:\"abc\""),
        (
            &[("ETag", "W/\"abc\""), ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
            "modified:Sun, 06 Nov 1994 08:49:37 GMT;length:5",
        ),
        (&[("ETag", "W/\"abc\"")], ""),
        (&[], ""),
    ] {
        let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let peer = Peer::start(move |_| {
            let answer = reply(200).body("12345");
            Some(fields.iter().fold(answer, |answer, (name, value)| answer.header(name, value)))
        });
        let world = World::new();
        let version = resolve(world.edge(), &peer.url("/a"), &parameters(json!({}))).unwrap();
        assert_eq!((version.value.as_str(), version.immutable), (expected, false));
        assert_eq!(peer.lines(), ["HEAD /a"]);
        assert!(version.annotations.contains(&("size".to_owned(), "5".to_owned())));
    }
}

#[test]
fn a_checksum_is_a_version_and_nothing_is_asked() {
    let (world, checksum) = (World::new(), digest(b"x"));
    let version = resolve(world.edge(), "http://127.0.0.1:1/a", &parameters(json!({ "checksum": checksum }))).unwrap();
    assert_eq!((version.value, version.immutable), (checksum, true));
    assert!(resolve(world.edge(), "http://127.0.0.1:1/a", &parameters(json!({ "checksum": "sha256:1" }))).is_err());
}

#[test]
fn far_sides_that_refuse_a_head_get_a_get() {
    for status in [400, 403, 404, 405, 501] {
        let peer = Peer::start(move |seen| match seen.line.starts_with("HEAD ") {
            true => Some(reply(status)),
            false => Some(reply(200).header("ETag", "\"abc\"").body(noise(1 << 20))),
        });
        let world = World::new();
        let version = resolve(world.edge(), &peer.url("/a"), &parameters(json!({}))).unwrap();
        assert_eq!(version.value, "etag:\"abc\"", "{status}");
    }
    let (world, peer) = (World::new(), Peer::start(|_| Some(reply(404))));
    let error = resolve(world.edge(), &peer.url("/a"), &parameters(json!({}))).unwrap_err();
    assert_eq!((error.kind, peer.lines().len()), (ErrorKind::NotFound, 2));
}

#[test]
fn the_file_and_its_name() {
    for (path, field, wanted, expected) in [
        ("/dir/a.txt?x=1", "attachment; filename=b", json!({}), ("a.txt", 0o600)),
        ("/dir/", "attachment; filename=\"../b.txt\"", json!({ "mode": "755" }), ("b.txt", 0o755)),
        ("/", "", json!({}), ("download", 0o600)),
        ("/x", "", json!({ "filename": "y z" }), ("y z", 0o600)),
    ] {
        let peer = Peer::start(move |_| Some(reply(200).header("Content-Disposition", field).body("text")));
        let world = World::new();
        fetch(world.edge(), &peer.url(path), &parameters(wanted), &Version::new("")).unwrap();
        let (name, mode) = expected;
        assert_eq!(*world.made.borrow(), Some((name.to_owned(), mode, b"text".to_vec())));
    }
    for name in ["", "..", "a/b", "/a", "a\\b", ".wh.a", "a\n"] {
        let world = World::new();
        let wrong = parameters(json!({ "filename": name }));
        let error = fetch(world.edge(), "http://127.0.0.1:1/", &wrong, &Version::new("")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidInput, "{name:?}");
    }
}

#[test]
fn another_version_than_the_one_looked_up_is_a_conflict() {
    let (world, peer) = (World::new(), Peer::start(|_| Some(reply(200).header("ETag", "\"new\"").body("text"))));
    let version = Version::new("etag:\"old\"");
    let error = fetch(world.edge(), &peer.url("/a"), &parameters(json!({})), &version).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(shown(&error).contains("has changed there since it was looked up"), "{}", shown(&error));
    assert!(world.made.borrow().is_none());
    fetch(world.edge(), &peer.url("/a"), &parameters(json!({})), &Version::new("etag:\"new\"")).unwrap();
}

#[test]
fn a_head_and_a_get_may_name_other_kinds_of_version() {
    let peer = Peer::start(|seen| {
        let answer = reply(200).header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT").body("text");
        Some(if seen.line.starts_with("HEAD ") { answer } else { answer.header("ETag", "\"a\"") })
    });
    let world = World::new();
    let version = resolve(world.edge(), &peer.url("/a"), &parameters(json!({}))).unwrap();
    assert!(version.value.starts_with("modified:"));
    fetch(world.edge(), &peer.url("/a"), &parameters(json!({})), &version).unwrap();
    assert_eq!(world.made(), b"text");
}

#[test]
fn a_try_after_one_that_broke_at_once_is_looked_at_too() {
    let mut requests = 0;
    let peer = Peer::start(move |_| {
        requests += 1;
        let answer = |tag: &str| reply(200).header("ETag", tag).body("text");
        Some(if requests == 1 { answer("\"old\"").cut(0) } else { answer("\"new\"") })
    });
    let world = World::new();
    let error =
        fetch(world.edge(), &peer.url("/a"), &parameters(json!({})), &Version::new("etag:\"old\"")).unwrap_err();
    assert_eq!((error.kind, peer.lines().len()), (ErrorKind::Conflict, 2));
    assert!(world.made.borrow().is_none());
}

#[test]
fn a_wrong_checksum_leaves_nothing() {
    let (world, peer) = (World::new(), Peer::start(|_| Some(reply(200).body("text"))));
    let (wrong, right) = (digest(b"other"), digest(b"text"));
    let fetch = |checksum: &str| {
        let parameters = parameters(json!({ "checksum": checksum }));
        fetch(world.edge(), &peer.url("/a"), &parameters, &Version::immutable(checksum))
    };
    assert_eq!(fetch(&wrong).unwrap_err().kind, ErrorKind::Conflict);
    assert!(world.made.borrow().is_none() && world.contents.borrow().is_empty());
    fetch(&right).unwrap();
    fetch(&right).unwrap();
    assert_eq!(peer.lines().len(), 2, "the store has it");
}
