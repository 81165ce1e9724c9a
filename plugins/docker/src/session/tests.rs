//! Sessions with an engine in memory: `h2` as its client, on the same thread.

mod copying;
mod engine;
mod hostile;
mod tree;

use std::rc::Rc;

use bytes::Bytes;

use super::Session;
use super::messages::*;
use engine::{Engine, Reply, run};
use tree::Tree;

fn session() -> Session {
    Session::new("büld", "key")
        .directory("context", Rc::new(Tree::new().file("a", b"a")))
        .credentials(|host| (host == "r.example").then(|| ("me".to_owned(), "pass".to_owned())))
        .secret("npm", b"\0token".to_vec())
}

fn unary(method: &'static str, request: impl prost::Message + 'static) -> Reply {
    run(session(), move |engine: Engine| async move { engine.unary(method, &request).await }).unwrap()
}

#[test]
fn the_session_is_announced() {
    let session = session();
    let headers = session.headers();
    assert_eq!(headers.get("X-Docker-Expose-Session-Uuid"), Some(session.id()));
    assert_eq!(headers.get("X-Docker-Expose-Session-Name"), Some("b_ld"));
    assert_eq!(headers.get("X-Docker-Expose-Session-Sharedkey"), Some("key"));
    let methods: Vec<_> = headers.all("X-Docker-Expose-Session-Grpc-Method").collect();
    assert!(methods.contains(&"/moby.filesync.v1.FileSync/DiffCopy"), "{methods:?}");
    assert_eq!(session.id().len(), 25);
    assert!(session.id().bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()));
    assert_ne!(session.id(), self::session().id());
}

#[test]
fn the_session_is_healthy() {
    let reply = unary("/grpc.health.v1.Health/Check", HealthCheckRequest {});
    assert_eq!((reply.status, reply.message::<HealthCheckResponse>().status), (0, 1));
}

#[test]
fn credentials_are_for_their_host() {
    for (host, expected) in [("r.example", ("me", "pass")), ("other.example", ("", ""))] {
        let reply = unary("/moby.filesync.v1.Auth/Credentials", CredentialsRequest { host: host.into() });
        let CredentialsResponse { username, secret } = reply.message();
        assert_eq!((reply.status, &*username, &*secret), (0, expected.0, expected.1));
    }
}

#[test]
fn secrets_have_ids() {
    let method = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
    let reply = unary(method, GetSecretRequest { id: "npm".into() });
    assert_eq!((reply.status, reply.message::<GetSecretResponse>().data), (0, b"\0token".to_vec()));
    let reply = unary(method, GetSecretRequest { id: "ä%".into() });
    assert_eq!((reply.status, &*reply.text, reply.messages.len()), (5, "the build has no secret %C3%A4%25", 0));
}

#[test]
fn other_methods_are_not_implemented() {
    // BuildKit asks for credentials in another way then.
    for method in ["/moby.filesync.v1.Auth/GetTokenAuthority", "/moby.filesync.v1.Auth/FetchToken", "/x"] {
        assert_eq!(unary(method, HealthCheckRequest {}).status, 12, "{method}");
    }
}

#[test]
fn calls_go_on_side_by_side() {
    let statuses = run(session(), |engine| async move {
        let mut copy = engine.copy(&[("dir-name", "context")]).await;
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(engine.unary("/grpc.health.v1.Health/Check", &HealthCheckRequest {}).await.status);
        }
        copy.say(Packet::of(PacketType::Fin));
        statuses.push(copy.rest().await.status);
        statuses
    });
    assert_eq!(statuses.unwrap(), [0; 4]);
}

#[test]
fn messages_come_in_any_pieces() {
    let reply = run(session(), |engine| async move {
        let message = engine::framed(&GetSecretRequest { id: "npm".into() });
        let pieces = message.iter().map(|byte| Bytes::copy_from_slice(&[*byte])).collect();
        engine.call("/moby.buildkit.secrets.v1.Secrets/GetSecret", &[], pieces).await.rest().await
    });
    assert_eq!(reply.unwrap().message::<GetSecretResponse>().data, b"\0token");
}
