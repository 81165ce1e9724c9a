//! `coop config`: reads and changes the user's configuration. A change touches one line of the file and no comment.

use std::path::Path;

use crate::app::App;
use crate::args;
use crate::config::Config;
use crate::error::{Exit, Failure};
use crate::output;

/// Settings that are one word; the others have a structure that is better written by hand.
const WORDS: [&str; 1] = ["builder"];

pub(crate) fn run(app: &App, command: &args::Config) -> Result<(), Failure> {
    match command {
        args::Config::Get { name: None } => {
            let text = read(&app.config_path)?;
            output::line(if text.trim().is_empty() { "{}" } else { text.trim_end() })
        }
        args::Config::Get { name: Some(name) } => match known(app, name)? {
            "builder" => output::line(app.config.builder()),
            other => Err(unknown(app, other)),
        },
        args::Config::Set { name, value } => {
            let name = known(app, name)?;
            let changed = with_line(&read(&app.config_path)?, name, value)?;
            write(&app.config_path, &changed)
        }
    }
}

fn known<'a>(app: &App, name: &'a str) -> Result<&'a str, Failure> {
    if WORDS.contains(&name) { Ok(name) } else { Err(unknown(app, name)) }
}

fn unknown(app: &App, name: &str) -> Failure {
    Failure::usage(format!("there is no setting `{name}` that is one word")).hint(format!(
        "there is {}; registries, plugins, sources and services are written into {}",
        WORDS.join(", "),
        app.config_path.display()
    ))
}

fn read(path: &Path) -> Result<String, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Failure::usage(format!("reading {}: {error}", path.display()))),
    }
}

/// The text with `NAME: VALUE` in place of that setting, or at its end.
fn with_line(text: &str, name: &str, value: &str) -> Result<String, Failure> {
    let quoted = serde_json::to_string(value)
        .map_err(|error| Failure::usage(format!("{value:?} cannot be written: {error}")))?;
    let plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let line = format!("{name}: {}", if plain { value } else { &quoted });
    let is_it = |there: &str| there.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(':'));
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter().position(|there| is_it(there)) {
        Some(at) => lines[at] = &line,
        None => lines.push(&line),
    }
    Ok(lines.join("\n") + "\n")
}

/// Replaces the file once the new one is there and can be read.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Exit::Environment, format!("writing {}: {error}", path.display()));
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let fresh = path.with_extension(format!("yaml.{}", std::process::id()));
    std::fs::write(&fresh, text).map_err(failed)?;
    let checked = Config::read(&fresh, true).and_then(|_| std::fs::rename(&fresh, path).map_err(failed));
    if checked.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    checked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_changed() {
        for (text, expected) in [
            ("", "builder: docker\n"),
            ("# mine\npull: {}\n", "# mine\npull: {}\nbuilder: docker\n"),
            ("builder : x\npull: {}\n", "builder: docker\npull: {}\n"),
            ("builders: x\n", "builders: x\nbuilder: docker\n"),
        ] {
            assert_eq!(with_line(text, "builder", "docker").unwrap(), expected);
        }
        assert_eq!(with_line("", "builder", "file:/a b").unwrap(), "builder: \"file:/a b\"\n");
    }
}
