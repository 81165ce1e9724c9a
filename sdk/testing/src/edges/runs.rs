//! Processes of a build: what they do is what the case says, unless it wants them run.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cooperage_solve::{Cancel, Exit, ProcessError, Processes, Spec};
use serde_json::{Map, Value, json};

use crate::case::RunCase;
use crate::compare::shown;
use crate::fault::{Failure, Faults, Kind, Place};
use crate::harness::Processes as Processes_;
use crate::listing;
use crate::problems::Problems;
use crate::reads::{Missing, Reads};
use crate::recording::{Ran, Recording};

/// What runs commands for a case.
pub(crate) struct Commands {
    /// With it, commands are run.
    pub(crate) real: Option<Arc<dyn Processes>>,
    pub(crate) runs: Vec<RunCase>,
    /// Which of them took place already.
    pub(crate) done: Mutex<BTreeSet<usize>>,
    /// While a run is recorded, commands that the case does not know are run.
    pub(crate) recording: Option<(Arc<Recording>, Processes_)>,
    pub(crate) reads: Arc<Reads>,
    pub(crate) folder: PathBuf,
    pub(crate) faults: Faults,
    pub(crate) problems: Problems,
    pub(crate) log: Mutex<Vec<Value>>,
}

impl Commands {
    /// The commands so far.
    pub(crate) fn commands(&self) -> Vec<Value> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Of commands that are the same, each is the next one; the last one as often as it is run.
    fn find(&self, spec: &Spec) -> Option<&RunCase> {
        let args = &spec.process.args;
        let fits = |run: &RunCase| {
            let command = match (&run.args, &run.shell) {
                (Some(wanted), _) => wanted == args,
                (None, Some(line)) => matches!(&args[..], [_, flag, typed] if flag.starts_with('-') && typed == line),
                (None, None) => false,
            };
            command && run.directory.as_ref().is_none_or(|directory| *directory == spec.process.cwd)
        };
        let fitting: Vec<usize> = (0..self.runs.len()).filter(|at| fits(&self.runs[*at])).collect();
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let next = fitting.iter().find(|at| !done.contains(at)).or(fitting.last())?;
        done.insert(*next);
        self.runs.get(*next)
    }

    /// Does what the case says instead of running.
    fn pretend(&self, run: &RunCase, spec: &Spec) -> Result<(), String> {
        let (Some(writes), 0) = (&run.writes, run.status) else { return Ok(()) };
        let from = self.folder.join(writes);
        if from.is_dir() {
            return copy(&from, &spec.root.upper).map_err(|error| format!("{}: {error}", from.display()));
        }
        let items = listing::read(&self.folder, writes)?;
        let what = format!("what {} writes, from {writes}", shown(&json!(spec.process.args)));
        self.reads.upper_lacks(&spec.root.upper, Missing { what, paths: listing::bare(&items) });
        listing::place(&items, &spec.root.upper, spec.root.userxattr).map_err(|error| format!("{writes}: {error}"))
    }

    /// Runs a command, and keeps what it did.
    fn record(
        &self,
        (recording, real): &(Arc<Recording>, Processes_),
        spec: &Spec,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Exit, ProcessError> {
        let real = real.as_ref().map_err(|why| ProcessError::Setup(why.clone()))?;
        let mut said = Vec::new();
        let exit = real.run(
            spec,
            &mut |bytes| {
                said.extend_from_slice(bytes);
                output(bytes);
            },
            cancel,
        )?;
        let status = match exit {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
            _ => return Ok(exit),
        };
        let (args, directory, upper) = (spec.process.args.clone(), spec.process.cwd.clone(), spec.root.upper.clone());
        recording.ran(Ran { args, directory, status, output: said, upper });
        Ok(exit)
    }

    fn unexpected(&self, args: &[String]) -> String {
        let mut text = format!("a command is run that the case does not know\n  run      {}", shown(&json!(args)));
        for run in self.runs.iter().take(5) {
            let known =
                run.args.as_ref().map(|args| json!(args)).or_else(|| run.shell.as_ref().map(|line| json!(line)));
            text.push_str(&format!("\n  expected {}", shown(&known.unwrap_or_default())));
        }
        text
    }
}

fn logged(spec: &Spec) -> Value {
    let env: Map<String, Value> = spec.process.env.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let user = format!("{}:{}", spec.process.uid, spec.process.gid);
    json!({ "args": spec.process.args, "directory": spec.process.cwd, "user": user, "env": env })
}

impl Processes for Commands {
    fn run(&self, spec: &Spec, output: &mut dyn FnMut(&[u8]), cancel: &Cancel) -> Result<Exit, ProcessError> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(logged(spec));
        match self.faults.next(Place::Run) {
            Some(Failure::Kind(Kind::Cancelled)) => return Ok(Exit::Cancelled),
            Some(_) => return Err(ProcessError::Setup("the case wants a fault at run".to_owned())),
            None => {}
        }
        if let Some(real) = &self.real {
            return real.run(spec, output, cancel);
        }
        let Some(run) = self.find(spec) else {
            if let Some(recording) = &self.recording {
                return self.record(recording, spec, output, cancel);
            }
            let problem = self.unexpected(&spec.process.args);
            self.problems.add(problem);
            return Err(ProcessError::Setup("the case does not know this command".to_owned()));
        };
        output(run.output.as_bytes());
        self.pretend(run, spec).map_err(ProcessError::Setup)?;
        Ok(Exit::Code(run.status))
    }
}

/// Copies what is in a directory; permissions stay, owners become ours.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            fs::create_dir_all(&target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
            copy(&source, &target)?;
        } else if metadata.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
