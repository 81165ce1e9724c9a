use std::path::Path;

use wasmtime::component::Component;

use super::*;

fn engine() -> wasmtime::Engine {
    wasmtime::Engine::new(&crate::engine::settings()).unwrap()
}

/// The outside of a component, which is the same before and after it is compiled.
fn outside(wat: &str) -> Outside {
    let engine = engine();
    let bytes = wat::parse_str(wat).unwrap();
    let read = crate::compile::outline::outline(&bytes, 1 << 20).unwrap().outside;
    assert_eq!(read, Outside::of(&Component::new(&engine, bytes).unwrap().component_type(), &engine));
    read
}

fn misfits(wat: &str) -> Vec<String> {
    imports(&outside(wat)).iter().map(ToString::to_string).collect()
}

#[test]
fn functions_are_found_behind_types_of_every_kind() {
    let outside = outside(
        r#"(component
            (type (tuple u32 u32))
            (import "cooperage:plugin/types@0.1.0" (instance $types (export "r" (type (sub resource)))))
            (alias export $types "r" (type $r))
            (import "r" (type $again (eq $r)))
            (import "cooperage:plugin/trees@0.1.0" (instance
                (export "tree" (type $tree (sub resource)))
                (export "[method]tree.copy" (func (param "self" (borrow $tree))))
                (export "walk" (func))))
            (export "t" (type $r))
            (import "cooperage:plugin/state@0.1.0" (instance (export "get" (func)))))"#,
    );
    let found = outside.imports.iter().map(|import| format!("{} {}", import.name, import.functions.join(" ")));
    let expected = [
        "cooperage:plugin/types@0.1.0 ",
        "r ",
        "cooperage:plugin/trees@0.1.0 [method]tree.copy walk",
        "cooperage:plugin/state@0.1.0 get",
    ];
    assert_eq!(found.collect::<Vec<_>>(), expected);
    assert_eq!(outside.exports, ["t"]);
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
            (import "wasi:io/poll@0.3.0" (instance))
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
            "plugin imports wasi:io/poll@0.3.0, host offers WASI 0.2.0 to 0.2.12: build it for WASI 0.2, or use a newer coop",
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
    roles(&outside(&exporting(exports)), false)
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
    assert_eq!(roles(&outside(&exporting(&exports)), true), Ok(Roles { builder: true, ..Roles::default() }));
    // A role that did not change is not in the unreleased version, and no other draft is known.
    for name in ["cooperage:plugin/task@0.2.0-next", "cooperage:plugin/builder@0.2.0-other"] {
        let outside = outside(&exporting(&["cooperage:plugin/plugin@0.1.0", name]));
        let text = roles(&outside, true).unwrap_err()[0].to_string();
        assert!(text.contains("use a newer coop"), "{text}");
    }
}

#[test]
fn silent_imports_are_advised() {
    let outside = outside(r#"(component (import "wasi:sockets/tcp@0.2.3" (instance)))"#);
    assert_eq!(
        advice(&outside, &[]),
        ["imports wasi:sockets/tcp and asks for no `tcp` capability: its connections will be refused"]
    );
    let asks = Request { class: "tcp".into(), request: "a.example:1".into(), reason: String::new() };
    assert!(advice(&outside, &[asks]).is_empty());
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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/contract/0.1.0");
    let mut used = std::collections::BTreeSet::new();
    for role in ["builder", "task", "source", "registry"] {
        let bytes = std::fs::read(folder.join(role).with_extension("wasm")).unwrap();
        assert!(bytes.len() < 200 << 10, "{role} has {} bytes; it stays in the repository for ever", bytes.len());
        for Import { name, functions } in crate::compile::outline::outline(&bytes, 1 << 20).unwrap().outside.imports {
            let Some((CONTRACT, interface, _)) = split(&name) else { continue };
            used.extend(functions.iter().map(|function| format!("{interface} {function}")));
        }
    }
    let all =
        INTERFACES.iter().flat_map(|(interface, functions)| functions.iter().map(move |f| format!("{interface} {f}")));
    let unused: Vec<String> = all.filter(|function| !used.contains(function)).collect();
    assert_eq!(unused, Vec::<String>::new(), "let one of the plugins in tests/contract use them");
}
