use std::collections::BTreeMap;

use cooperage_solve::{Mount, MountKind, Network, Sharing};

use super::super::{Grants, Request, Scopes, ungranted};
use super::*;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn map(run: &Value) -> BTreeMap<String, Value> {
    [("run".to_owned(), run.clone())].into()
}

fn request(run: Value) -> Request {
    Request { class: "run".into(), request: run, reason: "because".into() }
}

fn granted(asked: &Value, allow: &Value, policy: Option<&Value>) -> RunScope {
    let policy =
        policy.map_or_else(Scopes::everything, |policy| Scopes::policy(&map(policy), false, "p.yaml").unwrap());
    let allow = Scopes::allow(&map(allow)).unwrap();
    Grants::new(&[request(asked.clone())], &allow, &policy).unwrap().0.run
}

fn args(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The side and the list that refuse `words` in an image.
fn refused(scope: &RunScope, image: Option<&str>, words: &[&str]) -> Option<(Side, Option<&'static str>)> {
    let args = args(words);
    let deed = Deed::new(image, &args, (Network::Default, Network::Host), &[]);
    scope.refusal(&deed).map(|refusal| (refusal.side, refusal.field))
}

fn allows(rule: &Value, image: Option<&str>, words: &[&str]) -> bool {
    refused(&granted(&json!(true), rule, None), image, words).is_none()
}

#[test]
fn images_are_compared_by_their_full_names() {
    let pinned = format!("docker.io/library/alpine:3.20@{DIGEST}");
    let bare = format!("docker.io/library/alpine@{DIGEST}");
    for (pattern, image, expected) in [
        ("alpine", Some(pinned.as_str()), true),
        ("alpine", Some(bare.as_str()), true),
        ("alpine:3.*", Some(&pinned), true),
        ("alpine:3.2", Some(&pinned), false),
        // A name without a tag is no image of a tag, whatever its digest begins with.
        ("alpine:*", Some(&bare), false),
        ("alpine*:a*", Some(&bare), false),
        ("docker.io/alpine", Some(&pinned), true),
        ("library/alpine", Some(&pinned), true),
        ("docker.io/library/alpine:3.20", Some(&pinned), true),
        (&format!("alpine@{DIGEST}"), Some(&pinned), true),
        (&format!("alpine@{}", DIGEST.replace('a', "b")), Some(&pinned), false),
        (&format!("alpine:3.20@{DIGEST}"), Some(&bare), false),
        ("*", Some(&pinned), true),
        ("*", Some("docker.io/team/app:1"), false),
        ("team/*", Some("docker.io/team/app:1"), true),
        ("**", Some("r.example/team/app:1"), true),
        ("**", Some(""), true),
        ("**", None, false),
        ("scratch", None, true),
        ("scratch", Some("docker.io/library/scratch:1"), false),
        ("r.example/*", Some("r.example/app:1"), true),
        ("r.example/*", Some("r.example/team/app:1"), false),
        ("r.example/**", Some("r.example/team/app:1"), true),
        ("r.example/**", Some("r.example.evil.example/app:1"), false),
        ("r.example/team/**", Some("r.example/team/../evil:1"), false),
        ("r.example/team/**", Some("r.example/teams/app:1"), false),
        ("*.example/app", Some("r.example/app:1"), true),
        ("localhost:5000/**", Some("localhost:5000/app:1"), true),
        ("localhost:5000/app:1", Some("localhost:5000/app:2"), false),
        ("r.example/app", Some("r.example/\u{430}pp:1"), false),
    ] {
        assert_eq!(allows(&json!({ "images": pattern }), image, &["true"]), expected, "{pattern} {image:?}");
    }
    assert!(!allows(&json!({ "images": [] }), None, &["true"]), "an empty list allows nothing");
}

#[test]
fn command_lines_are_compared_as_a_shell_would_be_given_them() {
    for (pattern, words, expected) in [
        ("make", &["make"][..], true),
        ("make", &["make", "all"], false),
        ("make *", &["make", "all"], true),
        ("make *", &["make", "-C", "/src"], false),
        ("make **", &["make", "-C", "/src"], true),
        ("make **", &["makefile", "x"], false),
        // One argument is not two, and a quote ends nothing.
        ("apk add curl", &["apk", "add", "curl"], true),
        ("apk add curl", &["apk add", "curl"], false),
        ("apk add 'a b'", &["apk", "add", "a b"], true),
        ("apk add 'a' 'b'", &["apk", "add", "a' 'b"], false),
        ("/bin/sh -c 'apk add **'", &["/bin/sh", "-c", "apk add curl"], true),
        ("/bin/sh -c 'apk add **'", &["/bin/sh", "-c", "apk del curl"], false),
        ("/bin/sh -c **", &["/bin/sh", "-c", "one\ntwo"], true),
        ("true ''", &["true", ""], true),
        ("/opt/tools/**", &["/opt/tools/a"], true),
        ("/opt/tools/**", &["/opt/tools/../../bin/sh"], false),
        ("**", &["/opt/tools/../../bin/sh"], true),
        ("/opt/**", &["/opt/a", "../x"], true),
        ("./configure **", &["./configure", "--prefix=/usr"], true),
        ("make", &["m\u{430}ke"], false),
        ("make", &["make\0"], false),
        ("make *", &["make", "\0"], true),
    ] {
        assert_eq!(allows(&json!({ "commands": pattern }), None, words), expected, "{pattern} {words:?}");
    }
    let long = "x".repeat(64 << 10);
    assert!(!allows(&json!({ "commands": "make **" }), None, &["make", &long]), "what is long fits only `**`");
    assert!(allows(&json!({ "commands": ["make", "**"] }), None, &["make", &long]));
}

#[test]
fn networks_and_mounts_are_listed() {
    let cache = |identity: &str| MountKind::Cache {
        identity: identity.into(),
        source: None,
        sharing: Sharing::Shared,
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    let secret =
        |name: &str| MountKind::Secret { name: name.into(), mode: 0o400, uid: 0, gid: 0, required: true, env: None };
    let bind = || MountKind::Bind { source: cooperage_solve::Tree::scratch(), path: "/".into() };
    let check = |rule: Value, network, kinds: Vec<MountKind>, expected: Option<&str>| {
        let mounts: Vec<Mount> =
            kinds.into_iter().map(|kind| Mount { target: "/m".into(), kind, read_only: true }).collect();
        let args = args(&["true"]);
        let deed = Deed::new(None, &args, network, &mounts);
        let asked = json!({ "mounts": ["bind", "cache", "secret", "tmpfs"] });
        let refusal = granted(&asked, &rule, None).refusal(&deed);
        assert_eq!(refusal.as_ref().and_then(|refusal| refusal.field), expected, "{rule}");
        if let Some(refusal) = refusal {
            let wider = granted(&asked, &refusal.needed, None);
            assert_eq!(wider.refusal(&deed), None, "{} is shown as what allows it", refusal.needed);
        }
    };
    let (none, host, open) = (Network::None, Network::Host, Network::Default);
    for (list, asked, expected) in [
        (json!("none"), (none, host), None),
        (json!("none"), (host, none), Some("network")),
        (json!("none"), (open, host), Some("network")),
        (json!("none"), (open, none), None),
        (json!("host"), (none, host), Some("network")),
        (json!(["none", "host"]), (host, host), None),
        (json!([]), (none, none), Some("network")),
    ] {
        check(json!({ "network": list }), asked, vec![], expected);
    }
    for (list, kinds, expected) in [
        (json!([]), vec![], None),
        (json!([]), vec![bind()], Some("mounts")),
        (json!("bind"), vec![bind(), bind()], None),
        (json!("bind"), vec![bind(), MountKind::Tmpfs { size: None }], Some("mounts")),
        (json!("cache"), vec![cache("pip")], None),
        (json!("cache pip-*"), vec![cache("pip-3")], None),
        (json!("cache pip-*"), vec![cache("npm")], Some("mounts")),
        (json!("cache pip-*"), vec![cache("pip-/../x")], Some("mounts")),
        (json!("secret TOKEN"), vec![secret("TOKEN")], None),
        (json!("secret TOKEN"), vec![secret("TOKEN"), secret("OTHER")], Some("mounts")),
        (json!("secret TOKEN"), vec![secret("token\0")], Some("mounts")),
        (json!(["bind", "secret"]), vec![secret("X"), bind()], None),
    ] {
        check(json!({ "mounts": list }), (open, host), kinds, expected);
    }
    // Secrets have to be named.
    for rule in [json!(true), json!({ "network": "host" })] {
        check(rule.clone(), (open, host), vec![secret("TOKEN")], Some("mounts"));
        check(rule, (open, host), vec![bind(), cache("pip"), MountKind::Tmpfs { size: None }], None);
    }
}

/// Who asks and who allows name the secrets that a process may have; a policy that says nothing of mounts caps nothing.
#[test]
fn secrets_are_named_by_both_sides() {
    let kind = MountKind::Secret { name: "TOKEN".into(), mode: 0o400, uid: 0, gid: 0, required: true, env: None };
    let mounts = [Mount { target: "/m".into(), kind, read_only: true }];
    let (any, named) = (json!(true), json!({ "mounts": "secret TOKEN" }));
    let other = json!({ "mounts": ["bind", "secret OTHER"] });
    for (asked, allow, policy, expected) in [
        (&any, &named, None, Some(Side::Request)),
        (&named, &any, None, Some(Side::Allow)),
        (&named, &named, None, None),
        (&named, &named, Some(&any), None),
        (&named, &named, Some(&other), Some(Side::Policy)),
        (&named, &other, None, Some(Side::Allow)),
    ] {
        let args = args(&["true"]);
        let deed = Deed::new(None, &args, (Network::None, Network::None), &mounts);
        let refusal = granted(asked, allow, policy).refusal(&deed);
        assert_eq!(refusal.map(|refusal| refusal.side), expected, "{asked} {allow} {policy:?}");
    }
}

#[test]
fn each_side_is_asked_one_after_the_other() {
    let (any, apk, alpine) =
        (json!(true), json!({ "commands": "apk **" }), json!({ "images": "alpine", "commands": ["apk **", "true"] }));
    let two = json!([{ "images": "scratch", "commands": "a" }, { "images": "alpine", "commands": "b" }]);
    let alpine_image = Some("docker.io/library/alpine:3");
    for (asked, allow, policy, image, words, expected) in [
        (&any, &any, None, None, &["sh"][..], None),
        (&apk, &any, None, None, &["apk", "add"], None),
        (&apk, &any, None, None, &["sh"], Some((Side::Request, Some("commands")))),
        (&any, &apk, None, None, &["sh"], Some((Side::Allow, Some("commands")))),
        (&any, &any, Some(&apk), None, &["sh"], Some((Side::Policy, Some("commands")))),
        (&any, &alpine, Some(&apk), alpine_image, &["apk", "add"], None),
        (&any, &alpine, Some(&apk), alpine_image, &["true"], Some((Side::Policy, Some("commands")))),
        (&any, &alpine, Some(&apk), None, &["apk", "add"], Some((Side::Allow, Some("images")))),
        (&any, &json!(false), None, None, &["sh"], Some((Side::Allow, None))),
        (&any, &any, Some(&json!(false)), None, &["sh"], Some((Side::Policy, None))),
        // A rule allows as a whole: what two rules have is not put together.
        (&any, &two, None, None, &["a"], None),
        (&any, &two, None, alpine_image, &["b"], None),
        (&any, &two, None, None, &["b"], Some((Side::Allow, Some("commands")))),
    ] {
        assert_eq!(refused(&granted(asked, allow, policy), image, words), expected, "{asked} {allow} {policy:?}");
    }
    let both = [request(json!({ "commands": "a" })), request(json!({ "images": "alpine" }))];
    let merged = Grants::new(&both, &Scopes::allow(&map(&any)).unwrap(), &Scopes::everything()).unwrap().0.run;
    assert_eq!(refused(&merged, None, &["a"]), None, "several requests are one list");
    assert_eq!(refused(&merged, alpine_image, &["b"]), None);
    assert_eq!(refused(&RunScope::default(), None, &["a"]), Some((Side::Allow, None)));
}

#[test]
fn what_cannot_be_allowed_at_all_is_told_before_the_plugin_runs() {
    for (asked, allow, policy, missing) in [
        (json!(true), json!({ "images": "alpine" }), json!(true), false),
        (json!({ "images": "alpine:3*" }), json!({ "images": "alpine:*1" }), json!(true), false),
        (json!({ "images": "alpine" }), json!({ "images": "debian" }), json!(true), true),
        (json!({ "commands": "make **" }), json!({ "commands": "** install" }), json!(true), false),
        (json!({ "commands": "make **" }), json!({ "commands": "apk **" }), json!(true), true),
        (json!({ "network": "host" }), json!(true), json!({ "network": "none" }), true),
        (json!({ "network": ["none", "host"] }), json!(true), json!({ "network": "none" }), false),
        (json!({ "mounts": "secret" }), json!({ "mounts": "bind" }), json!(true), false),
        (json!(true), json!(false), json!(true), true),
        (json!(true), json!({ "images": [] }), json!(true), true),
        (json!(true), json!(true), json!([]), true),
        (json!(false), json!(false), json!(false), false),
    ] {
        let policy = Scopes::policy(&map(&policy), false, "p.yaml").unwrap();
        let allowed = Scopes::allow(&map(&allow)).unwrap();
        let found = ungranted("p", &[request(asked.clone())], &allowed, &policy).unwrap();
        assert_eq!(!found.is_empty(), missing, "{asked} {allow}");
        for one in found {
            let whole = RunScope::parse(&asked, Side::Request).unwrap().missing(&RunScope::default());
            assert_eq!(Some(one.missing), whole);
        }
    }
}

#[test]
fn what_is_wrong_with_a_rule_is_told() {
    let many = vec!["a"; 2000];
    for (value, expected) in [
        (json!("yes"), "true, false or { images, commands, network, mounts }"),
        (json!(1), "true, false or"),
        (json!({ "image": "x" }), "there is no `image`; there are images, commands, network, mounts"),
        (json!({ "images": 1 }), "`images`: 1 is not a text"),
        (json!({ "images": "" }), "is not a pattern of images"),
        (json!({ "images": "a b" }), "is not a pattern of images"),
        (json!({ "images": "a\u{0}" }), r"`a\0` in `images` is not a pattern"),
        (json!({ "commands": " make" }), "is not a pattern of command lines"),
        (json!({ "commands": "make\n" }), "is not a pattern of command lines"),
        (json!({ "commands": "make\u{9b}2J" }), r"`make\u{9b}2J` in `commands`"),
        (json!({ "network": "bridge" }), "is not `none` or `host`"),
        (json!({ "mounts": "ssh" }), "`ssh` in `mounts` is not `bind`"),
        (json!({ "mounts": "bind x" }), "`bind x` in `mounts`"),
        (json!({ "commands": many }), "more than"),
        (json!({ "commands": "a".repeat(2000) }), "bytes"),
    ] {
        for side in [Side::Request, Side::Allow, Side::Policy] {
            let message = RunScope::parse(&value, side).unwrap_err();
            assert!(message.contains(expected), "{side:?}: {message}");
        }
    }
    let hundred = json!({ "commands": vec!["a"; 100] });
    assert!(RunScope::parse(&hundred, Side::Request).is_err() && RunScope::parse(&hundred, Side::Allow).is_ok());
}
