//! How the client proves who the user is, and to whom it does not.

mod support;

use cooperage_plugin_oci::client::{self, Actions, Client};
use cooperage_plugin_oci::{blobs, upload};
use cooperage_sdk::ErrorKind;
use cooperage_sdk::roles::registry::{Credential, Repository};
use support::{Reply, Script, Seen, World, digest, password, reply, repository, script};

const CHALLENGE: &str =
    r#"Bearer realm="https://auth.example/token",service="the registry",scope="repository:team/app:pull""#;

/// A registry that wants `Bearer good`, and a token server that gives it.
fn registry(token_server: impl Fn(&Seen) -> Reply + 'static) -> World<Script> {
    script(move |seen| {
        Some(if seen.url.starts_with("https://auth.example/") {
            token_server(seen)
        } else if seen.authorization() == "Bearer good" {
            reply(200)
        } else {
            reply(401).header("WWW-Authenticate", CHALLENGE)
        })
    })
}

fn token(_: &Seen) -> Reply {
    reply(200).body(r#"{"token":"good","expires_in":300}"#)
}

fn app() -> Repository {
    repository("registry.example", "team/app")
}

fn has(world: &World<Script>, repository: &Repository) -> cooperage_sdk::Result<bool> {
    blobs::has(&world.client(repository, Actions::Pull), &digest(b""))
}

#[test]
fn anonymous_tokens_are_fetched_once() {
    let world = registry(token);
    let repository = app();
    assert!(has(&world, &repository).unwrap());
    assert!(has(&world, &repository).unwrap());
    let blob = format!("HEAD https://registry.example/v2/team/app/blobs/{}", digest(b""));
    let get = "GET https://auth.example/token?service=the%20registry&scope=repository%3Ateam%2Fapp%3Apull";
    assert_eq!(world.lines(), [&blob, get, &blob, &blob]);
    assert_eq!(world.http.seen.borrow()[1].authorization(), "");
}

#[test]
fn tokens_are_not_shared_between_users_scopes_and_registries() {
    let world = registry(token);
    let mut first = app();
    has(&world, &first).unwrap();
    first.credential = password();
    let fetched = |world: &World<Script>| world.lines().iter().filter(|line| line.contains("auth.example")).count();
    has(&world, &first).unwrap();
    assert_eq!(fetched(&world), 2);
    blobs::has(&world.client(&first, Actions::Push), &digest(b"")).unwrap();
    assert_eq!(fetched(&world), 3);
    first.host = "registry.example:8443".into();
    has(&world, &first).unwrap();
    assert_eq!(fetched(&world), 4);
    has(&world, &first).unwrap();
    assert_eq!(fetched(&world), 4);
}

#[test]
fn a_password_goes_to_the_token_server_and_nowhere_else() {
    let world = registry(token);
    let repository = Repository { credential: password(), ..app() };
    assert!(has(&world, &repository).unwrap());
    let seen = world.http.seen.borrow();
    let sent: Vec<_> = seen.iter().map(Seen::authorization).collect();
    assert_eq!(sent, ["", "Basic YWxpY2U6czNjcmV0", "Bearer good"]);
}

#[test]
fn an_identity_token_is_exchanged() {
    let world = registry(|seen| {
        assert_eq!((seen.method.as_str(), seen.authorization()), ("POST", ""));
        assert_eq!(
            String::from_utf8_lossy(&seen.body),
            "grant_type=refresh_token&refresh_token=a%26b&service=the%20registry&client_id=cooperage&scope=repository%3Ateam%2Fapp%3Apull"
        );
        reply(200).body(r#"{"access_token":"good"}"#)
    });
    let credential = Credential { username: String::new(), password: "a&b".into(), identity_token: true };
    assert!(has(&world, &Repository { credential: Some(credential), ..app() }).unwrap());
}

#[test]
fn a_token_that_ended_is_fetched_anew_and_only_once_a_request() {
    let world = registry(|_| reply(200).body(r#"{"token":"stale","expires_in":300}"#));
    let repository = Repository { credential: password(), ..app() };
    for _ in 0..2 {
        let error = has(&world, &repository).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthenticated);
        assert!(error.hint.unwrap().contains("coop registry login registry.example"));
    }
    assert_eq!(world.lines().len(), 6);
    assert!(world.pauses.borrow().is_empty());
}

#[test]
fn what_the_token_server_refuses() {
    for (status, body) in [(401, ""), (403, r#"{"errors":[{"code":"DENIED"}]}"#), (400, r#"{"error":"invalid_grant"}"#)]
    {
        let world = registry(move |_| reply(status).body(body));
        let error = has(&world, &Repository { credential: password(), ..app() }).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthenticated, "{status}");
        assert_eq!(error.message, "cannot get a token for registry.example");
        assert!(error.hint.unwrap().contains("renew"));
    }
}

#[test]
fn tokens_that_are_none() {
    for body in ["", "{}", r#"{"token":""}"#, r#"{"token":"a\r\nx: y"}"#, r#"{"token":"a b"}"#, "[]", r#"{"token":5}"#]
    {
        let world = registry(move |_| reply(200).body(body));
        assert_eq!(has(&world, &app()).unwrap_err().kind, ErrorKind::Conflict, "{body}");
    }
    let long = format!(r#"{{"token":"{}"}}"#, "a".repeat(2 << 20));
    let world = registry(move |_| reply(200).body(long.clone()));
    assert_eq!(has(&world, &app()).unwrap_err().kind, ErrorKind::Conflict);
}

#[test]
fn lifetimes_that_are_none() {
    for seconds in ["-5", "0", "1e300", "14", "null"] {
        let world = registry(move |_| reply(200).body(format!(r#"{{"token":"good","expires_in":{seconds}}}"#)));
        assert!(has(&world, &app()).unwrap(), "{seconds}");
    }
}

#[test]
fn a_credential_is_not_sent_in_the_clear() {
    let world = script(|_| Some(reply(401).header("www-authenticate", r#"Bearer realm="http://auth.example/token""#)));
    let error = has(&world, &Repository { credential: password(), ..app() }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert_eq!(world.lines().len(), 1);
}

#[test]
fn basic() {
    let world = script(|seen| {
        Some(match seen.authorization() {
            "Basic YWxpY2U6czNjcmV0" => reply(404),
            _ => reply(401).header("www-authenticate", "Negotiate").header("www-authenticate", r#"Basic realm="x""#),
        })
    });
    let alice = Repository { credential: password(), ..app() };
    assert!(!has(&world, &alice).unwrap());
    assert!(!has(&world, &alice).unwrap());
    assert_eq!(world.lines().len(), 3);
    assert_eq!(has(&world, &app()).unwrap_err().kind, ErrorKind::Unauthenticated);

    let mut wrong = alice;
    wrong.credential.as_mut().unwrap().password = "guess".into();
    let before = world.lines().len();
    assert_eq!(has(&world, &wrong).unwrap_err().kind, ErrorKind::Unauthenticated);
    assert_eq!(world.lines().len(), before + 1, "the same wrong password is not sent twice");
}

#[test]
fn login_proves_the_credential_anew() {
    let world = registry(token);
    let alice = Repository { credential: password(), ..app() };
    for _ in 0..2 {
        client::login(&Client::without_repository(world.edge(), &alice).unwrap()).unwrap();
    }
    assert_eq!(world.lines().iter().filter(|line| line.contains("auth.example")).count(), 2);

    let world = script(|_| Some(reply(404)));
    let error = client::login(&Client::without_repository(world.edge(), &alice).unwrap()).unwrap_err();
    assert_eq!((error.kind, error.hint.as_deref()), (ErrorKind::NotFound, Some("check host and port")));
}

#[test]
fn a_mount_asks_for_both_repositories() {
    let world = registry(token);
    let repository = app();
    let blob = world.keep(b"x", "application/octet-stream");
    let from = ["other".to_owned(), "../bad".to_owned()];
    let client = world.client(&repository, Actions::Push).also_pull_from(&from);
    upload::put(&client, &blob, &from).unwrap();
    assert!(world.lines()[1].ends_with("scope=repository%3Ateam%2Fapp%3Apull%2Cpush&scope=repository%3Aother%3Apull"));
}

#[test]
fn hosts_and_names_that_are_none() {
    let world = registry(token);
    for host in ["", "a/b", "a?b", "a#b", "user@a", "a b", "a:b"] {
        let repository = repository(host, "a");
        assert!(Client::new(world.edge(), &repository, Actions::Pull).is_err(), "{host}");
    }
    assert!(Client::new(world.edge(), &repository("h", "../a"), Actions::Pull).is_err());
    assert!(world.lines().is_empty());
}
