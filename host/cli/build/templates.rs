//! The files that `coop plugin new` writes: templates of plugins, the contract, and the Rust SDK as a crate of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The contract that new plugins are built against: the newest released one.
const CONTRACT: &str = "wit/cooperage-plugin-0.1.0";

/// Writes `templates.rs` into `out`: every file with its path, whether it is a program, and its bytes.
pub fn write(root: &Path, out: &Path) {
    let mut files = BTreeMap::new();
    for part in ["sdk/templates", CONTRACT, "sdk/rust"] {
        collect(root, &root.join(part), &mut files);
    }
    files.insert("wit/README.md".to_owned(), root.join("wit/README.md"));
    files.retain(|path, _| !path.starts_with("sdk/templates/") || path.matches('/').count() > 2);
    let manifest = out.join("sdk.toml");
    fs::write(&manifest, standalone(&read(&root.join("sdk/rust/Cargo.toml")), &read(&root.join("plugins/Cargo.toml"))))
        .expect("writing the SDK's manifest");
    files.insert("sdk/rust/Cargo.toml".to_owned(), manifest);
    let mut source = format!("pub(crate) const CONTRACT: &str = {CONTRACT:?};\n");
    source.push_str("pub(crate) const FILES: &[(&str, bool, &[u8])] = &[\n");
    for (path, file) in files {
        writeln!(source, "    ({path:?}, {}, include_bytes!({file:?})),", is_program(&file)).expect("a string grows");
    }
    source.push_str("];\n");
    fs::write(out.join("templates.rs"), source).expect("writing the templates' source");
}

/// All files below a directory, by their paths in the repository, but for those that its `.gitignore` names.
fn collect(root: &Path, directory: &Path, files: &mut BTreeMap<String, PathBuf>) {
    let ignored = fs::read_to_string(directory.join(".gitignore")).unwrap_or_default();
    let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let path = entry.expect("an entry of a directory").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
        if ignored.contains(&name) || name == "target" || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let relative = path.strip_prefix(root).expect("a path below the repository");
            files.insert(relative.to_str().expect("a path in UTF-8").to_owned(), path.clone());
        }
    }
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o100 != 0)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()))
}

/// The SDK's manifest without its workspace: what it takes from there is written out.
fn standalone(manifest: &str, workspace: &str) -> String {
    let mut out = String::new();
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        if section == "[lints]" || line.starts_with("workspace = ") {
            continue;
        }
        let name = line.strip_suffix(".workspace = true").or_else(|| line.strip_suffix(" = { workspace = true }"));
        match name {
            None => out.push_str(line),
            Some(name) => {
                let table = if section == "[package]" { "[workspace.package]" } else { "[workspace.dependencies]" };
                let value = value(workspace, table, name);
                write!(out, "{name} = {value}").expect("a string grows");
            }
        }
        out.push('\n');
    }
    assert!(!out.contains("workspace"), "a form of inheritance that is not known here:\n{out}");
    format!("{}\n", out.trim_end())
}

fn value<'a>(workspace: &'a str, table: &str, name: &str) -> &'a str {
    let lines = workspace.lines().skip_while(|line| *line != table).skip(1).take_while(|line| !line.starts_with('['));
    let found = lines.filter_map(|line| line.split_once(" = ")).find(|(key, _)| *key == name);
    found.unwrap_or_else(|| panic!("{table} of plugins/Cargo.toml has no {name}")).1
}
