//! One way to look at the files of a build context and of a stack of layers. Changes nothing.
//!
//! Paths are bytes, relative to the root, without a slash at either end; the root is the empty path.

mod context;
mod resolve;
mod stack;
mod stat_cache;

use cooperage_store::Digest;
use cooperage_store::layer::{Entry, Kind};
use cooperage_store::layers::Source;

pub(crate) use context::ContextFiles;
pub(crate) use resolve::resolve;
pub(crate) use stack::{StackFiles, StackLayer};

use crate::Error;

/// A path and where its bytes are.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) entry: Entry,
    pub(crate) source: Source,
    /// Whether the file has further names; those of one file have equal sources.
    pub(crate) linked: bool,
}

impl Item {
    pub(crate) fn path(&self) -> &[u8] {
        &self.entry.path
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.entry.kind, Kind::Directory { .. })
    }

    /// The digest of a regular file's bytes, where it is known.
    pub(crate) fn digest(&self) -> Option<Digest> {
        match self.entry.kind {
            Kind::File { digest, .. } => digest,
            _ => None,
        }
    }
}

/// A file system that can be looked at. A hard link shows as the regular file it is.
pub(crate) trait Files: Send + Sync {
    /// What is at a path; symbolic links are not followed, not even in parents.
    fn lookup(&self, path: &[u8]) -> Result<Option<Item>, Error>;

    /// What a directory has, sorted by name; nothing for anything else.
    fn list(&self, path: &[u8]) -> Result<Vec<Item>, Error>;

    /// A path and everything below, parents first; files come with the digest of their bytes.
    fn subtree(&self, path: &[u8]) -> Result<Vec<Item>, Error>;

    /// At most `max` bytes of a regular file.
    fn read(&self, item: &Item, max: u64) -> Result<Vec<u8>, Error>;
}

/// The last name of a path.
pub(crate) fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

/// The directory of a path; the root's is the root.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|b| *b == b'/').map_or(b"", |at| &path[..at])
}

/// `name` below `directory`.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    if name.is_empty() {
        return directory.to_vec();
    }
    [directory, b"/", name].concat()
}

/// A path for people: absolute, with what is not UTF-8 replaced.
pub(crate) fn display(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// All proper parents of a path from the top down, without the root.
pub(crate) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| &path[..at])
}

#[cfg(test)]
pub(crate) mod testing {
    //! A file system that is a list of items.

    use super::{Entry, Error, Files, Item, Kind, Source, parent};

    /// Items by path; the root is always there.
    #[derive(Default)]
    pub(crate) struct Listed(pub(crate) Vec<Item>);

    /// An item of mode 0755 that belongs to root; files have the bytes of their source.
    pub(crate) fn item(path: &str, kind: Kind) -> Item {
        let source = match kind {
            Kind::File { .. } => Source::File(format!("/host/{path}").into()),
            _ => Source::None,
        };
        let path = path.as_bytes().to_vec();
        let entry = Entry { path, kind, mode: 0o755, uid: 0, gid: 0, mtime: 1, mtime_nanos: 0, xattrs: Vec::new() };
        Item { entry, source, linked: false }
    }

    pub(crate) fn directory(path: &str) -> Item {
        item(path, Kind::Directory { opaque: false })
    }

    pub(crate) fn file(path: &str) -> Item {
        item(path, Kind::File { size: 1, digest: Some(cooperage_store::Digest::of(b"x")), offset: 0 })
    }

    pub(crate) fn link(path: &str, target: &str) -> Item {
        item(path, Kind::Symlink { target: target.as_bytes().to_vec() })
    }

    impl Files for Listed {
        fn lookup(&self, path: &[u8]) -> Result<Option<Item>, Error> {
            let found = self.0.iter().find(|item| item.path() == path).cloned();
            Ok(found.or_else(|| path.is_empty().then(|| directory(""))))
        }

        fn list(&self, path: &[u8]) -> Result<Vec<Item>, Error> {
            let below = |item: &&Item| !item.path().is_empty() && parent(item.path()) == path;
            Ok(self.0.iter().filter(below).cloned().collect())
        }

        fn subtree(&self, path: &[u8]) -> Result<Vec<Item>, Error> {
            let mut items: Vec<Item> = self.lookup(path)?.into_iter().collect();
            for item in self.list(path)? {
                items.extend(self.subtree(item.path())?);
            }
            Ok(items)
        }

        fn read(&self, _: &Item, _: u64) -> Result<Vec<u8>, Error> {
            Ok(b"x".to_vec())
        }
    }
}
