//! `coop plugin new`: makes a project from a template. It has all that building needs but the toolchain and the packages
//! of the language's registry: the contract, and for Rust the SDK.

use std::fs::{self, DirBuilder};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::{Exit, Failure};
use crate::output;
use crate::templates::{CONTRACT, FILES};

/// Where the templates lie among the files.
const TEMPLATES: &str = "sdk/templates/";
/// What a template calls its plugin.
const NAME: &str = "my-plugin";
/// Where a template finds the SDK and the contract in this repository, and where a project has them.
const PLACES: [(&str, &str); 2] = [("../../rust\"", "sdk/rust\""), ("../../../wit/", "wit/")];
const LOCK: &str = "Cargo.lock";
/// As long as the host lets names be.
const LONGEST: usize = 64;

pub(super) fn new(language: &str, role: &str, name: Option<&str>, directory: &Path) -> Result<(), Failure> {
    let template = template(language, role)?;
    let name = name.map_or_else(|| own_name(directory), |name| Ok(name.to_owned()))?;
    check_name(&name)?;
    empty(directory)?;
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Environment, format!("the project {} cannot be written: {error}", directory.display()))
    };
    for (path, program, bytes) in FILES {
        if let Some(path) = place(path, &template, language) {
            write(&directory.join(path), *program, &named(path, bytes, &name)).map_err(failed)?;
        }
    }
    output::line(&format!("{name}: a {role} in {language}. Next:"))?;
    let shown = directory.display();
    // A source and a registry are tried with a server, as their README says.
    let last = if matches!(role, "source" | "registry") { "coop plugin check plugin.wasm" } else { "coop run" };
    [&format!("cd {shown}"), "coop plugin build", last].iter().try_for_each(|line| output::line(&format!("    {line}")))
}

/// The directory of the template, with a slash behind it.
fn template(language: &str, role: &str) -> Result<String, Failure> {
    let wanted = format!("{TEMPLATES}{language}-{role}/");
    if FILES.iter().any(|(path, ..)| path.starts_with(&wanted)) {
        return Ok(wanted);
    }
    let message = format!("there is no template for a {role} in {language}");
    Err(Failure::usage(message).hint(format!("there are: {}", all().join(", "))))
}

/// What there are templates for, as options.
fn all() -> Vec<String> {
    let names = FILES.iter().filter_map(|(path, ..)| path.strip_prefix(TEMPLATES)?.split_once('/'));
    let mut names: Vec<_> = names.filter_map(|(name, _)| name.split_once('-')).collect();
    names.dedup();
    names.into_iter().map(|(language, role)| format!("--lang {language} --role {role}")).collect()
}

fn own_name(directory: &Path) -> Result<String, Failure> {
    // `.` and `..` have a name once they are resolved.
    let resolved = fs::canonicalize(directory);
    let name = resolved.as_deref().unwrap_or(directory).file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| Failure::usage("the plugin has no name").hint("say --name NAME"))
}

fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !begins || name.len() > LONGEST || !name.bytes().all(plain) {
        let message = format!("{name:?} is no name of a plugin");
        let hint = "a name begins with a lower-case letter, and has lower-case letters, digits and `-`: --name NAME";
        return Err(Failure::usage(message).hint(hint));
    }
    let crate_line = format!("name = \"{name}\"");
    let is_crate = FILES.iter().filter(|(path, ..)| path.ends_with(LOCK)).any(|(_, _, bytes)| {
        std::str::from_utf8(bytes).is_ok_and(|lock| name != NAME && lock.lines().any(|line| line == crate_line))
    });
    if is_crate {
        let message = format!("{name} is the name of a crate that plugins in Rust use");
        return Err(Failure::usage(message).hint("say another with --name NAME"));
    }
    Ok(())
}

fn empty(directory: &Path) -> Result<(), Failure> {
    match fs::read_dir(directory) {
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Ok(());
            }
            let message = format!("the directory {} is not empty", directory.display());
            Err(Failure::usage(message).hint("name one that does not exist yet"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::usage(format!("{} cannot be a project: {error}", directory.display()))),
    }
}

/// Where a file of this repository lies in the project; none if it does not belong there.
fn place<'a>(path: &'a str, template: &str, language: &str) -> Option<&'a str> {
    let contract = path.starts_with(CONTRACT) || path == "wit/README.md";
    let sdk = language == "rust" && path.starts_with("sdk/rust/");
    path.strip_prefix(template).or_else(|| (contract || sdk).then_some(path))
}

/// The content with the name of the plugin and the places of the project. What is no text stays.
fn named(path: &str, bytes: &[u8], name: &str) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(bytes) else { return bytes.to_vec() };
    if path.starts_with("wit/") || path.starts_with("sdk/") {
        return bytes.to_vec();
    }
    let text = text.replace(NAME, name);
    let text = PLACES.iter().fold(text, |text, (from, to)| text.replace(from, to));
    if path == LOCK { sorted(&text) } else { text }.into_bytes()
}

/// Cargo keeps packages in the order of their names, and calls a lock in another order out of date.
fn sorted(lock: &str) -> String {
    const MARK: &str = "\n[[package]]\n";
    let mut parts = lock.trim_end().split(MARK);
    let head = parts.next().unwrap_or_default();
    let mut packages: Vec<&str> = parts.map(str::trim_end).collect();
    packages.sort_by_key(|package| package.lines().next().map(str::to_owned));
    let packages: Vec<String> = packages.into_iter().map(|package| format!("{MARK}{package}\n")).collect();
    format!("{}\n{}", head.trim_end(), packages.concat())
}

fn write(path: &Path, program: bool, bytes: &[u8]) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).create(output::directory_of(path))?;
    let mode = if program { 0o777 } else { 0o666 };
    fs::File::options().write(true).create_new(true).mode(mode).open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "my-plugin", "chat2"] {
            check_name(good).unwrap_or_else(|error| panic!("{good}: {error:?}"));
        }
        for bad in ["", "Chat", "2chat", "-a", "a b", "a/b", "ä", "serde", "cooperage-sdk", &"a".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nothing_of_this_repository_is_left_in_a_project() {
        let mut templates: Vec<_> = FILES.iter().filter_map(|(path, ..)| path.strip_prefix(TEMPLATES)).collect();
        templates.sort_unstable();
        assert!(templates.len() > 50, "{templates:?}");
        for (path, _, bytes) in FILES.iter().filter(|(path, ..)| path.starts_with(TEMPLATES)) {
            let text = String::from_utf8(named(path.rsplit('/').next().unwrap(), bytes, "stranger")).unwrap();
            assert!(!text.contains(NAME) && !text.contains("../.."), "{path}");
        }
        assert!(!all().is_empty() && all().iter().all(|options| template_of(options)), "{:?}", all());
    }

    fn template_of(options: &str) -> bool {
        let words: Vec<&str> = options.split(' ').collect();
        template(words[1], words[3]).is_ok()
    }

    #[test]
    fn a_lock_is_in_order_under_every_name() {
        let lock = "version = 4\n\n[[package]]\nname = \"b\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"a\"\n";
        let expected = "version = 4\n\n[[package]]\nname = \"a\"\n\n[[package]]\nname = \"b\"\nversion = \"1.0.0\"\n";
        assert_eq!(sorted(lock), expected);
        assert_eq!(sorted(expected), expected);
    }
}
