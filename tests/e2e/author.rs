//! What an author does with a plugin at the command line: makes it, builds it, checks it, looks at it, lists it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::plugin::component;
use crate::support::registry::Registry;
use crate::support::{Machine, Ran, have};

fn machine(needs: &[&str]) -> Option<Machine> {
    have(needs).then(|| Machine::new().with_own_cache())
}

/// `coop` for somebody who has Rust: its tools, and the packages that were downloaded for building this.
#[allow(clippy::disallowed_methods, reason = "where cargo keeps packages is known to the environment alone")]
fn with_rust(machine: &Machine, args: &[&str]) -> Command {
    let mut command = machine.coop(args);
    let tools = Path::new(env!("CARGO")).parent().unwrap().display();
    command.env("PATH", format!("{tools}:/usr/local/bin:/usr/bin:/bin"));
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    command.env("CARGO_HOME", home.unwrap()).env("CARGO_NET_OFFLINE", "true");
    command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("authors"));
    command
}

#[track_caller]
fn ends(mut command: Command, code: i32) -> Ran {
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.code, Some(code), "{command:?} said:\n{}{}", ran.stdout, ran.stderr);
    ran
}

#[test]
fn a_new_plugin_builds_is_right_and_runs() {
    let Some(machine) = machine(&["cc"]) else { return };
    let made = machine.ok(&["plugin", "new", "--lang", "rust", "--role", "task", "tools/counter"]);
    assert_eq!(made.out().lines().last().unwrap().trim(), "coop run");
    assert!(machine.read("tools/counter/README.md").starts_with("# counter\n\n```sh\ncoop plugin build"));
    let inside = |args: &[&str]| {
        let mut command = with_rust(&machine, args);
        command.current_dir(machine.path("tools/counter"));
        command
    };
    let built = ends(inside(&["plugin", "build"]), 0);
    assert!(built.stdout.starts_with("counter 0.1.0 (task), "), "{built:?}");
    assert_eq!(ends(inside(&["plugin", "check", "--strict", "plugin.wasm"]), 0).stdout.lines().count(), 1);
    let seen = ends(inside(&["plugin", "inspect", "file:plugin.wasm", "--output", "json"]), 0).json();
    assert_eq!((&seen["embedded"], &seen["runs"]), (&true.into(), &true.into()), "{seen}");
    let ran = ends(inside(&["run", "--output", "json"]), 0).stdout;
    assert!(ran.contains("\"lines\": 3"), "{ran}");

    // Sources that are wrong: what the compiler says is shown, and nothing is left that passes for a plugin.
    machine.write("tools/counter/src/lib.rs", "fn broken(");
    ends(inside(&["plugin", "build"]), 1).says(&["unclosed delimiter", "the build failed"]);
    ends(inside(&["plugin", "check", "plugin.wasm"]), 2);
}

#[test]
fn what_cannot_be_made_says_what_can() {
    let Some(machine) = machine(&[]) else { return };
    let new = |language, role, more: &[&str]| {
        machine.fails(&[&["plugin", "new", "--lang", language, "--role", role], more].concat(), 2)
    };
    new("cobol", "task", &["x"]).says(&["no template for a task in cobol", "--lang rust --role task"]);
    new("c", "registry", &["x"]).says(&["no template for a registry in c", "--lang c --role task"]);
    new("rust", "task", &["--name", "My Plugin", "x"]).says(&["\"My Plugin\" is no name", "lower-case"]);
    new("rust", "task", &["Upper"]).says(&["\"Upper\" is no name", "--name NAME"]);
    machine.write("full/file", "");
    new("rust", "task", &["full"]).says(&["the directory full is not empty"]);
    new("rust", "task", &["full/file"]).says(&["full/file", "cannot be a project"]);
    assert!(!machine.path("x").exists(), "what is refused leaves nothing");
}

#[test]
fn what_cannot_be_built_says_why() {
    let Some(machine) = machine(&[]) else { return };
    machine.fails(&["plugin", "build", "nowhere"], 2).says(&["nowhere", "coop plugin new"]);
    machine.write("empty/file", "");
    machine.fails(&["plugin", "build", "empty"], 2).says(&["has no script `build`", "coop plugin new"]);
    let script = |text: &str| {
        let path = machine.write("own/build", format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    };
    script("echo out; echo err >&2; exit 3");
    let failed = machine.fails(&["plugin", "build", "own"], 1);
    failed.says(&["out\n", "err\n", "the build failed"]);
    assert_eq!(failed.stdout, "", "standard output is for the result");
    script("true");
    machine.fails(&["plugin", "build", "own"], 1).says(&["made no plugin.wasm"]);
    script("echo nonsense > plugin.wasm");
    machine.fails(&["plugin", "build", "own"], 2).says(&["not a WebAssembly component"]);
    // A language that is known, and a machine that lacks it.
    machine.write("own/app.py", "");
    let mut command = machine.coop(&["plugin", "build", "own"]);
    command.env("PATH", "/nowhere");
    ends(command, 4).says(&["componentize-py", "pip install componentize-py"]);
}

/// Writes a plugin that was built against another version of the contract: the same bytes under another number.
fn of_version(machine: &Machine, version: &str) -> String {
    assert_eq!(version.len(), "0.1.0".len());
    let mut wasm = std::fs::read(component("push")).unwrap();
    let (name, number) = (b"cooperage:plugin/", version.as_bytes());
    let found: Vec<usize> =
        wasm.windows(name.len()).enumerate().filter(|(_, w)| *w == name).map(|(at, _)| at).collect();
    for at in found {
        if let Some(sign) = wasm[at..].iter().take(64).position(|byte| *byte == b'@') {
            let start = at + sign + 1;
            if wasm[start..].starts_with(b"0.1.0") {
                wasm[start..start + number.len()].copy_from_slice(number);
            }
        }
    }
    machine.write("newer.wasm", wasm);
    "file:newer.wasm".to_owned()
}

#[test]
fn a_plugin_that_this_host_cannot_run_is_shown() {
    let Some(machine) = machine(&[]) else { return };
    let newer = of_version(&machine, "0.9.0");
    let seen = machine.ok(&["plugin", "inspect", &newer, "--output", "json"]).json();
    assert_eq!(seen["runs"], false);
    assert_eq!(seen["roles"], serde_json::json!(["task"]));
    assert_eq!(seen["contract"], serde_json::json!(["0.9.0"]));
    let misfits = seen["misfits"].as_array().unwrap();
    assert!(misfits.iter().all(|m| m["fix"].as_str().unwrap().contains("use a newer coop")), "{misfits:?}");
    let text = machine.ok(&["plugin", "inspect", &newer]).stdout;
    assert!(text.contains("runs here  no") && text.contains("cooperage:plugin/task@0.9.0, host offers"), "{text}");
    assert!(!machine.outside("cache/cooperage/compiled").exists(), "nothing was compiled");
    machine.fails(&["plugin", "check", "newer.wasm"], 1).says(&["errors"]);

    machine.write("module.wasm", b"\0asm\x01\0\0\0");
    machine.fails(&["plugin", "inspect", "file:module.wasm"], 2).says(&["core module", "wasm32-wasip2"]);
    machine.write("empty.wasm", b"\0asm\x0d\0\x01\0");
    machine.fails(&["plugin", "inspect", "file:empty.wasm"], 2).says(&["it is no Cooperage plugin"]);
    machine.fails(&["plugin", "inspect", "file:none.wasm"], 2).says(&["none.wasm"]);
}

#[test]
fn a_check_knows_hosts_of_each_version() {
    let Some(machine) = machine(&[]) else { return };
    let file = component("push").display().to_string();
    let found = machine.ok(&["plugin", "check", &file, "--host", "0.1.0", "--output", "json"]).json();
    assert_eq!(found["hosts"][0]["runs"], true, "{found}");
    let severities: Vec<_> = found["findings"].as_array().unwrap().iter().map(|f| f["severity"].clone()).collect();
    assert!(!severities.is_empty() && !severities.contains(&"error".into()), "{found}");
    machine.fails(&["plugin", "check", &file, "--strict"], 1).says(&["warning"]);
    machine.fails(&["plugin", "check", &file, "--host", "7.0.0"], 2).says(&["7.0.0", "it knows 0.1.0"]);
}

#[test]
fn a_plugin_in_a_registry_is_shown_with_both_digests() {
    let Some(machine) = machine(&["docker-registry"]) else { return };
    let registry = Registry::start(&machine);
    let name = registry.name("plugins/script:1");
    let pushed = machine.ok(&["plugin", "push", &component("script").display().to_string(), &name]);
    let (_, manifest) = pushed.out().split_once('@').unwrap();
    let other = Machine::new().with_own_cache();
    let reference = format!("oci://{name}");
    let seen = other.ok(&["plugin", "inspect", &reference, "--output", "json"]).json();
    assert_eq!((&seen["manifest"], &seen["embedded"]), (&manifest.into(), &true.into()));
    assert!(!other.outside("cache/cooperage/compiled").exists(), "nothing was compiled");
    let text = other.ok(&["plugin", "inspect", &reference]).stdout;
    assert!(text.contains(manifest) && text.contains("runs here  yes"), "{text}");
    assert!(text.contains("PARAMETER") && text.contains("processes in trees need `run`"), "{text}");
    drop(registry);
    other.ok(&["plugin", "inspect", &reference]);
}

#[test]
fn a_listing_says_where_plugins_come_from_and_how_they_are_locked() {
    let Some(machine) = machine(&[]) else { return };
    let rows = |machine: &Machine| machine.ok(&["plugin", "ls", "--output", "json"]).json();
    let row = |rows: &serde_json::Value, name: &str| {
        rows.as_array().unwrap().iter().find(|row| row["name"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(row(&rows(&machine), "push")["from"], "bundled");
    std::fs::copy(component("push"), machine.path("push.wasm")).unwrap();
    let flow = |from: &str| {
        format!(
            "version: 1\nplugins:\n  theirs: {{ from: '{from}', allow: {{ registries: [push] }} }}\n\
             flow:\n  step: {{ uses: script, with: {{ image: a, run: b }} }}\n"
        )
    };
    machine.write("cooperage.yaml", flow("file:push.wasm"));
    let found = row(&rows(&machine), "theirs");
    assert_eq!((&found["from"], &found["lock"]["state"]), (&"file:push.wasm".into(), &"not locked".into()));
    assert_eq!(found["roles"], serde_json::json!(["task"]));
    machine.ok(&["plugin", "update", "theirs"]);
    let found = row(&rows(&machine), "theirs");
    assert_eq!(found["lock"]["state"], "locked");
    assert_eq!(found["lock"]["component"], found["digest"]);
    machine.write("cooperage.yaml", flow("file:./push.wasm"));
    assert_eq!(row(&rows(&machine), "theirs")["lock"]["state"], "other source");
    // What is not on this machine is listed, and no registry is asked.
    machine.write("cooperage.yaml", flow("oci://127.0.0.1:1/team/plugin:1"));
    let found = row(&rows(&machine), "theirs");
    assert_eq!((&found["digest"], &found["roles"]), (&serde_json::Value::Null, &serde_json::json!([])));
    assert!(machine.ok(&["plugin", "ls"]).stdout.contains("not on this machine yet"));
}

#[test]
fn a_listing_that_cannot_be_made_says_why() {
    let Some(machine) = machine(&[]) else { return };
    machine.fails(&["plugin", "ls", "--file", "none.yaml"], 2).says(&["none.yaml", "--file"]);
    machine.write("cooperage.yaml", "version: 1\nplugins: 5\n");
    machine.fails(&["plugin", "ls"], 2).says(&["cooperage.yaml", "plugins"]);
    machine.write("push.wasm", "no component");
    machine.write(
        "cooperage.yaml",
        "version: 1\nplugins: { theirs: { from: 'file:push.wasm' } }\n\
        flow: { step: { uses: theirs } }\n",
    );
    machine.fails(&["plugin", "ls"], 2).says(&["push.wasm", "not a WebAssembly component"]);
}
