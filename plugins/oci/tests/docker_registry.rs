//! The client against a real docker-registry (Debian's package, 2.8), over sockets. Where that is not installed there
//! is nothing to test against, and a line says so; with `CI` set it is a failure.

#![allow(clippy::print_stderr, clippy::disallowed_methods)] // a test that is skipped has to say so, and CI to say that it is CI

mod support;

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cooperage_plugin_oci::client::{self, Actions, Client};
use cooperage_plugin_oci::{blobs, lists, manifests, upload};
use cooperage_sdk::ErrorKind;
use cooperage_sdk::roles::registry::{Arrival, Repository};
use support::sockets::Sockets;
use support::{World, digest, noise, password};

struct Server {
    process: Child,
    host: String,
    _directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a registry of its own for a test; with `htpasswd`, one that wants a password.
fn server(htpasswd: Option<&str>) -> Option<Server> {
    let found = Command::new("docker-registry").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "docker-registry is not installed");
        eprintln!("skipped: docker-registry is not installed");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let root = directory.path().display();
    let mut config = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}\n\
         http: {{addr: \"127.0.0.1:{port}\", secret: test}}\n"
    );
    if let Some(htpasswd) = htpasswd {
        std::fs::write(directory.path().join("htpasswd"), htpasswd).unwrap();
        config += &format!("auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n");
    }
    let path = directory.path().join("config.yml");
    std::fs::write(&path, config).unwrap();
    let log = File::create(directory.path().join("log")).unwrap();
    let process =
        Command::new("docker-registry").arg("serve").arg(&path).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let host = format!("127.0.0.1:{port}");
    let server = Server { process, host, _directory: directory };
    for _ in 0..200 {
        if TcpStream::connect(&server.host).is_ok() {
            return Some(server);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!(
        "docker-registry does not start: {}",
        std::fs::read_to_string(server._directory.path().join("log")).unwrap()
    );
}

fn repository(server: &Server, name: &str) -> Repository {
    Repository { plain_http: true, ..support::repository(&server.host, name) }
}

fn world() -> World<Sockets> {
    World::new(Sockets::new)
}

/// Pushes an image with one layer; gives its manifest.
fn push_image(world: &World<Sockets>, repository: &Repository, layer: &[u8], tag: &str, extra: &str) -> String {
    let client = world.client(repository, Actions::Push);
    let layer = world.keep(layer, "application/vnd.oci.image.layer.v1.tar");
    let config = world.keep(b"{}", "application/vnd.oci.image.config.v1+json");
    for blob in [&layer, &config] {
        upload::put(&client, blob, &[]).unwrap();
    }
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"{}","digest":"{}","size":2}},"layers":[{{"mediaType":"{}","digest":"{}","size":{}}}]{extra}}}"#,
        config.media_type, config.digest, layer.media_type, layer.digest, layer.size
    );
    let manifest = world.keep(manifest.as_bytes(), media_type);
    let tag = Some(tag).filter(|tag| !tag.is_empty());
    manifests::put(&client, &manifest, tag).unwrap();
    manifest.digest
}

#[test]
fn an_image_goes_there_and_back() {
    let Some(server) = server(None) else { return };
    let (here, there) = (world(), world());
    let repository = repository(&server, "team/app");
    let layer = noise(3 << 20);
    let manifest = push_image(&here, &repository, &layer, "1", "");

    let client = there.client(&repository, Actions::Pull);
    let resolved = manifests::resolve(&client, "1").unwrap();
    assert_eq!(resolved.digest, manifest);
    assert!(!there.has(&manifest));
    let fetched = manifests::get(&client, "1").unwrap();
    assert_eq!(fetched, resolved);
    assert_eq!(manifests::get(&client, &manifest).unwrap(), resolved);
    blobs::get(&client, &support::descriptor(&layer)).unwrap();
    assert_eq!(there.contents.borrow()[&digest(&layer)], layer);
    assert_eq!(lists::tags(&client).unwrap(), ["1"]);
}

#[test]
fn what_is_not_there() {
    let Some(server) = server(None) else { return };
    let world = world();
    let repository = repository(&server, "team/none");
    let client = world.client(&repository, Actions::Delete);
    let missing = digest(b"missing");
    assert!(!blobs::has(&client, &missing).unwrap());
    let error = manifests::resolve(&client, "latest").unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.context[1].starts_with("MANIFEST_UNKNOWN"), "{error:?}");
    assert_eq!(blobs::get(&client, &support::descriptor(b"missing")).unwrap_err().kind, ErrorKind::NotFound);
    let error = lists::tags(&client).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.hint.unwrap().contains("coop registry login"), "{:?}", error.context);
    assert!(lists::referrers(&client, &missing).unwrap().is_empty());
    assert_eq!(manifests::delete(&client, &missing).unwrap_err().kind, ErrorKind::NotFound);
    assert!(world.pauses.borrow().is_empty());
}

#[test]
fn blobs_are_sent_once_and_mounted_from_elsewhere() {
    let Some(server) = server(None) else { return };
    let world = world();
    let blob = world.keep(&noise(100_000), "application/octet-stream");
    let (first, second) = (repository(&server, "a"), repository(&server, "b"));
    let put = |repository: &Repository, from: &[String]| {
        let client = world.client(repository, Actions::Push).also_pull_from(from);
        upload::put(&client, &blob, from).unwrap()
    };
    assert_eq!(put(&first, &[]), Arrival::Uploaded);
    assert_eq!(put(&first, &[]), Arrival::Exists);
    assert_eq!(put(&second, &["nowhere".into(), "a".into()]), Arrival::Mounted);
    assert_eq!(put(&repository(&server, "c"), &["nowhere".into()]), Arrival::Uploaded);
}

#[test]
fn large_blobs_go_in_parts_and_go_on_after_a_fault() {
    let Some(server) = server(None) else { return };
    for (name, options, cut) in [
        ("whole", vec![], None),
        ("chunks", vec![("chunk-size".to_owned(), "5000000".to_owned())], None),
        ("cut", vec![], Some(7_000_000)),
        ("cut-chunk", vec![("chunk-size".to_owned(), "5000000".to_owned())], Some(4_000_000)),
        ("cut-at-once", vec![], Some(0)),
    ] {
        let (here, there) = (world(), world());
        let blob = here.keep(&noise(20_000_001), "application/octet-stream");
        let repository = Repository { options, ..repository(&server, name) };
        here.http.cut.set(cut);
        assert_eq!(upload::put(&here.client(&repository, Actions::Push), &blob, &[]).unwrap(), Arrival::Uploaded);
        assert_eq!(here.pauses.borrow().len(), usize::from(cut.is_some()), "{name}");
        assert_eq!(here.http.cut.get(), None);

        there.http.cut_answer.set(Some(9_999_999));
        blobs::get(&there.client(&repository, Actions::Pull), &blob).unwrap();
        assert!(there.has(&blob.digest), "{name}");
        assert_eq!(there.http.requests.get(), 2, "{name}");
    }
}

#[test]
fn many_tags_come_in_pages_and_can_be_deleted() {
    let Some(server) = server(None) else { return };
    let world = world();
    let repository = repository(&server, "tags");
    let mut digest = String::new();
    for tag in ["b", "a", "c"] {
        digest = push_image(&world, &repository, b"layer", tag, "");
    }
    let client = world.client(&repository, Actions::Delete);
    assert_eq!(lists::tags(&client).unwrap(), ["a", "b", "c"]);
    // This version deletes by digest only.
    let error = manifests::delete(&client, "a").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.hint.unwrap().contains("by digest only"));
    manifests::delete(&client, &digest).unwrap();
    assert_eq!(manifests::resolve(&client, "a").unwrap_err().kind, ErrorKind::NotFound);
}

#[test]
fn referrers_are_kept_under_a_tag_where_the_registry_keeps_none() {
    let Some(server) = server(None) else { return };
    let world = world();
    let repository = repository(&server, "signed");
    let subject = push_image(&world, &repository, b"layer", "1", "");
    let size = world.contents.borrow()[&subject].len();
    let extra = |kind: &str| {
        let descriptor = format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{subject}","size":{size}}}"#
        );
        format!(
            r#","artifactType":"application/vnd.test.{kind}","subject":{descriptor},"annotations":{{"k":"{kind}"}}"#
        )
    };
    let first = push_image(&world, &repository, b"signature", "", &extra("one"));
    let second = push_image(&world, &repository, b"signature", "", &extra("two"));
    push_image(&world, &repository, b"signature", "", &extra("two"));
    let found = lists::referrers(&world.client(&repository, Actions::Pull), &subject).unwrap();
    assert_eq!(found.iter().map(|d| d.digest.clone()).collect::<Vec<_>>(), [first, second]);
    let annotation = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(found[0].annotations, [annotation("k", "one"), annotation("artifactType", "application/vnd.test.one")]);
}

#[test]
fn passwords() {
    // alice:s3cret, as `htpasswd -Bbn` writes it.
    let Some(server) = server(Some(HTPASSWD)) else { return };
    let world = world();
    let anonymous = repository(&server, "private");
    let error = manifests::resolve(&world.client(&anonymous, Actions::Pull), "1").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    assert_eq!(error.hint, Some(format!("log in with `coop registry login {}`", server.host)));

    let alice = Repository { credential: password(), ..anonymous.clone() };
    client::login(&Client::without_repository(world.edge(), &alice).unwrap()).unwrap();
    push_image(&world, &alice, &noise(1000), "1", "");
    let before = world.http.requests.get();
    manifests::resolve(&world.client(&alice, Actions::Pull), "1").unwrap();
    assert_eq!(world.http.requests.get(), before + 1, "that it is Basic is remembered");

    let mut wrong = alice.clone();
    wrong.credential.as_mut().unwrap().password = "guess".into();
    let error = client::login(&Client::without_repository(world.edge(), &wrong).unwrap()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    assert!(error.hint.unwrap().contains("renew"));
}

const HTPASSWD: &str = "alice:$2y$05$VHRNPMGoCkMmdHqMq.f9Y.6woDv3DBDdwnSpkA5g20VtW4O..Y8Eu\n";
