//! What honest repositories give, compared with what git itself checks out.

mod support;

use cooperage_plugin_git::place;
use cooperage_sdk::ErrorKind;
use support::{Files, World, have_git, walk};

/// A world with a repository of many kinds of files.
fn world() -> Option<World> {
    if !have_git() {
        return None;
    }
    let world = World::new();
    let text = b"a line of text\n".repeat(2000);
    let mut other = text.clone();
    other.extend_from_slice(b"and one more\n");
    world.repository(
        "app.git",
        &[
            ("README.md", b"hello\n"),
            ("empty", b""),
            ("src/main.rs", &text),
            ("src/copy.rs", &text),
            ("src/other.rs", &other),
            ("src/deep/er/still/x", b"x"),
            ("a-b", b"1"),
            ("a/b", b"2"),
            ("a.b", b"3"),
            ("\u{fc}n\u{ef}/c\u{f6}de \"quoted\"", b"name"),
            ("large.bin", &noise((4 << 20) + 12345)),
            ("model.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
        ],
    );
    let root = world.path("app.git");
    std::os::unix::fs::symlink("src/main.rs", root.join("link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.join("absolute")).unwrap();
    std::fs::write(root.join("run.sh"), "#!/bin/sh\n").unwrap();
    world.git("app.git", &["add", "--all"]);
    world.git("app.git", &["update-index", "--chmod=+x", "run.sh"]);
    world.git("app.git", &["commit", "--quiet", "--message", "more"]);
    world.git("app.git", &["reset", "--quiet", "--hard"]);
    Some(world)
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ (at >> 13) as u8).collect()
}

/// What git has checked out in a repository.
fn checked_out(world: &World, name: &str) -> Files {
    let mut files = Files::new();
    let root = world.path(name);
    walk(&root, &root, &mut files);
    files
}

#[test]
fn the_files_are_those_that_git_checks_out() {
    let Some(world) = world() else { return };
    let head = world.git("app.git", &["rev-parse", "HEAD"]);
    let expected = checked_out(&world, "app.git");
    assert_eq!(expected["run.sh"].0, 0o755);
    for packed in [false, true] {
        if packed {
            world.git("app.git", &["gc", "--quiet", "--aggressive"]);
        }
        let (cloned, files) = world.fetch("app.git", "").unwrap();
        assert_eq!(files, expected);
        assert_eq!((cloned.commit.to_string(), cloned.name.as_str()), (head.clone(), "refs/heads/main"));
        assert_eq!(cloned.time, 1_700_000_000);
        assert_eq!(cloned.tree.to_string(), world.git("app.git", &["rev-parse", "HEAD^{tree}"]));
    }
}

#[test]
fn equal_commits_make_equal_layers() {
    let Some(world) = world() else { return };
    let layer = || {
        let wanted = world.wanted("app.git", "");
        let login = cooperage_plugin_git::login::Login::known(&wanted.url, None).unwrap();
        let resolved = cooperage_plugin_git::clone::resolve(&world, &login, &wanted).unwrap();
        let mut layer = cooperage_sdk::layer::LayerWriter::to(Vec::new());
        cooperage_plugin_git::clone::clone(&world, &login, &wanted, resolved, &mut layer).unwrap();
        layer.end().unwrap()
    };
    let loose = layer();
    world.git("app.git", &["gc", "--quiet", "--aggressive"]);
    assert!(loose == layer());
}

#[test]
fn references_of_all_sorts() {
    let Some(world) = world() else { return };
    let first = world.git("app.git", &["rev-parse", "HEAD~1"]);
    let second = world.git("app.git", &["rev-parse", "HEAD"]);
    world.git("app.git", &["tag", "light", &first]);
    world.git("app.git", &["tag", "--annotate", "--message", "m", "annotated", &first]);
    world.git("app.git", &["tag", "--annotate", "--message", "m", "nested", "annotated"]);
    world.git("app.git", &["branch", "both", &first]);
    world.git("app.git", &["tag", "both", &second]);
    world.git("app.git", &["update-ref", "refs/pull/1/head", &first]);
    let annotated = world.git("app.git", &["rev-parse", "annotated"]);
    for (reference, commit, name) in [
        ("main", &second, "refs/heads/main"),
        ("HEAD", &second, "refs/heads/main"),
        ("refs/heads/main", &second, "refs/heads/main"),
        ("heads/main", &second, "refs/heads/main"),
        ("light", &first, "refs/tags/light"),
        ("annotated", &first, "refs/tags/annotated"),
        ("nested", &first, "refs/tags/nested"),
        ("both", &first, "refs/heads/both"),
        ("tags/both", &second, "refs/tags/both"),
        ("refs/pull/1/head", &first, "refs/pull/1/head"),
        (&first, &first, &first),
        (&annotated, &first, &annotated),
    ] {
        let (cloned, _) = world.fetch("app.git", reference).unwrap();
        assert_eq!((&cloned.commit.to_string(), cloned.name.as_str()), (commit, name), "{reference}");
    }
}

#[test]
fn only_one_commit_is_sent() {
    let Some(world) = world() else { return };
    let before = world.commit("app.git", &[("old", b"old")]);
    std::fs::remove_file(world.path("app.git").join("old")).unwrap();
    let now = world.commit("app.git", &[("new", b"new")]);
    *world.twist.borrow_mut() = Some(Box::new(|exchange, body| {
        let request = String::from_utf8_lossy(&exchange.body).into_owned();
        assert!(!request.contains("command=ls-refs"), "an id needs no list of refs");
        assert!(!request.contains("command=fetch") || request.contains("deepen 1\n"), "{request}");
        body
    }));
    assert!(!world.fetch("app.git", &now).unwrap().1.contains_key("old"));
    assert!(world.fetch("app.git", &before).unwrap().1.contains_key("old"));
}

#[test]
fn what_is_not_there() {
    let Some(world) = world() else { return };
    world.git("app.git", &["branch", "dev"]);
    std::fs::create_dir(world.path("void.git")).unwrap();
    world.git("void.git", &["init", "--quiet"]);
    for (name, reference, says) in [
        ("app.git", "master", "its branches are dev, main"),
        ("app.git", "abcdef1", "all 40 digits"),
        ("app.git", "0123456789012345678901234567890123456789", "not our ref"),
        ("void.git", "", "the repository is empty"),
        ("nothing.git", "", "no such repository"),
    ] {
        let error = world.fetch(name, reference).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{error:?}");
        assert!(format!("{error:?}").contains(says), "{error:?}");
        assert!(error.message.contains(&format!("https://git.example/{name}")), "{error:?}");
    }
}

#[test]
fn the_expected_commit() {
    let Some(world) = world() else { return };
    let first = world.git("app.git", &["rev-parse", "HEAD~1"]);
    let second = world.git("app.git", &["rev-parse", "HEAD"]);
    world.git("app.git", &["tag", "--annotate", "--message", "m", "annotated", &first]);
    let tag = world.git("app.git", &["rev-parse", "annotated"]);
    for (reference, expected, fits) in [
        ("main", second.as_str(), true),
        ("main", &first, false),
        (&first, &first, true),
        (&first, &first[..7], true),
        (&first, &second, false),
        ("annotated", &first, true),
        ("annotated", &tag, false),
        (&tag, &first, true),
        (&tag, &first[..7], true),
        (&tag, &second, false),
    ] {
        let mut wanted = world.wanted("app.git", reference);
        wanted.expected = Some(expected.to_owned());
        match world.fetch_wanted(&wanted) {
            Ok(_) => assert!(fits, "{reference} is not {expected}"),
            Err(error) => {
                assert!(!fits && error.kind == ErrorKind::Conflict, "{reference} {expected}: {error:?}");
                assert!(format!("{error:?}").contains(&format!("and {expected} is expected")), "{error:?}");
            }
        }
    }
}

#[test]
fn subdirectories() {
    let Some(world) = world() else { return };
    let mut wanted = world.wanted("app.git", "");
    wanted.subdirectory = place::subdirectory("/src/deep/").unwrap();
    let (cloned, files) = world.fetch_wanted(&wanted).unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["er/", "er/still/", "er/still/x"]);
    assert_eq!(cloned.tree.to_string(), world.git("app.git", &["rev-parse", "HEAD:src/deep"]));
    for (path, says) in
        [("src/nothing", "nothing of that name"), ("README.md", "it is a file"), ("link/x", "symbolic link")]
    {
        wanted.subdirectory = place::subdirectory(path).unwrap();
        let error = world.fetch_wanted(&wanted).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert!(format!("{error:?}").contains(says), "{error:?}");
    }
}

#[test]
fn submodules_of_submodules() {
    let Some(world) = world() else { return };
    world.repository("leaf.git", &[("leaf", b"leaf"), ("docs/page", b"page")]);
    world.repository("lib.git", &[("lib", b"lib")]);
    let url = |name: &str| world.path(name).display().to_string();
    world.git("lib.git", &["submodule", "--quiet", "add", &url("leaf.git"), "parts/leaf"]);
    world.git("lib.git", &["config", "--file", ".gitmodules", "submodule.parts/leaf.url", "../leaf.git"]);
    world.commit("lib.git", &[]);
    world.git("app.git", &["submodule", "--quiet", "add", &url("lib.git"), "vendor/lib"]);
    world.git(
        "app.git",
        &["config", "--file", ".gitmodules", "submodule.vendor/lib.url", "https://git.example/lib.git"],
    );
    world.commit("app.git", &[]);

    let (_, files) = world.fetch("app.git", "").unwrap();
    assert_eq!(files["vendor/lib/lib"].1, "lib");
    assert_eq!(files["vendor/lib/parts/leaf/leaf"].1, "leaf");
    assert!(files.contains_key("vendor/lib/.gitmodules") && files.contains_key("README.md"));

    let mut wanted = world.wanted("app.git", "");
    wanted.submodules = false;
    let (_, files) = world.fetch_wanted(&wanted).unwrap();
    assert!(files.contains_key("vendor/lib/") && !files.contains_key("vendor/lib/lib"));

    // A subdirectory may lie in a submodule.
    wanted.subdirectory = place::subdirectory("vendor/lib/parts/leaf/docs").unwrap();
    let (cloned, files) = world.fetch_wanted(&wanted).unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["page"]);
    assert_eq!(cloned.tree.to_string(), world.git("leaf.git", &["rev-parse", "HEAD:docs"]));
}

#[test]
fn a_server_that_gives_tips_only_is_asked_for_history() {
    let Some(world) = world() else { return };
    let first = world.git("app.git", &["rev-parse", "HEAD~1"]);
    let tip = world.git("app.git", &["rev-parse", "HEAD"]);
    *world.twist.borrow_mut() = Some(Box::new(move |exchange, body| {
        let request = String::from_utf8_lossy(&exchange.body);
        if exchange.method == "GET" {
            // Another server than git itself, of the same length.
            return String::from_utf8_lossy(&body).replace("agent=git/", "agent=jgt/").into_bytes();
        }
        if request.contains("command=fetch") && !request.contains(&format!("want {tip}")) {
            return b"0016ERR want not valid".to_vec();
        }
        body
    }));
    let (cloned, files) = world.fetch("app.git", &first).unwrap();
    assert_eq!(cloned.commit.to_string(), first);
    assert!(files.contains_key("README.md") && !files.contains_key("run.sh"));
    let error = world.fetch("app.git", "0123456789012345678901234567890123456789").unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(format!("{error:?}").contains("want not valid"));
}
