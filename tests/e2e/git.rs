//! The plugin `git` as a step of flows and as a source, against git's own `http-backend`.

use serde_json::Value;

use crate::support::git::{Git, NEEDS};
use crate::support::{Machine, ROOT, Ran, have, noise, web};

fn start(password: bool) -> Option<(Machine, Git)> {
    if !have(&NEEDS) {
        return None;
    }
    let machine = Machine::new();
    let git = Git::start(&machine, "served", password);
    git.commit("app.git", &[("Dockerfile", b"FROM scratch\nCOPY . /\n"), ("docs/page", b"page\n"), ("empty", b"")]);
    Some((machine, git))
}

/// Runs a flow with these steps.
fn run(machine: &Machine, steps: &str, args: &[&str]) -> Ran {
    let steps: String = steps.lines().map(|line| format!("          {}\n", line.trim())).collect();
    let flow = format!("version: 1\nimages:\n  app:\n    tags:\n      latest:\n        flow:\n{steps}");
    machine.write("cooperage.yaml", flow);
    machine.run(&[&["run", "--output", "json"], args].concat())
}

/// Must succeed; the values of a step.
#[track_caller]
fn values(ran: &Ran, step: &str) -> Value {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let result = ran.json();
    let steps = result["steps"].as_array().unwrap();
    steps.iter().find(|found| found["id"] == format!("app:latest/{step}")).unwrap()["values"].clone()
}

#[test]
fn a_commit_becomes_the_tree_of_a_step() {
    let Some((machine, git)) = start(false) else { return };
    std::os::unix::fs::symlink("docs/page", git.directory("app.git").join("link")).unwrap();
    git.git("app.git", &["tag", "--annotate", "--message", "m", "v1"]);
    let commit = git.commit("app.git", &[("run.sh", b"#!/bin/sh\n")]);
    let url = git.url("app.git");
    let steps = format!(
        "source: {{ uses: git, with: {{ url: '{url}', ref: main, commit: '{commit}' }} }}
         docs: {{ uses: git, with: {{ url: '{url}', subdirectory: docs }} }}
         old: {{ uses: git, with: {{ url: '{url}', ref: v1 }} }}
         image: {{ uses: dockerfile, in: source, with: {{ build_args: {{ COMMIT: '${{{{ steps.source.commit }}}}' }} }} }}"
    );
    let ran = run(&machine, &steps, &[]);
    let source = values(&ran, "source");
    assert_eq!(source["commit"], commit.as_str());
    assert_eq!(source["short"], &commit[..7]);
    assert_eq!((&source["ref"], &source["time"]), (&"refs/heads/main".into(), &1_700_000_000.into()));
    assert_eq!(source["tree_id"], git.git("app.git", &["rev-parse", "HEAD^{tree}"]).as_str());
    assert_eq!(values(&ran, "docs")["tree_id"], git.git("app.git", &["rev-parse", "HEAD:docs"]).as_str());
    assert_eq!(values(&ran, "old")["ref"], "refs/tags/v1");
    if have(&["umoci", ROOT]) {
        let tree = machine.tree("app:latest").join("\n");
        for path in ["/docs/page", "/empty", "/link -> docs/page", "/run.sh"] {
            assert!(tree.contains(path), "{path} is not in {tree}");
        }
        assert!(!tree.contains("/.git"), "{tree}");
    }
    // Equal commits make equal images, in another store too.
    let image = values(&ran, "image")["digest"].clone();
    let other = Machine::new();
    assert_eq!(values(&run(&other, &steps, &[]), "image")["digest"], image);
    let moved = steps.replace(&commit, &"0".repeat(40));
    assert_ne!(run(&machine, &moved, &[]).says(&["is not the expected commit", &commit]).code, Some(0));
}

#[test]
fn credentials_come_from_secrets_and_are_not_seen() {
    let Some((machine, git)) = start(true) else { return };
    machine.write("right", "correct-horse\n");
    machine.write("wrong", "hunter2-of-a-test\n");
    let url = git.url("app.git");
    let none = format!("get: {{ uses: git, with: {{ url: '{url}' }} }}");
    assert_eq!(run(&machine, &none, &[]).says(&["wants credentials", "token: { secret: NAME }"]).code, Some(4));
    let user = format!("get: {{ uses: git, with: {{ url: '{url}', username: alice, password: {{ secret: PW }} }} }}");
    let token = format!("get: {{ uses: git, with: {{ url: '{url}', token: {{ secret: PW }} }} }}");
    for step in [user, token] {
        let ran = run(&machine, &step, &["--secret", "id=PW,src=right"]);
        assert_eq!(ran.does_not_say(&["correct-horse"]).code, Some(0), "{}", ran.stderr);
        let ran = run(&machine, &step, &["--secret", "id=PW,src=wrong"]);
        ran.says(&["does not accept the credentials"]).does_not_say(&["hunter2"]);
        assert_eq!(ran.code, Some(4));
    }
    let in_url = url.replace("http://", "http://alice:correct-horse@");
    let ran = run(&machine, &format!("get: {{ uses: git, with: {{ url: '{in_url}' }} }}"), &[]);
    ran.says(&["has a user name or a password in it"]);
}

#[test]
fn builds_take_files_from_repositories() {
    let Some((machine, git)) = start(false) else { return };
    let url = git.url("app.git");
    let build = || machine.ok(&["build", &url, "--quiet"]).out().to_owned();
    let first = build();
    assert_eq!(build(), first);
    let old = git.git("app.git", &["rev-parse", "HEAD"]);
    git.commit("app.git", &[("docs/page", b"other\n")]);
    assert_ne!(build(), first);
    machine.dockerfile("add", &format!("FROM scratch\nADD {url}#main:docs /docs/\n"));
    machine.build("add", &["-t", "added:1"]);
    machine.dockerfile("old", &format!("FROM scratch\nADD --checksum={old} {url}#{old}:docs /docs/\n"));
    machine.build("old", &["-t", "added:0"]);
    machine.dockerfile("moved", &format!("FROM scratch\nADD --checksum={old} {url}#main /docs/\n"));
    assert_ne!(machine.run(&["build", "moved"]).says(&["is not the expected commit"]).code, Some(0));
    machine.dockerfile("none", &format!("FROM scratch\nADD {url}#nothing /docs/\n"));
    machine.fails(&["build", "none"], 2).says(&["no branch and no tag", "main"]);
}

#[test]
fn builds_log_in_where_a_server_asks() {
    let Some((machine, git)) = start(true) else { return };
    machine.write("token", "correct-horse\n");
    machine.dockerfile("add", &format!("FROM scratch\nADD {} /\n", git.url("app.git")));
    let ran = machine.run(&["build", "add", "--no-cache"]);
    assert_eq!(ran.says(&["wants credentials", "GIT_AUTH_TOKEN"]).code, Some(4));
    let token = format!("id=GIT_AUTH_TOKEN,src={}", machine.text("token"));
    machine.ok(&["build", "add", "--secret", &token]).does_not_say(&["correct-horse"]);
}

#[test]
fn submodules_of_other_hosts_need_a_word() {
    let Some((machine, git)) = start(false) else { return };
    let other = Git::start(&machine, "elsewhere", false);
    other.commit("lib.git", &[("lib", b"lib")]);
    let directory = other.directory("lib.git").display().to_string();
    git.git("app.git", &["submodule", "--quiet", "add", &directory, "vendor/lib"]);
    git.git("app.git", &["config", "--file", ".gitmodules", "submodule.vendor/lib.url", &other.url("lib.git")]);
    git.commit("app.git", &[]);
    let url = git.url("app.git");
    let refused = run(&machine, &format!("get: {{ uses: git, with: {{ url: '{url}' }} }}"), &[]);
    assert_eq!(refused.says(&["submodule vendor/lib", "hosts: ["]).code, Some(3));
    assert!(other.requests().is_empty(), "{:?}", other.requests());
    let hosts = format!("hosts: ['http://{}']", other.host);
    let step = format!(
        "get: {{ uses: git, with: {{ url: '{url}', {hosts} }} }}
         lib: {{ uses: git, with: {{ url: '{url}', subdirectory: vendor/lib, {hosts} }} }}
         without: {{ uses: git, with: {{ url: '{url}', submodules: false }} }}"
    );
    let tree = values(&run(&machine, &step, &[]), "lib")["tree_id"].clone();
    assert_eq!(tree, other.git("lib.git", &["rev-parse", "HEAD^{tree}"]).as_str());
}

#[test]
fn a_server_that_dies_leaves_nothing_behind() {
    let Some((machine, git)) = start(false) else { return };
    git.commit("app.git", &[("large", &noise(3_000_000, 1)), ("small", b"small")]);
    let step = format!("get: {{ uses: git, with: {{ url: '{}' }} }}", git.url("app.git"));
    for after in [0, 5, 200, 1_000_000, 3_000_000] {
        git.break_after(after);
        let ran = run(&machine, &step, &[]);
        assert_eq!(ran.says(&["cannot fetch"]).code, Some(4), "{after}: {}", ran.stderr);
        machine.assert_store_is_clean();
    }
    git.break_after(usize::MAX);
    assert_eq!(run(&machine, &step, &[]).code, Some(0));
}

#[test]
fn many_at_once_do_not_disturb_each_other() {
    let Some((machine, git)) = start(false) else { return };
    git.commit("app.git", &[("large", &noise(3_000_000, 1))]);
    let step = |number| format!("get{number}: {{ uses: git, with: {{ url: '{}' }} }}\n", git.url("app.git"));
    let ran = run(&machine, &(0..6).map(step).collect::<String>(), &["--jobs", "6"]);
    let commits: Vec<_> = (0..6).map(|number| values(&ran, &format!("get{number}"))["commit"].clone()).collect();
    assert!(commits.windows(2).all(|two| two[0] == two[1]));
    machine.assert_store_is_clean();
}

#[test]
fn what_is_no_repository_to_us() {
    let Some((machine, git)) = start(false) else { return };
    let check = |url: &str, code: i32, says: &str| {
        let ran = run(&machine, &format!("get: {{ uses: git, with: {{ url: '{url}' }} }}"), &[]);
        assert_eq!(ran.says(&[says]).code, Some(code), "{url}: {}", ran.stderr);
    };
    check(&git.url("nothing.git"), 2, "no such repository");
    check("git@git.example:team/app.git", 1, "write https://git.example/team/app.git");
    check("http://127.0.0.1:1/app.git", 4, "127.0.0.1:1");
    if have(&web::NEEDS) {
        let web = web::Web::start(&machine);
        let ran = run(&machine, &format!("get: {{ uses: git, with: {{ url: '{}/app.git' }} }}", web.secure), &[]);
        assert_ne!(ran.says(&["certificate"]).code, Some(0));
    }
}
