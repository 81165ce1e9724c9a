//! Where redirects lead, and what does not go along.

mod support;

use cooperage_sdk::ErrorKind;
use serde_json::{Value, json};
use support::peer::{Peer, reply};
use support::{World, shown};

fn with(url: String, more: Value) -> Value {
    let mut all = json!({ "url": url });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// Redirects everything but `/end` to `to`.
fn redirecting(status: u16, to: &str) -> Peer {
    let to = to.to_owned();
    Peer::start(move |seen| match seen.line.ends_with("/end") {
        true => Some(reply(204)),
        false => Some(reply(status).header("Location", &to)),
    })
}

#[test]
fn methods_and_bodies() {
    for (status, more, lines, body) in [
        (301, json!({}), &["GET /begin", "GET /end"][..], ""),
        (302, json!({ "method": "HEAD" }), &["HEAD /begin", "HEAD /end"], ""),
        (307, json!({ "body": "x" }), &["POST /begin", "POST /end"], "x"),
        (308, json!({ "body": "x", "method": "PUT" }), &["PUT /begin", "PUT /end"], "x"),
        (308, json!({ "pack": "/" }), &["PUT /begin", "PUT /end"], "packed /"),
        (303, json!({ "body": "x" }), &["POST /begin", "GET /end"], ""),
    ] {
        let (world, peer) = (World::new(), redirecting(status, "end"));
        world.run(with(peer.url("/begin"), more)).unwrap();
        assert_eq!(peer.lines(), lines, "{status}");
        assert_eq!(peer.seen()[1].text(), body, "{status}");
        assert_eq!(peer.seen()[1].header("content-type").is_empty(), body.is_empty(), "{status}");
    }
}

#[test]
fn redirects_that_are_not_followed() {
    for (status, location, more, says) in [
        (302, "/end", json!({ "body": "x" }), "only a GET or HEAD"),
        (302, "/end", json!({ "redirects": 0 }), "allow it with `redirects`"),
        (302, "/loop", json!({}), "more than 10 times"),
        (302, "/loop", json!({ "redirects": 2 }), "more than 2 times"),
        (302, "", json!({}), "without saying where to"),
        (302, "ftp://h/x", json!({}), "redirects astray"),
        (302, "http://user:hunter2@h/x", json!({}), "redirects astray"),
        (300, "/end", json!({}), "answers 300"),
    ] {
        let (world, peer) = (World::new(), redirecting(status, location));
        let error = world.run(with(peer.url("/begin"), more)).unwrap_err();
        assert!(shown(&error).contains(says), "{location}: {}", shown(&error));
        assert!(!peer.lines().iter().any(|line| line.ends_with("/end")));
    }
}

#[test]
fn a_redirect_that_is_expected_is_an_answer() {
    let (world, peer) = (World::new(), redirecting(302, "/end"));
    let done =
        world.run(with(peer.url("/begin"), json!({ "expect": 302, "outputs": { "to": "header:location" } }))).unwrap();
    assert_eq!(*support::output(&done, "to"), "/end");
    assert_eq!(peer.lines(), ["GET /begin"]);
}

#[test]
fn credentials_stay_with_the_origin_that_was_named() {
    let other = redirecting(302, "/end");
    let world = World::new();
    let peer = redirecting(307, &other.url("/end"));
    let more = json!({
        "bearer": { "secret": "TOKEN" },
        "headers": { "x-key": { "secret": "TOKEN" }, "x-plain": "p", "cookie": "c" },
        "body": "x",
    });
    world.run(with(peer.url("/begin"), more)).unwrap();
    let (here, there) = (peer.seen()[0].clone(), other.seen()[0].clone());
    for (name, value) in [("authorization", "Bearer s3cret"), ("x-key", "s3cret"), ("cookie", "c"), ("x-plain", "p")] {
        assert_eq!(here.header(name), value);
        assert_eq!(there.header(name), if name == "x-plain" { "p" } else { "" });
    }
    assert_eq!(there.text(), "x");
    // At the same origin they go along.
    let peer = redirecting(302, "/end");
    world.run(with(peer.url("/begin"), json!({ "bearer": { "secret": "TOKEN" } }))).unwrap();
    assert_eq!(peer.seen()[1].header("authorization"), "Bearer s3cret");
}

#[test]
fn a_secret_in_a_body_goes_nowhere_else() {
    let other = redirecting(302, "/end");
    let (world, peer) = (World::new(), redirecting(308, &other.url("/end")));
    let body = json!({ "json": { "password": { "secret": "TOKEN" } } });
    let error = world.run(with(peer.url("/begin"), body)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(shown(&error).contains("the body has a secret"), "{}", shown(&error));
    assert!(other.lines().is_empty());
}
