//! A view of files without what a selection leaves out.

use std::sync::Arc;

use crate::files::{Files, Item};
use crate::pattern::Ignore;
use crate::{Error, Selection};

/// The files of another view that a selection keeps.
pub(crate) struct FilteredFiles {
    inner: Arc<dyn Files>,
    include: Ignore,
    ignore: Ignore,
}

impl FilteredFiles {
    pub(crate) fn new(inner: Arc<dyn Files>, selection: &Selection) -> Result<Self, Error> {
        Ok(Self { inner, include: Ignore::new(&selection.include)?, ignore: Ignore::new(&selection.exclude)? })
    }

    /// Directories stay while something below them may be kept.
    fn keeps(&self, item: &Item) -> bool {
        let path = item.path();
        if path.is_empty() {
            return true;
        }
        let directory = item.is_directory();
        let included = self.include.is_empty() || directory || self.include.ignores(path);
        included && (!self.ignore.ignores(path) || (directory && self.ignore.has_exceptions()))
    }
}

impl Files for FilteredFiles {
    fn lookup(&self, path: &[u8]) -> Result<Option<Item>, Error> {
        Ok(self.inner.lookup(path)?.filter(|item| self.keeps(item)))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Item>, Error> {
        let mut items = self.inner.list(path)?;
        items.retain(|item| self.keeps(item));
        Ok(items)
    }

    fn subtree(&self, path: &[u8]) -> Result<Vec<Item>, Error> {
        let mut items = self.inner.subtree(path)?;
        items.retain(|item| self.keeps(item));
        Ok(items)
    }

    fn read(&self, item: &Item, max: u64) -> Result<Vec<u8>, Error> {
        self.inner.read(item, max)
    }
}
