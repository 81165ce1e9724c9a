//! A backend that writes down what it is asked, for tests.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::backend::{Backend, Operation, Origin, Source, Wanted};
use crate::fault::{Fault, Place};

/// A folder of cases that others wrote. It is kept beside the repository, and its tests pass without it.
#[allow(clippy::print_stderr, reason = "a test that did nothing should say so")]
pub fn cases(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is absent", path.display());
    None
}

/// Trees are numbers; each line of the log makes one.
#[derive(Default)]
pub struct Recorder {
    /// What was asked, one line each.
    pub log: Vec<String>,
    /// Names of steps, in order.
    pub names: Vec<String>,
    /// Where operations come from, in order.
    pub places: Vec<Place>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// Configurations of images by reference; another image has an empty one.
    pub images: BTreeMap<String, Value>,
    /// Named contexts that exist.
    pub contexts: Vec<String>,
    /// Files of every tree.
    pub files: BTreeMap<String, Vec<u8>>,
    /// How many trees there are.
    pub trees: usize,
}

impl Recorder {
    fn tree(&mut self, line: String) -> usize {
        self.trees += 1;
        self.log.push(format!("t{} = {line}", self.trees));
        self.trees
    }
}

impl Backend for Recorder {
    type Tree = usize;

    fn resolve(&mut self, wanted: &[Wanted]) -> Vec<Result<Value, Fault>> {
        let asked: Vec<String> = wanted.iter().map(|w| format!("{} {}", w.reference, w.platform)).collect();
        self.log.push(format!("resolve {}", asked.join(", ")));
        let answer = |w: &Wanted| {
            if w.reference.contains("missing") {
                return Err(Fault::not_found(format!("{} does not exist", w.reference)).hint("pull it"));
            }
            let default = json!({"os": w.platform.os, "architecture": w.platform.architecture, "history": [{"created_by": "base"}]});
            Ok(self.images.get(&w.reference).cloned().unwrap_or(default))
        };
        wanted.iter().map(answer).collect()
    }

    fn source(&mut self, source: Source<'_>) -> Result<usize, Fault> {
        match source {
            Source::Scratch => Ok(self.tree("scratch".into())),
            Source::Image(wanted) => Ok(self.tree(format!("image {}", wanted.reference))),
            Source::Context { name, exclude, include } => {
                if !name.is_empty() && !self.contexts.iter().any(|known| known == name) {
                    return Err(Fault::not_found(format!("no context {name}")));
                }
                let mut line = format!("context {name:?}");
                if !exclude.is_empty() {
                    write!(line, " without {exclude:?}").unwrap();
                }
                if !include.is_empty() {
                    write!(line, " only {include:?}").unwrap();
                }
                Ok(self.tree(line))
            }
            Source::Url { url, parameters, .. } => Ok(self.tree(format!("fetch {url} {parameters}"))),
        }
    }

    fn apply(&mut self, onto: &usize, operation: Operation<usize>, origin: &Origin) -> usize {
        self.names.push(origin.name.clone());
        self.places.extend(origin.place.clone());
        let line = match operation {
            Operation::Copy(copy) => {
                let mut line = format!("t{onto} copy t{} {:?} -> {:?}", copy.source, copy.paths, copy.destination);
                let flags = [("link", copy.link), ("parents", copy.parents), ("unpack", copy.unpack)];
                line.extend(flags.iter().filter(|(_, on)| *on).map(|(name, _)| format!(" {name}")));
                line.extend(copy.owner.map(|owner| format!(" owner={owner}")));
                line.extend(copy.mode.map(|mode| format!(" mode={mode}")));
                if !copy.exclude.is_empty() {
                    write!(line, " exclude={:?}", copy.exclude).unwrap();
                }
                line
            }
            Operation::Run(run) => {
                let env: Vec<String> =
                    run.env.iter().filter(|(name, _)| name != "PATH").map(|(n, v)| format!("{n}={v}")).collect();
                let mut line = format!("t{onto} run {:?} env={env:?} cwd={} user={:?}", run.args, run.cwd, run.user);
                if run.network != Default::default() {
                    write!(line, " network={:?}", run.network).unwrap();
                }
                for mount in run.mounts {
                    write!(line, " [{} {:?}", mount.kind, mount.target).unwrap();
                    line.extend(mount.source.map(|tree| format!(" t{tree}")));
                    write!(
                        line,
                        " path={:?} id={:?} ro={} {:?}]",
                        mount.path, mount.identity, mount.read_only, mount.options
                    )
                    .unwrap();
                }
                line
            }
            Operation::MakeDirectory { path, mode, owner } => {
                format!("t{onto} mkdir {path} {mode:o} {owner:?}")
            }
            Operation::WriteFile { path, bytes, mode } => {
                format!("t{onto} write {path} {mode:o} {:?}", String::from_utf8_lossy(&bytes))
            }
        };
        self.tree(line)
    }

    fn read(&mut self, _: &usize, path: &str, _: u64) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.files.get(path).cloned())
    }

    fn warn(&mut self, message: &str) {
        self.warnings.push(message.into());
    }
}
