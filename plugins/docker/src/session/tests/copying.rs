//! Directories as the engine copies them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::engine::{Engine, Ongoing, Reply, run, run_with, usual};
use super::tree::Tree;
use crate::session::Session;
use crate::session::messages::{Packet, PacketType, Stat};

fn offering(tree: Tree) -> Session {
    Session::new("x", "x").directory("context", Rc::new(tree))
}

/// The entries that are told, up to the end of them.
async fn told(call: &mut Ongoing) -> Vec<Stat> {
    let mut all = Vec::new();
    loop {
        let packet = call.packet().await;
        assert_eq!(packet.kind(), PacketType::Stat, "{packet:?}");
        let Some(stat) = packet.stat else { return all };
        all.push(stat);
    }
}

/// The paths that are told to an engine that asks in this way.
fn paths(tree: Tree, headers: &'static [(&'static str, &'static str)]) -> Vec<String> {
    let stats = run(offering(tree), move |engine| async move {
        let mut call = engine.copy(&[&[("dir-name", "context")], headers].concat()).await;
        let stats = told(&mut call).await;
        call.say(Packet::of(PacketType::Fin));
        assert_eq!(call.rest().await.status, 0);
        stats
    });
    stats.unwrap().into_iter().map(|stat| stat.path).collect()
}

#[test]
fn a_directory_is_copied() {
    let text = "0123456789".repeat(1000);
    let tree = Tree::new()
        .file("a/x", b"ax")
        .file("a.b", text.as_bytes())
        .file("a-b", b"")
        .link("link", "a/x")
        .socket("socket")
        .directory("empty");
    let (stats, contents, end) = run(offering(tree), |engine| async move {
        let mut call = engine.copy(&[("dir-name", "context")]).await;
        let stats = told(&mut call).await;
        let files = stats.iter().enumerate().filter(|(_, stat)| stat.mode & (1 << 31 | 1 << 27) == 0);
        let ids: BTreeMap<u32, String> = files.map(|(id, stat)| (id as u32, stat.path.clone())).collect();
        ids.keys().rev().for_each(|id| call.ask(*id));
        let (mut contents, mut left) = (BTreeMap::<String, Vec<u8>>::new(), ids.len());
        while left > 0 {
            let packet = call.packet().await;
            assert_eq!(packet.kind(), PacketType::Data);
            contents.entry(ids[&packet.id].clone()).or_default().extend_from_slice(&packet.data);
            left -= usize::from(packet.data.is_empty());
        }
        call.say(Packet::of(PacketType::Fin));
        (stats, contents, call.rest().await)
    })
    .unwrap();
    let paths: Vec<_> = stats.iter().map(|stat| (&*stat.path, stat.size, &*stat.linkname)).collect();
    let expected =
        [("a", 0, ""), ("a/x", 2, ""), ("a-b", 0, ""), ("a.b", 10_000, ""), ("empty", 0, ""), ("link", 3, "a/x")];
    // By name, in byte order: `a`, `a-b`, `a.b`; what is in `a` comes right after it.
    assert_eq!(paths, expected);
    let contents: Vec<_> = contents.iter().map(|(path, bytes)| (&**path, &**bytes)).collect();
    assert_eq!(contents, [("a-b", &b""[..]), ("a.b", text.as_bytes()), ("a/x", b"ax")]);
    assert_eq!((end.status, end.packets()), (0, vec![Packet::of(PacketType::Fin)]));
}

#[test]
fn files_may_be_asked_for_while_others_are_told() {
    let tree = (0..2000).fold(Tree::new(), |tree, at| tree.file(&format!("{at:04}"), format!("{at}").as_bytes()));
    let order = run(offering(tree), |engine| async move {
        let mut call = engine.copy(&[("dir-name", "context")]).await;
        call.packet().await;
        call.ask(0);
        let mut order = Vec::new();
        while order.len() < 3 {
            let packet = call.packet().await;
            match packet.kind() {
                PacketType::Data => order.push(if packet.data.is_empty() { "end of file" } else { "data" }),
                _ if packet.stat.is_none() => order.push("end of entries"),
                _ => {}
            }
        }
        call.say(Packet::of(PacketType::Fin));
        assert_eq!(call.rest().await.status, 0);
        order
    });
    assert_eq!(order.unwrap().len(), 3);
}

fn sources() -> Tree {
    Tree::new()
        .file("Dockerfile", b"FROM scratch")
        .file(".dockerignore", b"x")
        .file("src/main.c", b"")
        .file("src/deep/a.h", b"")
        .file("src/deep/b.c", b"")
        .file("other/x", b"")
        .file("*", b"")
        .link("current", "/src/deep")
        .link("src/up", "../other")
        .link("loop", "loop/x")
        .link("root", ".")
}

#[test]
fn only_what_paths_lead_to_is_told() {
    for (headers, expected) in [
        (&[("followpaths", "Dockerfile"), ("followpaths", "Dockerfile.dockerignore")][..], &["Dockerfile"][..]),
        (&[("followpaths", "/src/./deep/")], &["src", "src/deep", "src/deep/a.h", "src/deep/b.c"]),
        (&[("followpaths", "current/a.h")], &["current", "src", "src/deep", "src/deep/a.h"]),
        (&[("followpaths", "src/up/x")], &["other", "other/x", "src", "src/up"]),
        (&[("followpaths", "cur*/b.c")], &["current", "src", "src/deep", "src/deep/b.c"]),
        (&[("followpaths", "src/*.c")], &["src", "src/main.c"]),
        (&[("followpaths", "\\*")], &["*"]),
        (&[("followpaths", "loop")], &["loop"]),
        (&[("followpaths", "../missing")], &[]),
        (&[("include-patterns", "src/**/*.c")], &["src", "src/deep", "src/deep/b.c", "src/main.c"]),
        (&[("include-patterns", "oth?r"), ("followpaths", "*file")], &["Dockerfile", "other", "other/x"]),
        (&[("include-patterns", "!x")], &[]),
        (
            &[("followpaths", "%C3%A4+b"), ("followpaths", "D%6fckerfile"), ("followpaths-encoded", "1")],
            &["Dockerfile"],
        ),
    ] {
        assert_eq!(paths(sources(), headers), expected, "{headers:?}");
    }
    let all = paths(sources(), &[]).len();
    for headers in [
        &[("followpaths", "root/x"), ("followpaths", "/")][..],
        &[("followpaths", "root")],
        &[("exclude-patterns", "*")],
    ] {
        assert_eq!(paths(sources(), headers).len(), all, "{headers:?}");
    }
}

#[test]
fn what_nobody_asked_for_is_not_read() {
    let tree = Rc::new(sources());
    let session = Session::new("x", "x").directory("dockerfile", tree.clone());
    run(session, |engine| async move {
        let mut call = engine.copy(&[("dir-name", "dockerfile"), ("followpaths", "Dockerfile")]).await;
        told(&mut call).await;
    })
    .unwrap();
    assert!(tree.seen.borrow().iter().all(String::is_empty), "{:?}", tree.seen);
}

#[test]
fn directories_have_names() {
    let reply =
        run(offering(Tree::new()), |engine| async move { engine.copy(&[("dir-name", "/etc")]).await.rest().await });
    let Reply { status, text, .. } = reply.unwrap();
    assert_eq!((status, &*text), (5, "there is no directory \"/etc\""));
}

#[test]
fn what_cannot_be_read_is_told_on_both_sides() {
    let session = offering(Tree::new().file("a", b"a").broken("b"));
    let fault = session.offers.fault.clone();
    let reply = run(session, |engine: Engine| async move {
        let mut call = engine.copy(&[("dir-name", "context")]).await;
        told(&mut call).await;
        call.ask(1);
        call.rest().await
    });
    let reply = reply.unwrap();
    let text = "b cannot be sent to the engine: the disk is full of holes";
    assert_eq!((reply.status, &*reply.text), (2, text));
    assert_eq!(reply.packets(), [Packet { data: text.into(), ..Packet::of(PacketType::Err) }]);
    let error = fault.take().unwrap();
    assert_eq!(
        (&*error.message, &*error.context),
        ("b cannot be sent to the engine", &["the disk is full of holes".to_owned()][..])
    );
    assert!(fault.take().is_none());
}

/// Reads a file of several MiB through windows of these sizes; says how far the reading was ahead of the engine at most.
fn lead(stream: u32, connection: u32) -> usize {
    const SIZE: usize = 9 << 20;
    let read = Rc::new(RefCell::new(0));
    let session = offering(Tree::new().zeros("large", SIZE, &read));
    let mut builder = usual();
    builder.initial_window_size(stream).initial_connection_window_size(connection);
    run_with(builder, session, move |engine| async move {
        let mut call = engine.copy(&[("dir-name", "context")]).await;
        told(&mut call).await;
        call.ask(0);
        let (mut received, mut lead) = (0, 0);
        loop {
            let packet = call.packet().await;
            assert!(packet.data.len() <= 1 << 20);
            if packet.data.is_empty() {
                break;
            }
            received += packet.data.len();
            lead = lead.max(*read.borrow() - received);
        }
        assert_eq!(received, SIZE);
        call.say(Packet::of(PacketType::Fin));
        assert_eq!(call.rest().await.status, 0);
        lead
    })
    .unwrap()
}

#[test]
fn large_files_are_not_read_ahead() {
    for (stream, connection) in [(1000, 1 << 20), (64 << 10, 64 << 10), (16 << 20, 16 << 20)] {
        let lead = lead(stream, connection);
        let (window, between) = (stream.min(connection) as usize, 3 << 20);
        assert!(lead < window.min(9 << 20) + between, "{stream} {connection}: {lead}");
    }
}
