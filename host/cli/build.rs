//! Builds the first-party plugins and embeds them in the binary as an OCI layout, so that `coop` works alone; and the
//! templates of plugins, so that it makes projects.

#![allow(clippy::disallowed_methods, reason = "a build script is told everything by its environment")]

#[path = "build/templates.rs"]
mod templates;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const TARGET: &str = "wasm32-wasip2";
/// The custom section with a plugin's description.
const SECTION: &str = "cooperage:description";
const PLUGINS: [&str; 9] = ["docker", "dockerfile", "ftp", "git", "http", "kubernetes", "oci", "push", "script"];

fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let root = here.join("../..").canonicalize().expect("the repository around host/cli");
    for part in ["plugins", "sdk/describe", "sdk/rust", "sdk/templates", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(part).display());
    }
    let out = PathBuf::from(variable("OUT_DIR"));
    // <target>/<profile>/build/<package>/out: beside the profiles, so that all of them share one build.
    let target_dir = out.ancestors().nth(4).expect("OUT_DIR lies in a target directory").join("plugins");
    build_plugins(&root.join("plugins"), &target_dir);
    let mut layout = Layout::new(&out);
    let version = variable("CARGO_PKG_VERSION");
    for name in PLUGINS {
        let file = format!("cooperage_plugin_{name}.wasm");
        let path = target_dir.join(TARGET).join("release").join(file);
        let wasm = fs::read(&path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()));
        layout.add(name, &version, &described(&root.join("plugins"), &target_dir, &path, wasm));
    }
    layout.finish();
    templates::write(&root, &out);
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo did not set {name}"))
}

/// Cargo for the plugins' own workspace, without what the outer build set for itself.
fn cargo(workspace: &Path) -> Command {
    let mut cargo = Command::new(variable("CARGO"));
    cargo.current_dir(workspace);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let inherited = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTC"];
        let of_profile = ["CARGO_PROFILE_", "CARGO_FEATURE_", "CARGO_CFG_", "CARGO_PKG_", "CARGO_BUILD_"];
        if inherited.contains(&name.as_str()) || of_profile.iter().any(|prefix| name.starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    cargo
}

fn build_plugins(workspace: &Path, target_dir: &Path) {
    let mut cargo = cargo(workspace);
    cargo.args(["build", "--release", "--target", TARGET, "--target-dir"]).arg(target_dir);
    for name in PLUGINS {
        cargo.args(["-p", &format!("cooperage-plugin-{name}")]);
    }
    let status = cargo.status().unwrap_or_else(|error| panic!("cannot start cargo for the plugins: {error}"));
    assert!(
        status.success(),
        "the plugins did not build; if the target {TARGET} is missing, run `rustup target add {TARGET}`"
    );
}

/// The component at `path` with what it says of itself in a custom section, so that it need not be compiled and run to know
/// that. An interpreter asks it: the engine is not there before the program is built.
fn described(workspace: &Path, target_dir: &Path, path: &Path, mut wasm: Vec<u8>) -> Vec<u8> {
    let mut cargo = cargo(workspace);
    cargo.args(["run", "--quiet", "-p", "cooperage-sdk-describe", "--target-dir"]).arg(target_dir).arg("--").arg(path);
    let output = cargo.output().unwrap_or_else(|error| panic!("cannot start cargo for a description: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} does not describe itself: {said}", path.display());
    let mut body = Vec::new();
    leb128(&mut body, SECTION.len());
    body.extend_from_slice(SECTION.as_bytes());
    body.extend_from_slice(&output.stdout);
    wasm.push(0);
    leb128(&mut wasm, body.len());
    wasm.extend_from_slice(&body);
    wasm
}

fn leb128(out: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// An OCI layout as files in `out` and a source file that includes them.
struct Layout {
    out: PathBuf,
    manifests: Vec<Value>,
    blobs: Vec<String>,
}

impl Layout {
    fn new(out: &Path) -> Self {
        Self { out: out.to_owned(), manifests: Vec::new(), blobs: Vec::new() }
    }

    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(self.out.join(&hex), bytes).expect("writing a blob of the bundle");
        let descriptor = json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len() });
        self.blobs.push(hex);
        descriptor
    }

    /// Adds one plugin as a CNCF Wasm artifact.
    fn add(&mut self, name: &str, version: &str, wasm: &[u8]) {
        let mut layer = self.blob("application/wasm", wasm);
        layer["annotations"] = json!({ "org.opencontainers.image.title": format!("{name}.wasm") });
        let config = json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": [layer["digest"]],
        });
        let config = self.blob("application/vnd.wasm.config.v0+json", config.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
        });
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let mut manifest = self.blob(media_type, manifest.to_string().as_bytes());
        manifest["annotations"] = json!({
            "org.opencontainers.image.ref.name": name,
            "org.opencontainers.image.version": version,
        });
        self.manifests.push(manifest);
    }

    fn finish(self) {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": self.manifests,
        });
        let mut source = format!("pub(crate) const INDEX: &str = r####\"{index}\"####;\n");
        source.push_str("pub(crate) const BLOBS: &[(&str, &[u8])] = &[\n");
        for hex in self.blobs {
            source.push_str(&format!("    (\"{hex}\", include_bytes!(\"{hex}\")),\n"));
        }
        source.push_str("];\n");
        source.push_str(&format!("pub(crate) const NAMES: &[&str] = &{PLUGINS:?};\n"));
        fs::write(self.out.join("bundle.rs"), source).expect("writing the bundle's source");
    }
}
