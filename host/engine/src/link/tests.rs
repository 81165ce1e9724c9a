use std::path::Path;

use wasmtime::component::Component;

use super::*;

fn engine() -> wasmtime::Engine {
    wasmtime::Engine::new(&crate::engine::settings()).unwrap()
}

fn component(wat: &str) -> (wasmtime::Engine, ComponentType) {
    let engine = engine();
    let bytes = wat::parse_str(wat).unwrap();
    let ty = Component::new(&engine, bytes).unwrap().component_type();
    (engine, ty)
}

fn misfits(wat: &str) -> Vec<String> {
    let (engine, ty) = component(wat);
    imports(&ty, &engine).iter().map(ToString::to_string).collect()
}

#[test]
fn every_misfit_is_listed_with_its_fix() {
    let seen = misfits(
        r#"(component
            (import "cooperage:plugin/trees@0.2.0" (instance))
            (import "cooperage:plugin/exec@0.1.0" (instance))
            (import "cooperage:plugin/events@0.1.3" (instance (export "log" (func)) (export "shout" (func))))
            (import "cooperage:plugin/state@0.1.0" (instance))
            (import "wasi:io/poll@0.2.6" (instance))
            (import "wasi:io/poll@0.2.99" (instance))
            (import "wasi:keyvalue/store@0.2.0" (instance))
            (import "acme:tools/shell@1.0.0" (instance))
            (import "plain" (func)))"#,
    );
    assert_eq!(
        seen,
        [
            "plugin imports cooperage:plugin/trees@0.2.0, host offers cooperage:plugin/trees@0.1.0: use a newer coop, or build the plugin against cooperage:plugin@0.1.0",
            "plugin imports cooperage:plugin/exec@0.1.0, host offers no such interface: use a newer coop, or build the plugin against cooperage:plugin@0.1.0",
            "plugin imports cooperage:plugin/events@0.1.3 function shout, host offers no such function: use a newer coop, or build the plugin against cooperage:plugin@0.1.0",
            "plugin imports wasi:io/poll@0.2.99, host offers WASI 0.2.0 to 0.2.12: build it for WASI 0.2, or use a newer coop",
            "plugin imports wasi:keyvalue/store@0.2.0, which this host does not know: this part of WASI is not offered; a plugin can use io, clocks, random, cli, filesystem, sockets and http",
            "plugin imports acme:tools/shell@1.0.0, which this host does not know: compose the component with one that exports it (for instance with `wac plug`)",
            "plugin imports plain, which this host does not know: compose the component with one that exports it (for instance with `wac plug`)",
        ]
    );
}

fn exporting(exports: &[&str]) -> String {
    let exports: String = exports.iter().map(|name| format!("(export \"{name}\" (instance $i))")).collect();
    format!("(component (instance $i) {exports})")
}

fn roles_of(exports: &[&str]) -> Result<Roles, Vec<Misfit>> {
    let (engine, ty) = component(&exporting(exports));
    roles(&ty, &engine, false)
}

#[test]
fn roles_are_what_is_exported() {
    let found =
        roles_of(&["cooperage:plugin/plugin@0.1.0", "cooperage:plugin/task@0.1.0", "cooperage:plugin/builder@0.1.0"]);
    assert_eq!(found, Ok(Roles { builder: true, task: true, ..Roles::default() }));
    let text =
        |exports: &[&str]| roles_of(exports).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("|");
    assert!(text(&["wasi:cli/run@0.2.0"]).contains("it is no Cooperage plugin"));
    assert!(text(&["cooperage:plugin/plugin@0.1.0"]).contains("exports no role"));
    assert!(
        text(&["cooperage:plugin/plugin@0.1.0", "cooperage:plugin/task@0.1.1"])
            .contains("host offers cooperage:plugin/task@0.1.0")
    );
    assert!(text(&["cooperage:plugin/plugin@0.2.0", "cooperage:plugin/task@0.2.0"]).contains("use a newer coop"));
    assert!(text(&["cooperage:plugin/plugin@0.1.0", "cooperage:plugin/scanner@0.1.0"]).contains("no such role"));
}

#[test]
fn what_is_not_released_must_be_wanted() {
    let exports = ["cooperage:plugin/plugin@0.1.0", "cooperage:plugin/builder@0.2.0-next"];
    let refused = roles_of(&exports).unwrap_err();
    assert_eq!(
        refused.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "plugin exports cooperage:plugin/builder@0.2.0-next, which is not released and may change: build it against cooperage:plugin@0.1.0, or try it with `unreleased-contract: true` in config.yaml"
        ]
    );
    let (engine, ty) = component(&exporting(&exports));
    assert_eq!(roles(&ty, &engine, true), Ok(Roles { builder: true, ..Roles::default() }));
    // A role that did not change is not in the unreleased version, and no other draft is known.
    for name in ["cooperage:plugin/task@0.2.0-next", "cooperage:plugin/builder@0.2.0-other"] {
        let (engine, ty) = component(&exporting(&["cooperage:plugin/plugin@0.1.0", name]));
        let text = roles(&ty, &engine, true).unwrap_err()[0].to_string();
        assert!(text.contains("use a newer coop"), "{text}");
    }
}

#[test]
fn silent_imports_are_advised() {
    let (engine, ty) = component(r#"(component (import "wasi:sockets/tcp@0.2.3" (instance)))"#);
    assert_eq!(
        advice(&ty, &engine, &[]),
        ["imports wasi:sockets/tcp and asks for no `tcp` capability: its connections will be refused"]
    );
    let asks = Request { class: "tcp".into(), request: "a.example:1".into(), reason: String::new() };
    assert!(advice(&ty, &engine, &[asks]).is_empty());
}

/// The functions that a file of the contract declares, as the binary format names them.
fn functions(wit: &str) -> Vec<String> {
    let (mut found, mut resource) = (Vec::new(), String::new());
    for line in wit.lines().map(str::trim).filter(|line| !line.starts_with("///")) {
        if let Some(name) = line.strip_prefix("resource ") {
            resource = name.trim_end_matches(['{', ' ']).to_owned();
        } else if line == "}" {
            resource.clear();
        } else if line.starts_with("constructor(") {
            found.push(format!("[constructor]{resource}"));
        } else if let Some((name, _)) = line.split_once(": static func(") {
            found.push(format!("[static]{resource}.{name}"));
        } else if let Some((name, _)) = line.split_once(": func(") {
            found.push(if resource.is_empty() { name.to_owned() } else { format!("[method]{resource}.{name}") });
        }
    }
    found.sort();
    found
}

#[test]
fn the_tables_are_those_of_the_contract() {
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/cooperage-plugin-0.1.0");
    let worlds = std::fs::read_to_string(contract.join("worlds.wit")).unwrap();
    let (imports, _) = worlds.split_once("world builder-plugin").unwrap();
    let names: Vec<_> =
        imports.lines().filter_map(|l| l.trim().strip_prefix("import ")).map(|l| l.trim_end_matches(';')).collect();
    assert_eq!(names, INTERFACES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, table) in INTERFACES {
        let wit = std::fs::read_to_string(contract.join(format!("{name}.wit"))).unwrap();
        let mut table: Vec<_> = table.iter().map(ToString::to_string).collect();
        table.sort();
        assert_eq!(table, functions(&wit), "{name}");
    }
}

/// Components of the release use the whole contract, so what breaks for plugins that are out there breaks a test here.
#[test]
fn plugins_of_the_release_use_every_function() {
    let engine = engine();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/contract/0.1.0");
    let mut used = std::collections::BTreeSet::new();
    for role in ["builder", "task", "source", "registry"] {
        let bytes = std::fs::read(folder.join(role).with_extension("wasm")).unwrap();
        assert!(bytes.len() < 200 << 10, "{role} has {} bytes; it stays in the repository for ever", bytes.len());
        let ty = Component::new(&engine, bytes).unwrap().component_type();
        for (name, item) in ty.imports(&engine) {
            let (Some((CONTRACT, interface, _)), ComponentItem::ComponentInstance(instance)) = (split(name), item.ty)
            else {
                continue;
            };
            used.extend(instance.exports(&engine).map(|(function, _)| format!("{interface} {function}")));
        }
    }
    let all =
        INTERFACES.iter().flat_map(|(interface, functions)| functions.iter().map(move |f| format!("{interface} {f}")));
    let unused: Vec<String> = all.filter(|function| !used.contains(function)).collect();
    assert_eq!(unused, Vec::<String>::new(), "let one of the plugins in tests/contract use them");
}
