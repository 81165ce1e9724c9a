//! The client against real servers, over sockets.

mod support;

use cooperage_plugin_ftp::client::Client;
use cooperage_plugin_ftp::client::session::Mode;
use cooperage_plugin_ftp::client::upload::Upload;
use cooperage_plugin_ftp::task::parameters::Parameters;
use cooperage_plugin_ftp::task::{self, Done, Outside};
use cooperage_plugin_ftp::url::Url;
use cooperage_plugin_ftp::{edge, registry, server, source};
use cooperage_sdk::layer::LayerWriter;
use cooperage_sdk::roles::registry::{Arrival, Credential, Repository};
use cooperage_sdk::{Error, ErrorKind, Result};
use serde_json::{Value, json};
use support::servers::{ALL, Kind, Running, start};
use support::{Tree, World, digest, noise, unpacked};

/// Runs an action; what was done, and the files of the layer.
fn act(running: &Running, input: Option<&Tree>, parameters: Value) -> Result<(Done, Vec<String>)> {
    let world = World::default();
    let parameters: Parameters = serde_json::from_value(parameters).unwrap();
    let url: Url = parameters.url.parse()?;
    let mut client = world.client(&running.server);
    let outside = Outside { input: input.map(|tree| tree as &dyn edge::Files), store: &world };
    let (done, layer) = task::run(&mut client, &outside, &url, &parameters, || LayerWriter::to(Vec::new()))?;
    Ok((done, layer.map(|layer| unpacked(&layer.end().unwrap())).unwrap_or_default()))
}

fn url(running: &Running) -> String {
    format!("ftp://127.0.0.1:{}/{}", running.server.port, running.base)
}

fn each(test: impl Fn(&Running)) {
    ALL.into_iter().filter_map(start).for_each(|running| test(&running));
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind)
}

#[test]
fn files_go_up_and_come_down() {
    each(|running| {
        let url = url(running);
        let large = noise(3 << 20);
        let tree =
            Tree::of(&[("a.txt", b"one\n"), ("d/e/large", &large), ("d/name with  spaces", b""), (".hidden", b"h")]);
        let (done, _) = act(running, Some(&tree), json!({ "url": url, "upload": { "to": "new/dir" } })).unwrap();
        assert_eq!((done.files, done.bytes), (4, 4 + (3 << 20) + 1));
        assert_eq!(std::fs::read(running.files.join("new/dir/d/e/large")).unwrap(), large);
        assert_eq!(std::fs::read(running.files.join("new/dir/.hidden")).unwrap(), b"h");

        let (done, files) = act(running, None, json!({ "url": url, "download": { "from": "new" } })).unwrap();
        assert_eq!((done.files, done.bytes), (4, 4 + (3 << 20) + 1));
        let expected = [
            "-rw-r--r-- dir/.hidden 1",
            "-rw-r--r-- dir/a.txt 4",
            "-rw-r--r-- dir/d/e/large 3145728",
            "-rw-r--r-- dir/d/name with spaces 0",
            "dir/",
            "dir/d/",
            "dir/d/e/",
        ];
        let mut files = files;
        files.sort();
        assert_eq!(files, expected);

        let one = json!({ "url": url, "download": { "from": "new/dir/a.txt" } });
        assert_eq!(act(running, None, one).unwrap().1, ["-rw-r--r-- a.txt 4"]);
        let named = json!({ "url": url, "download": { "from": "new/dir/a.txt", "to": "x/y" } });
        assert_eq!(act(running, None, named).unwrap().1, ["-rw-r--r-- x/y 4"]);
        let within = json!({ "url": url, "download": { "from": "new/dir/a.txt", "to": "x/" } });
        assert_eq!(act(running, None, within).unwrap().1, ["-rw-r--r-- x/a.txt 4"]);

        let (done, _) = act(running, None, json!({ "url": url, "list": "new/dir" })).unwrap();
        let entries = done.entries.unwrap();
        let names: Vec<&str> = entries.as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
        assert_eq!(names, [".hidden", "a.txt", "d"]);
        assert_eq!(
            (&entries[1]["kind"], &entries[1]["size"], &entries[2]["kind"]),
            (&json!("file"), &json!(4), &json!("directory"))
        );
    });
}

#[test]
fn single_files_and_what_has_their_names() {
    each(|running| {
        let url = url(running);
        let tree = Tree::of(&[("dist/a.txt", b"one")]);
        for (to, path) in [("", "a.txt"), ("d/", "d/a.txt"), ("d/b", "d/b"), ("d/b", "d/b")] {
            let (done, _) =
                act(running, Some(&tree), json!({ "url": url, "upload": { "from": "dist/a.txt", "to": to } })).unwrap();
            assert!(done.url.ends_with(path), "{}", done.url);
            assert_eq!(std::fs::read(running.files.join(path)).unwrap(), b"one");
        }
        let left: Vec<_> =
            std::fs::read_dir(running.files.join("d")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        let missing = act(running, Some(&tree), json!({ "url": url, "upload": { "from": "nothing" } }));
        assert_eq!(kind(missing), Some(ErrorKind::NotFound));
        let direct = json!({ "url": url, "upload": { "from": "dist/a.txt", "to": "c" }, "atomic": false });
        act(running, Some(&tree), direct).unwrap();
        assert!(running.files.join("c").exists());
    });
}

#[test]
fn directories_are_made_renamed_and_removed() {
    each(|running| {
        let url = url(running);
        act(running, None, json!({ "url": url, "make_directory": "a/b/c" })).unwrap();
        act(running, None, json!({ "url": url, "make_directory": "a/b/c" })).unwrap();
        act(running, None, json!({ "url": url, "rename": { "from": "a/b", "to": "a/x" } })).unwrap();
        assert!(running.files.join("a/x/c").is_dir());
        std::fs::write(running.files.join("kept"), "k").unwrap();
        std::os::unix::fs::symlink("../..", running.files.join("a/x/out")).unwrap();
        std::os::unix::fs::symlink(running.files.join("kept"), running.files.join("a/x/file")).unwrap();
        let full = act(running, None, json!({ "url": url, "delete": { "path": "a" } }));
        assert!(full.is_err() && running.files.join("a/x/c").exists());
        let (done, _) =
            act(running, None, json!({ "url": url, "delete": { "path": "a", "recursive": true } })).unwrap();
        assert_eq!(done.removed, Some(5));
        assert!(!running.files.join("a").exists() && running.files.join("kept").exists());
        let gone = act(running, None, json!({ "url": url, "delete": { "path": "a", "recursive": true } }));
        assert_eq!(kind(gone), Some(ErrorKind::NotFound));
        let gone = act(running, None, json!({ "url": url, "rename": { "from": "a", "to": "b" } }));
        assert_eq!(kind(gone), Some(ErrorKind::NotFound));
        let gone = act(running, None, json!({ "url": url, "download": { "from": "a" } }));
        assert_eq!(kind(gone), Some(ErrorKind::NotFound));
        let gone = act(running, None, json!({ "url": url, "list": "a" }));
        assert_eq!(kind(gone), Some(ErrorKind::NotFound));
    });
}

#[test]
fn mirrors_send_what_differs() {
    each(|running| {
        let url = url(running);
        let mirror = |tree: &Tree, delete: bool| {
            let wanted = json!({ "url": url, "mirror": { "to": "m", "delete": delete } });
            let (done, _) = act(running, Some(tree), wanted).unwrap();
            (done.files, done.unchanged.unwrap(), done.removed.unwrap())
        };
        let first = Tree::of(&[("a", b"1"), ("b/c", b"2"), ("b/d", b"3")]);
        assert_eq!(mirror(&first, false), (3, 0, 0));
        assert_eq!(mirror(&first, false), (0, 3, 0));
        let second = Tree::of(&[("a", b"1"), ("b/c", b"5"), ("e/f", b"6")]);
        assert_eq!(mirror(&second, false), (2, 1, 0));
        assert!(running.files.join("m/b/d").exists());
        assert_eq!(mirror(&second, true), (0, 3, 1));
        assert!(!running.files.join("m/b/d").exists());
        // What somebody else changed is made good.
        std::fs::write(running.files.join("m/a"), "other").unwrap();
        std::fs::create_dir_all(running.files.join("m/extra/deep")).unwrap();
        std::fs::write(running.files.join("m/extra/deep/x"), "x").unwrap();
        running.hand_over();
        assert_eq!(mirror(&second, true), (1, 2, 3));
        assert_eq!(std::fs::read(running.files.join("m/a")).unwrap(), b"1");
        assert!(!running.files.join("m/extra").exists());
        // A file where a directory was, and the other way round.
        let third = Tree::of(&[("a/x", b"1"), ("b", b"2")]);
        let refused = act(running, Some(&third), json!({ "url": url, "mirror": { "to": "m" } }));
        assert_eq!(kind(refused), Some(ErrorKind::Conflict));
        mirror(&third, true);
        assert_eq!(std::fs::read(running.files.join("m/a/x")).unwrap(), b"1");
        assert_eq!(std::fs::read(running.files.join("m/b")).unwrap(), b"2");
    });
}

#[test]
fn mirrors_read_files_no_more_often_than_they_must() {
    each(|running| {
        let opened = |tree: &Tree| {
            let wanted = json!({ "url": url(running), "mirror": { "to": "m" } });
            act(running, Some(tree), wanted).unwrap();
            tree.1.take()
        };
        let first = Tree::of(&[("a", b"1"), ("b", b"2")]);
        assert_eq!(opened(&first), 2, "hashed while they are sent");
        assert_eq!(opened(&first), 2, "hashed");
        let second = Tree::of(&[("a", b"longer"), ("b", b"3"), ("c", b"4")]);
        assert_eq!(opened(&second), 4, "only what may be unchanged is hashed before it is sent");
        assert_eq!(opened(&second), 3);
        let (done, _) = act(running, Some(&second), json!({ "url": url(running), "mirror": { "to": "m" } })).unwrap();
        assert_eq!((done.files, done.unchanged), (0, Some(3)));
    });
}

#[test]
fn names_of_whiteouts_are_not_brought_into_trees() {
    each(|running| {
        std::fs::create_dir_all(running.files.join("d/.wh.e")).unwrap();
        for name in ["d/f", "d/.wh.f", "d/.wh.e/g"] {
            std::fs::write(running.files.join(name), "x").unwrap();
        }
        let (done, files) = act(running, None, json!({ "url": url(running), "download": { "from": "d/" } })).unwrap();
        assert_eq!((done.files, files), (1, vec!["-rw-r--r-- f 1".to_owned()]));
        assert_eq!(sourced(running, "d/", json!({})).unwrap().1, ["-rw-r--r-- f 1"]);
        for wanted in [
            json!({ "from": "d/.wh.f" }),
            json!({ "from": "d/f", "to": ".wh.x" }),
            json!({ "from": "d/", "to": "a/.wh.x" }),
        ] {
            let error = act(running, None, json!({ "url": url(running), "download": wanted })).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidInput);
            assert!(error.message.contains("`.wh.`"), "{error:?}");
        }
        let named = json!({ "from": "d/.wh.f", "to": "g" });
        assert_eq!(
            act(running, None, json!({ "url": url(running), "download": named })).unwrap().1,
            ["-rw-r--r-- g 1"]
        );
        assert_eq!(kind(sourced(running, "d/f", json!({ "filename": ".wh.f" }))), Some(ErrorKind::InvalidInput));
    });
}

#[test]
fn text_keeps_its_lines() {
    each(|running| {
        let url = url(running);
        let tree = Tree::of(&[("t", b"a\nb\n")]);
        act(running, Some(&tree), json!({ "url": url, "upload": {}, "mode": "ascii" })).unwrap();
        assert_eq!(std::fs::read(running.files.join("t")).unwrap(), b"a\nb\n");
        let down = json!({ "url": url, "download": { "from": "t" }, "mode": "ascii" });
        assert_eq!(act(running, None, down).unwrap().1, ["-rw-r--r-- t 4"]);
    });
}

#[test]
fn uploads_go_on_where_they_broke() {
    each(|running| {
        let url = url(running);
        let bytes = noise(1 << 20);
        let tree = Tree::of(&[("f", &bytes)]);
        let wanted = json!({ "url": url, "upload": {}, "resume": true });
        // What an earlier run left: sent by the same client, so it has the name that this one looks for.
        let parameters: Parameters = serde_json::from_value(wanted.clone()).unwrap();
        let world = World::default();
        let mut client = world.client(&running.server);
        let step = cooperage_sdk::events::Step::new("test");
        let mut sender = task::send::Sender::new(&parameters, &tree, &step, 0).unwrap();
        let broken = support::Failing(bytes.clone(), 1 << 19);
        let base = client.absolute(running.base).unwrap();
        let path = format!("{}/f", base.trim_end_matches('/'));
        assert_eq!(kind(sender.file(&mut client, &broken, &path)), Some(ErrorKind::Internal));
        assert!(!running.files.join("f").exists());
        act(running, Some(&tree), wanted).unwrap();
        assert_eq!(std::fs::read(running.files.join("f")).unwrap(), bytes);
        let left: Vec<_> = std::fs::read_dir(&running.files).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["f"]);
    });
}

#[test]
fn parts_are_continued_by_the_server() {
    each(|running| {
        let bytes = noise(1 << 20);
        let world = World::default();
        let mut client = world.client(&running.server);
        let base = client.absolute(running.base).unwrap();
        let path = format!("{}/f", base.trim_end_matches('/'));
        std::fs::write(running.files.join(".f.mark.coop-part"), &bytes[..300_000]).unwrap();
        running.hand_over();
        let mut first = None;
        let upload = Upload {
            payload: &bytes,
            path: &path,
            mode: Mode::Binary,
            atomic: true,
            resume: Some("mark"),
            permissions: None,
        };
        upload.run(&mut client, &mut |done| first = first.or(Some(done))).unwrap();
        assert_eq!(std::fs::read(running.files.join("f")).unwrap(), bytes);
        assert_eq!(first, Some(1 << 20), "it went on after 300,000 bytes, in one piece");
    });
}

#[test]
fn what_fails_here_leaves_nothing_there() {
    each(|running| {
        let world = World::default();
        let mut client = world.client(&running.server);
        let base = client.absolute(running.base).unwrap();
        for atomic in [true, false] {
            let failing = support::Failing(noise(1 << 16), 1 << 15);
            let path = format!("{}/f", base.trim_end_matches('/'));
            let upload =
                Upload { payload: &failing, path: &path, mode: Mode::Binary, atomic, resume: None, permissions: None };
            let error = upload.run(&mut client, &mut |_| {}).unwrap_err();
            assert_eq!(error.message, "the disk is on fire");
            assert_eq!(std::fs::read_dir(&running.files).unwrap().count(), 0, "{error:?}");
        }
    });
}

#[test]
fn wrong_credentials() {
    let Some(running) = start(Kind::Pyftpdlib) else { return };
    let world = World::default();
    let login = server::Login::new("alice", Some("wrong".to_owned())).unwrap();
    let server = server::Server { login, ..running.server.clone() };
    let error = world.client(&server).again(|session| session.command("NOOP", None)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated, "{error:?}");
    assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    assert!(world.pauses.borrow().is_empty(), "a refused password is not tried again");
}

/// What a URL stands for, and its files.
fn sourced(running: &Running, path: &str, parameters: Value) -> Result<(String, Vec<String>)> {
    let world = World::default();
    let parameters: source::Parameters = serde_json::from_value(parameters).unwrap();
    let url: Url = format!("{}{path}", url(running)).parse()?;
    let mut client = world.client(&running.server);
    let version = source::resolve(&mut client, &url, &parameters)?;
    let value = if version.immutable { "" } else { &version.value };
    let layer = source::fetch(&mut client, &world, &url, &parameters, value, LayerWriter::to(Vec::new()))?;
    Ok((version.value, unpacked(&layer.end()?)))
}

#[test]
fn sources() {
    each(|running| {
        std::fs::create_dir_all(running.files.join("d/e")).unwrap();
        std::fs::write(running.files.join("d/e/f"), "one").unwrap();
        let (first, files) = sourced(running, "d/e/f", json!({})).unwrap();
        assert_eq!(files, ["-rw-r--r-- f 3"]);
        assert_eq!(sourced(running, "d/e/f", json!({})).unwrap().0, first);
        let (listed, files) = sourced(running, "d/", json!({})).unwrap();
        assert_eq!(files, ["e/", "-rw-r--r-- e/f 3"]);
        std::fs::write(running.files.join("d/e/f"), "three").unwrap();
        assert_ne!(sourced(running, "d/e/f", json!({})).unwrap().0, first);
        // Lists for people do not tell times well enough to tell versions apart.
        let tells = running.base.is_empty();
        assert_eq!((sourced(running, "d/", json!({})).unwrap().0 != listed, listed.is_empty()), (tells, !tells));

        let right = digest(b"three");
        let (version, files) = sourced(running, "d/e/f", json!({ "checksum": right })).unwrap();
        assert_eq!((version, files), (right, vec!["-rw-r--r-- f 5".to_owned()]));
        let named = json!({ "filename": "other" });
        assert_eq!(sourced(running, "d/e/f", named).unwrap().1, ["-rw-r--r-- other 5"]);
        let outside = json!({ "filename": "../other" });
        assert_eq!(kind(sourced(running, "d/e/f", outside)), Some(ErrorKind::InvalidInput));
        let wrong = json!({ "checksum": digest(b"one") });
        assert_eq!(kind(sourced(running, "d/e/f", wrong)), Some(ErrorKind::Conflict));
        let error: Error = sourced(running, "d/e", json!({})).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("a URL of a directory ends in a slash"), "{error:?}");
        assert_eq!(kind(sourced(running, "d/none", json!({}))), Some(ErrorKind::NotFound));
        assert_eq!(kind(sourced(running, "none/", json!({}))), Some(ErrorKind::NotFound));
    });
}

#[test]
fn changed_files_are_not_the_version_that_was_resolved() {
    let Some(running) = start(Kind::Pyftpdlib) else { return };
    std::fs::write(running.files.join("f"), "one").unwrap();
    let world = World::default();
    let mut client = world.client(&running.server);
    let (url, parameters): (Url, _) = (format!("{}f", url(&running)).parse().unwrap(), source::Parameters::default());
    let version = source::resolve(&mut client, &url, &parameters).unwrap();
    std::fs::write(running.files.join("f"), "three").unwrap();
    let fetched = source::fetch(&mut client, &world, &url, &parameters, &version.value, LayerWriter::to(Vec::new()));
    assert_eq!(fetched.err().unwrap().kind, ErrorKind::Conflict);
}

/// Does something with the layout of a repository.
fn layout<T>(
    running: &Running,
    world: &World,
    name: &str,
    work: impl FnOnce(&mut registry::Layout) -> Result<T>,
) -> Result<T> {
    let password = running.server.login.password.clone().unwrap();
    let repository = Repository {
        host: format!("127.0.0.1:{}", running.server.port),
        name: name.into(),
        plain_http: true,
        credential: Some(Credential {
            username: running.server.login.username.clone(),
            password,
            identity_token: false,
        }),
        options: vec![("root".into(), format!("{}images", running.base))],
    };
    let place = registry::place::Place::new(&repository)?;
    let mut client = Client::new(&support::Sockets, world, &place.server, 3);
    let patience = registry::lock::Patience::new(place.server.idle);
    work(&mut registry::Layout::new(&mut client, world, &place, patience))
}

#[test]
fn images_are_pushed_and_pulled() {
    each(|running| {
        let world = World { sleeps: true, ..World::default() };
        let blob = world.keep(&noise(200_000), "application/vnd.oci.image.layer.v1.tar");
        let manifest = |note: &str, subject: Option<&str>| {
            let mut manifest = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": { "mediaType": "application/vnd.example", "digest": blob.digest, "size": blob.size },
                "layers": [],
                "annotations": { "note": note },
            });
            if let Some(subject) = subject {
                manifest["subject"] = json!({ "digest": subject });
            }
            world.keep(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json")
        };
        let (one, two) = (manifest("one", None), manifest("two", None));
        let three = manifest("three", Some(&one.digest));
        let at = |name: &str, work: &dyn Fn(&mut registry::Layout) -> Result<String>| {
            layout(running, &world, name, |l| work(l))
        };
        assert_eq!(kind(at("team/app", &|l| l.resolve("latest").map(|d| d.digest))), Some(ErrorKind::NotFound));
        assert_eq!(layout(running, &world, "team/app", |l| l.put_blob(&blob)).unwrap(), Arrival::Uploaded);
        assert_eq!(layout(running, &world, "team/app", |l| l.put_blob(&blob)).unwrap(), Arrival::Exists);
        assert!(layout(running, &world, "team/app", |l| l.has_blob(&blob.digest)).unwrap());
        assert!(!layout(running, &world, "team/app", |l| l.has_blob(&one.digest)).unwrap());
        for (manifest, tag) in [(&one, Some("latest")), (&one, Some("1")), (&two, Some("latest")), (&three, None)] {
            layout(running, &world, "team/app", |l| l.put_manifest(manifest, tag)).unwrap();
        }
        assert_eq!(layout(running, &world, "team/app", |l| l.tags()).unwrap(), ["1", "latest"]);
        assert_eq!(layout(running, &world, "team/app", |l| l.resolve("latest")).unwrap(), two);
        assert_eq!(layout(running, &world, "team/app", |l| l.resolve(&one.digest)).unwrap(), one);
        assert_eq!(layout(running, &world, "team/app", |l| l.get_manifest("1")).unwrap(), one);
        let referrers = layout(running, &world, "team/app", |l| l.referrers(&one.digest)).unwrap();
        assert_eq!(referrers.len(), 1);
        assert_eq!(referrers[0].digest, three.digest);
        assert!(referrers[0].annotations.contains(&("note".into(), "three".into())));

        let files = running.files.join("images/team/app");
        assert_eq!(std::fs::read_to_string(files.join("oci-layout")).unwrap(), r#"{"imageLayoutVersion":"1.0.0"}"#);
        assert!(!files.join(".coop-lock").exists());
        let blobs = std::fs::read_dir(files.join("blobs/sha256")).unwrap().count();
        assert_eq!(blobs, 4);

        // Into an empty store, and from a server that has something else under the name.
        let other = World::default();
        layout(running, &other, "team/app", |l| l.get_blob(&blob)).unwrap();
        assert!(other.has(&blob.digest));
        let hex = blob.digest.strip_prefix("sha256:").unwrap();
        std::fs::write(files.join("blobs/sha256").join(hex), noise(200_000).iter().map(|b| !b).collect::<Vec<_>>())
            .unwrap();
        let other = World::default();
        assert_eq!(kind(layout(running, &other, "team/app", |l| l.get_blob(&blob))), Some(ErrorKind::Conflict));
        assert!(other.contents.borrow().is_empty());

        layout(running, &world, "team/app", |l| l.delete("1")).unwrap();
        assert_eq!(kind(layout(running, &world, "team/app", |l| l.delete("1"))), Some(ErrorKind::NotFound));
        layout(running, &world, "team/app", |l| l.delete(&two.digest)).unwrap();
        assert_eq!(layout(running, &world, "team/app", |l| l.tags()).unwrap(), [""; 0]);
    });
}

#[test]
fn tags_pushed_at_once_are_all_there() {
    // The threads of pyftpdlib share one working directory: where it goes, all sessions are lost.
    each(|running| {
        std::thread::scope(|scope| {
            for number in 0..6 {
                scope.spawn(move || {
                    let world = World { sleeps: true, ..World::default() };
                    let text = format!(r#"{{"config":{{}},"number":{number}}}"#);
                    let manifest = world.keep(text.as_bytes(), "application/vnd.oci.image.manifest.v1+json");
                    let tag = format!("t{number}");
                    layout(running, &world, "a", |l| l.put_manifest(&manifest, Some(&tag))).unwrap();
                });
            }
        });
        let tags = layout(running, &World::default(), "a", |l| l.tags()).unwrap();
        assert_eq!(tags, ["t0", "t1", "t2", "t3", "t4", "t5"]);
    });
}

#[test]
fn locks_that_were_left_behind_are_broken() {
    each(|running| {
        // Pauses take no time here, so three minutes are over at once.
        let world = World::default();
        let directory = running.files.join("images/a");
        std::fs::create_dir_all(directory.join(".coop-lock/dead")).unwrap();
        running.hand_over();
        let manifest = world.keep(br#"{"config":{}}"#, "application/vnd.oci.image.manifest.v1+json");
        layout(running, &world, "a", |l| l.put_manifest(&manifest, Some("t"))).unwrap();
        assert_eq!(layout(running, &world, "a", |l| l.tags()).unwrap(), ["t"]);
        let waited: std::time::Duration = world.pauses.borrow().iter().sum();
        assert!(waited.as_secs() >= 180, "{waited:?}");
        let left: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
    });
}
