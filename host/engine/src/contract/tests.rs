use std::path::Path;

use super::*;

/// The interfaces that the worlds of a version export in that version.
fn exported(folder: &str, number: &str) -> Vec<String> {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let worlds = std::fs::read_to_string(wit.join(folder).join("worlds.wit")).unwrap();
    assert!(worlds.starts_with(&format!("package cooperage:plugin@{number};")), "{folder} is not {number}");
    let exports = worlds.lines().filter_map(|line| line.trim().strip_prefix("export ")?.strip_suffix(';'));
    let mut names: Vec<String> = exports.filter(|name| !name.contains('@')).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn the_tables_are_those_of_the_folders() {
    for version in ContractVersion::ALL {
        let name = if version.is_released() { version.number() } else { "next" };
        let mut exports = version.exports().to_vec();
        exports.sort_unstable();
        assert_eq!(exports, exported(&format!("cooperage-plugin-{name}"), version.number()), "{name}");
        assert_eq!(ContractVersion::parse(version.number()), Some(version));
        // A version that is not released says so to the component model too.
        assert_eq!(version.number().contains('-'), !version.is_released(), "{name}");
    }
}

#[test]
fn every_folder_is_a_version() {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let entries = std::fs::read_dir(wit).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let folders = entries.filter(|name| name.starts_with("cooperage-plugin-")).count();
    assert_eq!(folders, ContractVersion::ALL.len(), "list the new version in contract.rs");
}
