//! Plugins as files and as artifacts of a registry: what is shown of them, and what they may not do unasked.

use std::path::{Path, PathBuf};

use crate::support::registry::{Kind, Registry};
use crate::support::{COOP, Machine, have, tool};

/// A first-party plugin as a file; to the host it is a stranger's then.
pub fn component(name: &str) -> PathBuf {
    let target = Path::new(COOP).ancestors().nth(2).unwrap();
    target.join("plugins/wasm32-wasip2/release").join(format!("cooperage_plugin_{name}.wasm"))
}

fn machine(needs: &[&str]) -> Option<Machine> {
    have(needs).then(|| Machine::new().with_own_cache())
}

#[test]
fn bundled_plugins_are_listed_with_their_roles() {
    let Some(machine) = machine(&[]) else { return };
    let listed = machine.ok(&["plugin", "ls", "--output", "json"]).json();
    let roles: Vec<_> = listed.as_array().unwrap().iter().map(|p| format!("{} {}", p["name"], p["roles"])).collect();
    let expected = [
        r#""docker" ["builder","task","registry"]"#,
        r#""dockerfile" ["builder"]"#,
        r#""ftp" ["task","source","registry"]"#,
        r#""git" ["task","source"]"#,
        r#""http" ["task","source"]"#,
        r#""kubernetes" ["task"]"#,
        r#""oci" ["registry"]"#,
        r#""push" ["task"]"#,
        r#""script" ["task"]"#,
    ];
    assert_eq!(roles, expected);
    let text = machine.ok(&["plugin", "ls"]).stdout;
    assert!(text.contains("Builds images from Dockerfiles"), "{text}");
}

#[test]
fn a_plugin_shows_what_it_asks_for_and_takes() {
    let Some(machine) = machine(&[]) else { return };
    let shown = machine.ok(&["plugin", "inspect", "script", "--output", "json"]).json();
    assert_eq!(shown["description"]["name"], "script");
    assert!(shown["digest"].as_str().unwrap().starts_with("sha256:"));
    let schema = &shown["description"]["parameters"]["task"];
    assert!(schema["required"].as_array().unwrap().contains(&"image".into()), "{schema}");
    for request in shown["description"]["capabilities"].as_array().unwrap() {
        assert_ne!(request["reason"], "", "every request has a reason: {request}");
    }
    let text = machine.ok(&["plugin", "inspect", "script"]).stdout;
    let image = text.lines().find(|line| line.trim_start().starts_with("image ")).unwrap_or_default();
    assert!(image.contains("string") && image.contains(" yes ") && text.contains("asks       run"), "{text}");
}

#[test]
fn a_plugin_travels_through_a_registry_as_an_artifact() {
    let Some(machine) = machine(&["docker-registry", "skopeo"]) else { return };
    let registry = Registry::start(&machine);
    let name = registry.name("plugins/dockerfile:1.2");
    let file = component("dockerfile").display().to_string();
    let pushed = machine.ok(&["plugin", "push", &file, &name]);
    let (reference, digest) = pushed.out().split_once('@').unwrap();
    assert_eq!(reference, format!("oci://{name}"));
    assert_eq!(registry.digest("plugins/dockerfile:1.2"), digest);
    let url = format!("docker://{name}");
    let manifest = tool("skopeo", ["inspect", "--raw", "--tls-verify=false", &url]).json();
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    let again = machine.ok(&["plugin", "push", &format!("file:{file}"), &name]);
    assert_eq!(again.out(), pushed.out(), "the same component is the same artifact");

    let other = Machine::new().with_own_cache();
    let reference = format!("oci://{name}");
    let pulled = other.ok(&["plugin", "pull", &reference]);
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    assert!(pulled.stdout.contains(layer), "{pulled:?}");
    let shown = other.ok(&["plugin", "inspect", &format!("{reference}@{digest}"), "--output", "json"]).json();
    assert_eq!(shown["digest"], layer);
    other
        .fails(&["plugin", "pull", &format!("oci://{}", registry.name("plugins/none:1"))], 2)
        .says(&["plugins/none:1"]);
}

#[test]
fn a_builder_from_a_registry_builds_after_it_was_allowed_to() {
    let Some(machine) = machine(&["docker-registry"]) else { return };
    let registry = Registry::start(&machine);
    let name = registry.name("plugins/dockerfile:1");
    let pushed = machine.ok(&["plugin", "push", &component("dockerfile").display().to_string(), &name]);
    machine.write("context/file", "x");
    machine.dockerfile("context", "FROM scratch\nCOPY file /\n");
    let own = machine.build("context", &[]);

    let reference = pushed.out().to_owned();
    let refused = machine.fails(&["build", "context", "--builder", &reference], 3);
    refused.says(&[&reference, "RUN instructions run processes"]);
    // The lines that the refusal shows are the ones that help.
    let allow = |line: String| {
        let own = format!("plugins: {{ {reference}: {{ allow: {{ ");
        line.strip_prefix(&own).and_then(|line| line.strip_suffix(" } } }")).expect("a line to write").to_owned()
    };
    let allowed: Vec<String> = lines_of(&refused.stderr).into_iter().map(allow).collect();
    assert_eq!(allowed, [r#"run: {"mounts":["bind","cache","secret","tmpfs"]}"#, r#"sources: ["**"]"#]);
    machine
        .configure(&format!("plugins: {{ theirs: {{ from: '{reference}', allow: {{ {} }} }} }}", allowed.join(", ")));
    assert_eq!(machine.build("context", &["--builder", "theirs"]), own);
}

/// What a refusal says is to be written.
fn lines_of(message: &str) -> Vec<String> {
    let words = message.split_whitespace().filter(|word| !matches!(*word, "|" | "│")).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> =
        words.split("write `").skip(1).map(|rest| rest.split_once('`').unwrap().0.to_owned()).collect();
    assert!(!lines.is_empty(), "no line in:\n{message}");
    lines
}

fn line_of(message: &str) -> String {
    lines_of(message).remove(0)
}

#[test]
fn a_missing_grant_of_a_flow_is_refused_with_the_line_that_gives_it() {
    let Some(machine) = machine(&[]) else { return };
    let file = component("script").display().to_string();
    let flow = |allow: &str| {
        format!(
            "version: 1\nplugins:\n  theirs: {{ from: 'file:{file}'{allow} }}\n\
             flow:\n  step: {{ uses: theirs, with: {{ image: 'base:1', run: 'true' }} }}\n"
        )
    };
    machine.base();
    machine.write("cooperage.yaml", flow(""));
    let refused = machine.fails(&["run"], 3);
    let line = line_of(&refused.stderr);
    let allow = line.strip_prefix("plugins: { theirs: { ").and_then(|line| line.strip_suffix(" } }"));
    let allow = allow.unwrap_or_else(|| panic!("{line}")).to_owned();
    if !have(&[crate::support::ROOT]) {
        return;
    }
    machine.write("cooperage.yaml", flow(&format!(", {allow}")));
    let ran = machine.run(&["run"]);
    if ran.code == Some(3) {
        // It asks for more than one thing: each refusal has its own line.
        ran.says(&["theirs", "allow"]);
    }
    let everything = asked(&machine, &format!("file:{file}"));
    machine.write("cooperage.yaml", flow(&format!(", allow: {everything}")));
    machine.ok(&["run"]);
}

/// Everything that a plugin asks for, as one map for `allow`.
fn asked(machine: &Machine, plugin: &str) -> serde_json::Value {
    let shown = machine.ok(&["plugin", "inspect", plugin, "--output", "json"]).json();
    let requests = shown["description"]["capabilities"].as_array().unwrap();
    requests.iter().map(|request| (request["class"].as_str().unwrap().to_owned(), request["request"].clone())).collect()
}

#[test]
fn a_plugin_that_was_changed_on_its_way_is_refused() {
    let Some(machine) = machine(&["docker-registry"]) else { return };
    let registry = Registry::start(&machine);
    let name = registry.name("plugins/push:1");
    machine.ok(&["plugin", "push", &component("push").display().to_string(), &name]);
    let list = tool("find", [&registry.data.display().to_string(), "-name", "data", "-size", "+50k"]);
    let blob = list.out();
    let mut content = std::fs::read(blob).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(blob, content).unwrap();
    let other = Machine::new().with_own_cache();
    other.fails(&["plugin", "pull", &format!("oci://{name}")], 3).says(&["plugins/push:1", "sha256:", "expected"]);
}

#[test]
fn plugins_come_over_tls_of_an_own_authority() {
    let Some(mut machine) = machine(&["docker-registry", "openssl"]) else { return };
    let registry = Registry::start_as(&machine, Kind::Tls);
    let name = registry.name("plugins/push:1");
    let file = component("push").display().to_string();
    let option = format!("--registry-ca {}=FILE", registry.host);
    let unknown: &[&str] = &[&registry.host, "authority that is not known here", &option];
    machine.fails(&["plugin", "push", &file, &name], 4).says(unknown);
    machine.fails(&["plugin", "pull", &format!("oci://{name}")], 4).says(unknown);
    let authority = registry.authority.clone().unwrap();
    machine.options = vec!["--registry-ca".to_owned(), format!("{}={}", registry.host, authority.display())];
    machine.ok(&["plugin", "push", &file, &name]);
    machine.ok(&["plugin", "pull", &format!("oci://{name}")]);
    machine.options.extend(["--insecure-registry".to_owned(), registry.host.clone()]);
    machine.ok(&["plugin", "push", &file, &name]);
    machine.ok(&["plugin", "pull", &format!("oci://{name}")]);
}
