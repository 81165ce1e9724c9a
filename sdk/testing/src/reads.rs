//! Which contents of layers a call uses. While a run is recorded, these are the contents that are kept; when it is
//! repeated, a content that was not kept is refused instead of made up.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cooperage_store::layers::{LayerId, Watch};
use cooperage_store::{Error, Result};

use crate::problems::Problems;

/// For whom contents are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Reader {
    /// The call: what it reads is recorded, and what is missing fails the case.
    #[default]
    Call,
    /// The judgement of what the case names: recorded too; what is missing is no fault of the plugin.
    Judge,
    /// A report of all there is, for which nothing is kept and nothing is missing.
    Report,
}

/// Contents used and contents missing.
#[derive(Debug)]
pub(crate) struct Reads {
    problems: Problems,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    reader: Reader,
    used: BTreeSet<(LayerId, Vec<u8>)>,
    missing: HashMap<LayerId, Missing>,
    uppers: HashMap<PathBuf, Missing>,
    adopted: HashMap<PathBuf, LayerId>,
}

/// The files of a layer whose contents are not known, and what the layer is for people.
#[derive(Debug, Clone)]
pub(crate) struct Missing {
    pub(crate) what: String,
    pub(crate) paths: BTreeSet<Vec<u8>>,
}

impl Reads {
    pub(crate) fn new(problems: Problems) -> Self {
        Self { problems, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on contents are read for somebody else.
    pub(crate) fn read_for(&self, reader: Reader) {
        self.lock().reader = reader;
    }

    /// A layer of the case lacks contents.
    pub(crate) fn lacks(&self, id: LayerId, missing: Missing) {
        self.lock().missing.insert(id, missing);
    }

    /// The layer that will be made of an upper directory does.
    pub(crate) fn upper_lacks(&self, upper: &Path, missing: Missing) {
        self.lock().uppers.insert(upper.to_owned(), missing);
    }

    /// The layer that became of an upper directory.
    pub(crate) fn layer_of(&self, upper: &Path) -> Option<LayerId> {
        self.lock().adopted.get(upper).copied()
    }

    /// The files of a layer that were used.
    pub(crate) fn used(&self, id: &LayerId) -> BTreeSet<Vec<u8>> {
        let inner = self.lock();
        inner.used.iter().filter(|(layer, _)| layer == id).map(|(_, path)| path.clone()).collect()
    }
}

impl Watch for Reads {
    fn opening(&self, id: &LayerId, paths: &[&[u8]]) -> Result<()> {
        let mut inner = self.lock();
        if inner.reader == Reader::Report {
            return Ok(());
        }
        let lacking = inner.missing.get(id).and_then(|missing| {
            let path = paths.iter().find(|path| missing.paths.contains(**path))?;
            Some(format!("the content of /{} in {}", String::from_utf8_lossy(path), missing.what))
        });
        let Some(what) = lacking else {
            inner.used.extend(paths.iter().map(|path| (*id, path.to_vec())));
            return Ok(());
        };
        if inner.reader == Reader::Call {
            self.problems.add(format!("the recording has not {what}: it was not read when the run was recorded"));
        }
        Err(Error::NotFound { what })
    }

    fn adopted(&self, id: &LayerId, upper: &Path) {
        let mut inner = self.lock();
        inner.adopted.insert(upper.to_owned(), *id);
        if let Some(missing) = inner.uppers.remove(upper) {
            inner.missing.insert(*id, missing);
        }
    }
}
