//! The file `.gitmodules`: which submodule comes from where (gitmodules, git-config "Syntax"). It knows URLs as text
//! only.

use std::collections::HashMap;

use cooperage_sdk::{Error, Result};

/// A larger file is no honest one.
pub const LARGEST: u64 = 1 << 20;

/// The URLs of submodules by their paths.
pub type Modules = HashMap<Vec<u8>, String>;

/// Reads the file; of two submodules for one path the last counts, as in git.
///
/// # Errors
/// `invalid-input` if the text cannot be read.
pub fn parse(text: &str) -> Result<Modules> {
    let mut modules: Vec<Module> = Vec::new();
    let mut by_name = HashMap::new();
    let mut current = None;
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let wrong = || Error::invalid_input(format!("line {} of .gitmodules cannot be read", number + 1));
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('[') {
            let name = section(line).ok_or_else(wrong)?;
            current = name.map(|name| {
                *by_name.entry(name).or_insert_with(|| {
                    modules.push(Module::default());
                    modules.len() - 1
                })
            });
            continue;
        }
        let (key, mut part) = line.split_once('=').unwrap_or((line, ""));
        let mut joined = String::new();
        // A backslash at the end joins lines.
        while let Some(before) = part.strip_suffix('\\').filter(|_| backslashes(part) % 2 == 1) {
            joined.push_str(before);
            part = lines.next().ok_or_else(wrong)?.1;
        }
        joined.push_str(part);
        let value = value(&joined).ok_or_else(wrong)?;
        let module = current.map(|at| &mut modules[at]);
        match (key.trim().to_ascii_lowercase().as_str(), module) {
            ("path", Some(module)) => module.path = Some(value),
            ("url", Some(module)) => module.url = Some(value),
            _ => {}
        }
    }
    let by_path = modules.into_iter().filter_map(|Module { path, url }| Some((path?, url)));
    let last: HashMap<_, _> =
        by_path.map(|(path, url)| (path.trim_end_matches('/').as_bytes().to_vec(), url)).collect();
    Ok(last.into_iter().filter_map(|(path, url)| Some((path, url?))).collect())
}

#[derive(Default)]
struct Module {
    path: Option<String>,
    url: Option<String>,
}

/// How many backslashes there are at the end.
fn backslashes(text: &str) -> usize {
    text.len() - text.trim_end_matches('\\').len()
}

/// The name in `[submodule "name"]`; an inner none for another section, an outer one for what is no section.
fn section(line: &str) -> Option<Option<String>> {
    let inner = line.strip_prefix('[')?;
    let Some((kind, rest)) = inner.split_once('"') else {
        return inner.contains(']').then_some(None);
    };
    let (mut name, mut escaped) = (String::new(), false);
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => {
                name.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => {
                let is_end = rest[at + 1..].trim_start().starts_with(']');
                let is_module = kind.trim().eq_ignore_ascii_case("submodule");
                return is_end.then(|| is_module.then_some(name));
            }
            c => name.push(c),
        }
    }
    None
}

/// A value without quotes, escapes and a comment behind it.
fn value(text: &str) -> Option<String> {
    let mut out = String::new();
    // Blanks at the end count only within quotes.
    let mut kept = 0;
    let mut quoted = false;
    let mut chars = text.trim_start().chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                kept = out.len();
                continue;
            }
            '\\' => out.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'b' => '\u{8}',
                c @ ('"' | '\\') => c,
                _ => return None,
            }),
            '#' | ';' if !quoted => break,
            c => out.push(c),
        }
        if quoted || !c.is_whitespace() {
            kept = out.len();
        }
    }
    out.truncate(kept);
    (!quoted).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_writes() {
        let text = "[submodule \"lib/a\"]\n\tpath = lib/a\n\turl = ../a.git\n\tbranch = main\n[submodule \"b\"]\n\tpath = b\n\turl = https://x/b.git\n";
        let url = |text: &str, path: &[u8]| parse(text).unwrap().remove(path);
        assert_eq!(url(text, b"lib/a").as_deref(), Some("../a.git"));
        assert_eq!(url(text, b"b").as_deref(), Some("https://x/b.git"));
        assert_eq!(url(text, b"lib"), None);
        assert_eq!(url("", b"lib"), None);
        let twice = format!("{text}[submodule \"c\"]\npath = b/\nurl = c\n[submodule \"lib/a\"]\nurl = d\n");
        assert_eq!(url(&twice, b"b").as_deref(), Some("c"));
        assert_eq!(url(&twice, b"lib/a").as_deref(), Some("d"));
        assert_eq!(url(&format!("{twice}[submodule \"e\"]\npath = b\n"), b"b"), None);
    }

    #[test]
    fn the_largest_files_take_no_time() {
        let sections: String = (0..60_000).map(|number| format!("[submodule \"{number}\"]\n")).collect();
        let half = usize::try_from(LARGEST / 2).unwrap();
        let joined = format!("url = {}{}", "\\".repeat(half | 1), "\n\\".repeat(half / 2));
        let begun = std::time::Instant::now();
        assert!(parse(&sections).unwrap().is_empty());
        assert!(parse(&joined).is_err(), "the last line joins another one");
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    }

    #[test]
    fn what_people_write() {
        let check = |line: &str, expected: Option<&str>| {
            let text =
                format!("# modules\r\n[core]\nurl = no\n[SubModule \"a \\\"b\\\"\"] ; x\r\n  PATH=p/ \n{line}\n");
            let url = parse(&text).ok().and_then(|mut modules| modules.remove(&b"p"[..]));
            assert_eq!(url.as_deref(), expected, "{line}");
        };
        check("url = https://x/a.git  # comment", Some("https://x/a.git"));
        check("URL=\"https://x/a#b\"", Some("https://x/a#b"));
        check("url = a\\\\b\\\"c", Some("a\\b\"c"));
        check("url = https://x/\\\na.git", Some("https://x/a.git"));
        check("url = a\nurl = b", Some("b"));
        check("url", Some(""));
        check("url = \"open", None);
        check("url = a\\q", None);
        check("url = a\\", None);
        check("[submodule \"open]\nurl = a", None);
    }
}
