//! Which crate may know which, read from the manifests.

use crate::repository::{files, none};

/// What each crate of the host may use of the others. What is not here may use none.
const ARROWS: [(&str, &[&str]); 7] = [
    ("host/store", &[]),
    ("host/sandbox", &[]),
    ("host/flow", &[]),
    ("host/solve", &["cooperage-store", "cooperage-sandbox"]),
    ("host/engine", &["cooperage-solve", "cooperage-store"]),
    ("sdk/testing", &["cooperage-engine", "cooperage-solve", "cooperage-store"]),
    (
        "host/cli",
        &[
            "cooperage-engine",
            "cooperage-flow",
            "cooperage-sandbox",
            "cooperage-solve",
            "cooperage-store",
            "cooperage-testing",
        ],
    ),
];

/// The names of our crates that a manifest depends on, tests included.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut within = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            within = section.contains("dependencies") && !section.starts_with("workspace");
            if let Some((_, name)) = section.trim_end_matches(']').rsplit_once("dependencies.") {
                names.push(name);
            }
        } else if within {
            names.extend(line.split(['.', '=', ' ']).next());
        }
    }
    names.retain(|name| name.starts_with("cooperage-"));
    names
}

#[test]
fn crates_know_only_what_is_below_them() {
    let mut found = Vec::new();
    let manifests = files(&["Cargo.toml"]);
    for file in &manifests {
        let directory = file.path.trim_end_matches("Cargo.toml").trim_end_matches('/');
        let host = directory.starts_with("host/");
        let arrows = ARROWS.iter().find(|(path, _)| *path == directory);
        if host && arrows.is_none() {
            found.push(format!("{directory} is not in the table of arrows"));
        }
        for name in dependencies(&file.text) {
            let allowed = match arrows {
                Some((_, names)) => names.contains(&name),
                // Guests share no type with the host.
                None => {
                    name == "cooperage-sdk"
                        || name.starts_with("cooperage-sdk-")
                        || name.starts_with("cooperage-plugin-")
                }
            };
            if !allowed {
                found.push(format!("{directory} must not use {name}"));
            }
        }
    }
    for (path, _) in ARROWS {
        assert!(manifests.iter().any(|file| file.path == format!("{path}/Cargo.toml")), "{path} is gone");
    }
    none("the arrows between crates are written in ARCHITECTURE.md:", found);
}

#[test]
fn every_crate_keeps_the_lints_of_its_workspace() {
    let manifests = files(&["Cargo.toml"]);
    let member = |path: &str| path.starts_with("host/") || path.starts_with("plugins/") && path != "plugins/Cargo.toml";
    // A crate that may use what the workspace denies has a whole list of its own.
    let keeps = |text: &str| text.contains("[lints]\nworkspace = true") || text.contains("\n[lints.rust]\n");
    let lax = manifests.iter().filter(|file| member(&file.path) && !keeps(&file.text));
    none("these manifests lack `[lints] workspace = true`:", lax.map(|file| file.path.clone()).collect());
}

#[test]
fn dependencies_are_found_in_every_form() {
    let manifest = "[package]\nname = \"cooperage-x\"\n[dependencies]\ncooperage-a.workspace = true\nserde = \"1\"\n\
        [target.'cfg(unix)'.dev-dependencies]\ncooperage-b = { path = \"b\" }\n[dependencies.cooperage-c]\npath = \"c\"\n";
    assert_eq!(dependencies(manifest), ["cooperage-a", "cooperage-b", "cooperage-c"]);
}

/// The strings between two marks of a text.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    text.split(from).skip(1).filter_map(|rest| rest.split(to).next()).collect()
}

#[test]
fn the_table_of_sources_is_what_the_bundled_plugins_serve() {
    let mut served = Vec::new();
    for file in files(&["src/lib.rs"]).iter().filter(|file| file.path.starts_with("plugins/")) {
        let roles = between(&file.text, "cooperage_sdk::plugin!(", ")").concat();
        if roles.split([':', ',']).any(|role| role.trim() == "source") {
            let name = file.path.split('/').nth(1).unwrap();
            served.extend(between(&file.text, ".provides(\"", "\")").into_iter().map(|url| format!("{url} {name}")));
        }
    }
    served.sort();
    let sources = std::fs::read_to_string(crate::repository::root().join("host/cli/src/sources.rs")).unwrap();
    let table = between(&sources, "BUNDLED", "];")[0].to_owned();
    let rows = table.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.strip_suffix("\"),"));
    let mut rows: Vec<_> = rows.map(|row| row.replace("\", \"", " ")).collect();
    rows.sort();
    assert!(!rows.is_empty());
    assert_eq!(rows, served, "BUNDLED in host/cli/src/sources.rs says what the plugins' `provides` say");
}
