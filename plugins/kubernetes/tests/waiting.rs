//! Rollouts: by watch, by reading, to their end, to their failure, over the death of the server.

mod support;

use std::time::Duration;

use cooperage_sdk::ErrorKind;
use cooperage_sdk::time::Clock;
use serde_json::{Value, json};
use support::server::{Server, Trouble, WEB, deployed, deployment, done, status};
use support::{Time, says, step, step_in};

fn web() -> Server {
    let server = Server::start();
    server.has(WEB, deployment("web", "r.example/web:1"));
    server
}

fn image(wait: &str) -> Value {
    json!({ "deployment": "web", "image": "r.example/web:2", "force": true, "wait": wait })
}

fn watches(server: &Server) -> usize {
    server.state().requests.iter().filter(|seen| seen.query.contains_key("watch")).count()
}

#[test]
fn a_watch_that_ends_is_begun_anew_where_it_ended() {
    for torn in [false, true] {
        let server = web();
        server.rolls_out([deployed(0, 3, 3), deployed(1, 3, 4), deployed(2, 3, 4), deployed(3, 2, 3), done()]);
        server.state().watch_length = 2;
        server.state().torn = torn;
        step(&server, image("5m"), &[]).unwrap();
        assert_eq!(watches(&server), 3);
        let state = server.state();
        let watch = state.requests.iter().find(|seen| seen.query.contains_key("watch")).unwrap();
        assert_eq!(watch.query["fieldSelector"], "metadata.name=web");
        let seconds: u64 = watch.query["timeoutSeconds"].parse().unwrap();
        assert!((1..=30).contains(&seconds));
    }
}

#[test]
fn who_may_not_watch_reads() {
    for code in [403, 404, 405] {
        let server = web();
        server.rolls_out([deployed(1, 3, 4), deployed(2, 3, 4), done()]).trouble(
            "GET",
            "watch",
            Trouble::Answer(code, status(code, "Forbidden", "no watch").to_string()),
        );
        server.state().advance_on_read = true;
        // The reading before the change takes the first state.
        let time = Time::default();
        step_in(&time, &server, image("5m"), &[]).unwrap();
        assert_eq!(watches(&server), 1, "{code}");
    }
}

#[test]
fn a_watch_that_tells_nothing_does_not_make_a_storm() {
    let server = web();
    let time = Time::default();
    let error = step_in(&time, &server, image("30s"), &[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    says(&error, &["is not done after 30s", "waiting for the change to be noticed"]);
    assert!(watches(&server) <= 31, "{}", watches(&server));
    assert!(time.elapsed() >= Duration::from_secs(30) && time.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_failure_comes_with_the_reasons_of_the_pods() {
    let server = web();
    let failed = json!({ "observedGeneration": "NOW", "conditions": [{ "type": "Progressing", "status": "False",
        "reason": "ProgressDeadlineExceeded", "message": "ReplicaSet \"web-2\" has timed out progressing." }] });
    server.rolls_out([deployed(1, 3, 4), failed]);
    let pod = |name: &str| {
        json!({ "metadata": { "name": name }, "status": { "containerStatuses": [{ "name": "web", "ready": false,
            "state": { "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image" } } }] } })
    };
    server.state().pods = vec![pod("web-2-a"), pod("web-2-b")];
    let error = step(&server, image("5m"), &[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    says(
        &error,
        &[
            "the rollout of deployment/web failed",
            "has timed out progressing",
            "pod web-2-a: container web waits: ImagePullBackOff",
            "the image before the step was r.example/web:1",
        ],
    );
    assert!(!support::shown(&error).contains("web-2-b"), "the same reason is told once");
}

#[test]
fn pods_that_may_not_be_listed_are_not_needed() {
    let server = web();
    let failed = json!({ "observedGeneration": "NOW", "conditions": [{ "type": "Progressing", "reason": "ProgressDeadlineExceeded" }] });
    server.rolls_out([failed]).trouble(
        "GET",
        "/pods",
        Trouble::Answer(403, status(403, "Forbidden", "cannot list pods").to_string()),
    );
    let error = step(&server, image("5m"), &[]).unwrap_err();
    says(&error, &["exceeded its progress deadline", "cannot list pods"]);
}

#[test]
fn the_server_may_be_away_for_a_while() {
    let server = web();
    server.rolls_out([deployed(1, 3, 4), done()]);
    server.state().watch_length = 1;
    server.state().away = 30;
    let time = Time::default();
    step_in(&time, &server, image("10m"), &[]).unwrap();
    assert_eq!(server.state().away, 0);
    assert!(time.elapsed() > Duration::from_secs(20) && time.elapsed() < Duration::from_secs(600));
}

#[test]
fn a_server_that_stays_away_ends_the_wait_in_time() {
    let server = web();
    server.state().away = usize::MAX;
    let time = Time::default();
    let error = step_in(&time, &server, image("1m"), &[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    says(&error, &["waiting for deployment/web ended", "cannot be reached"]);
    assert!(
        time.elapsed() > Duration::from_secs(60) && time.elapsed() < Duration::from_secs(90),
        "{:?}",
        time.elapsed()
    );
}

#[test]
fn a_workload_that_is_deleted_is_not_waited_for() {
    let server = web();
    server.rolls_out([deployed(1, 3, 4)]);
    let gone = status(404, "NotFound", "deployments.apps \"web\" not found").to_string();
    server.state().watch_length = 1;
    // The reading before the change, and the one after the watch.
    server.trouble("GET", "deployments/web?", Trouble::Answer(200, server.object(WEB).to_string()));
    server.trouble("GET", "deployments/web?", Trouble::Answer(404, gone));
    let error = step(&server, image("5m"), &[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    says(&error, &["waiting for deployment/web ended"]);
}

#[test]
fn what_cannot_roll_out_is_told() {
    let server = Server::start();
    let mut paused = deployment("web", "r.example/web:1");
    paused["spec"]["paused"] = true.into();
    server.has(WEB, paused);
    let error = step(&server, image("5m"), &[]).unwrap_err();
    says(&error, &["it is paused"]);
    let on_delete = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "agent", "namespace": "shop" },
        "spec": { "updateStrategy": { "type": "OnDelete" }, "selector": { "matchLabels": { "app": "agent" } },
            "template": { "metadata": { "labels": { "app": "agent" } }, "spec": { "containers": [{ "name": "a", "image": "x" }] } } } });
    server.has("/apis/apps/v1/namespaces/shop/daemonsets/agent", on_delete);
    step(&server, json!({ "daemonset": "agent", "image": "y", "force": true }), &[]).unwrap();
}
