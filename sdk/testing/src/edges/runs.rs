//! Processes of a build: what they do is what the case says, unless it wants them run.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cooperage_solve::{Cancel, Exit, ProcessError, Processes, Spec};
use serde_json::{Map, Value, json};

use crate::case::RunCase;
use crate::compare::shown;
use crate::fault::{Failure, Faults, Place};
use crate::problems::Problems;

/// What runs commands for a case.
pub(crate) struct Commands {
    /// With it, commands are run.
    pub(crate) real: Option<Arc<dyn Processes>>,
    pub(crate) runs: Vec<RunCase>,
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

    fn find(&self, args: &[String]) -> Option<&RunCase> {
        let fits = |run: &&RunCase| match (&run.args, &run.shell) {
            (Some(wanted), _) => wanted == args,
            (None, Some(line)) => matches!(args, [_, flag, typed] if flag.starts_with('-') && typed == line),
            (None, None) => false,
        };
        self.runs.iter().find(fits)
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
        if let Some(Failure::Kind(_)) = self.faults.next(Place::Run) {
            return Err(ProcessError::Setup("the case wants a fault at run".to_owned()));
        }
        if let Some(real) = &self.real {
            return real.run(spec, output, cancel);
        }
        let Some(run) = self.find(&spec.process.args) else {
            let problem = self.unexpected(&spec.process.args);
            self.problems.add(problem);
            return Err(ProcessError::Setup("the case does not know this command".to_owned()));
        };
        output(run.output.as_bytes());
        if let (Some(directory), 0) = (&run.writes, run.status) {
            let from = self.folder.join(directory);
            let wrong = |error| ProcessError::Setup(format!("{}: {error}", from.display()));
            copy(&from, &spec.root.upper).map_err(wrong)?;
        }
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
