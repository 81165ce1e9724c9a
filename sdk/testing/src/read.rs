//! Finds cases and reads them. What is wrong with one is said with its file, line and column.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::case::{BaseImage, Case, RegistryAnswer, RunCase, Runs, SourceFiles};
use crate::exchange::Exchange;
use crate::tcp::Conversation;

/// The file that makes a folder a case.
const FILE: &str = "case.yaml";
/// The file with what was recorded.
pub(crate) const RECORDING: &str = "recording.yaml";
/// Folders are looked for no deeper than this.
const DEPTH: usize = 4;

/// A case and the folder it lies in.
#[derive(Debug, Clone)]
pub struct CaseFolder {
    /// The folder as it was named.
    pub path: PathBuf,
    /// What `case.yaml` says.
    pub case: Case,
    /// What `recording.yaml` adds to it.
    pub(crate) recording: Recording,
}

/// A case that cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{}: {message}", file.display(), place(*line, *column))]
pub struct Malformed {
    /// The file.
    pub file: PathBuf,
    /// Line, counted from 1; 0 if it is about the whole file.
    pub line: u64,
    /// Column, counted from 1.
    pub column: u64,
    /// What is wrong.
    pub message: String,
}

fn place(line: u64, column: u64) -> String {
    if line == 0 { String::new() } else { format!(":{line}:{column}") }
}

impl Malformed {
    /// About the file as a whole.
    pub(crate) fn whole(folder: &Path, message: impl Into<String>) -> Self {
        Self { file: folder.join(FILE), line: 0, column: 0, message: message.into() }
    }
}

impl CaseFolder {
    /// Reads the case in a folder.
    ///
    /// # Errors
    /// When the file cannot be read, or says what a case cannot say.
    pub fn read(path: &Path) -> Result<Self, Malformed> {
        let file = path.join(FILE);
        let text = std::fs::read_to_string(&file).map_err(|error| Malformed::whole(path, error.to_string()))?;
        let case: Case = parse(&text).map_err(|(line, column, message)| Malformed { file, line, column, message })?;
        let file = path.join(RECORDING);
        let recording = match std::fs::read_to_string(&file) {
            Ok(text) => parse(&text).map_err(|(line, column, message)| Malformed { file, line, column, message })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Recording::default(),
            Err(error) => return Err(Malformed { file, line: 0, column: 0, message: error.to_string() }),
        };
        Ok(Self { path: path.to_owned(), case, recording })
    }

    /// The name of the folder.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// What a recording adds to its case.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Recording {
    http: Vec<Exchange>,
    images: Vec<BaseImage>,
    sources: Vec<SourceFiles>,
    registries: Vec<RegistryAnswer>,
    run: Vec<RunCase>,
    tcp: Vec<Conversation>,
}

impl Recording {
    /// Adds all of it behind what the case says itself.
    pub(crate) fn add_to(&self, case: &mut Case) {
        case.http.extend(self.http.iter().cloned());
        case.images.extend(self.images.iter().cloned());
        case.sources.extend(self.sources.iter().cloned());
        case.registries.extend(self.registries.iter().cloned());
        case.tcp.extend(self.tcp.iter().cloned());
        if let Runs::List(runs) = &mut case.run {
            runs.extend(self.run.iter().cloned());
        }
    }
}

pub(crate) fn parse_case(text: &str) -> Result<Case, (u64, u64, String)> {
    parse(text)
}

pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, (u64, u64, String)> {
    serde_saphyr::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        let message = error.without_snippet().to_string();
        let message = message.rfind(" at line ").map_or(message.as_str(), |at| &message[..at]).to_owned();
        (line, column, message)
    })
}

/// The folders with a case at or below `path`, sorted.
///
/// # Errors
/// When there are none, or `path` cannot be listed.
pub fn find(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    look(path, DEPTH, &mut found)?;
    if found.is_empty() {
        let message = format!("there is no {FILE} in or below {}", path.display());
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, message));
    }
    found.sort();
    Ok(found)
}

fn look(path: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if path.join(FILE).is_file() {
        found.push(path.to_owned());
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        // A link could lead in a circle.
        if entry.file_type()?.is_dir() {
            look(&entry.path(), depth - 1, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, line, part) in [
            ("wiht: {}", 1, "wiht"),
            ("role: task\nhttp:\n  - request: { url: x, verb: GET }\n    response: {}\n", 3, "verb"),
            ("random: many", 1, "u64"),
            ("with: [", 1, ""),
            ("role: cook", 1, "cook"),
            ("faults:\n  - { at: http, error: bad-luck }", 2, ""),
        ] {
            let (at, _, message) = parse::<Case>(text).unwrap_err();
            assert_eq!(at, line, "{text}: {message}");
            assert!(message.contains(part), "{text}: {message}");
        }
        assert!(parse::<Case>("role: task\nexpect: { outputs: { a: 1 }, files: { /x: null } }").is_ok());
    }
}
