//! Repositories and servers that mean harm, or are broken.

mod support;

use std::cell::Cell;
use std::rc::Rc;

use cooperage_plugin_git::edge::{Answer, Body};
use cooperage_plugin_git::login::{Login, basic};
use cooperage_plugin_git::{clone, place};
use cooperage_sdk::layer::LayerWriter;
use cooperage_sdk::{ErrorKind, Result};
use support::{World, answer, have_git};

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const RESULT: &str = "application/x-git-upload-pack-result";

fn world() -> Option<World> {
    if !have_git() {
        return None;
    }
    let world = World::new();
    world.repository("app.git", &[("file", b"content"), ("dir/file", b"more")]);
    Some(world)
}

/// Fails as told, with a text in its message, causes or hint.
#[track_caller]
fn check(world: &World, reference: &str, kind: ErrorKind, says: &str) {
    let error = world.fetch("app.git", reference).unwrap_err();
    assert_eq!(error.kind, kind, "{error:?}");
    assert!(format!("{error:?}").contains(says), "{says:?} is not in {error:?}");
}

#[test]
fn names_that_lead_elsewhere() {
    let Some(world) = world() else { return };
    let blob = world.raw_object("app.git", "blob", b"#!/bin/sh\nowned\n");
    let inner = world.raw_tree("app.git", &[("100755", b"post-checkout", &blob)]);
    let target = world.raw_object("app.git", "blob", b"/etc");
    let dir = world.raw_tree("app.git", &[("100644", b"passwd", &blob)]);
    let attacks: [(&str, &[u8], &str, &str); 8] = [
        ("dots", b"..", &inner, "leads out"),
        ("slash", b"../../etc/cron.d/x", &blob, "slash"),
        ("git", b".git", &inner, "directory of git"),
        ("case", b".GiT", &inner, "directory of git"),
        ("ntfs", b"git~1", &inner, "directory of git"),
        ("stream", b".git::$INDEX_ALLOCATION", &inner, "directory of git"),
        ("hfs", ".g\u{200c}it".as_bytes(), &inner, "directory of git"),
        ("modules", b".gitmodules", &target, ".gitmodules"),
    ];
    for (branch, name, id, says) in attacks {
        let mode = match branch {
            "modules" => "120000",
            "slash" => "100644",
            _ => "40000",
        };
        world.raw_branch("app.git", branch, &[(mode, name, id)]);
        check(&world, branch, ErrorKind::Denied, says);
        // Nor below a directory that looks harmless.
        let tree = world.raw_tree("app.git", &[(mode, name, id)]);
        world.raw_branch("app.git", "below", &[("40000", b"docs", &tree)]);
        check(&world, "below", ErrorKind::Denied, "in docs/");
    }
    world.raw_branch("app.git", "through", &[("120000", b"a", &target), ("40000", b"a", &dir)]);
    check(&world, "through", ErrorKind::Denied, "twice");
    world.raw_branch("app.git", "whiteout", &[("100644", b".wh.etc", &blob)]);
    check(&world, "whiteout", ErrorKind::Unsupported, ".wh.");
    world.raw_branch("app.git", "device", &[("60644", b"sda", &blob)]);
    check(&world, "device", ErrorKind::InvalidInput, "60644");
    let no_target = world.raw_object("app.git", "blob", b"");
    world.raw_branch("app.git", "link", &[("120000", b"link", &no_target)]);
    check(&world, "link", ErrorKind::InvalidInput, "link");
    let long = world.raw_object("app.git", "blob", &b"x/".repeat(4000));
    world.raw_branch("app.git", "long", &[("120000", b"link", &long)]);
    check(&world, "long", ErrorKind::Unsupported, "8000 bytes");
}

#[test]
fn few_bytes_that_mean_many_files() {
    let Some(world) = world() else { return };
    let blob = world.raw_object("app.git", "blob", b"boom");
    let mut tree = world.raw_tree("app.git", &[("100644", b"f", &blob)]);
    let names: Vec<String> = (0..10).map(|n| format!("d{n}")).collect();
    for _ in 0..9 {
        let entries: Vec<_> = names.iter().map(|name| ("40000", name.as_bytes(), tree.as_str())).collect();
        tree = world.raw_tree("app.git", &entries);
    }
    world.branch_of("app.git", "bomb", &tree);
    let wanted = world.wanted("app.git", "bomb");
    let login = Login::known(&wanted.url, None).unwrap();
    let resolved = clone::resolve(&world, &login, &wanted).unwrap();
    let mut layer = LayerWriter::to(std::io::sink());
    let error = clone::clone(&world, &login, &wanted, resolved, &mut layer).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Limit);
    assert!(format!("{error:?}").contains("1000000 files"), "{error:?}");

    let mut deep = world.raw_tree("app.git", &[("100644", b"f", &blob)]);
    for _ in 0..45 {
        deep = world.raw_tree("app.git", &[("40000", &[b'd'; 100], &deep)]);
    }
    world.branch_of("app.git", "deep", &deep);
    check(&world, "deep", ErrorKind::Unsupported, "paths have at most");
}

#[test]
fn wide_directories_are_counted_when_they_are_read() {
    let Some(world) = world() else { return };
    let blob = world.raw_object("app.git", "blob", b"boom");
    let names: Vec<String> = (0..520_000).map(|number| format!("f{number}")).collect();
    let mut entries: Vec<_> = names.iter().map(|name| ("100644", name.as_bytes(), blob.as_str())).collect();
    // Whoever reads the inner one to its end finds this, and holds both by then.
    entries.push(("100644", b"..", &blob));
    let inner = world.raw_tree("app.git", &entries);
    entries.pop();
    entries.insert(0, ("40000", b"d", &inner));
    world.raw_branch("app.git", "wide", &entries);
    check(&world, "wide", ErrorKind::Limit, "1000000 files");
}

/// Branches of long names, one after the other.
struct Endless {
    id: String,
    sent: Rc<Cell<usize>>,
}

impl Body for Endless {
    fn chunk(&mut self, _: u32) -> Result<Vec<u8>> {
        let number = self.sent.get() + 1;
        assert!(number < 100, "read on after what a message can say");
        self.sent.set(number);
        let line = format!("{} refs/heads/b{number}-{}", self.id, "x".repeat(60_000));
        Ok(format!("{:04x}{line}", line.len() + 4).into_bytes())
    }
}

#[test]
fn of_a_list_without_end_a_few_names_are_read() {
    let Some(world) = world() else { return };
    let id = world.git("app.git", &["rev-parse", "HEAD"]);
    let sent = Rc::new(Cell::new(0));
    *world.instead.borrow_mut() = Some(Box::new(move |exchange| {
        let asks = b"ref-prefix refs/heads/\n";
        exchange.body.windows(asks.len()).any(|part| part == asks).then(|| {
            let body = Endless { id: id.clone(), sent: sent.clone() };
            Answer { body: Box::new(body), ..answer(200, &[("content-type", RESULT)], "") }
        })
    }));
    check(&world, "nothing", ErrorKind::NotFound, "b8-xxx");
}

#[test]
fn objects_that_are_something_else() {
    let Some(world) = world() else { return };
    let blob = world.raw_object("app.git", "blob", b"text");
    check(&world, &blob, ErrorKind::InvalidInput, "is a blob, not a commit");
    let tree = world.git("app.git", &["rev-parse", "HEAD^{tree}"]);
    check(&world, &tree, ErrorKind::InvalidInput, "is a tree, not a commit");
}

#[test]
fn transfers_that_break_off_deliver_nothing() {
    let Some(world) = world() else { return };
    let largest = Rc::new(Cell::new(0));
    let seen = largest.clone();
    *world.twist.borrow_mut() = Some(Box::new(move |exchange, body| {
        if exchange.method == "POST" {
            seen.set(seen.get().max(body.len()));
        }
        body
    }));
    world.fetch("app.git", "").unwrap();
    for after in (0..largest.get()).step_by(17) {
        *world.breaks_after.borrow_mut() = Some(after);
        largest.set(0);
        match world.fetch("app.git", "") {
            Err(error) => assert_eq!(error.kind, ErrorKind::Unavailable, "{after}: {error:?}"),
            // Git cuts the same pack into more packets at one time than at another.
            Ok(_) => assert!(after >= largest.get(), "{after} of {} bytes were enough", largest.get()),
        }
    }
    // A server that dies in good order, as seen from HTTP.
    *world.breaks_after.borrow_mut() = None;
    *world.twist.borrow_mut() =
        Some(Box::new(|exchange, body| if exchange.method == "POST" { body[..body.len() / 2].to_vec() } else { body }));
    check(&world, "", ErrorKind::Unavailable, "middle");
}

#[test]
fn damage_on_the_way_is_found() {
    let Some(world) = world() else { return };
    let is_fetch = |body: &[u8]| body.windows(13).any(|part| part == b"command=fetch");
    for at in 30..120 {
        *world.twist.borrow_mut() = Some(Box::new(move |exchange, mut body| {
            if is_fetch(&exchange.body)
                && let Some(byte) = body.len().checked_sub(at).and_then(|at| body.get_mut(at))
            {
                *byte ^= 0x11;
            }
            body
        }));
        assert!(world.fetch("app.git", "").is_err(), "byte {at} from the end");
    }
}

#[test]
fn credentials_reach_those_they_are_for() {
    let Some(world) = world() else { return };
    let good = basic("alice", "correct-horse");
    let expected = good.clone();
    *world.instead.borrow_mut() = Some(Box::new(move |exchange| {
        let given = exchange.headers.get("authorization");
        (given != Some(&expected)).then(|| answer(401, &[("www-authenticate", "Basic realm=x")], "who are you?"))
    }));
    let wanted = world.wanted("app.git", "");
    let error = world.fetch_wanted(&wanted).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    assert!(error.hint.unwrap().contains("GIT_AUTH_TOKEN"));

    let bad = Login::known(&wanted.url, Some(basic("alice", "wrong-battery"))).unwrap();
    let error = world.fetch_as(&wanted, &bad).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    assert!(error.context[0].contains("does not accept"), "{error:?}");
    assert!(!format!("{error:?}").contains("battery"));

    let login = Login::known(&wanted.url, Some(good.clone())).unwrap();
    assert!(world.fetch_as(&wanted, &login).is_ok());
    // A build's secrets are not shown to a server that does not ask, and then at once.
    world.requests.borrow_mut().clear();
    let login = Login::on_demand(&wanted.url, || Ok(Some(good.clone())));
    assert!(world.fetch_as(&wanted, &login).is_ok());
    let sent: Vec<bool> = world.requests.borrow().iter().map(|(_, _, given)| given.is_some()).collect();
    assert!(!sent[0] && sent[1..].iter().all(|sent| *sent), "{sent:?}");
}

#[test]
fn redirects_are_followed_once_and_without_credentials() {
    let Some(world) = world() else { return };
    let query = "?service=git-upload-pack";
    *world.instead.borrow_mut() = Some(Box::new(move |exchange| {
        let to = match exchange.url.path() {
            "/old/info/refs" => format!("/app.git/info/refs{query}"),
            "/loop/info/refs" => format!("/loop/info/refs{query}"),
            "/login/info/refs" => "/sign_in".to_owned(),
            "/evil/info/refs" => format!("https://evil.example/app.git/info/refs{query}"),
            "/posts/info/refs" => return None,
            _ => return None,
        };
        Some(answer(302, &[("location", &to)], ""))
    }));
    let fetch = |name: &str| {
        let wanted = world.wanted(name, "");
        let login = Login::known(&wanted.url, Some(basic("a", "b"))).unwrap();
        world.requests.borrow_mut().clear();
        world.fetch_as(&wanted, &login)
    };
    fetch("old").unwrap();
    let first = |url: &str| world.requests.borrow().iter().filter(|(_, asked, _)| asked.contains(url)).count();
    assert_eq!(first("/old/"), 1, "what was learned for resolving serves for fetching, too");
    assert_eq!(fetch("loop").unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(fetch("login").unwrap_err().kind, ErrorKind::NotFound);
    let error = fetch("evil").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(format!("{error:?}").contains("moved to https://evil.example/app.git"), "{error:?}");
    let requests = world.requests.borrow();
    let (_, url, given) = requests.last().unwrap();
    assert!(url.starts_with("https://evil.example/") && given.is_none());
}

#[test]
fn servers_that_are_none() {
    let Some(world) = world() else { return };
    let version_2 = "001e# service=git-upload-pack\n0000000eversion 2\n";
    let cases = [
        (200, "text/html", "<html>", ErrorKind::NotFound, "served over smart HTTP"),
        (200, "text/plain", "0123 refs/heads/main", ErrorKind::NotFound, "served over smart HTTP"),
        (200, ADVERTISEMENT, "<html>", ErrorKind::InvalidInput, "does not speak git"),
        (200, ADVERTISEMENT, "", ErrorKind::Unavailable, "introduction"),
        (200, ADVERTISEMENT, version_2, ErrorKind::Unavailable, "introduction"),
        (
            200,
            ADVERTISEMENT,
            "001e# service=git-upload-pack\n0000000eversion 1\n0000",
            ErrorKind::Unsupported,
            "version 2",
        ),
        (200, ADVERTISEMENT, "000eversion 2\n0019object-format=sha2560000", ErrorKind::Unsupported, "sha256"),
        (200, ADVERTISEMENT, "000eversion 2\n000fERR go away0000", ErrorKind::Denied, "go away"),
        (403, "text/plain", "go away", ErrorKind::Denied, "go away"),
        (500, "text/plain", "", ErrorKind::Unavailable, "500"),
        (503, "text/html", "<html>", ErrorKind::Unavailable, "503"),
        (418, "text/plain", "", ErrorKind::Conflict, "418"),
    ];
    for (status, kind, body, expected, says) in cases {
        *world.instead.borrow_mut() = Some(Box::new(move |_| Some(answer(status, &[("content-type", kind)], body))));
        check(&world, "", expected, says);
    }
    // What introduces itself well may still answer badly.
    let posts = [
        ("text/html", "<html>", ErrorKind::Conflict, "text/html"),
        (RESULT, "", ErrorKind::Unavailable, "middle"),
        (RESULT, "0000", ErrorKind::NotFound, "empty"),
        (RESULT, "000bxxxxxxx", ErrorKind::InvalidInput, "cannot be read"),
        (RESULT, "0009ERR x0000", ErrorKind::Denied, "refuses"),
    ];
    for (kind, body, expected, says) in posts {
        *world.instead.borrow_mut() = Some(Box::new(move |exchange| {
            (exchange.method == "POST").then(|| answer(200, &[("content-type", kind)], body))
        }));
        check(&world, "", expected, says);
    }
    for (body, expected, says) in [
        ("0000", ErrorKind::Unavailable, "before the objects"),
        ("000dpackfile\n0000", ErrorKind::Unavailable, "ended the pack"),
        ("000dpackfile\n000c\u{1}nopack!0000", ErrorKind::Unavailable, "ended the pack"),
        ("000dpackfile\n0019\u{1}no pack, no pack, x0000", ErrorKind::InvalidInput, "corrupt pack"),
        ("000dpackfile\n000f\u{3}out of mem0000", ErrorKind::Unavailable, "out of mem"),
        ("000dpackfile\n0006\u{7}x0000", ErrorKind::InvalidInput, "band"),
    ] {
        *world.instead.borrow_mut() = Some(Box::new(move |exchange| {
            let is_fetch = exchange.body.windows(13).any(|part| part == b"command=fetch");
            is_fetch.then(|| answer(200, &[("content-type", RESULT)], body))
        }));
        check(&world, "", expected, says);
    }
}

#[test]
fn submodules_that_mean_harm() {
    let Some(world) = world() else { return };
    let commit = world.git("app.git", &["rev-parse", "HEAD"]);
    let with_url = |url: &str| {
        let text = format!("[submodule \"x\"]\n\tpath = sub\n\turl = {url}\n");
        let modules = world.raw_object("app.git", "blob", text.as_bytes());
        world.raw_branch("app.git", "sub", &[("100644", b".gitmodules", &modules), ("160000", b"sub", &commit)])
    };
    for (url, kind, says) in [
        ("git@github.com:a/b.git", ErrorKind::Unsupported, "https://github.com/a/b.git"),
        ("file:///etc", ErrorKind::Unsupported, "only http"),
        ("/etc", ErrorKind::Unsupported, "only http"),
        ("--upload-pack=touch", ErrorKind::Unsupported, "only http"),
        ("https://user:s3cret@git.example/a", ErrorKind::InvalidInput, "user name"),
        ("https://evil.example/a.git", ErrorKind::Denied, "hosts: ["),
        ("../../../../a", ErrorKind::InvalidInput, "beyond the host"),
        ("../nothing.git", ErrorKind::NotFound, "no such repository"),
    ] {
        with_url(url);
        check(&world, "sub", kind, says);
        let error = world.fetch("app.git", "sub").unwrap_err();
        assert!(error.message.contains("submodule sub"), "{error:?}");
        assert!(!format!("{error:?}").contains("s3cret"));
    }
    with_url("\"open");
    check(&world, "sub", ErrorKind::InvalidInput, "line 3 of .gitmodules");
    world.raw_branch("app.git", "sub", &[("160000", b"sub", &commit)]);
    check(&world, "sub", ErrorKind::NotFound, "submodules: false");
    let mut wanted = world.wanted("app.git", "sub");
    wanted.submodules = false;
    assert_eq!(world.fetch_wanted(&wanted).unwrap().1.keys().collect::<Vec<_>>(), ["sub/"]);
    wanted.subdirectory = place::subdirectory("sub/x").unwrap();
    assert!(world.fetch_wanted(&wanted).is_err());
}

#[test]
fn a_repository_within_itself_has_an_end() {
    let Some(world) = world() else { return };
    let modules = world.raw_object("app.git", "blob", b"[submodule \"x\"]\n\tpath = sub\n\turl = ../app.git\n");
    let mut commit = world.git("app.git", &["rev-parse", "HEAD"]);
    for _ in 0..11 {
        commit =
            world.raw_branch("app.git", "cycle", &[("100644", b".gitmodules", &modules), ("160000", b"sub", &commit)]);
    }
    check(&world, "cycle", ErrorKind::Limit, "too many submodules");
    let shorter = world.git("app.git", &["rev-parse", &format!("{commit}:sub")]);
    let (_, files) = world.fetch("app.git", &shorter).unwrap();
    assert!(files.contains_key(&format!("{}file", "sub/".repeat(10))));
}

#[test]
fn credentials_do_not_go_to_submodules_elsewhere() {
    let Some(world) = world() else { return };
    let commit = world.git("app.git", &["rev-parse", "HEAD"]);
    let text = b"[submodule \"x\"]\n\tpath = sub\n\turl = https://evil.example/app.git\n";
    let modules = world.raw_object("app.git", "blob", text);
    world.raw_branch("app.git", "sub", &[("100644", b".gitmodules", &modules), ("160000", b"sub", &commit)]);
    let wanted = world.wanted("app.git", "sub");
    let login = Login::known(&wanted.url, Some(basic("a", "b"))).unwrap();
    world.fetch_as(&wanted, &login).unwrap_err();
    let requests = world.requests.borrow();
    let (_, url, given) = requests.last().unwrap();
    assert!(url.starts_with("https://evil.example/") && given.is_none(), "{url}");
}
