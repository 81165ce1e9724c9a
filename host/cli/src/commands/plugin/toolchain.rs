//! What a language needs to make a component, and how to get it.

use std::path::Path;
use std::process::{Command, Stdio};

/// The languages that there are templates for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Rust,
    JavaScript,
    Python,
    C,
}

impl Language {
    /// The language of a project, by what lies in it; none if it is one that is not known here.
    pub(super) fn of(directory: &Path) -> Option<Self> {
        let marks = [
            ("Cargo.toml", Self::Rust),
            ("package.json", Self::JavaScript),
            ("app.py", Self::Python),
            ("plugin.c", Self::C),
        ];
        marks.into_iter().find(|(file, _)| directory.join(file).is_file()).map(|(_, language)| language)
    }

    /// What is not on this machine, each with how to get it. `cc` is the C compiler of the user's choice.
    pub(super) fn missing(self, directory: &Path, cc: Option<&str>) -> Vec<&'static str> {
        let lacks: Vec<(bool, &str)> = match self {
            Self::Rust => vec![
                (runs("cargo", &["--version"]), "cargo: get it from https://rustup.rs"),
                (has_target(), "the target wasm32-wasip2 of Rust: rustup target add wasm32-wasip2"),
            ],
            Self::JavaScript => {
                let installed = directory.join("node_modules/.bin/componentize-js").exists();
                let npm = "npm: apt-get install npm, or https://nodejs.org";
                vec![(installed || runs("npm", &["--version"]), npm)]
            }
            Self::Python => {
                let how = "componentize-py: pip install componentize-py==0.25.1 in a virtual environment on the PATH";
                vec![(runs("componentize-py", &["--version"]), how)]
            }
            Self::C => vec![
                (runs(cc.unwrap_or("clang"), &["--version"]), "clang: apt-get install clang"),
                (runs("wasm-ld", &["--version"]), "wasm-ld: apt-get install lld"),
                (
                    runs("wit-bindgen", &["--version"]),
                    "wit-bindgen: cargo install --locked wit-bindgen-cli --version 0.63.0 --no-default-features \
                     --features c",
                ),
                (
                    runs("wasm-component-ld", &["--version"]),
                    "wasm-component-ld: cargo install --locked wasm-component-ld --version 0.5.31",
                ),
                (
                    has_wasi_libc(cc.unwrap_or("clang")),
                    "a C library for WASI: apt-get install wasi-libc libclang-rt-dev-wasm32, or set CC to the clang of \
                     wasi-sdk",
                ),
            ],
        };
        lacks.into_iter().filter(|(there, _)| !there).map(|(_, how)| how).collect()
    }
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Whether the standard library of the target lies where the compiler looks for it.
fn has_target() -> bool {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let root = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    // Without a compiler there is nothing to say about its targets.
    root.is_none_or(|root| Path::new(root.trim()).join("lib/rustlib/wasm32-wasip2").is_dir())
}

/// Whether a header of the C library is found.
fn has_wasi_libc(cc: &str) -> bool {
    let probe = ["--target=wasm32-wasi", "-fsyntax-only", "-include", "stdio.h", "-x", "c", "/dev/null"];
    let mut command = Command::new(cc);
    command.args(probe).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Without a compiler there is nothing to say about its libraries.
    command.status().map_or(true, |status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_shows_its_language() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Language::of(directory.path()), None);
        for (file, language) in [("plugin.c", Language::C), ("Cargo.toml", Language::Rust)] {
            std::fs::write(directory.path().join(file), "").unwrap();
            assert_eq!(Language::of(directory.path()), Some(language));
        }
    }
}
