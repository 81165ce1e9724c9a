//! The journal of a flow as files: one per step that succeeded, below the store. Knows entries, not what they mean.
//!
//! ```text
//! <store>/flows/<digest of file and targets>/<digest of the step>   {"step": ..., "key": ..., "values": ...}
//! ```
//!
//! A file appears whole and for good or not at all, so that whoever is killed loses nothing but what was under way.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cooperage_flow::{Entry, Journal, StepId, redact_value};
use cooperage_solve::Redactor;
use cooperage_store::Digest;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Exit, Failure};

/// The journal of one flow file and one choice of targets, for one process at a time.
pub(crate) struct Files {
    directory: PathBuf,
    redactor: Redactor,
    /// Held as long as this lives.
    _lock: File,
}

impl Files {
    /// Opens the journal; None if another process is at the same flow.
    pub(crate) fn open(
        root: &Path,
        flow: &Path,
        targets: &[String],
        redactor: Redactor,
    ) -> Result<Option<Self>, Failure> {
        let mut targets = targets.to_vec();
        targets.sort();
        let parts = std::iter::once(flow.to_string_lossy().into_owned()).chain(targets);
        let framed: String = parts.map(|part| format!("{} {part}", part.len())).collect();
        let directory = root.join("flows").join(Digest::of(framed.as_bytes()).hex());
        let failed = |error: std::io::Error| {
            Failure::new(Exit::Environment, error.to_string())
                .context(format!("the journal of the flow in {} cannot be opened", directory.display()))
        };
        // Outputs of steps are nobody else's business.
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        let lock = File::open(&directory).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { directory, redactor, _lock: lock })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Drops all entries.
    pub(crate) fn clear(&self) -> Result<(), Failure> {
        let clear = || {
            for file in std::fs::read_dir(&self.directory)? {
                std::fs::remove_file(file?.path())?;
            }
            Ok(())
        };
        clear().map_err(|error: std::io::Error| {
            Failure::new(Exit::Environment, error.to_string())
                .context(format!("the journal of the flow in {} cannot be emptied", self.directory.display()))
        })
    }

    /// Drops all entries and the journal with them: the flow succeeded.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        self.clear()?;
        // Another process may have opened it meanwhile; an empty directory harms nobody.
        let _ = std::fs::remove_dir(&self.directory);
        Ok(())
    }

    fn path(&self, step: &StepId) -> PathBuf {
        self.directory.join(Digest::of(step.key().as_bytes()).hex())
    }

    fn has_secret(&self, entry: &Entry) -> bool {
        let values = serde_json::Value::Object(entry.values.clone());
        redact_value(values.clone(), &|text| self.redactor.text(text)) != values
    }

    fn write(&self, path: &Path, text: &[u8]) -> std::io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(&self.directory)?.sync_all()
    }
}

impl Journal for Files {
    fn find(&self, step: &StepId) -> Option<Entry> {
        let bytes = std::fs::read(self.path(step)).ok()?;
        let entry: Entry = serde_json::from_slice(&bytes).ok()?;
        (entry.step == step.key()).then_some(entry)
    }

    fn keep(&self, step: &StepId, entry: &Entry) -> Result<(), String> {
        if self.has_secret(entry) {
            return Ok(());
        }
        let text = serde_json::to_vec(entry).map_err(|error| error.to_string())?;
        self.write(&self.path(step), &text).map_err(|error| error.to_string())
    }

    fn forget(&self, step: &StepId) -> Result<(), String> {
        match std::fs::remove_file(self.path(step)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cooperage_solve::Secrets;
    use serde_json::json;

    use super::*;

    fn open(root: &Path, targets: &[&str]) -> Option<Files> {
        let secrets = Secrets::new(BTreeMap::from([("t".to_owned(), b"hunter22".to_vec())]));
        let targets: Vec<_> = targets.iter().map(|target| (*target).to_owned()).collect();
        Files::open(root, Path::new("/project/cooperage.yaml"), &targets, Redactor::new(&secrets)).unwrap()
    }

    fn entry(step: &StepId, value: &str) -> Entry {
        let values = json!({ "out": { "text": value } }).as_object().unwrap().clone();
        Entry { step: step.key(), key: "k".to_owned(), stamp: "s".to_owned(), values, saved: json!(["a"]) }
    }

    fn step(name: &str) -> StepId {
        StepId { image: None, step: name.to_owned(), instance: Some("a/b".to_owned()) }
    }

    #[test]
    fn entries_last_until_they_are_dropped() {
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (step("one"), step("two"));
        let journal = open(root.path(), &["x", "y"]).unwrap();
        journal.keep(&one, &entry(&one, "1")).unwrap();
        journal.keep(&two, &entry(&two, "2")).unwrap();
        journal.keep(&one, &entry(&one, "3")).unwrap();
        journal.forget(&two).unwrap();
        journal.forget(&two).unwrap();
        drop(journal);
        assert_eq!(open(root.path(), &["x"]).unwrap().find(&one), None, "other targets");
        let journal = open(root.path(), &["y", "x"]).unwrap();
        assert_eq!(journal.find(&one), Some(entry(&one, "3")));
        assert_eq!(journal.find(&two), None);
        journal.clear().unwrap();
        assert_eq!(journal.find(&one), None);
        journal.keep(&one, &entry(&one, "4")).unwrap();
        journal.finish().unwrap();
        assert!(!journal.directory.exists());
    }

    #[test]
    fn only_one_process_has_it() {
        let root = tempfile::tempdir().unwrap();
        let first = open(root.path(), &[]);
        assert!(first.is_some() && open(root.path(), &[]).is_none());
        assert!(open(root.path(), &["x"]).is_some());
        drop(first);
        assert!(open(root.path(), &[]).is_some());
    }

    #[test]
    fn what_is_torn_or_secret_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        let one = step("one");
        let journal = open(root.path(), &[]).unwrap();
        journal.keep(&one, &entry(&one, "it is hunter22!")).unwrap();
        assert_eq!(journal.find(&one), None);
        std::fs::write(journal.path(&one), b"{\"step\": \"one").unwrap();
        assert_eq!(journal.find(&one), None);
    }
}
