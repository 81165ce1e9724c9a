//! Where the entries of an operation land: turns what was selected into the entries of a new layer.
//!
//! A layer names, beside what is new, the directories on the way to it, with the attributes they have: a
//! layer then means the same whether it is unpacked alone (as overlayfs needs it) or onto the others.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use cooperage_store::layer::{Entry, Kind};
use cooperage_store::layers::{LayerId, Source};
use cooperage_store::{Digest, Hasher};

use crate::files::{Files, Item, ancestors, display, join, resolve};
use crate::key::frame;
use crate::mode::ModeChange;
use crate::pattern::clean;
use crate::select::{Selected, hash_item};
use crate::{Error, ErrorKind};

/// Attributes that an operation gives to what it places.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes {
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) mode: Option<ModeChange>,
    /// Time of whatever has none of its own, in seconds since 1970.
    pub(crate) time: i64,
    /// Times later than this are cut down to it.
    pub(crate) latest: Option<i64>,
}

/// The entries of a layer to be, on top of `base`.
pub(crate) struct Placement<'a> {
    base: &'a dyn Files,
    attributes: Attributes,
    placed: BTreeMap<Vec<u8>, (Entry, Source)>,
    /// Directories that are there only because something below them is.
    on_the_way: BTreeMap<Vec<u8>, Entry>,
    /// Whether a file may become a directory and the other way round.
    replace: bool,
}

impl<'a> Placement<'a> {
    pub(crate) fn new(base: &'a dyn Files, attributes: Attributes) -> Self {
        Self { base, attributes, placed: BTreeMap::new(), on_the_way: BTreeMap::new(), replace: false }
    }

    /// Does `work` without changing owners and permissions, and with new kinds taking the place of old ones: an
    /// archive says itself what its files are.
    pub(crate) fn keep_attributes(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        let (owner, mode) = (self.attributes.owner.take(), self.attributes.mode.take());
        self.replace = true;
        let result = work(self);
        self.replace = false;
        (self.attributes.owner, self.attributes.mode) = (owner, mode);
        result
    }

    /// Places all that was selected at `destination`.
    pub(crate) fn copy(&mut self, selected: Vec<Selected>, destination: &str) -> Result<(), Error> {
        let several = selected.len() > 1;
        let (at, is_directory) = self.destination(destination, several)?;
        for selected in selected {
            let directory = selected.top().is_directory();
            let target = match (directory, selected.keep_name) {
                (false, _) if is_directory => join(&at, &selected.name),
                (_, true) => join(&at, &selected.name),
                _ => at.clone(),
            };
            if directory && !target.is_empty() {
                self.directory(&target)?;
            }
            for (below, item) in selected.items {
                if below.is_empty() && directory {
                    continue;
                }
                self.item(&join(&target, &below), item)?;
            }
        }
        Ok(())
    }

    /// Where a destination leads, and whether it is a directory to copy into.
    fn destination(&self, destination: &str, several: bool) -> Result<(Vec<u8>, bool), Error> {
        let written_as_directory = destination.ends_with('/') || destination.ends_with("/.") || destination == ".";
        let resolved = resolve(self.base, &clean(destination.as_bytes()), true)?;
        let exists_as_directory = resolved.item.is_some_and(|item| item.is_directory());
        Ok((resolved.path, several || written_as_directory || exists_as_directory))
    }

    /// Places one item, replacing a file but never a directory.
    fn item(&mut self, path: &[u8], item: Item) -> Result<(), Error> {
        let Item { mut entry, source } = item;
        let directory = matches!(entry.kind, Kind::Directory { .. });
        if let (Some(there), false) = (self.at(path)?, self.replace) {
            match (matches!(there.kind, Kind::Directory { .. }), directory) {
                (true, false) => return Err(self.clash(path, "a directory", "a file")),
                (false, true) => return Err(self.clash(path, "not a directory", "a directory")),
                _ => {}
            }
        }
        self.parents(path)?;
        entry.path = path.to_vec();
        let Attributes { owner, mode, latest, .. } = &self.attributes;
        if let Some((uid, gid)) = owner {
            (entry.uid, entry.gid) = (*uid, *gid);
        }
        if let (Some(change), false) = (mode, matches!(entry.kind, Kind::Symlink { .. })) {
            entry.mode = change.apply(entry.mode, directory);
        }
        match latest {
            Some(latest) if entry.mtime > *latest => (entry.mtime, entry.mtime_nanos) = (*latest, 0),
            _ => {}
        }
        self.on_the_way.remove(path);
        self.placed.insert(path.to_vec(), (entry, source));
        Ok(())
    }

    fn clash(&self, path: &[u8], is: &str, wanted: &str) -> Error {
        Error::new(ErrorKind::Conflict, format!("{} is {is} in the image and cannot become {wanted}", display(path)))
            .hint("remove it in an earlier instruction, or copy to another path")
    }

    /// Makes a directory where there is none.
    fn directory(&mut self, path: &[u8]) -> Result<(), Error> {
        match self.at(path)? {
            Some(entry) if matches!(entry.kind, Kind::Directory { .. }) => {
                self.parents(path)?;
                if !self.placed.contains_key(path) {
                    self.on_the_way.insert(path.to_vec(), entry);
                }
                Ok(())
            }
            Some(_) => Err(self.clash(path, "not a directory", "a directory")),
            None => {
                let (uid, gid) = self.attributes.owner.unwrap_or_default();
                let entry = directory_entry(path, 0o755, uid, gid, self.attributes.time);
                self.parents(path)?;
                self.placed.insert(path.to_vec(), (entry, Source::None));
                Ok(())
            }
        }
    }

    /// Names the directories on the way to `path`, making those that are missing.
    fn parents(&mut self, path: &[u8]) -> Result<(), Error> {
        for ancestor in ancestors(path) {
            if self.placed.contains_key(ancestor) || self.on_the_way.contains_key(ancestor) {
                continue;
            }
            match self.base.lookup(ancestor)? {
                Some(item) if item.is_directory() => {
                    self.on_the_way.insert(ancestor.to_vec(), item.entry);
                }
                Some(_) => return Err(self.clash(ancestor, "not a directory", "a directory")),
                None => {
                    let (uid, gid) = self.attributes.owner.unwrap_or_default();
                    let entry = directory_entry(ancestor, 0o755, uid, gid, self.attributes.time);
                    self.placed.insert(ancestor.to_vec(), (entry, Source::None));
                }
            }
        }
        Ok(())
    }

    fn at(&self, path: &[u8]) -> Result<Option<Entry>, Error> {
        if let Some((entry, _)) = self.placed.get(path) {
            return Ok(Some(entry.clone()));
        }
        Ok(self.base.lookup(path)?.map(|item| item.entry))
    }

    /// Makes a directory with its missing parents; one that exists stays as it is.
    pub(crate) fn make_directory(&mut self, path: &str, mode: u32) -> Result<(), Error> {
        let resolved = resolve(self.base, &clean(path.as_bytes()), true)?;
        match resolved.item {
            Some(item) if item.is_directory() => Ok(()),
            Some(_) => Err(self.clash(&resolved.path, "not a directory", "a directory")),
            None => {
                self.directory(&resolved.path)?;
                if let Slot::Occupied(mut slot) = self.placed.entry(resolved.path) {
                    slot.get_mut().0.mode = mode & 0o7777;
                }
                Ok(())
            }
        }
    }

    /// Writes a file.
    pub(crate) fn write_file(&mut self, path: &str, bytes: &[u8], mode: u32) -> Result<(), Error> {
        let resolved = resolve(self.base, &clean(path.as_bytes()), true)?;
        let (uid, gid) = self.attributes.owner.unwrap_or_default();
        let kind = Kind::File { size: bytes.len() as u64, digest: Some(Digest::of(bytes)), offset: 0 };
        let entry = Entry { kind, ..directory_entry(&resolved.path, mode, uid, gid, self.attributes.time) };
        self.item(&resolved.path, Item { entry, source: Source::Bytes(bytes.to_vec()) })
    }

    /// Takes a path away with all below it.
    pub(crate) fn remove(&mut self, path: &str) -> Result<(), Error> {
        let resolved = resolve(self.base, &clean(path.as_bytes()), false)?;
        if resolved.item.is_none() || resolved.path.is_empty() {
            return Err(Error::not_found(format!("{} is not there to remove", display(&resolved.path))));
        }
        self.parents(&resolved.path)?;
        let entry = Entry { kind: Kind::Whiteout, ..directory_entry(&resolved.path, 0, 0, 0, 0) };
        self.placed.insert(resolved.path, (entry, Source::None));
        Ok(())
    }

    /// The entries, or nothing if there is no change at all.
    pub(crate) fn finish(self) -> Vec<(Entry, Source)> {
        if self.placed.is_empty() {
            return Vec::new();
        }
        let mut all = self.placed;
        for (path, entry) in self.on_the_way {
            all.entry(path).or_insert((entry, Source::None));
        }
        all.into_values().collect()
    }
}

fn directory_entry(path: &[u8], mode: u32, uid: u32, gid: u32, mtime: i64) -> Entry {
    let kind = Kind::Directory { opaque: false };
    Entry { path: path.to_vec(), kind, mode: mode & 0o7777, uid, gid, mtime, mtime_nanos: 0, xattrs: Vec::new() }
}

/// The identity of a layer made of these entries: a digest over everything that goes into it.
pub(crate) fn identity(entries: &[(Entry, Source)]) -> LayerId {
    let mut hasher = Hasher::new();
    frame(&mut hasher, b"cooperage layer 1");
    for (entry, source) in entries {
        frame(&mut hasher, &entry.path);
        hasher.update(&entry.mtime.to_be_bytes());
        hash_item(&mut hasher, &Item { entry: entry.clone(), source: source.clone() }, true);
    }
    LayerId(hasher.finish())
}
