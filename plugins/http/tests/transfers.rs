//! Files on their way through faults: whole, or not there at all.

mod support;

use cooperage_plugin_http::task::Done;
use cooperage_sdk::{ErrorKind, Result};
use serde_json::{Value, json};
use support::peer::{Peer, Reply, Seen, reply};
use support::{World, digest, noise, output, shown};

const SIZE: usize = 10_000;
const ETAG: &str = "\"v1\"";

type Answer = fn() -> Reply;

fn save(world: &World, peer: &Peer, more: Value) -> Result<Done> {
    let mut all = json!({ "url": peer.url("/dir/file.bin"), "save": "out/file.bin" });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.run(all)
}

/// The file from where a request wants it, with an entity tag.
fn serve(seen: &Seen, file: &[u8]) -> Reply {
    let from = seen.from();
    let answer = reply(if from > 0 { 206 } else { 200 }).header("ETag", ETAG).body(&file[from..]);
    if from > 0 {
        answer.header("Content-Range", format!("bytes {from}-{}/{}", file.len() - 1, file.len()))
    } else {
        answer
    }
}

#[test]
fn a_file_arrives() {
    let (world, peer) = (World::new(), Peer::start(|seen| Some(serve(seen, &noise(SIZE)))));
    let done = save(&world, &peer, json!({ "mode": "755" })).unwrap();
    assert_eq!(*world.made.borrow(), Some(("out/file.bin".to_owned(), 0o755, noise(SIZE))));
    assert_eq!((output(&done, "path"), output(&done, "size")), (&json!("out/file.bin"), &json!(SIZE)));
    assert_eq!((output(&done, "status"), done.path.as_deref()), (&json!(200), Some("out/file.bin")));
    assert!(world.contents.borrow().is_empty(), "it went straight into its layer");
    assert_eq!(peer.seen()[0].header("accept-encoding"), "identity");
}

#[test]
fn files_without_a_length_and_empty_ones() {
    let cases: [(Answer, Vec<u8>); 3] = [
        (|| reply(200).body(noise(SIZE)).unannounced(), noise(SIZE)),
        (|| reply(200).body(""), vec![]),
        (|| reply(204), vec![]),
    ];
    for (answer, expected) in cases {
        let (world, peer) = (World::new(), Peer::start(move |_| Some(answer())));
        save(&world, &peer, json!({})).unwrap();
        assert!(world.made() == expected);
    }
}

#[test]
fn a_broken_transfer_goes_on_where_it_broke() {
    let (world, peer) = (World::new(), Peer::start(|seen| Some(serve(seen, &noise(SIZE)).cut(3000))));
    save(&world, &peer, json!({})).unwrap();
    assert!(world.made() == noise(SIZE));
    let ranges: Vec<_> = peer.seen().iter().map(|seen| seen.header("range").to_owned()).collect();
    assert_eq!(ranges, ["", "bytes=3000-", "bytes=6000-", "bytes=9000-"]);
    assert!(peer.seen()[1..].iter().all(|seen| seen.header("if-range") == ETAG));
    assert_eq!(world.pauses.borrow().len(), 3);
}

#[test]
fn a_date_is_as_good_as_a_tag_if_it_is_old_enough() {
    for (modified, resumed) in [("Sun, 06 Nov 1994 08:00:00 GMT", true), ("Sun, 06 Nov 1994 08:49:37 GMT", false)] {
        let mut requests = 0;
        let (world, peer) = (
            World::new(),
            Peer::start(move |seen| {
                requests += 1;
                let (file, from) = (noise(SIZE), seen.from());
                let answer = reply(if from > 0 { 206 } else { 200 }).header("Last-Modified", modified);
                let answer = answer.header("Date", "Sun, 06 Nov 1994 08:49:37 GMT");
                let answer =
                    answer.header("Content-Range", format!("bytes {from}-{}/{SIZE}", SIZE - 1)).body(&file[from..]);
                Some(if requests == 1 { answer.cut(4000) } else { answer })
            }),
        );
        save(&world, &peer, json!({})).unwrap();
        assert!(world.made() == noise(SIZE));
        assert_eq!(peer.seen()[1].header("if-range"), if resumed { modified } else { "" });
        assert_eq!(peer.seen()[1].from(), if resumed { 4000 } else { 0 });
    }
}

#[test]
fn a_server_without_ranges_sends_it_again() {
    let mut requests = 0;
    let (world, peer) = (
        World::new(),
        Peer::start(move |_| {
            requests += 1;
            Some(reply(200).header("ETag", ETAG).body(noise(SIZE)).cut(4000 * requests))
        }),
    );
    save(&world, &peer, json!({})).unwrap();
    assert!(world.made() == noise(SIZE));
    assert_eq!(peer.lines().len(), 3);
}

#[test]
fn without_anything_to_tell_versions_apart_it_begins_anew() {
    let mut requests: u8 = 0;
    let (world, peer) = (
        World::new(),
        Peer::start(move |_| {
            requests += 1;
            let answer = reply(200).body(vec![requests; SIZE]);
            Some(if requests < 3 { answer.cut(4000) } else { answer })
        }),
    );
    save(&world, &peer, json!({})).unwrap();
    assert!(world.made() == vec![3; SIZE], "no file is put together from two");
    assert!(peer.seen().iter().all(|seen| seen.header("range").is_empty()));
}

#[test]
fn patience_ends() {
    let again_from_the_beginning = || Some(reply(200).body(noise(SIZE)).cut(3000));
    for broken in [|| None, || Some(reply(200).announce(SIZE)), || Some(reply(503)), again_from_the_beginning] {
        let (world, peer) = (World::new(), Peer::start(move |_| broken()));
        let error = save(&world, &peer, json!({})).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(shown(&error).contains("tried 4 times"), "{}", shown(&error));
        assert_eq!(peer.lines().len(), 4);
    }
}

#[test]
fn a_part_that_the_user_asks_for_is_a_file() {
    let (world, peer) = (
        World::new(),
        Peer::start(|_| Some(reply(206).header("ETag", ETAG).header("Content-Range", "bytes 5-9/10").body("56789"))),
    );
    save(&world, &peer, json!({ "headers": { "range": "bytes=5-9" } })).unwrap();
    assert_eq!(world.made(), b"56789");
}

#[test]
fn a_post_is_not_sent_again_for_its_answer() {
    let (world, peer) = (World::new(), Peer::start(|_| Some(reply(200).header("ETag", ETAG).body(noise(SIZE)).cut(9))));
    let error = save(&world, &peer, json!({ "body": "x" })).unwrap_err();
    assert_eq!((error.kind, peer.lines().len()), (ErrorKind::Unavailable, 1));
}

/// A transfer that breaks after 3000 bytes, and goes on with `second`.
fn continued(second: impl Fn(&Seen) -> Reply + Send + 'static) -> cooperage_sdk::Error {
    let (world, peer) = (
        World::new(),
        Peer::start(move |seen| {
            Some(if seen.from() == 0 { serve(seen, &noise(SIZE)).cut(3000) } else { second(seen) })
        }),
    );
    save(&world, &peer, json!({})).unwrap_err()
}

#[test]
fn what_is_not_the_rest_of_the_same_file_is_refused() {
    let part = |range: &str| reply(206).header("ETag", ETAG).header("Content-Range", range).body(&noise(SIZE)[3000..]);
    for (range, says) in [
        ("bytes 4000-9999/10000", "at another place"),
        ("bytes 0-6999/10000", "at another place"),
        ("nonsense", "at another place"),
        ("bytes 3000-9999/10001", "has changed there after 3000 bytes"),
    ] {
        let error = continued(move |_| part(range));
        assert_eq!(error.kind, ErrorKind::Conflict, "{range}");
        assert!(shown(&error).contains(says), "{range}: {}", shown(&error));
    }
    let other = continued(|_| {
        reply(206).header("ETag", "\"v2\"").header("Content-Range", "bytes 3000-9999/10000").body(vec![0; 7000])
    });
    assert!(shown(&other).contains("has changed"), "{}", shown(&other));
    let other = continued(|_| reply(200).header("ETag", "\"v2\"").body(noise(SIZE)));
    assert!(shown(&other).contains("has changed"), "{}", shown(&other));
    let other = continued(|_| reply(200).body(noise(SIZE)));
    assert!(shown(&other).contains("has changed"), "{}", shown(&other));
    assert!(shown(&continued(|_| reply(416))).contains("has changed"));
    assert!(shown(&continued(|_| reply(412))).contains("has changed"));
    let longer = continued(|_| {
        reply(206).header("ETag", ETAG).header("Content-Range", "bytes 3000-9999/10000").body(vec![0; 8000])
    });
    assert!(shown(&longer).contains("more comes than the announced 10000 bytes"), "{}", shown(&longer));
    assert_eq!(continued(|_| reply(404)).kind, ErrorKind::NotFound);
}

#[test]
fn a_part_with_another_date_is_of_another_file() {
    let (world, peer) = (
        World::new(),
        Peer::start(|seen| {
            let dated = |status, date: &str| reply(status).header("Last-Modified", date);
            Some(match seen.from() {
                0 => dated(200, "Sun, 06 Nov 1994 08:00:00 GMT")
                    .header("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
                    .body(noise(SIZE))
                    .cut(3000),
                // The far side knows no If-Range.
                _ => dated(206, "Sun, 06 Nov 1994 08:49:38 GMT")
                    .header("Content-Range", "bytes 3000-9999/10000")
                    .body(vec![0; 7000]),
            })
        }),
    );
    let error = save(&world, &peer, json!({})).unwrap_err();
    assert!(shown(&error).contains("has changed there after 3000 bytes"), "{}", shown(&error));
}

#[test]
fn answers_that_cannot_be_a_file() {
    let cases: [(Answer, &str); 4] = [
        (|| reply(206).header("Content-Range", "bytes 5-9/10").body("56789"), "a part comes"),
        (|| reply(200).header("Content-Encoding", "gzip").body("x"), "encoded as gzip"),
        (|| reply(302).header("Location", ""), "without saying where to"),
        (|| reply(404), "answers 404"),
    ];
    for (answer, says) in cases {
        let (world, peer) = (World::new(), Peer::start(move |_| Some(answer())));
        let error = save(&world, &peer, json!({})).unwrap_err();
        assert!(shown(&error).contains(says), "{}", shown(&error));
    }
}

#[test]
fn checksums_are_checked_before_there_is_a_file() {
    let right = digest(&noise(SIZE));
    let (world, peer) = (World::new(), Peer::start(|seen| Some(serve(seen, &noise(SIZE)))));
    let error = save(&world, &peer, json!({ "checksum": digest(b"other") })).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(shown(&error).contains(&right), "{}", shown(&error));
    assert!(world.contents.borrow().is_empty());
    assert_eq!(peer.lines().len(), 1, "the same file would come again");

    save(&world, &peer, json!({ "checksum": right.to_uppercase().replace("SHA256", "sha256") })).unwrap();
    assert!(world.made() == noise(SIZE));
    // The store has it now.
    let done = save(&world, &peer, json!({ "checksum": right })).unwrap();
    assert!(world.made() == noise(SIZE));
    assert_eq!((output(&done, "status"), peer.lines().len()), (&json!(304), 2));
    save(&world, &peer, json!({ "checksum": right, "outputs": { "tag": "header:etag" } })).unwrap();
    assert_eq!(peer.lines().len(), 3, "the header is wanted");
}

#[test]
fn a_broken_upload_is_sent_again_from_its_beginning() {
    let mut requests = 0;
    let mut world = World::new();
    world.input.insert("file.bin".to_owned(), noise(SIZE));
    let peer = Peer::start(move |_| {
        requests += 1;
        (requests > 2).then(|| reply(201))
    });
    world.run(json!({ "url": peer.url("/up"), "file": "file.bin", "expect": 201 })).unwrap();
    assert!(peer.seen().iter().all(|seen| seen.body == noise(SIZE)));
    assert_eq!(peer.lines().len(), 3);
}
