//! `cooperage.lock`: which bytes the plugins of a flow file are, and who may change that.

use serde_json::{Value, json};

use crate::plugin::component;
use crate::support::registry::Registry;
use crate::support::signing::Key;
use crate::support::{Machine, have, tool};

const LOCK: &str = "cooperage.lock";
const ALLOW: &str = r#"{ run: true, sources: ["**"] }"#;

/// The `dockerfile` plugin, which is a stranger's here, with a word of its own about itself.
pub fn variant(machine: &Machine, change: impl FnOnce(&mut Value)) -> String {
    let mut description =
        machine.ok(&["plugin", "inspect", "dockerfile", "--output", "json"]).json()["description"].take();
    change(&mut description);
    let (name, text) = ("cooperage:description", description.to_string());
    let number = |mut left: usize| {
        let mut bytes = Vec::new();
        while left > 0x7f {
            bytes.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
        bytes
    };
    let section = [&number(name.len()), name.as_bytes(), text.as_bytes()].concat();
    let mut bytes = std::fs::read(component("dockerfile")).unwrap();
    bytes.extend([&[0], number(section.len()).as_slice(), &section].concat());
    machine.write("variant.wasm", bytes).display().to_string()
}

#[track_caller]
pub fn prints(machine: &Machine, command: &[&str], expected: &str) {
    let printed = machine.ok(command).stdout;
    assert!(printed.contains(expected), "{expected} is not in {printed}");
}

pub fn publish(machine: &Machine, key: &Key, name: &str, version: &str) {
    let file = variant(machine, |description| description["version"] = json!(version));
    key.publish(machine, &file, name);
}

/// A flow whose builder comes from a registry, as version 1.0.0, signed by a key that the user trusts.
pub fn flow() -> Option<(Machine, Registry, Key, String)> {
    if !have(&["docker-registry"]) {
        return None;
    }
    let machine = Machine::new().with_own_cache();
    let registry = Registry::start(&machine);
    let name = registry.name("plugins/theirs:1");
    let key = Key::new(&machine, "acme");
    key.trust_on(&machine);
    publish(&machine, &key, &name, "1.0.0");
    machine.write("file", "x");
    machine.write("Dockerfile", "FROM scratch\nCOPY file /\n");
    write(&machine, &name, ALLOW);
    Some((machine, registry, key, name))
}

pub fn write(machine: &Machine, name: &str, allow: &str) {
    let text = format!(
        "# Ours.\nversion: 1\nplugins:\n  theirs: {{ from: 'oci://{name}', allow: {allow} }}\nflow:\n  image: {{ uses: theirs }}\n"
    );
    machine.write("cooperage.yaml", text);
}

#[test]
fn a_plugin_stays_what_it_is_until_it_is_updated() {
    let Some((machine, registry, key, name)) = flow() else { return };
    machine.fails(&["run", "--locked"], 3).says(&["does not have the plugin theirs", "coop plugin update theirs"]);
    machine.ok(&["run", "--dry-run"]);
    assert!(!machine.path(LOCK).exists(), "what runs nothing writes nothing");
    machine.ok(&["run"]);
    let first = machine.read(LOCK);
    let parts =
        ["theirs:", "version: \"1.0.0\"", "manifest: sha256:", "component: sha256:", "key: sha256:", "grants: sha256:"];
    for part in parts.into_iter().chain([name.as_str()]) {
        assert!(first.contains(part), "{part} is not in {first}");
    }

    publish(&machine, &key, &name, "1.1.0");
    let other = Machine::new().with_own_cache();
    key.trust_on(&other);
    for file in ["cooperage.yaml", LOCK, "Dockerfile", "file"] {
        other.write(file, machine.read(file));
    }
    // Where nothing is known of the tag, the lock still says what it stood for.
    other.ok(&["run", "--locked"]);
    assert_eq!(other.read(LOCK), first);
    prints(&other, &["plugin", "verify"], "theirs  1.0.0    right   the key acme");
    prints(&other, &["plugin", "update"], "theirs 1.0.0 -> 1.1.0");
    prints(&other, &["plugin", "update", "theirs"], "theirs 1.1.0 is up to date");
    other.ok(&["run", "--locked"]);
    let layout = machine.path("layout").display().to_string();
    prints(&machine, &["plugin", "save", "--output", &layout], "theirs sha256:");
    drop(registry);
    other.ok(&["run", "--locked"]);

    // On a machine that never had a network.
    let far = Machine::new().with_own_cache();
    key.trust_on(&far);
    for file in ["cooperage.yaml", "Dockerfile", "file"] {
        far.write(file, machine.read(file));
    }
    far.write(LOCK, machine.read(LOCK));
    far.fails(&["run", "--locked"], 4);
    prints(&far, &["plugin", "load", &layout], &format!("oci://{name}"));
    far.ok(&["run", "--locked"]);
    prints(&far, &["plugin", "verify"], "theirs  1.0.0    right   the key acme");
    if have(&["skopeo"]) {
        let inspect = ["inspect", "--raw", &format!("oci:{layout}:{name}")].map(str::to_owned);
        assert_eq!(tool("skopeo", inspect).json()["layers"][0]["mediaType"], "application/wasm");
    }
    far.fails(&["plugin", "load", &machine.path("none").display().to_string()], 2);
    machine.ok(&["run", "--locked"]);
}

#[test]
fn what_came_in_place_of_a_plugin_is_refused() {
    let Some((machine, _registry, key, name)) = flow() else { return };
    machine.ok(&["run"]);
    publish(&machine, &key, &name, "0.9.0");
    let before = machine.read(LOCK);
    machine.fails(&["plugin", "update"], 3).says(&["an old version was put in its place", "--force"]);
    let file = variant(&machine, |description| {
        description["version"] = json!("1.0.0");
        description["summary"] = json!("Something else");
    });
    key.publish(&machine, &file, &name);
    machine.fails(&["plugin", "update"], 3).says(&["another component that calls itself version 1.0.0"]);
    assert_eq!(machine.read(LOCK), before, "a refusal changes nothing");
    machine.ok(&["run", "--locked"]);
    machine.ok(&["plugin", "update", "--force"]);
    assert_ne!(machine.read(LOCK), before);

    let file = variant(&machine, |description| {
        description["version"] = json!("1.2.0");
        let more = json!({ "class": "state", "request": true, "reason": "to keep what it finds" });
        description["capabilities"].as_array_mut().unwrap().push(more);
    });
    key.publish(&machine, &file, &name);
    let before = machine.read(LOCK);
    machine.fails(&["plugin", "update"], 3).says(&["asks for what it was not granted", "to keep what it finds"]);
    assert_eq!(machine.read(LOCK), before);
    write(&machine, &name, r#"{ run: true, state: true, sources: ["**"] }"#);
    machine.fails(&["run", "--locked"], 3).says(&["allowed something else than when it was locked"]);
    prints(&machine, &["plugin", "update"], "-> 1.2.0");
    machine.ok(&["run", "--locked"]);
}

#[test]
fn a_lock_that_was_changed_by_hand_is_noticed() {
    let Some((machine, _registry, ..)) = flow() else { return };
    machine.ok(&["run"]);
    let good = machine.read(LOCK);
    let value = |key: &str| good.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap().to_owned();
    let zeros = format!("sha256:{}", "0".repeat(64));
    for (from, to, code, said) in [
        (value("component: "), zeros.clone(), 3, "the lock was changed by hand"),
        (value("manifest: "), zeros, 2, "plugins/theirs"),
        ("\"1.0.0\"".to_owned(), "1.0.1".to_owned(), 3, "says that it is version 1.0.0"),
        ("plugins:".to_owned(), "plugin:".to_owned(), 2, "is not right"),
        ("version: 1\n".to_owned(), "version: 2\n".to_owned(), 2, "use a newer coop"),
    ] {
        machine.write(LOCK, good.replacen(&from, &to, 1));
        machine.fails(&["run"], code).says(&[said]);
        machine.fails(&["plugin", "verify"], code).says(&[said]);
    }
}

#[test]
fn plugins_are_added_and_taken_out() {
    let Some((machine, _registry, _key, name)) = flow() else { return };
    let before = machine.read("cooperage.yaml");
    let reference = format!("oci://{name}");
    machine.fails(&["plugin", "add", "more", &reference], 3).says(&["asks for what it was not granted", "run: {"]);
    machine.fails(&["plugin", "add", "theirs", &reference, "--grant"], 2).says(&["declares a plugin theirs already"]);
    assert_eq!(machine.read("cooperage.yaml"), before);
    machine.ok(&["plugin", "add", "more", &reference, "--allow", "run=true", "--allow", r#"sources=["**"]"#]);
    machine.ok(&["plugin", "add", "same", &reference, "--grant"]);
    prints(&machine, &["plugin", "verify", "more", "same"], "more  1.0.0    right");
    assert!(machine.read("cooperage.yaml").starts_with("# Ours.\n"));
    machine.ok(&["plugin", "rm", "more"]);
    machine.ok(&["plugin", "rm", "same"]);
    assert_eq!(machine.read("cooperage.yaml"), before);
    assert!(!machine.read(LOCK).contains("more:"), "{}", machine.read(LOCK));
    machine.fails(&["plugin", "rm", "more"], 2).says(&["has no plugin more"]);

    // A file of the project begins there, wherever the command is given.
    std::fs::copy(component("dockerfile"), machine.path("own.wasm")).unwrap();
    machine.ok(&["plugin", "add", "own", "file:own.wasm", "--grant"]);
    let elsewhere = machine.outside("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let file = machine.path("cooperage.yaml").display().to_string();
    let mut command = machine.coop(&["plugin", "verify", "own", "--file", &file]);
    assert!(command.current_dir(elsewhere).status().unwrap().success());
}
