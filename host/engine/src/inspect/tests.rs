use serde_json::json;

use super::*;
use crate::artifact::embed_description;
use crate::{ContractVersion, misfits_with};

const LIMIT: u64 = 1 << 20;

/// A component with these imports and exports, which has nothing inside.
fn component(imports: &[&str], exports: &[&str]) -> Vec<u8> {
    let imports: String = imports.iter().map(|name| format!("(import \"{name}\" (instance))")).collect();
    let exports: String = exports.iter().map(|name| format!("(export \"{name}\" (instance $i))")).collect();
    wat::parse_str(format!("(component {imports} (instance $i) {exports})")).unwrap()
}

fn task() -> Vec<u8> {
    component(&[], &["cooperage:plugin/plugin@0.1.0", "cooperage:plugin/task@0.1.0"])
}

fn good() -> serde_json::Value {
    json!({
        "name": "chat", "version": "1.2.0", "summary": "Says things",
        "parameters": { "task": { "type": "object", "properties": { "text": { "type": "string", "description": "What to say." } } } },
        "capabilities": [{ "class": "secrets", "request": ["TOKEN"], "reason": "to log in" }],
        "annotations": { "org.opencontainers.image.licenses": "Apache-2.0" }
    })
}

#[test]
fn a_plugin_of_another_version_is_looked_at() {
    let wasm = component(
        &["cooperage:plugin/trees@0.9.0"],
        &["cooperage:plugin/plugin@0.9.0", "cooperage:plugin/builder@0.9.0"],
    );
    let seen = inspect(&wasm, LIMIT, false).unwrap();
    assert_eq!(seen.roles.names().collect::<Vec<_>>(), ["builder"]);
    assert_eq!(seen.contracts, ["0.9.0"]);
    assert!(!seen.runs());
    assert!(seen.misfits.iter().all(|misfit| misfit.what.contains("0.9.0")), "{:?}", seen.misfits);
    assert_eq!((seen.size, seen.digest), (wasm.len() as u64, Digest::of(&wasm)));
}

#[test]
fn what_is_no_plugin_is_refused() {
    let text = |wasm: &[u8]| inspect(wasm, LIMIT, false).unwrap_err().to_string();
    assert!(text(&component(&["acme:x/y@1.0.0"], &["acme:x/z@1.0.0"])).contains("it is no Cooperage plugin"));
    assert!(!text(&component(&["acme:x/y@1.0.0"], &[])).contains("acme:x/y"));
    assert!(text(b"\0asm\x01\0\0\0").contains("wasm32-wasip2"));
    assert!(inspect(&task(), 8, false).unwrap_err().to_string().contains("more than the limit"));
}

/// What is found in a task with a description in which `change` was made.
fn found(change: impl FnOnce(&mut serde_json::Value)) -> Vec<String> {
    let mut description = good();
    change(&mut description);
    let seen = inspect(&embed_description(&task(), &description.to_string()).unwrap(), LIMIT, false).unwrap();
    let embedded = seen.description.is_some();
    findings(&seen, embedded).into_iter().map(|f| format!("{}: {}", f.severity.name(), f.what)).collect()
}

#[test]
fn findings_name_what_is_to_be_mended() {
    let cases: [(&str, serde_json::Value, &str); 11] = [
        ("/version", json!("1.2"), "error: the version \"1.2\" is no semantic version"),
        ("/summary", json!(" "), "warning: there is no summary"),
        ("/annotations", json!({}), "warning: the licence is not said"),
        ("/capabilities/0/reason", json!(""), "error: the capability secrets [\"TOKEN\"] has no reason"),
        ("/parameters", json!({ "builder": {} }), "error: there are parameters of the role builder"),
        ("/parameters/task/type", json!("thing"), "error: as task, its schema of parameters is none"),
        ("/parameters/task/properties/text", json!({}), "warning: as task, the parameter text has no description"),
        ("/provides", json!(["s3"]), "error: it provides s3, and is no source"),
        ("/name", json!("Chat"), "error: its description is wrong: the name \"Chat\""),
        ("/capabilities/0/request", json!(5), "error: its description is wrong: `secrets`"),
        ("/surprise", json!(1), "error: its description is wrong: unknown field `surprise`"),
    ];
    assert_eq!(found(|_| {}), [""; 0]);
    for (place, value, expected) in cases {
        let all = found(|description| {
            let (parent, key) = place.rsplit_once('/').unwrap();
            description.pointer_mut(parent).unwrap()[key] = value;
        });
        assert!(all[0].starts_with(expected), "{place}: {all:#?}");
    }
}

#[test]
fn a_description_that_is_asked_for_is_advised_against() {
    let seen = inspect(&task(), LIMIT, false).unwrap();
    assert!(seen.description.is_none() && seen.runs());
    let seen = seen.described(serde_json::from_value(good()).unwrap());
    let found = findings(&seen, false);
    assert!(found[0].what.contains("not embedded") && found.len() == 1, "{found:?}");
}

#[test]
fn silent_imports_are_found() {
    let wasm =
        component(&["wasi:sockets/tcp@0.2.3"], &["cooperage:plugin/plugin@0.1.0", "cooperage:plugin/task@0.1.0"]);
    let seen = inspect(&embed_description(&wasm, &good().to_string()).unwrap(), LIMIT, false).unwrap();
    assert_eq!(seen.advice.len(), 1);
    assert_eq!(findings(&seen, true)[0].severity, Severity::Note);
}

#[test]
fn each_version_of_the_contract_answers_for_itself() {
    let wasm =
        component(&["cooperage:plugin/exec@0.1.0"], &["cooperage:plugin/plugin@0.1.0", "cooperage:plugin/task@0.1.0"]);
    let seen = inspect(&wasm, LIMIT, false).unwrap();
    for version in ContractVersion::ALL {
        let misfits = misfits_with(&seen.outside, version);
        assert!(misfits.iter().any(|misfit| misfit.what.contains("exec")), "{version:?}: {misfits:?}");
    }
    let draft = component(&[], &["cooperage:plugin/plugin@0.1.0", "cooperage:plugin/builder@0.2.0-next"]);
    let seen = inspect(&draft, LIMIT, false).unwrap();
    assert_eq!(seen.contracts, ["0.1.0", "0.2.0-next"]);
    assert!(!seen.runs() && inspect(&draft, LIMIT, true).unwrap().runs());
    assert_eq!(ContractVersion::ALL.map(|version| misfits_with(&seen.outside, version).len()), [1, 0]);
}
