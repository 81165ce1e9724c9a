//! Blobs and manifests on their way through faults, and away from what is not what it claims to be.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use cooperage_plugin_oci::client::Actions;
use cooperage_plugin_oci::{blobs, manifests, upload};
use cooperage_sdk::roles::registry::{Arrival, Repository};
use cooperage_sdk::{Error, ErrorKind};
use support::{Reply, Script, Seen, World, descriptor, digest, noise, password, reply, repository, script};

fn app() -> Repository {
    repository("registry.example", "app")
}

fn get_blob(world: &World<Script>, bytes: &[u8]) -> cooperage_sdk::Result<()> {
    let repository = app();
    let result = blobs::get(&world.client(&repository, Actions::Pull), &descriptor(bytes));
    assert_eq!(result.is_ok(), world.has(&digest(bytes)));
    result
}

fn get_manifest(world: &World<Script>, reference: &str) -> cooperage_sdk::Result<cooperage_sdk::Descriptor> {
    let repository = app();
    manifests::get(&world.client(&repository, Actions::Pull), reference)
}

/// Serves a blob that breaks off after 3000 bytes each time; with `ranges`, it can be continued.
fn breaking(bytes: Vec<u8>, ranges: bool) -> World<Script> {
    let serve = move |from: usize, most: usize| {
        let part = bytes[from..].to_vec();
        let (whole, size) = (part.len() <= most, bytes.len());
        let answer = reply(if from > 0 { 206 } else { 200 });
        let range = format!("bytes {from}-{}/{size}", size - 1);
        let answer = if from > 0 { answer.header("content-range", range) } else { answer };
        let answer = answer.body(&part[..part.len().min(most)]);
        if whole { answer } else { answer.breaks() }
    };
    let connections = Cell::new(0);
    script(move |seen| {
        connections.set(connections.get() + 1);
        let from = seen.headers.get("range").map_or(0, |range| {
            range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')).unwrap().parse().unwrap()
        });
        Some(if ranges { serve(from, 3000) } else { serve(0, 3000 * connections.get()) })
    })
}

#[test]
fn a_broken_blob_goes_on_where_it_broke() {
    let bytes = noise(10_000);
    let world = breaking(bytes.clone(), true);
    get_blob(&world, &bytes).unwrap();
    let seen = world.http.seen.borrow();
    let ranges: Vec<_> = seen.iter().map(|seen| seen.headers.get("range").unwrap_or("")).collect();
    assert_eq!(ranges, ["", "bytes=3000-", "bytes=6000-", "bytes=9000-"]);
    assert_eq!(world.pauses.borrow().len(), 3);
}

#[test]
fn a_server_without_ranges_sends_it_again() {
    let bytes = noise(10_000);
    let world = breaking(bytes.clone(), false);
    get_blob(&world, &bytes).unwrap();
    assert_eq!(world.lines().len(), 4);
}

#[test]
fn patience_ends() {
    let bytes = noise(10_000);
    for broken in [|| None, || Some(reply(200).breaks()), || Some(reply(200)), || Some(reply(503))] {
        let world = script(move |_| broken());
        assert_eq!(get_blob(&world, &bytes).unwrap_err().kind, ErrorKind::Unavailable);
        assert_eq!(world.lines().len(), 6);
    }
}

#[test]
fn blobs_that_are_not_what_they_should_be() {
    let bytes = noise(10_000);
    let longer = noise(10_001);
    let other = vec![0; 10_000];
    let answers: Vec<Box<dyn Fn() -> Reply>> = vec![
        Box::new(move || reply(200).body(longer.clone())),
        Box::new(move || reply(200).body(other.clone())),
        Box::new(|| reply(200).header("content-length", "9999")),
        Box::new(|| reply(206).header("content-range", "bytes 5-9/10000")),
    ];
    for answer in answers {
        let world = script(move |_| Some(answer()));
        assert_eq!(get_blob(&world, &bytes).unwrap_err().kind, ErrorKind::Conflict);
        assert_eq!(world.lines().len(), 1);
    }
}

#[test]
fn a_blob_that_does_not_end_is_cut_off() {
    let world = script(|_| Some(reply(200).body(vec![0; 1 << 20])));
    let error = get_blob(&world, &noise(1500)).unwrap_err();
    assert_eq!(error.context, ["it has more than the announced 1500 bytes"]);
}

#[test]
fn a_part_from_another_place_is_refused() {
    let bytes = noise(10_000);
    for range in ["bytes 4000-9999/10000", "bytes 3000-9998/9999", "nonsense", ""] {
        let part = bytes.clone();
        let world = script(move |seen| {
            Some(match seen.headers.get("range") {
                None => reply(200).body(&part[..3000]).breaks(),
                Some(_) => reply(206).header("content-range", range).body(&part[3000..]),
            })
        });
        assert_eq!(get_blob(&world, &bytes).unwrap_err().kind, ErrorKind::Conflict, "{range}");
    }
}

#[test]
fn the_wish_of_the_server_is_heeded_up_to_a_point() {
    let bytes = noise(10);
    for (asked, expected) in [
        ("7", vec![Duration::from_secs(7)]),
        ("Sun, 06 Nov 1994 08:49:57 GMT", vec![Duration::from_secs(20)]),
        ("100000", vec![]),
    ] {
        let body = bytes.clone();
        let first = Cell::new(true);
        let world = script(move |_| {
            let busy = reply(429).header("retry-after", asked).body(r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#);
            Some(if first.replace(false) { busy } else { reply(200).body(body.clone()) })
        });
        let result = get_blob(&world, &bytes);
        assert_eq!(*world.pauses.borrow(), expected, "{asked}");
        match result {
            Ok(()) => assert!(!expected.is_empty()),
            Err(error) => assert_eq!((error.kind, error.retry_after), (ErrorKind::Unavailable, Some(100_000_000))),
        }
    }
}

#[test]
fn what_is_there_is_not_fetched() {
    let world = script(|_| None);
    world.keep(b"x", "application/octet-stream");
    get_blob(&world, b"x").unwrap();
    assert!(world.lines().is_empty());
}

#[test]
fn redirects_lose_the_authorization_and_never_the_encryption() {
    let bytes = noise(100);
    let serve = |location: &'static str| {
        let body = bytes.clone();
        script(move |seen: &Seen| {
            Some(match seen.url.split('/').nth(2).unwrap() {
                "registry.example" if seen.url.ends_with("/moved") => reply(200).body(body.clone()),
                "registry.example" if seen.authorization().is_empty() => reply(401).header("www-authenticate", "Basic"),
                "registry.example" => reply(307).header("location", location),
                _ => reply(200).body(body.clone()),
            })
        })
    };
    let repository = Repository { credential: password(), ..app() };
    let get = |world: &World<Script>| blobs::get(&world.client(&repository, Actions::Pull), &descriptor(&bytes));

    let world = serve("https://storage.example/blob?signature=1");
    get(&world).unwrap();
    assert_eq!(world.lines()[2], "GET https://storage.example/blob?signature=1");
    assert_eq!(world.http.seen.borrow()[2].authorization(), "");

    let world = serve("http://storage.example/blob");
    assert_eq!(get(&world).unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(world.lines().len(), 2);

    let world = serve("http://registry.example/moved");
    get(&world).unwrap();
    assert_eq!(world.lines()[2], "GET https://registry.example/moved");
    assert_eq!(world.http.seen.borrow()[2].authorization(), "Basic YWxpY2U6czNjcmV0");

    for astray in ["", "ftp://x/", "https://user@x/", "https://x/\u{1}"] {
        assert!(get(&serve(astray)).is_err(), "{astray}");
    }
    let circle = script(|_| Some(reply(302).header("location", "/v2/again")));
    assert_eq!(get(&circle).unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(circle.lines().len(), 9);
}

#[test]
fn manifests_that_are_not_what_they_should_be() {
    let manifest = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
    let good = || reply(200).header("content-type", "application/vnd.oci.image.manifest.v1+json").body(&manifest[..]);
    let kind = |answer: fn() -> Reply, reference: &str| {
        let world = script(move |_| Some(answer()));
        let result = get_manifest(&world, reference).map(|found| found.media_type);
        assert_eq!(world.contents.borrow().len(), usize::from(result.is_ok()));
        result.map_err(|error: Error| error.kind)
    };
    let world = script(move |_| Some(good()));
    assert_eq!(get_manifest(&world, "1").unwrap().digest, digest(manifest));

    assert_eq!(kind(|| reply(200).body("{}"), &digest(b"other")), Err(ErrorKind::Conflict));
    assert_eq!(
        kind(|| reply(200).header("docker-content-digest", digest(b"x")).body(r#"{"manifests":[]}"#), "1"),
        Err(ErrorKind::Conflict)
    );
    assert_eq!(
        kind(|| reply(200).header("docker-content-digest", digest(b"x")).body("{}"), &digest(b"{}")),
        Err(ErrorKind::Conflict)
    );
    assert_eq!(kind(|| reply(200).body(vec![b' '; (4 << 20) + 1]), "1"), Err(ErrorKind::Limit));
    assert_eq!(kind(|| reply(200).header("content-length", "99999999999"), "1"), Err(ErrorKind::Limit));
    assert_eq!(
        kind(|| reply(200).header("content-length", "5").body(r#"{"manifests":[]}"#), "1"),
        Err(ErrorKind::Unavailable)
    );
    assert_eq!(kind(|| reply(200).body(r#"{"schemaVersion":1}"#), "1"), Err(ErrorKind::Unsupported));
    assert_eq!(kind(|| reply(200).body("<html>"), "1"), Err(ErrorKind::Conflict));
    let index = || reply(200).header("content-type", "text/plain").body(r#"{"manifests":[]}"#);
    assert_eq!(kind(index, "1").as_deref(), Ok(manifests::OCI_INDEX));
}

#[test]
fn resolving() {
    let found = digest(b"manifest");
    let head = |with: &'static [(&'static str, &'static str)]| {
        script(move |seen| {
            let all = with.iter().fold(reply(200), |answer, (name, value)| answer.header(name, *value));
            Some(if seen.method == "HEAD" { all } else { reply(200).body(r#"{"manifests":[]}"#) })
        })
    };
    let resolve = |world: &World<Script>, reference: &str| {
        let repository = app();
        manifests::resolve(&world.client(&repository, Actions::Pull), reference)
    };
    let leaked: &'static str = found.clone().leak();
    let full: &'static [_] = vec![
        ("Docker-Content-Digest", leaked),
        ("Content-Type", "application/vnd.oci.image.index.v1+json; charset=utf-8"),
        ("Content-Length", "8"),
    ]
    .leak();
    let world = head(full);
    let resolved = resolve(&world, "1").unwrap();
    assert_eq!((resolved.digest.as_str(), resolved.size), (leaked, 8));
    assert_eq!(resolved.media_type, "application/vnd.oci.image.index.v1+json");
    assert_eq!(resolve(&world, &digest(b"other")).unwrap_err().kind, ErrorKind::Conflict);
    assert!(world.http.seen.borrow()[0].headers.get("accept").unwrap().contains("manifest.list.v2+json"));

    // Without one of them, the manifest itself is asked.
    for missing in 0..3 {
        let mut some = full.to_vec();
        some.remove(missing);
        let world = head(some.leak());
        assert_eq!(resolve(&world, "1").unwrap().digest, digest(br#"{"manifests":[]}"#), "{missing}");
    }
    let world = head(vec![full[0], full[1], ("content-length", "-8")].leak());
    assert_eq!(resolve(&world, "1").unwrap().size, 16);

    let world = script(|seen| {
        Some(match seen.method.as_str() {
            "HEAD" => reply(404),
            _ => reply(404).body(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"gone"}]}"#),
        })
    });
    let error = resolve(&world, "1").unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::NotFound, "cannot resolve registry.example/app:1"));
    assert_eq!(error.context[1], "MANIFEST_UNKNOWN: gone");
}

/// A registry's uploads, as far as a test lets them work.
#[derive(Default)]
struct Uploads {
    bytes: Vec<u8>,
    patches: Vec<String>,
    stored: Option<Vec<u8>>,
    sessions: usize,
}

fn uploads(
    mut fault: impl FnMut(&Seen, &mut Uploads) -> Option<Option<Reply>> + 'static,
) -> (World<Script>, Rc<RefCell<Uploads>>) {
    let state = Rc::new(RefCell::new(Uploads::default()));
    let shared = state.clone();
    let world = script(move |seen| {
        let mut uploads = shared.borrow_mut();
        if let Some(answer) = fault(seen, &mut uploads) {
            return answer;
        }
        let last = |uploads: &Uploads| format!("0-{}", uploads.bytes.len().saturating_sub(1));
        Some(match seen.method.as_str() {
            "HEAD" => reply(if uploads.stored.is_some() { 200 } else { 404 }),
            "POST" => {
                uploads.bytes.clear();
                uploads.sessions += 1;
                reply(202).header("location", format!("/up/{}?s=1", uploads.sessions))
            }
            "PATCH" => {
                uploads.patches.push(seen.headers.get("content-range").unwrap_or("whole").to_owned());
                uploads.bytes.extend_from_slice(&seen.body);
                reply(202).header("location", "/up/next").header("range", last(&uploads))
            }
            "GET" => reply(204).header("range", last(&uploads)).header("location", "/up/status"),
            "PUT" => {
                uploads.bytes.extend_from_slice(&seen.body);
                uploads.stored = Some(std::mem::take(&mut uploads.bytes));
                reply(201)
            }
            "DELETE" => reply(204),
            other => panic!("{other}"),
        })
    });
    (world, state)
}

fn put(world: &World<Script>, bytes: &[u8], options: &[(&str, &str)], from: &[&str]) -> cooperage_sdk::Result<Arrival> {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let repository = Repository { options, ..app() };
    let from: Vec<String> = from.iter().map(|name| (*name).to_owned()).collect();
    let blob = world.keep(bytes, "application/octet-stream");
    upload::put(&world.client(&repository, Actions::Push), &blob, &from)
}

#[test]
fn small_blobs_take_one_request() {
    let bytes = noise(1000);
    let (world, state) = uploads(|_, _| None);
    assert_eq!(put(&world, &bytes, &[], &[]).unwrap(), Arrival::Uploaded);
    assert_eq!(state.borrow().stored.as_ref(), Some(&bytes));
    let lines = world.lines();
    assert_eq!(lines.len(), 3);
    let digest = digest(&bytes).replace(':', "%3A");
    assert_eq!(lines[2], format!("PUT https://registry.example/up/1?s=1&digest={digest}"));
    assert_eq!(put(&world, &bytes, &[], &[]).unwrap(), Arrival::Exists);
}

#[test]
fn an_upload_goes_on_where_it_broke() {
    let bytes = noise(9_000_000);
    let broken = Cell::new(false);
    let (world, state) = uploads(move |seen, uploads| {
        if seen.method == "PATCH" && !broken.replace(true) {
            uploads.bytes.extend_from_slice(&seen.body[..5_000_000]);
            return Some(None);
        }
        None
    });
    put(&world, &bytes, &[], &[]).unwrap();
    let state = state.borrow();
    assert!(state.stored.as_ref() == Some(&bytes));
    assert_eq!((state.sessions, state.patches.as_slice()), (1, ["5000000-8999999".to_owned()].as_slice()));
    assert_eq!(world.pauses.borrow().len(), 1);
}

#[test]
fn an_upload_that_was_forgotten_begins_again() {
    let bytes = noise(9_000_000);
    let broken = Cell::new(false);
    let (world, state) = uploads(move |seen, _| match seen.method.as_str() {
        "PATCH" if !broken.replace(true) => Some(Some(reply(502))),
        "GET" => Some(Some(reply(404))),
        _ => None,
    });
    put(&world, &bytes, &[], &[]).unwrap();
    assert!(state.borrow().stored.as_ref() == Some(&bytes));
    assert_eq!(state.borrow().sessions, 2);
}

#[test]
fn an_answer_that_was_lost_is_no_second_upload() {
    for (size, requests) in [(1000, 4), (9_000_000, 5)] {
        let bytes = noise(size);
        let (world, state) = uploads(move |seen, uploads| {
            if seen.method == "PUT" {
                uploads.bytes.extend_from_slice(&seen.body);
                uploads.stored = Some(std::mem::take(&mut uploads.bytes));
                return Some(None);
            }
            None
        });
        put(&world, &bytes, &[], &[]).unwrap();
        assert!(state.borrow().stored.as_ref() == Some(&bytes));
        assert_eq!(world.lines().len(), requests);
    }
}

#[test]
fn chunks_are_as_large_as_asked_for() {
    let bytes = noise(100);
    let (world, state) = uploads(|_, _| None);
    put(&world, &bytes, &[("chunk-size", "40")], &[]).unwrap();
    assert_eq!(state.borrow().patches, ["0-39", "40-79", "80-99"]);

    let (world, state) = uploads(|seen, _| {
        (seen.method == "POST")
            .then(|| Some(reply(202).header("location", "/up/1").header("OCI-Chunk-Min-Length", "60")))
    });
    put(&world, &bytes, &[("chunk-size", "40")], &[]).unwrap();
    assert_eq!(state.borrow().patches, ["0-59", "60-99"]);
    assert!(state.borrow().stored.as_ref() == Some(&bytes));

    for wrong in ["0", "-1", "x"] {
        assert_eq!(
            put(&uploads(|_, _| None).0, &bytes, &[("chunk-size", wrong)], &[]).unwrap_err().kind,
            ErrorKind::InvalidInput
        );
    }
}

#[test]
fn a_registry_without_parts_gets_it_whole() {
    let bytes = noise(9_000_000);
    let (world, state) = uploads(|seen, _| (seen.method == "PATCH").then(|| Some(reply(405))));
    put(&world, &bytes, &[], &[]).unwrap();
    assert!(state.borrow().stored.as_ref() == Some(&bytes));
    assert_eq!(world.lines().iter().filter(|line| line.starts_with("DELETE")).count(), 1);
}

#[test]
fn mounts() {
    let bytes = noise(10);
    let mounts =
        |has: &'static str| uploads(move |seen, _| seen.url.contains(&format!("from={has}")).then(|| Some(reply(201))));
    let (world, state) = mounts("b");
    assert_eq!(put(&world, &bytes, &[], &["a", "app", "b", "c"]).unwrap(), Arrival::Mounted);
    assert_eq!(state.borrow().sessions, 1);
    assert_eq!(world.lines().iter().filter(|line| line.starts_with("POST")).count(), 2);

    // The session that a refused mount opens is used.
    let (world, state) = mounts("nowhere");
    assert_eq!(put(&world, &bytes, &[], &["a"]).unwrap(), Arrival::Uploaded);
    assert_eq!((state.borrow().sessions, world.lines().len()), (1, 3));

    let (world, _) = uploads(|seen, _| seen.url.contains("mount=").then(|| Some(reply(403))));
    assert_eq!(put(&world, &bytes, &[], &["a"]).unwrap(), Arrival::Uploaded);
}

#[test]
fn registries_that_lie_about_uploads() {
    let large = noise(9_000_000);
    let (world, _) = uploads(|seen, _| {
        (seen.method == "PATCH").then(|| Some(reply(202).header("location", "/up").header("range", "0-99999999")))
    });
    assert_eq!(put(&world, &large, &[], &[]).unwrap_err().kind, ErrorKind::Conflict);
    let (world, _) = uploads(|seen, _| {
        (seen.method == "PATCH").then(|| Some(reply(202).header("location", "/up").header("range", "0-0")))
    });
    assert_eq!(put(&world, &large, &[], &[]).unwrap_err().kind, ErrorKind::Conflict);

    let other = digest(b"other");
    let (world, _) = uploads(move |seen, _| {
        (seen.method == "PUT").then(|| Some(reply(201).header("docker-content-digest", other.clone())))
    });
    assert_eq!(put(&world, &noise(10), &[], &[]).unwrap_err().kind, ErrorKind::Conflict);
    let (world, _) = uploads(|seen, _| {
        (seen.method == "POST").then(|| Some(reply(202).header("location", "http://evil.example/up")))
    });
    assert_eq!(put(&world, &noise(10), &[], &[]).unwrap_err().kind, ErrorKind::Denied);
    let (world, _) = uploads(|seen, _| (seen.method == "POST").then(|| Some(reply(202))));
    assert_eq!(put(&world, &noise(10), &[], &[]).unwrap_err().kind, ErrorKind::Conflict);
}

#[test]
fn an_upload_to_storage_elsewhere_carries_no_token() {
    let (world, _) = uploads(|seen, _| {
        Some(Some(match seen.method.as_str() {
            _ if seen.url.contains("registry.example") && seen.authorization().is_empty() => {
                reply(401).header("www-authenticate", "Basic")
            }
            "HEAD" => reply(404),
            "POST" => reply(202).header("location", "https://storage.example/up"),
            _ => reply(201),
        }))
    });
    let repository = Repository { credential: password(), ..app() };
    let blob = world.keep(b"x", "application/octet-stream");
    upload::put(&world.client(&repository, Actions::Push), &blob, &[]).unwrap();
    let seen = world.http.seen.borrow();
    let last = seen.last().unwrap();
    assert!(last.line().starts_with("PUT https://storage.example/up"));
    assert_eq!(last.authorization(), "");
}

#[test]
fn uploads_that_never_end_do_end() {
    let (world, _) = uploads(|seen, _| (seen.method == "PATCH").then_some(None));
    assert_eq!(put(&world, &noise(9_000_000), &[], &[]).unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(world.pauses.borrow().len(), 5);
}

#[test]
fn manifests_are_checked_after_they_were_sent() {
    let repository = app();
    let put = |answer: fn() -> Reply, tag| {
        let world = script(move |_| Some(answer()));
        let manifest = world.keep(b"{}", manifests::OCI_INDEX);
        let result = manifests::put(&world.client(&repository, Actions::Push), &manifest, tag);
        (result.map_err(|error| error.kind), world)
    };
    let (result, world) = put(|| reply(201), Some("1"));
    result.unwrap();
    assert_eq!(world.lines(), ["PUT https://registry.example/v2/app/manifests/1"]);
    assert_eq!(world.http.seen.borrow()[0].headers.get("content-type"), Some(manifests::OCI_INDEX));
    let (result, world) = put(|| reply(201), None);
    result.unwrap();
    assert!(world.lines()[0].ends_with(&digest(b"{}")));
    let (result, _) = put(|| reply(201).header("docker-content-digest", digest(b"x")), Some("1"));
    assert_eq!(result, Err(ErrorKind::Conflict));
    let (result, _) = put(|| reply(404).body(r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#), Some("1"));
    assert_eq!(result, Err(ErrorKind::Conflict));
    let (result, world) = put(|| reply(201), Some("../x"));
    assert_eq!((result, world.lines().len()), (Err(ErrorKind::InvalidInput), 0));
}
