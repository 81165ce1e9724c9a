//! What goes wrong with a server: refusals, deaths, answers of something else.

mod support;

use std::net::TcpListener;

use cooperage_sdk::ErrorKind;
use serde_json::{Value, json};
use support::server::{Server, Trouble, WEB, deployment, status};
use support::{TOKEN, Time, says, step, step_in};

fn web() -> Server {
    let server = Server::start();
    server.has(WEB, deployment("web", "r.example/web:1"));
    server
}

fn image() -> Value {
    json!({ "deployment": "web", "image": "r.example/web:2", "force": true, "wait": 0 })
}

fn and(mut wanted: Value, more: Value) -> Value {
    wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    wanted
}

#[test]
fn refusals_are_explained_and_not_repeated() {
    for (more, kind, texts) in [
        (
            json!({ "token": { "secret": "WRONG" } }),
            ErrorKind::Unauthenticated,
            vec!["401", "does not accept the token"],
        ),
        (json!({ "token": null }), ErrorKind::Unauthenticated, vec!["401", "`token: { secret: NAME }`"]),
        (json!({ "deployment": "wbe" }), ErrorKind::NotFound, vec!["deployment/wbe in shop", "404", "`namespace`"]),
        (json!({ "container": "wbe" }), ErrorKind::NotFound, vec!["\"wbe\"", "it has web"]),
        (json!({ "token": { "secret": "ABSENT" } }), ErrorKind::NotFound, vec!["ABSENT"]),
    ] {
        let server = web();
        let error = step(&server, and(image(), more.clone()), &[]).unwrap_err();
        assert_eq!(error.kind, kind, "{more}: {error:?}");
        says(&error, &texts);
        assert!(server.lines().len() <= 1, "{:?}", server.lines());
        assert!(server.patches().is_empty());
    }
}

#[test]
fn the_words_of_the_server_reach_the_user() {
    let forbidden =
        status(403, "Forbidden", "deployments.apps \"web\" is forbidden: User \"ci\" cannot patch resource");
    let mut invalid = status(422, "Invalid", "Deployment.apps \"web\" is invalid");
    invalid["details"] = json!({ "causes": [{ "field": "spec.replicas", "message": "Invalid value: -1" }] });
    for (code, body, kind, texts) in [
        (403, forbidden.to_string(), ErrorKind::Denied, vec!["User \"ci\" cannot patch", "role"]),
        (422, invalid.to_string(), ErrorKind::InvalidInput, vec!["spec.replicas: Invalid value: -1"]),
        (415, "{}".to_owned(), ErrorKind::Unsupported, vec!["server-side apply"]),
        (413, String::new(), ErrorKind::Limit, vec!["413"]),
        (302, "<html>".to_owned(), ErrorKind::Conflict, vec!["https://login.example/"]),
        (200, "<html>log in</html>".to_owned(), ErrorKind::Unsupported, vec!["not as an API server does"]),
        (200, "[1]".to_owned(), ErrorKind::Unsupported, vec!["not as an API server does"]),
    ] {
        let server = web();
        server.trouble("PATCH", "web", Trouble::Answer(code, body));
        let error = step(&server, image(), &[]).unwrap_err();
        assert_eq!(error.kind, kind, "{code}");
        says(&error, &texts);
        assert_eq!(server.patches().len(), 1, "{code}: it is not sent again");
    }
}

#[test]
fn a_token_that_the_server_repeats_is_not_shown() {
    let server = web();
    let answer = status(403, "Forbidden", &format!("the token {TOKEN} may not do this")).to_string();
    server.trouble("PATCH", "web", Trouble::Answer(403, answer));
    let error = step(&server, image(), &[]).unwrap_err();
    says(&error, &["the token *** may not do this"]);
}

#[test]
fn what_passes_is_tried_again() {
    let server = web();
    for trouble in
        [Trouble::Before, Trouble::After, Trouble::Answer(503, "{}".into()), Trouble::Answer(429, "{}".into())]
    {
        server.trouble("GET", "web", trouble.clone()).trouble("PATCH", "web", trouble);
    }
    let time = Time::default();
    let outcome = step_in(&time, &server, image(), &[]).unwrap();
    assert_eq!(outcome.previous_image.as_deref(), Some("r.example/web:1"));
    // An apply that was done without an answer is stale the next time, so the object is read once more.
    assert_eq!(server.lines().iter().filter(|line| line.starts_with("GET")).count(), 6);
    assert_eq!(server.patches().len(), 6);
    assert!(time.pauses.borrow().len() >= 8);
    assert!(server.object(WEB).to_string().contains("r.example/web:2"));
}

#[test]
fn patience_ends() {
    for trouble in [Trouble::Before, Trouble::Answer(500, status(500, "InternalError", "etcd is away").to_string())] {
        let server = web();
        for _ in 0..20 {
            server.trouble("GET", "web", trouble.clone());
        }
        let error = step(&server, image(), &[]).unwrap_err();
        assert_eq!((error.kind, server.lines().len()), (ErrorKind::Unavailable, 5));
        says(&error, &["deployment/web in shop"]);
    }
}

#[test]
fn a_server_that_is_not_there() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = web();
    let nowhere = format!("http://127.0.0.1:{port}");
    let error = step(&server, and(image(), json!({ "server": nowhere })), &[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    says(&error, &["cannot be reached", &format!("127.0.0.1:{port}")]);
    assert!(server.lines().is_empty());
}

#[test]
fn manifests_that_the_server_cannot_take() {
    for (text, kind, texts) in [
        ("{ apiVersion: v1, kind: Gadget, metadata: { name: a } }", ErrorKind::NotFound, vec!["Gadget", "a.yaml"]),
        (
            "{ apiVersion: example.com/v1, kind: Thing, metadata: { name: a } }",
            ErrorKind::NotFound,
            vec!["Thing", "CustomResourceDefinition"],
        ),
        ("{ apiVersion: 'a/../b', kind: Thing, metadata: { name: a } }", ErrorKind::InvalidInput, vec!["a.yaml"]),
        (
            "{ apiVersion: v1, kind: ConfigMap, metadata: { name: a, namespace: nowhere } }",
            ErrorKind::NotFound,
            vec!["make the namespace nowhere"],
        ),
        (
            "{ apiVersion: v1, kind: ConfigMap, metadata: { name: a, namespace: ../x } }",
            ErrorKind::InvalidInput,
            vec!["../x"],
        ),
        ("{ apiVersion: v1, kind: ConfigMap, metadata: { name: ../../x } }", ErrorKind::InvalidInput, vec!["../../x"]),
    ] {
        let server = web();
        let error = step(&server, json!({ "apply": ["a.yaml"] }), &[("a.yaml", text)]).unwrap_err();
        assert_eq!(error.kind, kind, "{text}: {error:?}");
        says(&error, &texts);
    }
}

#[test]
fn nothing_is_sent_when_a_manifest_is_wrong() {
    let server = web();
    let good = "{ apiVersion: v1, kind: ConfigMap, metadata: { name: a } }";
    step(&server, json!({ "apply": ["a", "b"] }), &[("a.yaml", good), ("b.yaml", "a: [")]).unwrap_err();
    let web = deployment("web", "r.example/web:1").to_string();
    let wanted = json!({ "apply": ["a", "b"], "deployment": "web", "container": "absent", "image": "b" });
    let error = step(&server, wanted, &[("a.yaml", good), ("b.json", &web)]).unwrap_err();
    says(&error, &["deployment/web (b.json) cannot be changed", "absent"]);
    assert!(server.lines().is_empty());
}
