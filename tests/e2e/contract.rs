//! Two versions of the contract at once: a builder of the unreleased one and one of the release, in one flow.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Machine, ROOT, have};

/// The builder of the unreleased version, built as its author would.
fn next() -> PathBuf {
    let crate_ = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/contract/next");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--release", "--target", "wasm32-wasip2", "--manifest-path"]);
    cargo.arg(crate_.join("Cargo.toml")).arg("--target-dir").arg(&target);
    for leaks in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(leaks);
    }
    assert!(cargo.status().unwrap().success(), "the builder builds");
    target.join("wasm32-wasip2/release/next_builder.wasm")
}

#[test]
fn an_unreleased_builder_works_beside_a_released_one() {
    if !have(&[ROOT, "umoci"]) {
        return;
    }
    let machine = Machine::new();
    machine.base();
    let next = format!("file:{}", next().display());
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/contract/0.1.0/builder.wasm");
    let shown = machine.ok(&["plugin", "inspect", &next]).stdout;
    assert!(shown.contains("builder@0.2.0-next, which is not released and may change"), "{shown}");
    machine
        .fails(&["build", "base", "--builder", &next], 2)
        .says(&["not released and may change", "`unreleased-contract: true` in config.yaml"]);

    machine.configure("unreleased-contract: true\n");
    machine.write("Releasefile", "a");
    machine.write("unwanted", "b");
    let flow = format!(
        "
version: 1
plugins:
  next: {{ from: '{next}' }}
  old: {{ from: 'file:{}', allow: {{ run: true }} }}
images:
  same: {{ tags: {{ '1': {{ flow: {{ image: {{ uses: next, with: {{ base: 'base:1' }} }} }} }} }} }}
  more: {{ tags: {{ '1': {{ flow: {{ image: {{ uses: next, with: {{ base: 'base:1', make: true }} }} }} }} }} }}
  old: {{ tags: {{ '1': {{ flow: {{ image: {{ uses: old }} }} }} }} }}
",
        old.canonicalize().unwrap().display()
    );
    machine.write("cooperage.yaml", flow);
    machine.ok(&["run"]);
    let digest = |name: &str| {
        let shown = machine.ok(&["image", "inspect", name, "--output", "json"]).json();
        shown["descriptor"]["digest"].as_str().unwrap().to_owned()
    };
    assert_eq!(digest("same:1"), digest("base:1"), "an image that exists stays what it is");
    assert_ne!(digest("more:1"), digest("base:1"));
    assert!(machine.tree("more:1").iter().any(|entry| entry.contains("/made")), "{:?}", machine.tree("more:1"));
    assert!(machine.tree("old:1").iter().any(|entry| entry.contains("/app/release")), "{:?}", machine.tree("old:1"));
}
