//! Resolves a path through symbolic links that stay inside the root, as the kernel would after a chroot.

use std::collections::VecDeque;

use cooperage_store::layer::Kind;

use super::{Files, Item, join, parent};
use crate::Error;

/// As many links as Linux follows in one look-up.
const MAX_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    /// The path without links in its parents (and in its end, where they were followed).
    pub(crate) path: Vec<u8>,
    /// What is there.
    pub(crate) item: Option<Item>,
}

/// Resolves `path`; `follow` says whether a link at its end is followed. A missing parent is no fault: the
/// rest of the path then stands as it is written. `..` above the root stays at the root.
pub(crate) fn resolve(files: &dyn Files, path: &[u8], follow: bool) -> Result<Resolved, Error> {
    let mut todo: VecDeque<Vec<u8>> = split(path);
    let mut at: Vec<u8> = Vec::new();
    let mut links = 0;
    let mut item = files.lookup(b"")?;
    while let Some(part) = todo.pop_front() {
        if part == b".." {
            at = parent(&at).to_vec();
            item = files.lookup(&at)?;
            continue;
        }
        let next = join(&at, &part);
        let found = match &item {
            Some(parent) if !parent.is_directory() => None,
            None => None,
            Some(_) => files.lookup(&next)?,
        };
        let link = match &found {
            Some(Item { entry, .. }) if follow || !todo.is_empty() => match &entry.kind {
                Kind::Symlink { target } => Some(target.clone()),
                _ => None,
            },
            _ => None,
        };
        let Some(target) = link else {
            at = next;
            item = found;
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(Error::invalid(format!("too many symbolic links in {}", super::display(path))));
        }
        if target.first() == Some(&b'/') {
            at.clear();
        }
        for part in split(&target).into_iter().rev() {
            todo.push_front(part);
        }
        item = files.lookup(&at)?;
    }
    Ok(Resolved { path: at, item })
}

fn split(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
}
