//! Waiting for an answer.

mod support;

use cooperage_plugin_http::task::Done;
use cooperage_sdk::{ErrorKind, Result};
use serde_json::{Value, json};
use support::peer::{Peer, Reply, json as answer, reply};
use support::{World, output, shown};

type Answer = fn() -> Option<Reply>;

/// Polls a peer that gives these answers one after the other, and the last one for ever; how often it was asked.
fn poll(until: Value, answers: Vec<Answer>) -> (Result<Done>, usize, World) {
    let mut asked = 0;
    let peer = Peer::start(move |_| {
        asked += 1;
        answers[(asked - 1).min(answers.len() - 1)]()
    });
    let world = World::new();
    let done = world.run(json!({ "url": peer.url("/job"), "until": until, "outputs": { "id": "/id" } }));
    let asked = peer.lines().len();
    (done, asked, world)
}

fn pending() -> Option<Reply> {
    Some(answer(json!({ "id": 1, "state": "pending", "done": false })))
}

fn ready() -> Option<Reply> {
    Some(answer(json!({ "id": 1, "state": "ready", "done": true })))
}

fn failed() -> Option<Reply> {
    Some(answer(json!({ "id": 1, "state": "failed", "reason": "no \u{1b} quota" })))
}

#[test]
fn it_ends_when_the_value_is_there() {
    for until in [
        json!({ "pointer": "/state", "equals": "ready" }),
        json!({ "pointer": "/done" }),
        json!({ "pointer": "/done", "equals": true, "fails_on": ["x"] }),
    ] {
        let (done, asked, world) = poll(until, vec![|| None, || Some(reply(503)), pending, pending, ready]);
        assert_eq!((output(&done.unwrap(), "id"), asked), (&json!(1), 5));
        assert!(world.pauses.borrow().iter().all(|pause| pause.as_secs() == 5));
    }
}

#[test]
fn it_ends_when_the_status_is_there() {
    let answers: Vec<Answer> = vec![|| None, || Some(reply(404)), || Some(reply(500)), || Some(reply(202)), ready];
    let (done, asked, _) = poll(json!({ "status": [200] }), answers);
    assert_eq!((done.is_ok(), asked), (true, 5));
    let (done, asked, _) =
        poll(json!({ "status": 200, "pointer": "/done" }), vec![|| Some(reply(404)), pending, ready]);
    assert_eq!((done.is_ok(), asked), (true, 3));
    let moved: Answer = || Some(reply(303).header("Location", "/other").body("{\"id\":1}"));
    let (done, asked, _) = poll(json!({ "status": 303 }), vec![|| Some(reply(202)), moved]);
    assert_eq!((output(&done.unwrap(), "status"), asked), (&json!(303), 2));
}

#[test]
fn it_does_not_wait_for_what_will_not_come() {
    let value = json!({ "pointer": "/state", "equals": "ready", "fails_on": ["failed", "cancelled"] });
    let cases: [(Value, Answer, ErrorKind, &str); 6] = [
        (value.clone(), failed, ErrorKind::Conflict, "/state is \"failed\""),
        (value.clone(), failed, ErrorKind::Conflict, "quota"),
        (value.clone(), || Some(reply(404)), ErrorKind::NotFound, "answers 404"),
        (value.clone(), || Some(reply(200).body("<html>")), ErrorKind::Conflict, "no JSON"),
        (value, || Some(reply(401)), ErrorKind::Unauthenticated, "answers 401"),
        (json!({ "status": 200 }), || Some(reply(403)), ErrorKind::Denied, "answers 403"),
    ];
    for (until, second, kind, says) in cases {
        let (done, asked, _) = poll(until, vec![|| Some(reply(503)), second]);
        let error = done.unwrap_err();
        assert_eq!((error.kind, asked), (kind, 2), "{says}");
        assert!(shown(&error).contains(says), "{}", shown(&error));
        assert!(!shown(&error).contains('\u{1b}'));
    }
}

#[test]
fn it_gives_up_in_the_end_and_tells_what_it_saw_last() {
    let until = json!({ "pointer": "/state", "equals": "ready", "every": 2.5, "at_most": 10 });
    let (done, asked, world) = poll(until, vec![pending]);
    let error = done.unwrap_err();
    assert_eq!((error.kind, asked), (ErrorKind::Unavailable, 5));
    assert_eq!(world.pauses.borrow().len(), 4);
    for says in ["within 10 s", "last, /state is \"pending\"", "at_most"] {
        assert!(shown(&error).contains(says), "{}", shown(&error));
    }
}

#[test]
fn it_asks_no_faster_than_the_far_side_wants() {
    let busy: Answer = || Some(reply(429).header("Retry-After", "30"));
    let (done, _, world) = poll(json!({ "pointer": "/done", "every": 1 }), vec![busy, ready]);
    assert!(done.is_ok());
    assert_eq!(world.pauses.borrow()[0].as_secs(), 30);
    let endless: Answer = || Some(reply(404).header("Retry-After", "99999999999999999999"));
    let (done, asked, _) = poll(json!({ "status": 200 }), vec![endless]);
    assert_eq!((done.unwrap_err().kind, asked), (ErrorKind::Unavailable, 1));
}
