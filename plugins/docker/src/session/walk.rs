//! The entries of a directory in the order in which the engine takes them: each directory before what it has, and that
//! by name in byte order (`validator.go` of tonistiigi/fsutil). A directory that was not asked for comes only once
//! something in it was.

use std::collections::VecDeque;
use std::rc::Rc;
use std::vec;

use cooperage_sdk::Result;

use super::glob::Look;
use super::selection::Selection;
use super::{Entry, Files, Kind};

/// A walk through a directory. It reads one directory at a time.
pub struct Walk {
    files: Rc<dyn Files>,
    selection: Selection,
    /// From the root to where the walk is.
    levels: Vec<Level>,
    ready: VecDeque<(String, Entry)>,
}

struct Level {
    path: String,
    left: vec::IntoIter<Entry>,
    /// The directory itself, as long as it was not told.
    own: Option<Entry>,
    /// Whether everything below is asked for.
    all: bool,
}

impl Walk {
    /// Begins at the root, which itself is not told.
    ///
    /// # Errors
    /// Those of the directory.
    pub fn new(files: Rc<dyn Files>, selection: Selection) -> Result<Self> {
        let all = selection.look("") == Look::Matches;
        let root = Level { path: String::new(), left: files.entries("")?.into_iter(), own: None, all };
        Ok(Self { files, selection, levels: vec![root], ready: VecDeque::new() })
    }

    /// The next entry and its path.
    ///
    /// # Errors
    /// Those of the directory.
    pub fn next(&mut self) -> Result<Option<(String, Entry)>> {
        loop {
            if let Some(next) = self.ready.pop_front() {
                return Ok(Some(next));
            }
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(entry) = level.left.next() else {
                self.levels.pop();
                continue;
            };
            let path =
                if level.path.is_empty() { entry.name.clone() } else { format!("{}/{}", level.path, entry.name) };
            let look = if level.all { Look::Matches } else { self.selection.look(&path) };
            if look == Look::Matches && entry.kind != Kind::Other {
                let parents = self.levels.iter_mut().filter_map(|level| Some((level.path.clone(), level.own.take()?)));
                self.ready.extend(parents);
                self.ready.push_back((path.clone(), entry.clone()));
            }
            if look != Look::Apart && entry.kind == Kind::Directory {
                let left = self.files.entries(&path)?.into_iter();
                let all = look == Look::Matches;
                self.levels.push(Level { path, left, own: (!all).then_some(entry), all });
            }
        }
    }
}
