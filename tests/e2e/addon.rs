//! The add-on of `tests/addons`, in two languages, on the way that add-ons of third parties take.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::chain::guest;
use crate::support::registry::Registry;
use crate::support::signing::Key;
use crate::support::{Machine, have, tool};

const ADDONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/addons");

/// The one in Python.
fn in_python(machine: &Machine) -> PathBuf {
    let out = machine.outside("addon");
    std::fs::create_dir_all(&out).unwrap();
    let build = Command::new(Path::new(ADDONS).join("python/build")).env("OUT", &out).output().unwrap();
    assert!(build.status.success(), "{build:?}");
    out.join("plugin.wasm")
}

/// A project with a wheel that it needs.
fn project(machine: &Machine) {
    let text =
        "[project]\nname = \"hello-app\"\nversion = \"1.2.3\"\n\n[project.scripts]\nhello-app = \"hello.main:run\"\n";
    machine.write("app/pyproject.toml", text);
    machine.write("app/src/hello/main.py", "import greet\n\n\ndef run():\n    print(greet.text)\n");
    let wheel = machine.write("app/wheels/greet-1.0-py3-none-any.whl", "");
    let make = "
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED) as wheel:
    wheel.writestr('greet/__init__.py', 'text = \"good day\"\\n')
    wheel.writestr('greet-1.0.dist-info/METADATA', 'Name: greet\\nVersion: 1.0\\n')
    wheel.writestr('greet/' + 'deep/' * 30 + 'data.txt', 'x' * 100000)
";
    tool("python3", ["-c", make, &wheel.display().to_string()]);
}

fn write_flow(machine: &Machine, builder: &str, reference: &str) {
    machine.write(
        "cooperage.yaml",
        format!(
            "version: 1\nplugins:\n  wheels: {{ from: 'oci://{reference}' }}\nimages:\n  {builder}:\n    tags:\n      \
             latest:\n        flow:\n          image: {{ uses: wheels, with: {{ context: app, base: 'base:1' }} }}\n"
        ),
    );
}

#[test]
fn an_addon_in_two_languages_makes_one_image() {
    if !have(&["docker-registry", "python3", "componentize-py"]) {
        return;
    }
    let machine = Machine::new().with_own_cache();
    let registry = Registry::start(&machine);
    let key = Key::new(&machine, "theirs");
    key.trust_on(&machine);
    machine.base();
    project(&machine);
    let addons = [("rust", guest("addons/rust", "wheels_builder")), ("python", in_python(&machine))];
    let digests = addons.map(|(language, file)| {
        let reference = registry.name(&format!("addons/{language}:1"));
        key.publish(&machine, &file.display().to_string(), &reference);
        write_flow(&machine, language, &reference);
        machine.fails(&["run", "--locked"], 3).says(&["coop plugin update wheels"]);
        machine.ok(&["plugin", "update"]);
        let lock = machine.read("cooperage.lock");
        assert!(lock.contains("key: sha256:") && lock.contains(&reference), "{lock}");
        machine.ok(&["run", "--locked"]);
        let shown = machine.ok(&["image", "inspect", language, "--output", "json"]).json();
        assert_eq!(shown["config"]["config"]["Entrypoint"][0], "/app/bin/hello-app");
        shown["descriptor"]["digest"].clone()
    });
    assert_eq!(digests[0], digests[1], "both describe the same image");

    // The network is gone: what is locked is at hand.
    drop(registry);
    machine.ok(&["run", "--locked"]);

    let (layout, root) = (machine.outside("layout"), machine.outside("root"));
    machine.ok(&["image", "export", "python", "--output", &format!("type=oci-dir,dest={}", layout.display())]);
    let blob = |digest: &serde_json::Value| layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(blob(&digests[0])).unwrap()).unwrap();
    std::fs::create_dir_all(&root).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        let layer = blob(&layer["digest"]).display().to_string();
        tool("tar", ["-xzf", &layer, "-C", &root.display().to_string()]);
    }
    let ran =
        Command::new("python3").arg(root.join("app/bin/hello-app")).env("PYTHONPATH", root.join("app/lib")).output();
    assert_eq!(String::from_utf8_lossy(&ran.unwrap().stdout), "good day\n");
}

#[test]
fn mistakes_in_a_project_are_told_by_the_addon() {
    let machine = Machine::new();
    let builder = format!("file:{}", guest("addons/rust", "wheels_builder").display());
    let build = |code, said: &[&str]| {
        machine.fails(&["build", "app", "--builder", &builder], code).says(said);
    };
    machine.write("app/readme", "");
    build(2, &["has no pyproject.toml"]);
    machine.write("app/pyproject.toml", "[project\n");
    build(2, &["pyproject.toml cannot be read"]);
    let good = "[project]\nname = \"a\"\nversion = \"1\"\n[project.scripts]\na = \"m:f\"\n";
    machine.write("app/pyproject.toml", good.replace("a = ", "b"));
    build(2, &["cannot be read"]);
    machine.write("app/pyproject.toml", good);
    build(2, &["neither a directory src nor a"]);
    machine.write("app/a/m.py", "");
    machine.write("app/wheels/x-1-cp311-cp311-linux_x86_64.whl", "");
    build(1, &["is for one kind of machine", "pip download"]);
    std::fs::remove_file(machine.path("app/wheels/x-1-cp311-cp311-linux_x86_64.whl")).unwrap();
    machine.write("app/wheels/x-1-py3-none-any.whl", "PK");
    build(2, &["x-1-py3-none-any.whl is no wheel"]);
}
