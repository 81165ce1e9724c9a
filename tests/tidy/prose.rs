//! What the pages say: the paths they name exist.

use crate::repository::{files, none, root};

/// Texts between single backticks, outside of code blocks.
fn quoted(text: &str) -> Vec<&str> {
    let mut within_block = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            within_block = !within_block;
        } else if !within_block {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// Whether a quoted text is a path of this repository from its top.
fn is_path(text: &str, tops: &[String]) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let top = text.split('/').next().unwrap_or_default();
    text.chars().all(plain) && (text.contains('/') || text.ends_with(".md")) && tops.iter().any(|known| known == top)
}

#[test]
fn every_path_in_the_architecture_exists() {
    let root = root();
    let all = files(&[""]);
    let mut tops: Vec<String> = all.iter().filter_map(|file| Some(file.path.split_once('/')?.0.to_owned())).collect();
    tops.sort();
    tops.dedup();
    // The parts of the repository are named even when one of them is gone.
    tops.extend(["host", "plugins", "sdk", "wit", "tests", "docs"].map(str::to_owned));
    let page = all.iter().find(|file| file.path == "ARCHITECTURE.md").expect("ARCHITECTURE.md");
    let paths: Vec<_> = quoted(&page.text).into_iter().filter(|text| is_path(text, &tops)).collect();
    assert!(paths.len() > 5, "the page names hardly any path: {paths:?}");
    let gone = paths.into_iter().filter(|path| !root.join(path).exists()).map(str::to_owned).collect();
    none("ARCHITECTURE.md names what is not there:", gone);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = root();
    let mut found = Vec::new();
    for page in files(&[".md"]) {
        let directory = root.join(&page.path).parent().unwrap().to_owned();
        for (_, rest) in page.text.match_indices("](").map(|(at, _)| page.text.split_at(at + 2)) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            let outside = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !outside && !directory.join(target).exists() {
                found.push(format!("{}: {target}", page.path));
            }
        }
    }
    none("these links lead nowhere:", found);
}

#[test]
fn paths_are_told_from_other_code() {
    let tops = ["host".to_owned()];
    let text = "`host/store` and `a b` and `x/y`\n```\n`host/no`\n```\n`host/x.rs`";
    let found: Vec<_> = quoted(text).into_iter().filter(|text| is_path(text, &tops)).collect();
    assert_eq!(found, ["host/store", "host/x.rs"]);
}
