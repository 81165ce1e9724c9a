//! Tells somebody which contents of layers are used. Tests of plugins record a run by it, and refuse afterwards what was
//! not recorded; nobody else watches.

use std::path::Path;

use super::{LayerId, Layers};
use crate::Result;

/// Is told what is read of layers.
pub trait Watch: std::fmt::Debug + Send + Sync {
    /// The contents of files of a layer are wanted, by path; a hard link may stand for its file.
    ///
    /// # Errors
    /// An error is what the reader gets instead.
    fn opening(&self, id: &LayerId, paths: &[&[u8]]) -> Result<()>;

    /// The upper directory that lay at `upper` is a layer now.
    fn adopted(&self, id: &LayerId, upper: &Path);
}

impl Layers {
    /// Has all later uses of contents watched, by this value and its clones. Only the first watcher counts.
    pub fn watched_by(&self, watch: std::sync::Arc<dyn Watch>) {
        let _ = self.inner.watch.set(watch);
    }

    /// Tells the watcher that the contents of files are used, also where only their digests are, which may be known. Where
    /// nobody watches, the paths are not looked at.
    ///
    /// # Errors
    /// What the watcher says.
    pub fn opening<'a>(&self, id: &LayerId, paths: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        let Some(watch) = self.inner.watch.get() else { return Ok(()) };
        watch.opening(id, &paths.into_iter().collect::<Vec<_>>())
    }

    pub(super) fn adopted(&self, id: &LayerId, upper: &Path) {
        if let Some(watch) = self.inner.watch.get() {
            watch.adopted(id, upper);
        }
    }
}
