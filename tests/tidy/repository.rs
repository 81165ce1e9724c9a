//! The files that git knows, and which part of a Rust file is not for tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file with its text.
pub struct File {
    /// Relative to the repository.
    pub path: String,
    pub text: String,
}

impl File {
    /// Whether it only serves tests, examples or measurements.
    pub fn is_test(&self) -> bool {
        let part = |name: &str| self.path.split('/').any(|part| part == name);
        let directory = ["tests", "testing", "examples", "benches"].into_iter().any(part);
        directory || self.path.ends_with("/tests.rs") || self.path.ends_with("/testing.rs")
    }

    /// The lines above the first module of unit tests.
    pub fn product_lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines().take_while(|line| line.trim() != "#[cfg(test)]")
    }
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Files with one of these endings; those that were removed and not yet committed are left out.
pub fn files(endings: &[&str]) -> Vec<File> {
    let root = root();
    let output = Command::new("git").arg("-C").arg(&root).args(["ls-files", "-z"]).output().unwrap();
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout).unwrap();
    let wanted = paths.split_terminator('\0').filter(|path| endings.iter().any(|ending| path.ends_with(ending)));
    let read = |path: &str| Some(File { path: path.to_owned(), text: std::fs::read_to_string(root.join(path)).ok()? });
    let files: Vec<_> = wanted.filter_map(read).collect();
    assert!(!files.is_empty(), "no file ends with {endings:?}");
    files
}

/// Fails with all findings at once.
#[track_caller]
pub fn none(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}\n  {}", found.join("\n  "));
}
