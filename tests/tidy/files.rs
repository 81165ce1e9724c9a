//! Rules for single Rust files: how long they are, how they begin, and what they must not contain.

use crate::repository::{files, none};

/// What a file may have in lines that are not for tests.
const SOFT: usize = 400;
const HARD: usize = 600;

/// Files above the soft budget, each with the reason why it is not cut in two.
const EXCEPTIONS: [(&str, &str); 5] = [
    ("host/store/src/images.rs", "one table of statements per kind of record; they share one schema"),
    ("host/store/src/oci.rs", "the values of one specification"),
    ("host/store/src/blobs.rs", "the one place where files come into being, with all of its failure paths"),
    ("host/engine/src/credentials.rs", "Docker's login file has one grammar, read and written"),
    ("host/store/src/gc.rs", "what is kept and what is removed must be read together"),
];

#[test]
fn no_file_is_long() {
    let mut found = Vec::new();
    for file in files(&[".rs"]).iter().filter(|file| !file.is_test()) {
        let lines = file.product_lines().count();
        let excepted = EXCEPTIONS.iter().any(|(path, _)| *path == file.path);
        if lines > HARD || lines > SOFT && !excepted {
            found.push(format!("{} has {lines} lines", file.path));
        }
    }
    none("cut these files by subject, or write down in the list of exceptions why not:", found);
}

#[test]
fn every_exception_is_needed() {
    let all = files(&[".rs"]);
    let needed = |path: &str| all.iter().any(|file| file.path == path && file.text.lines().count() > SOFT);
    let found = EXCEPTIONS.iter().filter(|(path, _)| !needed(path)).map(|(path, _)| (*path).to_owned()).collect();
    none("these files are short or gone; take them off the list of exceptions:", found);
}

#[test]
fn every_file_begins_with_what_it_is() {
    let begins = |text: &str| text.lines().find(|line| !line.trim().is_empty()).is_some_and(|l| l.starts_with("//! "));
    // Unit tests in a file of their own are about the module that they lie in.
    let named = |path: &str| path.ends_with("/tests.rs");
    let lacking = files(&[".rs"]).into_iter().filter(|file| !begins(&file.text) && !named(&file.path));
    let found = lacking.map(|file| file.path).collect();
    none("these files do not begin with a sentence in `//!` that says what they do:", found);
}

#[test]
fn nothing_is_left_for_later() {
    // In two parts, so that this file does not find itself.
    let marks =
        [["TO", "DO"], ["FIX", "ME"], ["todo", "!("], ["unimplemented", "!("], ["#[ig", "nore"]].map(|m| m.concat());
    let mut found = Vec::new();
    for file in files(&[".rs", ".wit", ".toml", ".sh", ".py", ".c"]) {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| contains_word(line, mark)) {
                found.push(format!("{}:{}: {mark}", file.path, number + 1));
            }
        }
    }
    none("do it now, or leave it out:", found);
}

fn contains_word(line: &str, mark: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(mark).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(letter);
        let after = mark.ends_with(letter) && line[at + mark.len()..].chars().next().is_some_and(letter);
        !before && !after
    })
}

#[test]
fn only_the_command_line_prints() {
    let mut found = Vec::new();
    // Build scripts talk to cargo by printing.
    let product = |path: &str| {
        let library = path.starts_with("host/") || path.starts_with("sdk/") || path.starts_with("plugins/");
        library && !path.starts_with("host/cli/") && !path.ends_with("build.rs") && !path.contains("/src/bin/")
    };
    for file in files(&[".rs"]).iter().filter(|file| product(&file.path) && !file.is_test()) {
        for (number, line) in file.product_lines().enumerate() {
            let code = line.trim_start();
            let prints = ["println!(", "print!(", "dbg!("].iter().any(|call| code.contains(call));
            if prints && !code.starts_with("//") {
                found.push(format!("{}:{}: {code}", file.path, number + 1));
            }
        }
    }
    none("give text to the caller instead of printing it:", found);
}

/// Where `unsafe` may be written: where system calls are made, and where compiled code of our own is mapped.
const UNSAFE: [&str; 2] = ["host/sandbox/", "host/engine/src/compile.rs"];

#[test]
fn unsafe_code_stays_where_it_is() {
    let mut found = Vec::new();
    let may = |path: &str| UNSAFE.iter().any(|prefix| path.starts_with(prefix));
    for file in files(&[".rs"]).iter().filter(|file| !may(&file.path)) {
        for (number, line) in file.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let word = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|form| code.contains(form));
            if word && !code.contains('"') {
                found.push(format!("{}:{}: {}", file.path, number + 1, code.trim()));
            }
        }
    }
    none("unsafe code belongs into host/sandbox:", found);
}
