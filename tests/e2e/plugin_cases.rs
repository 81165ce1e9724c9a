//! `coop plugin test`: the cases of the first-party plugins, and what is said of cases that fail or make no sense.

use std::fs;
use std::path::{Path, PathBuf};

use crate::plugin::component;
use crate::support::registry::Registry;
use crate::support::{Machine, have};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/plugins").canonicalize().unwrap()
}

/// A case of the plugin `http` on a machine of its own.
fn case(machine: &Machine, yaml: &str) -> PathBuf {
    let folder = machine.path("case");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("case.yaml"), yaml).unwrap();
    folder
}

const GREETING: &str = "\
with: { url: 'https://a.example/x', outputs: { said: body } }
role: task
http:
  - request: { url: 'https://a.example/x' }
    response: { body: hello }
";

#[test]
fn first_party_plugins_pass_their_cases() {
    if !have(&[]) {
        return;
    }
    let machine = Machine::new();
    let mut tested = 0;
    for plugin in fs::read_dir(cases()).unwrap() {
        let folder = plugin.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let ran = machine.run(&["plugin", "test", &name, folder.to_str().unwrap()]);
        assert_eq!(ran.code, Some(0), "{name}:\n{}{}", ran.stdout, ran.stderr);
        tested += 1;
    }
    assert!(tested >= 3, "{tested} plugins have cases");
}

#[test]
fn a_case_that_fails_says_what_differs() {
    if !have(&[]) {
        return;
    }
    let machine = Machine::new();
    for (more, parts) in [
        ("expect: { outputs: { said: hallo } }", &["outputs.said", "expected \"hallo\"", "actual   \"hello\""][..]),
        ("expect: { outputs: { more: 1 } }", &["outputs.more: expected 1, and there is nothing"]),
        ("expect: { error: { kind: denied } }", &["expected one of denied, and the call succeeds"]),
        ("expect: { log-contains: [nowhere] }", &["log: nowhere is \"nowhere\""]),
        ("faults: [{ at: state, error: limit }]", &["was never reached"]),
        ("  - request: { url: 'https://a.example/y' }", &["the plugin never asked for GET https://a.example/y"]),
    ] {
        let folder = case(&machine, &format!("{GREETING}{more}\n"));
        let ran = machine.run(&["plugin", "test", "http", folder.to_str().unwrap()]);
        assert_eq!(ran.code, Some(1), "{more}: {}{}", ran.stdout, ran.stderr);
        ran.prints(parts);
    }
}

#[test]
fn a_request_that_nobody_expected_is_shown_beside_those_that_were() {
    if !have(&[]) {
        return;
    }
    let machine = Machine::new();
    let folder = case(&machine, &GREETING.replacen("a.example/x", "a.example/z", 1));
    let ran = machine.run(&["plugin", "test", "http", folder.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    for part in ["asked    GET https://a.example/z", "expected GET https://a.example/x"] {
        assert!(ran.stdout.contains(part), "{part:?} is not in:\n{}", ran.stdout);
    }
}

#[test]
fn a_malformed_case_is_a_usage_error_with_its_place() {
    if !have(&[]) {
        return;
    }
    let machine = Machine::new();
    let folder = case(&machine, &format!("{GREETING}expect: {{ outputz: {{}} }}\n"));
    let ran = machine.run(&["plugin", "test", "http", folder.to_str().unwrap()]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    ran.says(&["case.yaml:6:", "outputz"]);
    let nothing = machine.path("nothing");
    fs::create_dir(&nothing).unwrap();
    let ran = machine.run(&["plugin", "test", "http", nothing.to_str().unwrap()]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    ran.says(&["there is no case.yaml"]);
}

#[test]
fn what_happens_can_be_accepted_and_reported() {
    if !have(&[]) {
        return;
    }
    let machine = Machine::new();
    let folder = case(&machine, &format!("# mine\n{GREETING}expect: {{ outputs: {{ said: hallo }} }}\n"));
    let path = folder.to_str().unwrap();
    machine.ok(&["plugin", "test", "http", path, "--accept"]);
    let text = fs::read_to_string(folder.join("case.yaml")).unwrap();
    assert!(text.starts_with("# mine\n") && text.contains("said: hello"), "{text}");
    let report = machine.path("report.xml");
    let ran = machine.ok(&["plugin", "test", "http", path, "--output", "json", "--junit", report.to_str().unwrap()]);
    assert_eq!(ran.json()[0]["passed"], true, "{}", ran.stdout);
    let xml = fs::read_to_string(report).unwrap();
    assert!(xml.contains("<testcase name=\"case\" classname=\"http\""), "{xml}");
}

#[test]
fn a_recorded_run_is_repeated_without_the_registry() {
    if !have(&["docker-registry"]) {
        return;
    }
    let machine = Machine::new();
    let registry = Registry::start(&machine);
    machine.ok(&["plugin", "push", component("push").to_str().unwrap(), &registry.name("recorded:1")]);
    let host = registry.name("");
    let host = host.trim_end_matches('/');
    let record = |name: &str, asked: &str| {
        let folder = machine.path(name);
        fs::create_dir_all(&folder).unwrap();
        let case =
            format!("role: registry\nregistry: {{ host: '{host}', name: recorded, plain-http: true, {asked} }}\n");
        fs::write(folder.join("case.yaml"), case).unwrap();
        machine.ok(&["plugin", "test", "oci", folder.to_str().unwrap(), "--record"]);
        (fs::read_to_string(folder.join("recording.yaml")).unwrap(), folder)
    };
    let asked = [
        ("resolve", "call: resolve, reference: '1'"),
        ("manifest", "call: get-manifest, reference: '1'"),
        ("tags", "call: tags"),
        ("upload", "call: put-blob, blob: { content: some bytes }"),
        ("has", "call: has-blob, reference: 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'"),
    ];
    let mut folders = Vec::new();
    for (name, asked) in asked {
        let (first, folder) = record(name, asked);
        assert!(first.contains(host), "{first}");
        // An upload finds the blob there the second time.
        let asked = asked.replace("some bytes", "same bytes");
        let again = record(&format!("{name}-again"), &asked).0;
        if name != "upload" {
            assert_eq!(first, again);
        }
        folders.push(folder);
    }
    drop(registry);
    for folder in folders {
        machine.ok(&["plugin", "test", "oci", folder.to_str().unwrap()]);
        // Another request is not in the recording.
        let text = fs::read_to_string(folder.join("case.yaml")).unwrap();
        fs::write(folder.join("case.yaml"), text.replace("name: recorded", "name: other")).unwrap();
        let ran = machine.fails(&["plugin", "test", "oci", folder.to_str().unwrap()], 1);
        assert!(ran.stdout.contains("/v2/other/") && ran.stdout.contains("/v2/recorded/"), "{}", ran.stdout);
    }
}

#[test]
fn commands_are_run_where_a_case_wants_that() {
    if !have(&[]) {
        return;
    }
    let machine = Machine::new();
    machine.base();
    machine.write("base/context/Dockerfile", "FROM os:1\nRUN echo of $(id -u) > /made && echo done\n");
    let case = "role: builder\ncontext: context\nimages: [{ reference: 'os:1', files: rootfs }]\nrun: real\n\
                expect:\n  images: [{ files: { /made: \"of 0\\n\" } }]\n  log-contains: [done]\n  \
                operations: ['[2/2] RUN echo of $(id -u) > /made && echo done']\n";
    machine.write("base/case.yaml", case);
    let folder = machine.text("base");
    machine.ok(&["plugin", "test", "dockerfile", &folder]);
    machine.write("base/case.yaml", case.replace("of 0", "of 1"));
    let ran = machine.fails(&["plugin", "test", "dockerfile", &folder], 1);
    assert!(ran.stdout.contains("expected \"of 1\"") && ran.stdout.contains("actual   \"of 0\""), "{}", ran.stdout);
}

#[test]
fn a_conversation_that_goes_otherwise_is_shown() {
    if !have(&[]) {
        return;
    }
    let machine = Machine::new();
    let text = fs::read_to_string(cases().join("ftp/download/case.yaml")).unwrap();
    for (from, to, parts) in [
        ("ftp.example:30000", "ftp.example:30001", &["opened   ftp.example:30000", "expected ftp.example:30001"][..]),
        ("QUIT", "QUIET", &["the connection to ftp.example:21: turn 18", "\"QUIET\\r\\n\"", "\"QUIT\\r\\n\""]),
        ("send: hello", "send: hallo", &["files./a.txt.content", "actual   \"hallo\""]),
    ] {
        let folder = case(&machine, &text.replace(from, to));
        let ran = machine.fails(&["plugin", "test", "ftp", folder.to_str().unwrap()], 1);
        ran.prints(parts);
    }
}

#[test]
fn registries_are_held_against_far_sides_that_lack_or_lie() {
    if !have(&[]) {
        return;
    }
    let machine = Machine::new();
    let own = cases().join("oci");
    let ran = machine.ok(&["plugin", "test", "--conformance", "oci", own.to_str().unwrap()]);
    for part in [
        "resolve: an unknown tag is not-found",
        "blob: a blob that is absent is not-found",
        "blob: other content than the digest says is refused",
        "blob: passes cancelled at Http on",
    ] {
        assert!(ran.stdout.contains(&format!("ok       {part}")), "{part:?} is not in:\n{}", ran.stdout);
    }
}

#[test]
fn first_party_plugins_do_what_the_contract_demands_of_everybody() {
    if !have(&[]) {
        return;
    }
    let machine = Machine::new();
    for name in ["docker", "dockerfile", "ftp", "git", "http", "kubernetes", "oci", "push", "script"] {
        let own = cases().join(name);
        let mut args = vec!["plugin", "test", "--conformance", name];
        args.extend(own.is_dir().then(|| own.to_str().unwrap()));
        let ran = machine.run(&args);
        assert_eq!(ran.code, Some(0), "{name}:\n{}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains("ok       describes itself the same at any time"), "{name}: {}", ran.stdout);
    }
}
