//! The client against servers that break off, lie and attack.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use cooperage_plugin_ftp::client::directories::{self, walk};
use cooperage_plugin_ftp::client::download::{Download, Stamp, small};
use cooperage_plugin_ftp::client::session::Mode;
use cooperage_plugin_ftp::client::upload::Upload;
use cooperage_plugin_ftp::edge::Store;
use cooperage_plugin_ftp::registry::Layout;
use cooperage_plugin_ftp::registry::lock::Patience;
use cooperage_plugin_ftp::registry::place::Place;
use cooperage_plugin_ftp::server::{Login, Server, Tls};
use cooperage_sdk::roles::registry::Repository;
use cooperage_sdk::{Error, ErrorKind, Result};
use support::peer::{Act, Peer, say};
use support::{World, digest, noise};

fn get(peer: &Peer) -> Result<Vec<u8>> {
    let world = World::default();
    small(&mut world.client(&peer.server), "/f", 1 << 20).map(Option::unwrap_or_default)
}

fn put(peer: &Peer, bytes: &[u8]) -> Result<()> {
    let world = World::default();
    let payload = bytes.to_vec();
    let upload =
        Upload { payload: &payload, path: "/d/f", mode: Mode::Binary, atomic: true, resume: None, permissions: None };
    upload.run(&mut world.client(&peer.server), &mut |_| {})
}

/// All that an error says.
fn told(error: &Error) -> String {
    format!("{error:?}")
}

#[test]
fn greetings_that_are_none() {
    for (act, kind, part) in [
        (|| say("SSH-2.0-OpenSSH"), ErrorKind::Conflict, "no reply of an FTP server"),
        (|| say("421 too many users"), ErrorKind::Unavailable, "421"),
        (|| say("530 not you"), ErrorKind::Unauthenticated, "530"),
        (|| Act::Close, ErrorKind::Unavailable, "closed"),
        (|| Act::Raw(vec![b'2'; 1 << 20]), ErrorKind::Limit, "does not end"),
        (|| Act::Raw(b"220-\r\n".repeat(1 << 17)), ErrorKind::Limit, "does not end"),
        (|| Act::Raw(b"120 wait\r\n".repeat(100)), ErrorKind::Conflict, "goes on"),
    ] as [(fn() -> Act, _, _); 7]
    {
        let peer = Peer::start(move |line| (line == "CONNECT").then(act));
        let error = get(&peer).unwrap_err();
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(told(&error).contains(part), "{error:?}");
        assert_eq!(peer.count("PASS"), 0);
    }
}

#[test]
fn replies_nobody_asked_for_are_not_taken_for_others() {
    let peer = Peer::start(|line| line.starts_with("PASS").then(|| Act::Raw(b"230 in\r\n226 sent\r\n".to_vec())));
    let error = get(&peer).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(told(&error).contains("nothing was asked"), "{error:?}");
}

#[test]
fn replies_in_clear_before_tls_are_not_taken_for_protected_ones() {
    let peer = Peer::start(|line| line.starts_with("AUTH").then(|| Act::Raw(b"234 begin\r\n230 in\r\n".to_vec())));
    let world = World::default();
    let server = Server { tls: Tls::Explicit, ..peer.server.clone() };
    let error = world.client(&server).again(|session| session.command("NOOP", None)).unwrap_err();
    assert!(told(&error).contains("in clear"), "{error:?}");
    assert_eq!(peer.count("USER"), 0);
}

#[test]
fn passwords_do_not_go_in_clear_where_tls_is_wanted() {
    for refusal in ["502 what?", "534 no", "530 no", "200 ok"] {
        let peer = Peer::start(move |line| line.starts_with("AUTH").then(|| say(refusal)));
        let world = World::default();
        let server = Server { tls: Tls::Explicit, ..peer.server.clone() };
        let error = world.client(&server).again(|session| session.command("NOOP", None)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported, "{error:?}");
        assert_eq!((peer.count("USER"), peer.count("PASS")), (0, 0));
    }
    let peer = Peer::start(|line| match line.split(' ').next() {
        Some("AUTH") => Some(say("234 begin")),
        Some("PBSZ") => Some(say("200 fine")),
        Some("PROT") => Some(say("536 not for data")),
        _ => None,
    });
    let world = World::default();
    let server = Server { tls: Tls::Explicit, ..peer.server.clone() };
    let error = world.client(&server).again(|session| session.command("NOOP", None)).unwrap_err();
    assert!(told(&error).contains("does not protect data"), "{error:?}");
}

#[test]
fn names_cannot_hold_commands() {
    let peer = Peer::start(|_| None);
    let world = World::default();
    let mut client = world.client(&peer.server);
    for name in ["a\r\nDELE b", "a\nDELE b", "a\0", "a\rDELE b"] {
        let error = small(&mut client, name, 5).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidInput, "{error:?}");
    }
    assert_eq!(peer.count("DELE"), 0);
    assert!(peer.seen().iter().all(|line| !line.contains('a')), "{:?}", peer.seen());
}

#[test]
fn data_comes_from_the_server_whatever_address_it_names() {
    let peer = Peer::start(|line| match line.split(' ').next() {
        Some("EPSV") => Some(say("502 what?")),
        Some("PASV") => Some(Act::Open("227 Entering Passive Mode (192,0,2,1,{hi},{lo})".to_owned())),
        Some("SIZE") => Some(say("213 4")),
        Some("MDTM") => Some(say("213 20260101000000")),
        Some("RETR") => Some(Act::Send(b"text".to_vec(), "226 sent".to_owned())),
        _ => None,
    });
    assert_eq!(get(&peer).unwrap(), b"text");
}

#[test]
fn ports_that_are_none() {
    for reply in ["229 (|||0|)", "229 (|||99999|)", "229 fine", "229 (|||21;x|)"] {
        let peer = Peer::start(move |line| match line.split(' ').next() {
            Some("EPSV") => Some(say(reply)),
            Some("SIZE") => Some(say("213 4")),
            _ => None,
        });
        let error = get(&peer).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict, "{error:?}");
        assert!(told(&error).contains("names no port"), "{error:?}");
    }
}

/// Tells one time, always.
const ONE_TIME: &[&str] = &["213 20260101000000"];

/// Serves a file whose connection breaks after 3000 bytes each time, and answers MDTM with one of `times` after the other,
/// the last one for ever.
fn breaking(bytes: Vec<u8>, restart: bool, times: &'static [&str]) -> Peer {
    let (mut offset, mut asked) = (0, 0);
    Peer::start(move |line| {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        Some(match verb {
            "SIZE" => say(&format!("213 {}", bytes.len())),
            "MDTM" => {
                asked += 1;
                say(times[asked.min(times.len()) - 1])
            }
            "REST" if !restart => say("502 what?"),
            "REST" => {
                offset = argument.parse().unwrap();
                say("350 go on")
            }
            "RETR" => {
                let rest = &bytes[std::mem::take(&mut offset)..];
                match rest.len() {
                    0..=3000 => Act::Send(rest.to_vec(), "226 sent".to_owned()),
                    _ => Act::Break(rest[..3000].to_vec()),
                }
            }
            _ => return None,
        })
    })
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let bytes = noise(10_000);
    let peer = breaking(bytes.clone(), true, ONE_TIME);
    assert_eq!(get(&peer).unwrap(), bytes);
    let rests: Vec<_> = peer.seen().into_iter().filter(|line| line.starts_with("REST")).collect();
    assert_eq!(rests, ["REST 3000", "REST 6000", "REST 9000"]);
}

#[test]
fn a_broken_download_ends_when_nothing_more_comes() {
    let peer = breaking(noise(10_000), false, ONE_TIME);
    let error = get(&peer).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    // Once with progress, and three times again without.
    assert_eq!(peer.count("RETR"), 4);
}

#[test]
fn a_file_that_changes_meanwhile_is_not_mixed() {
    let times = AtomicUsize::new(0);
    let peer = Peer::start(move |line| match line.split(' ').next() {
        Some("SIZE") => Some(say("213 10")),
        Some("MDTM") => Some(say(&format!("213 2026010100000{}", times.fetch_add(1, Ordering::Relaxed)))),
        Some("RETR") => Some(Act::Break(b"01234".to_vec())),
        _ => None,
    });
    let error = get(&peer).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict, "{error:?}");
    assert!(told(&error).contains("changed"), "{error:?}");
}

#[test]
fn a_download_goes_on_only_if_a_time_or_a_digest_proves_the_file() {
    let (untold, changing) = (&["550 no"][..], &["213 20260101000000", "213 20260101000001"][..]);
    let right = digest(&noise(10_000));
    for (times, expected, outcome, transfers) in [
        (ONE_TIME, None, None, 4),
        (changing, None, Some(ErrorKind::Conflict), 1),
        (untold, None, Some(ErrorKind::Unavailable), 1),
        (untold, Some(&right), None, 4),
        (changing, Some(&right), None, 4),
    ] {
        let peer = breaking(noise(10_000), true, times);
        let world = World::default();
        let mut client = world.client(&peer.server);
        // What a listing for people says of a file.
        let stamp = Stamp { size: Some(10_000), modified: None };
        let download = Download::begin(&mut client, "/f", Mode::Binary, Some(stamp)).unwrap();
        let step = cooperage_sdk::events::Step::new("test");
        let kept = download.keep(world.sink(), "a/b", expected.map(String::as_str), &step);
        assert_eq!(kept.err().map(|error| error.kind), outcome, "{times:?} {expected:?}");
        assert_eq!((world.has(&right), peer.count("RETR")), (outcome.is_none(), transfers), "{times:?} {expected:?}");
    }
}

#[test]
fn bodies_of_other_lengths() {
    for (size, body, kind) in [
        ("213 10", noise(5), ErrorKind::Unavailable),
        ("213 10", noise(50), ErrorKind::Conflict),
        ("213 99999999999", noise(50), ErrorKind::Unavailable),
        ("502 what?", noise(3 << 20), ErrorKind::Limit),
    ] {
        let peer = Peer::start(move |line| match line.split(' ').next() {
            Some("SIZE") => Some(say(size)),
            Some("RETR") => Some(Act::Send(body.clone(), "226 sent".to_owned())),
            Some("REST") => Some(say("502 what?")),
            _ => None,
        });
        let error = get(&peer).unwrap_err();
        assert_eq!(error.kind, kind, "{size}: {error:?}");
    }
}

#[test]
fn a_transfer_that_the_server_gives_up_is_not_the_file() {
    for (reply, kind) in
        [("426 broken", ErrorKind::Unavailable), ("451 error", ErrorKind::Unavailable), ("550 no", ErrorKind::NotFound)]
    {
        let peer = Peer::start(move |line| match line.split(' ').next() {
            Some("SIZE") => Some(say("502 what?")),
            Some("RETR") => Some(Act::Send(b"part".to_vec(), reply.to_owned())),
            _ => None,
        });
        let world = World::default();
        let mut client = world.client(&peer.server);
        let mut download = Download::begin(&mut client, "/f", Mode::Binary, None).unwrap();
        assert_eq!(download.chunk(100).unwrap(), b"part");
        assert_eq!(download.chunk(100).unwrap_err().kind, kind);
        assert_eq!(peer.count("RETR"), 1, "without a size nobody knows where to go on");
    }
}

#[test]
fn listings_with_tricks() {
    for (listing, kind, part) in [
        ("type=file; ../x\r\n", ErrorKind::Conflict, "no name"),
        ("type=file; /etc/x\r\n", ErrorKind::Conflict, "no name"),
        ("type=file; a\r\ntype=file; a\r\n", ErrorKind::Conflict, "twice"),
        ("what?\r\n", ErrorKind::Conflict, "no line of MLSD"),
    ] {
        let peer = Peer::start(move |line| {
            line.starts_with("MLSD").then(|| Act::Send(listing.as_bytes().to_vec(), "226 sent".to_owned()))
        });
        let world = World::default();
        let error = walk(&mut world.client(&peer.server), "/").unwrap_err();
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(told(&error).contains(part), "{error:?}");
    }
}

#[test]
fn listings_that_do_not_end() {
    let peer = Peer::start(|line| {
        line.starts_with("MLSD").then(|| Act::Send(b"type=dir; deeper\r\n".to_vec(), "226 sent".to_owned()))
    });
    let world = World::default();
    let error = walk(&mut world.client(&peer.server), "/").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Limit, "{error:?}");
    assert!(peer.count("MLSD") < 100);
    let peer = Peer::start(|line| {
        line.starts_with("MLSD").then(|| Act::Send(b"type=file; x\r\n".repeat(2 << 20), "226 sent".to_owned()))
    });
    let mut client = world.client(&peer.server);
    let error = walk(&mut client, "/").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Limit, "{error:?}");
    let next = client.again(|session| session.command("NOOP", None)).unwrap();
    assert_eq!(next.code, 200, "what the server says of the listing is not taken for another reply");
}

#[test]
fn nothing_gets_its_name_before_all_of_it_is_there() {
    let peer = Peer::start(|line| match line.split(' ').next() {
        Some("STOR") => Some(Act::Take("226 stored".to_owned())),
        Some("SIZE") => Some(say("213 3")),
        Some("DELE") => Some(say("250 gone")),
        _ => None,
    });
    let error = put(&peer, b"12345").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict, "{error:?}");
    assert!(told(&error).contains("3 bytes of it instead of 5"), "{error:?}");
    assert_eq!((peer.count("RNFR"), peer.count("DELE /d/.f.")), (0, 1));
    assert!(peer.seen().iter().all(|line| line != "STOR /d/f"));
}

#[test]
fn full_disks_are_told_and_cleared() {
    for reply in ["552 disk full", "452 no room", "451 write failed: No space left on device"] {
        let peer = Peer::start(move |line| match line.split(' ').next() {
            Some("STOR") => Some(Act::TakeSome(100_000, reply.to_owned())),
            Some("DELE") => Some(say("250 gone")),
            _ => None,
        });
        let error = put(&peer, &noise(50 << 20)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Limit, "{error:?}");
        assert!(error.hint.as_ref().unwrap().contains("free space"), "{error:?}");
        assert_eq!((peer.count("STOR"), peer.count("DELE"), peer.count("RNFR")), (1, 1, 0));
    }
}

#[test]
fn refused_uploads_remove_nothing() {
    let peer = Peer::start(|line| line.starts_with("STOR").then(|| say("553 not here")));
    let error = put(&peer, b"1").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error:?}");
    assert_eq!(peer.count("DELE"), 0);
}

/// Pushes a tag to a server that forgets who has the lock while the index is sent, or not.
fn push(keeps_lock: bool) -> (Peer, Result<()>) {
    let world = World::default();
    let manifest = world.keep(br#"{"config":{}}"#, "application/vnd.oci.image.manifest.v1+json");
    let (size, mut owner) = (manifest.size, String::new());
    let peer = Peer::start(move |line| {
        let (verb, path) = line.split_once(' ').unwrap_or((line, ""));
        Some(match verb {
            "MKD" => {
                if let Some(name) = path.strip_prefix("/a/.coop-lock/") {
                    name.clone_into(&mut owner);
                }
                say("257 made")
            }
            "MLSD" => Act::Send(format!("type=dir; {owner}\r\n").into_bytes(), "226 sent".to_owned()),
            "SIZE" if path.starts_with("/a/blobs/") || path == "/a/oci-layout" => say(&format!("213 {size}")),
            "SIZE" if path == "/a/index.json" => say("550 none"),
            "STOR" => {
                if !keeps_lock {
                    "other".clone_into(&mut owner);
                }
                Act::Take("226 stored".to_owned())
            }
            "RNFR" => say("350 to where?"),
            "RNTO" | "DELE" | "RMD" => say("250 fine"),
            _ => return None,
        })
    });
    let host = format!("127.0.0.1:{}", peer.server.port);
    let repository = Repository { host, name: "a".into(), plain_http: true, credential: None, options: Vec::new() };
    let place = Place::new(&repository).unwrap();
    let mut client = world.client(&place.server);
    let pushed = Layout::new(&mut client, &world, &place, Patience::new(place.server.idle))
        .put_manifest(&manifest, Some("latest"));
    drop(client);
    (peer, pushed)
}

#[test]
fn an_index_gets_its_name_only_under_the_lock() {
    let (peer, pushed) = push(true);
    pushed.unwrap();
    assert_eq!((peer.count("STOR /a/.index.json."), peer.count("RNTO /a/index.json")), (1, 1));
    let (peer, pushed) = push(false);
    let error = pushed.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    assert!(told(&error).contains("was taken away"), "{error:?}");
    assert_eq!((peer.count("STOR"), peer.count("RNFR"), peer.count("DELE /a/.index.json.")), (1, 0, 1));
}

#[test]
fn deleting_and_renaming_are_never_tried_again() {
    let peer = Peer::start(|line| match line.split(' ').next() {
        Some("LIST") => Some(Act::Send(b"-rw-r--r-- 1 u g 5 Nov 21 16:33 f\r\n".to_vec(), "226 sent".to_owned())),
        Some("DELE" | "RNTO") => Some(Act::Close),
        Some("RNFR") => Some(say("350 to where?")),
        _ => None,
    });
    let world = World::default();
    let mut client = world.client(&peer.server);
    assert_eq!(directories::remove(&mut client, "/f", true).unwrap_err().kind, ErrorKind::Unavailable);
    let renamed = client.once(|session| cooperage_plugin_ftp::client::upload::rename(session, "/f", "/g"));
    assert_eq!(renamed.unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!((peer.count("DELE"), peer.count("RNTO")), (1, 1));
    assert!(world.pauses.borrow().is_empty());
}

#[test]
fn links_are_removed_and_not_what_they_lead_to() {
    let listing = b"lrwxrwxrwx 1 u g 5 Nov 21 16:33 l -> /important\r\n";
    let peer = Peer::start(|line| match line.split(' ').next() {
        Some("LIST") => Some(Act::Send(listing.to_vec(), "226 sent".to_owned())),
        Some("MLSD") => Some(Act::Send(b"type=dir; l\r\n".to_vec(), "226 sent".to_owned())),
        Some("DELE") => Some(say("250 gone")),
        _ => None,
    });
    let world = World::default();
    assert_eq!(directories::remove(&mut world.client(&peer.server), "/l", true).unwrap(), 1);
    assert_eq!((peer.count("DELE /l"), peer.count("RMD"), peer.count("CWD /l")), (1, 0, 0));
}

#[test]
fn broken_connections_are_tried_again_with_patience() {
    let peer = Peer::start(|line| (line == "CONNECT").then(|| say("421 busy")));
    let world = World::default();
    let error = world.client(&peer.server).again(|session| session.command("NOOP", None)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    let pauses = world.pauses.borrow();
    assert_eq!(pauses.len(), 3);
    assert!(pauses[2] > pauses[0]);
}

#[test]
fn wrong_passwords_are_tried_once_and_not_repeated() {
    let peer = Peer::start(|line| line.starts_with("PASS").then(|| say("530 geheim is wrong")));
    let world = World::default();
    let error = world.client(&peer.server).again(|session| session.command("NOOP", None)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    assert_eq!(peer.count("PASS"), 1);
    let login = Login::new("u", None).unwrap();
    let server = Server { login, ..peer.server.clone() };
    let error = world.client(&server).again(|session| session.command("NOOP", None)).unwrap_err();
    assert!(error.hint.as_ref().unwrap().contains("password"), "{error:?}");
}
