use serde_json::json;

use super::*;

fn map(value: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(value).unwrap()
}

fn request(class: &str, request: Value) -> Request {
    Request { class: class.into(), request, reason: "because".into() }
}

fn grants(requests: &[Request], allow: Value, policy: Value) -> Grants {
    Grants::new(requests, &Scopes::allow(&map(allow)).unwrap(), &policy_of(policy)).unwrap()
}

fn policy_of(policy: Value) -> Scopes {
    Scopes::policy(&map(policy), false, "policy.yaml").unwrap()
}

fn rules(grants: &Grants) -> Vec<String> {
    grants.0.http.rules(&Named::default()).iter().map(ToString::to_string).collect()
}

#[test]
fn a_request_alone_grants_nothing() {
    let all = [
        request("http", json!(["https://a.example", "*"])),
        request("tcp", json!("a.example:21")),
        request("service", json!("docker")),
        request("secrets", json!("TOKEN")),
        request("fs", json!({ "mount": "/data", "access": "write" })),
        request("run", json!(true)),
        request("registries", json!("push")),
        request("sources", json!("https://a.example/**")),
        request("state", json!(true)),
    ];
    assert_eq!(
        all.iter().map(|r| r.class.as_str()).collect::<Vec<_>>(),
        Scopes::CLASSES,
        "every class is in this test"
    );
    let granted = grants(&all, json!({}), json!({}));
    let named = Named::default();
    assert!(granted.0.http.rules(&named).is_empty() && granted.0.tcp.rules(&named, None).is_empty());
    assert!(granted.0.service.services().is_empty() && !granted.0.secrets.allows("TOKEN", &named));
    assert!(granted.0.fs.mounts().next().is_none() && granted.0.run.is_empty() && granted.0.state.quota().is_none());
    assert!(
        !granted.0.registries.allows(Action::Push, "x", &named)
            && !granted.0.registries.allows(Action::Resolve, "x", &named)
    );

    let missing = ungranted("chat", &all, &Scopes::allow(&map(json!({}))).unwrap(), &Scopes::everything()).unwrap();
    assert_eq!(missing.len(), all.len());
    assert_eq!(missing[3].line, r#"plugins: { chat: { allow: { secrets: ["TOKEN"] } } }"#);
    assert_eq!(missing[5].line, "plugins: { chat: { allow: { run: true } } }");
    let text = missing[0].to_string();
    assert_eq!(
        text,
        r#"http: ["https://a.example","https://HOST"] (because); to allow it, write `plugins: { chat: { allow: { http: ["https://a.example","https://HOST"] } } }`"#
    );
}

#[test]
fn the_line_that_is_shown_grants() {
    let all = [
        request("http", json!(["GET https://a.example/v1/*"])),
        request("tcp", json!("[::1]:21-30")),
        request("service", json!({ "name": "docker", "requests": ["GET /v1/**"] })),
        request("secrets", json!("TOKEN")),
        request("fs", json!({ "mount": "/data", "access": "write" })),
        request("run", json!(true)),
        request("registries", json!(["push", "pull a/**"])),
        request("state", json!(true)),
    ];
    let nothing = Scopes::allow(&map(json!({}))).unwrap();
    let missing = ungranted("p", &all, &nothing, &Scopes::everything()).unwrap();
    let allow: BTreeMap<String, Value> = missing.iter().map(|m| (m.class.clone(), m.missing.clone())).collect();
    let allow = Scopes::allow(&allow).unwrap();
    assert_eq!(ungranted("p", &all, &allow, &Scopes::everything()).unwrap(), []);
    let missing = ungranted("p", &all, &allow, &policy_of(json!({ "run": false }))).unwrap();
    assert_eq!(missing.len(), 1);
    assert_eq!(
        missing[0].to_string(),
        "run: true (because): the policy of this host does not permit it: `allow.run` in policy.yaml"
    );
}

#[test]
fn allowing_grants_nothing_that_was_not_asked_for() {
    let granted = grants(&[], json!({ "http": "https://a.example", "run": true, "secrets": "T" }), json!({}));
    assert!(
        rules(&granted).is_empty() && granted.0.run.is_empty() && !granted.0.secrets.allows("T", &Named::default())
    );
}

#[test]
fn http_is_cut_down_to_what_all_three_say() {
    let check = |asked: Value, allow: Value, expected: &[&str]| {
        let granted = grants(&[request("http", asked.clone())], json!({ "http": allow }), json!({}));
        assert_eq!(rules(&granted), expected, "{asked} and {allow}");
    };
    check(json!("https://*.a.example"), json!("https://x.a.example"), &["https://x.a.example"]);
    check(json!("https://x.a.example"), json!("https://*.a.example"), &["https://x.a.example"]);
    check(json!("https://a.example"), json!("https://*.a.example"), &[]);
    check(json!("https://a.example"), json!("http://a.example"), &[]);
    check(json!("https://a.example"), json!("https://a.example:444"), &[]);
    check(
        json!("GET,POST https://a.example"),
        json!("POST,PUT https://a.example/x/*"),
        &["POST https://a.example/x/*"],
    );
    check(json!("GET https://a.example"), json!("POST https://a.example"), &[]);
    check(json!("https://a.example/x/*"), json!("https://a.example/x/y"), &["https://a.example/x/y"]);
    // `*` does not cover `**`: were it taken for text, the wider pattern would win.
    check(json!("https://a.example/x/*"), json!("https://a.example/x/**"), &[]);
    check(json!("*"), json!(["https://a.example", "https://b.example"]), &["https://a.example", "https://b.example"]);
    let granted = grants(
        &[request("http", json!("*"))],
        json!({ "http": ["https://a.example", "https://b.example"] }),
        json!({ "http": "https://b.example" }),
    );
    assert_eq!(rules(&granted), ["https://b.example"]);
    assert!(Scopes::allow(&map(json!({ "http": "*" }))).is_err());
}

#[test]
fn only_the_user_opens_local_addresses() {
    let granted = grants(
        &[request("http", json!({ "url": "https://a.example", "local": true }))],
        json!({ "http": "https://a.example" }),
        json!({}),
    );
    assert!(!granted.0.http.rules(&Named::default())[0].local);
}

#[test]
fn what_parameters_name_needs_the_request() {
    let named = Named::in_parameters(&json!({
        "url": "https://git.example/x", "ftp": "ftp://ftp.example", "meta": "http://169.254.169.254/latest", "t": { "secret": "T" }
    }));
    let from = json!({ "from": "parameters" });
    let asked = [request("http", from.clone()), request("tcp", from.clone()), request("secrets", from)];
    let granted = grants(&asked, json!({ "http": "https://other.example" }), json!({}));
    let http: Vec<_> = granted.0.http.rules(&named).iter().map(ToString::to_string).collect();
    assert_eq!(http, ["https://git.example"], "and not the cloud's metadata service");
    assert_eq!(granted.0.tcp.rules(&named, None)[0].to_string(), "ftp.example:*");
    assert!(granted.0.secrets.allows("T", &named) && !granted.0.secrets.allows("U", &named));
    let granted = grants(&[], json!({}), json!({}));
    assert!(granted.0.http.rules(&named).is_empty() && !granted.0.secrets.allows("T", &named));
    let nothing_named = grants(&asked, json!({}), json!({ "http": [], "tcp": [], "secrets": [] }));
    assert!(!nothing_named.0.secrets.allows("T", &named), "a policy caps what parameters name");
}

#[test]
fn tcp_ports_and_hosts() {
    let rule = |text: &str| text.parse::<TcpRule>();
    for bad in ["a.example", "a.example:0", "*.com:21", "*:21", "a.example:30-20", "a.example:70000", ":21"] {
        assert!(rule(bad).is_err(), "{bad}");
    }
    assert!(rule("*.a.example:*").unwrap().matches_host("x.a.example"));
    assert!(!rule("*.a.example:*").unwrap().matches_host("a.example"));
    let granted = grants(&[request("tcp", json!("a.example:20-30"))], json!({ "tcp": "a.example:25-40" }), json!({}));
    assert_eq!(granted.0.tcp.rules(&Named::default(), Some("r.example:21"))[0].to_string(), "a.example:25-30");
    assert_eq!(granted.0.tcp.rules(&Named::default(), Some("r.example:21")).len(), 1, "it was not asked for");
    let registry = grants(&[request("tcp", json!("registry"))], json!({}), json!({}));
    assert_eq!(registry.0.tcp.rules(&Named::default(), Some("r.example:21"))[0].to_string(), "r.example:*");
    assert!(registry.0.tcp.rules(&Named::default(), None).is_empty());
}

#[test]
fn sources_by_url() {
    let asked = request("sources", json!(["**"]));
    let granted = grants(&[asked], json!({ "sources": "https://a.example/**" }), json!({}));
    let allows = |url: &str| granted.0.sources.allows(url, &Named::default());
    assert!(allows("https://a.example/x/y") && !allows("https://b.example/x") && !allows("http://a.example/x"));
    let nothing = grants(&[request("sources", json!(["**"]))], json!({}), json!({}));
    let named = Named::in_parameters(&json!("https://a.example/"));
    assert!(!nothing.0.sources.allows("https://a.example/", &named), "parameters were not asked for");
    for alone in [json!("*"), json!([""]), json!({ "from": "elsewhere" })] {
        let asked = Scopes::requested(&[request("sources", alone.clone())]);
        assert!(asked.is_err(), "{alone}");
    }
}

#[test]
fn what_parameters_name_covers_sources_images_and_ports() {
    let named =
        Named::in_parameters(&json!(["https://a.example/x", "company/app:1", "mail.example:25", "169.254.169.254:80"]));
    let pull = json!({ "action": "pull", "from": "parameters" });
    let push = json!({ "action": "push", "from": "parameters" });
    let from = json!({ "from": "parameters" });
    let asked = [request("sources", from.clone()), request("tcp", from), request("registries", json!([pull, push]))];
    let granted = grants(&asked, json!({}), json!({})).0;
    assert!(granted.sources.allows("https://a.example/y", &named));
    assert!(!granted.sources.allows("https://b.example/", &named));
    let tcp: Vec<_> = granted.tcp.rules(&named, None).iter().map(ToString::to_string).collect();
    assert_eq!(tcp, ["mail.example:25"], "and not the cloud's metadata service");
    let images = |scopes: &Scopes| {
        let may = |action, name| scopes.registries.allows(action, name, &named);
        [may(Action::Pull, "company/app:1"), may(Action::Push, "company/app:1"), may(Action::Pull, "company/app:2")]
    };
    assert_eq!(images(&granted), [true, false, false], "sending needs the user's yes");
    let missing = ungranted("p", &asked, &Scopes::allow(&map(json!({}))).unwrap(), &Scopes::everything()).unwrap();
    assert_eq!(missing.iter().map(|missing| &missing.missing).collect::<Vec<_>>(), [&json!([push])]);
    for yes in [push, json!("push"), json!(["pull", "push"])] {
        let granted = grants(&asked, json!({ "registries": yes }), json!({})).0;
        assert_eq!(images(&granted), [true, true, false], "{yes}");
    }
    let more = grants(&[request("registries", json!(["pull"]))], json!({}), json!({})).0;
    assert_eq!(images(&more), [false; 3], "it asked for all images, not for those");
}

#[test]
fn a_wish_for_any_place_is_met_where_nothing_is_restricted() {
    let asked = [request("http", json!("*")), request("tcp", json!("*"))];
    let missing = |allowed: &Scopes| ungranted("p", &asked, allowed, &Scopes::everything()).unwrap().len();
    assert_eq!((missing(&Scopes::everything()), missing(&Scopes::default())), (0, 2));
}

#[test]
fn redirections_need_the_request() {
    assert!(grants(&[request("http", json!("redirects"))], json!({}), json!({})).0.http.redirects());
    assert!(!grants(&[request("http", json!("https://a.example"))], json!({}), json!({})).0.http.redirects());
}

#[test]
fn registries_by_action_and_name() {
    let granted = grants(
        &[request("registries", json!(["push", "pull"]))],
        json!({ "registries": ["push r.example/team/**"] }),
        json!({}),
    );
    let scope = &granted.0.registries;
    let named = Named::default();
    assert!(
        scope.allows(Action::Push, "r.example/team/app:1", &named)
            && !scope.allows(Action::Push, "r.example/other/app:1", &named)
    );
    assert!(
        scope.allows(Action::Resolve, "r.example/team/app:1", &named)
            && !scope.allows(Action::Pull, "r.example/team/app:1", &named)
    );
}

#[test]
fn directories_get_the_smaller_access() {
    let asked = request("fs", json!({ "mount": "/data", "access": "write" }));
    let granted = grants(
        std::slice::from_ref(&asked),
        json!({ "fs": { "mount": "/data", "path": "/srv/x/y", "access": "read" } }),
        json!({ "fs": { "mount": "/data", "path": "/srv", "access": "write" } }),
    );
    let mounts: Vec<_> = granted.0.fs.mounts().collect();
    assert_eq!((mounts[0].access, mounts[0].path.as_deref()), (Access::Read, Some(std::path::Path::new("/srv/x/y"))));
    let outside = json!({ "fs": { "mount": "/data", "path": "/etc", "access": "read" } });
    let policy = json!({ "fs": { "mount": "/data", "path": "/srv", "access": "write" } });
    assert!(grants(&[asked], outside, policy).0.fs.mounts().next().is_none());
    for bad in
        [json!("/x"), json!({ "mount": "x" }), json!({ "mount": "/a/../b" }), json!({ "mount": "/a", "path": "/b" })]
    {
        assert!(Scopes::requested(&[request("fs", bad.clone())]).is_err(), "{bad}");
    }
}

#[test]
fn services_by_request() {
    let asked = request("service", json!({ "name": "docker", "requests": ["GET,HEAD /v*/images/**", "POST /build"] }));
    let granted = grants(&[asked], json!({ "service": "docker" }), json!({}));
    let patterns = granted.0.service.services()[0].patterns();
    assert_eq!(patterns[0][0], (vec!["GET".to_owned(), "HEAD".to_owned()], Some("/v*/images/**".to_owned())));
    for bad in
        [json!("Docker"), json!({ "name": "docker", "requests": [] }), json!({ "name": "docker", "requests": ["GET"] })]
    {
        assert!(Scopes::requested(&[request("service", bad.clone())]).is_err(), "{bad}");
    }
}

#[test]
fn unknown_classes_are_told() {
    let error = Scopes::requested(&[request("exec", json!(true))]).unwrap_err();
    assert!(error.to_string().contains("registries"), "{error}");
}

/// What parameters, registries and redirections name later is capped, too, unless the policy names them by their word.
#[test]
fn a_policy_caps_what_is_named_later() {
    let named = Named::in_parameters(&json!({
        "in": "https://a.corp.example/x", "out": "https://evil.example/x", "ftp": "ftp://ftp.example/x",
        "t": { "secret": "T" }, "u": { "secret": "U" }
    }));
    let from = json!(["registry", { "from": "parameters" }]);
    let asked =
        [request("http", from.clone()), request("tcp", from), request("secrets", json!({ "from": "parameters" }))];
    let check = |policy: Value, http: &[&str], tcp: &[&str], secrets: &[&str]| {
        let granted = grants(&asked, json!({}), policy.clone()).0;
        let cap = granted.http.cap(&named);
        let seen = granted.http.rules(&named).into_iter().filter(|rule| {
            cap.as_ref().is_none_or(|cap| cap.rules.iter().any(|most| most.matches_origin(&rule.origin)))
        });
        assert_eq!(seen.map(|rule| rule.to_string()).collect::<Vec<_>>(), http, "{policy}");
        let rules = granted.tcp.rules(&named, Some("r.example:5000"));
        assert_eq!(rules.iter().map(ToString::to_string).collect::<Vec<_>>(), tcp, "{policy}");
        let seen: Vec<_> = ["T", "U"].into_iter().filter(|name| granted.secrets.allows(name, &named)).collect();
        assert_eq!(seen, secrets, "{policy}");
    };
    let all = ["https://a.corp.example", "https://evil.example"];
    check(json!({}), &all, &["r.example:*", "ftp.example:*"], &["T", "U"]);
    check(
        json!({ "http": "https://*.corp.example", "tcp": "ftp.example:21", "secrets": ["T"] }),
        &["https://a.corp.example"],
        &["ftp.example:21"],
        &["T"],
    );
    check(json!({ "http": [], "tcp": [], "secrets": [] }), &[], &[], &[]);
    let words = json!({ "from": "parameters" });
    check(
        json!({ "http": words, "tcp": [words, "registry"], "secrets": words }),
        &all,
        &["r.example:*", "ftp.example:*"],
        &["T", "U"],
    );
    check(json!({ "http": "*", "tcp": "*" }), &all, &["r.example:*", "ftp.example:*"], &["T", "U"]);
}

#[test]
fn a_policy_that_refuses_by_default_says_so() {
    let asked = [request("run", json!(true)), request("state", json!(true)), request("secrets", json!("T"))];
    let policy = Scopes::policy(&map(json!({ "state": true })), true, "/etc/policy.yaml").unwrap();
    let missing = ungranted("p", &asked, &Scopes::everything(), &policy).unwrap();
    let classes: Vec<_> = missing.iter().map(|one| one.class.as_str()).collect();
    assert_eq!(classes, ["run", "secrets"]);
    let text = missing[0].to_string();
    assert!(text.ends_with("`default: refuse` in /etc/policy.yaml, which has no `allow.run`"), "{text}");
}

#[test]
fn patterns_of_a_policy_need_not_be_narrower() {
    let from = json!({ "from": "parameters" });
    let pull = json!({ "action": "pull", "from": "parameters" });
    let granted = grants(
        &[request("registries", json!(["push", pull])), request("sources", json!(["**", from]))],
        json!({ "registries": ["push r.example/team/**"], "sources": "https://a.example/**" }),
        json!({ "registries": ["push r.example/*/app:*"], "sources": ["https://*/x/*"] }),
    );
    let named = Named::in_parameters(&json!(["company/app:1", "https://b.example/"]));
    let may = |action, reference: &str| granted.0.registries.allows(action, reference, &named);
    assert!(may(Action::Push, "r.example/team/app:1") && !may(Action::Push, "r.example/team/other:1"));
    assert!(!may(Action::Push, "r.example/another/app:1"));
    assert!(!may(Action::Pull, "company/app:1"), "the policy caps what parameters name");
    let fetch = |url: &str| granted.0.sources.allows(url, &named);
    assert!(fetch("https://a.example/x/y") && !fetch("https://a.example/x/y/z"));
    assert!(fetch("https://b.example/x/y") && !fetch("https://b.example/y") && !fetch("https://c.example/x/y"));
    let asked = request("registries", json!("push other.example/**"));
    let missing =
        ungranted("p", &[asked], &Scopes::everything(), &policy_of(json!({ "registries": "push r.example/**" })));
    assert_eq!(missing.unwrap().len(), 1, "nothing that it asks for is permitted");
}

#[test]
fn services_are_cut_down_to_what_all_lists_allow() {
    let granted = grants(
        &[request("service", json!({ "name": "docker", "requests": ["GET,POST /v*/images/**"] }))],
        json!({ "service": "docker" }),
        json!({ "service": { "name": "docker", "requests": ["GET /**"] } }),
    );
    assert_eq!(granted.0.service.services()[0].patterns().len(), 2, "each list has its say");
    let other =
        grants(&[request("service", json!("docker"))], json!({ "service": "docker" }), json!({ "service": "podman" }));
    assert!(other.0.service.services().is_empty());
}

#[test]
fn directories_are_compared_by_what_they_are() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    std::fs::create_dir_all(at("srv/inner")).unwrap();
    std::fs::create_dir_all(at("etc")).unwrap();
    std::os::unix::fs::symlink(at("etc"), at("srv/link")).unwrap();
    let policy = json!({ "fs": { "path": at("srv"), "access": "read" } });
    for (path, permitted) in [
        ("srv", true),
        ("srv/inner", true),
        ("srv/inner/..", true),
        ("srv/../etc", false),
        ("srv/link", false),
        ("srv/missing/../../etc", false),
        ("srvother", false),
        ("etc", false),
    ] {
        let asked = [request("fs", json!({ "mount": "/data", "access": "write" }))];
        let allow = json!({ "fs": { "mount": "/data", "path": at(path), "access": "write" } });
        let granted = grants(&asked, allow, policy.clone());
        let seen: Vec<_> = granted.0.fs.mounts().map(|mount| mount.access).collect();
        assert_eq!(seen, if permitted { vec![Access::Read] } else { vec![] }, "{path}");
    }
}

/// The YAML of the page for authors is what it says it is.
#[test]
fn the_examples_of_the_page_are_read() {
    let page = include_str!("../../../../sdk/CAPABILITIES.md");
    let mut seen = BTreeSet::new();
    for block in page.split("```yaml\n").skip(1) {
        let (block, _) = block.split_once("```").expect("a block ends");
        let head = block.lines().next().unwrap_or_default();
        let map =
            || serde_saphyr::from_str::<BTreeMap<String, Value>>(block).unwrap_or_else(|e| panic!("{block}: {e}"));
        match head {
            "# allow" => {
                Scopes::allow(&map()).unwrap_or_else(|error| panic!("{block}: {error}"));
                seen.extend(map().into_keys());
            }
            "# policy" => drop(Scopes::policy(&map(), false, "policy.yaml").unwrap_or_else(|e| panic!("{block}: {e}"))),
            "# limits" => {
                let limits = crate::LimitSettings::parse(&map()).unwrap_or_else(|error| panic!("{block}: {error}"));
                assert!(limits.beyond(&limits).is_empty());
                assert_eq!(map().len(), crate::LimitSettings::NAMES.len(), "each limit is on the page");
            }
            "# policy.yaml" => {
                let file = map();
                let part = |name: &str| serde_json::from_value(file[name].clone()).unwrap();
                Scopes::policy(&part("allow"), false, "policy.yaml").unwrap();
                crate::LimitSettings::parse(&part("limits")).unwrap();
                assert!(["allow", "refuse"].contains(&file["default"].as_str().unwrap()));
            }
            "# cooperage.yaml" => {
                let file: Value = serde_saphyr::from_str(block).unwrap();
                let allow = serde_json::from_value(file["plugins"]["chat"]["allow"].clone()).unwrap();
                Scopes::allow(&allow).unwrap();
            }
            other => panic!("a block that is no example of anything: {other}"),
        }
    }
    assert!(Scopes::CLASSES.iter().all(|class| seen.contains(*class)), "each class has an example: {seen:?}");
}
