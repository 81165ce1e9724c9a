//! The file `.gitmodules`: which submodule comes from where (gitmodules, git-config "Syntax"). It knows URLs as text
//! only.

use cooperage_sdk::{Error, Result};

/// A larger file is no honest one.
pub const LARGEST: u64 = 1 << 20;

/// The URL of the submodule at a path, or none; of two for one path the last counts, as in git.
///
/// # Errors
/// `invalid-input` if the text cannot be read.
pub fn url_of(text: &str, path: &[u8]) -> Result<Option<String>> {
    let mut modules: Vec<Module> = Vec::new();
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
                modules.iter().position(|module| module.name == name).unwrap_or_else(|| {
                    modules.push(Module { name, path: None, url: None });
                    modules.len() - 1
                })
            });
            continue;
        }
        let (key, mut rest) = line.split_once('=').map_or((line, String::new()), |(key, rest)| (key, rest.to_owned()));
        // A backslash at the end joins lines.
        while (rest.len() - rest.trim_end_matches('\\').len()) % 2 == 1 {
            rest.pop();
            rest.push_str(lines.next().ok_or_else(wrong)?.1);
        }
        let value = value(&rest).ok_or_else(wrong)?;
        let module = current.map(|at| &mut modules[at]);
        match (key.trim().to_ascii_lowercase().as_str(), module) {
            ("path", Some(module)) => module.path = Some(value),
            ("url", Some(module)) => module.url = Some(value),
            _ => {}
        }
    }
    let at_path =
        |module: &Module| module.path.as_deref().is_some_and(|found| found.trim_end_matches('/').as_bytes() == path);
    Ok(modules.into_iter().rev().find(at_path).and_then(|module| module.url))
}

struct Module {
    name: String,
    path: Option<String>,
    url: Option<String>,
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
        assert_eq!(url_of(text, b"lib/a").unwrap().as_deref(), Some("../a.git"));
        assert_eq!(url_of(text, b"b").unwrap().as_deref(), Some("https://x/b.git"));
        assert_eq!(url_of(text, b"lib").unwrap(), None);
        assert_eq!(url_of("", b"lib").unwrap(), None);
    }

    #[test]
    fn what_people_write() {
        let check = |line: &str, expected: Option<&str>| {
            let text =
                format!("# modules\r\n[core]\nurl = no\n[SubModule \"a \\\"b\\\"\"] ; x\r\n  PATH=p/ \n{line}\n");
            assert_eq!(url_of(&text, b"p").ok().flatten().as_deref(), expected, "{line}");
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
