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
use crate::select::{Selected, hash_item, same_files};
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
    /// Further names of placed files, each with the first name.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whether a file may become a directory and the other way round.
    replace: bool,
}

impl<'a> Placement<'a> {
    pub(crate) fn new(base: &'a dyn Files, attributes: Attributes) -> Self {
        Self {
            base,
            attributes,
            placed: BTreeMap::new(),
            on_the_way: BTreeMap::new(),
            links: BTreeMap::new(),
            replace: false,
        }
    }

    /// Places the contents of an archive below `destination`. The archive says itself what its files are and whose,
    /// and new kinds take the place of old ones; only the directory it goes to is the owner's.
    pub(crate) fn unpack(&mut self, contents: Selected, destination: &str) -> Result<(), Error> {
        let resolved = resolve(self.base, &clean(destination.as_bytes()), true)?;
        let mode = self.attributes.mode.take();
        if !resolved.path.is_empty() {
            self.directory(&resolved.path)?;
        }
        let owner = self.attributes.owner.take();
        self.replace = true;
        let result = self.copy(vec![contents], &format!("{destination}/"));
        self.replace = false;
        (self.attributes.owner, self.attributes.mode) = (owner, mode);
        result
    }

    /// Places all that was selected at `destination`, one after the other: of several files that go to one name
    /// the last stays, as BuildKit has it.
    pub(crate) fn copy(&mut self, selected: Vec<Selected>, destination: &str) -> Result<(), Error> {
        let written_as_directory = destination.ends_with('/') || destination == ".";
        let at = resolve(self.base, &clean(destination.as_bytes()), true)?.path;
        for selected in selected {
            let directory = selected.top().is_directory();
            let target = match (directory, selected.keep_name) {
                (_, true) => join(&at, &selected.name),
                (true, false) => at.clone(),
                (false, false) if written_as_directory || self.is_directory(&at)? => join(&at, &selected.name),
                (false, false) => at.clone(),
            };
            let made_like = selected.parents.iter().map(|(path, item)| (join(&at, path), item));
            let own = (directory && selected.keep_name).then(|| (target.clone(), selected.top()));
            for (path, item) in made_like.chain(own) {
                if !path.is_empty() && self.at(&path)?.is_none() {
                    self.item(&path, item.clone())?;
                }
            }
            if directory && !target.is_empty() {
                self.directory(&target)?;
            }
            self.below(&target, selected)?;
        }
        Ok(())
    }

    /// Places one selection; names of one file stay names of one file.
    fn below(&mut self, target: &[u8], selected: Selected) -> Result<(), Error> {
        let same = same_files(&selected.items);
        let directory = selected.top().is_directory();
        let firsts: BTreeMap<usize, Vec<u8>> =
            same.values().map(|first| (*first, join(target, &selected.items[*first].0))).collect();
        for (at, (below, item)) in selected.items.into_iter().enumerate() {
            if below.is_empty() && directory {
                continue;
            }
            let path = join(target, &below);
            self.item(&path, item)?;
            if let Some(first) = same.get(&at).and_then(|first| firsts.get(first)) {
                self.links.insert(path, first.clone());
            }
        }
        Ok(())
    }

    fn is_directory(&self, path: &[u8]) -> Result<bool, Error> {
        Ok(self.at(path)?.as_ref().is_some_and(is_directory))
    }

    /// Places one item, replacing a file but never a directory.
    fn item(&mut self, path: &[u8], item: Item) -> Result<(), Error> {
        let Item { mut entry, source, .. } = item;
        let directory = matches!(entry.kind, Kind::Directory { .. });
        let there = self.at(path)?;
        if self.replace && is_implied(&entry) && there.as_ref().is_some_and(is_directory) {
            return self.directory(path);
        }
        if let (Some(there), false) = (there, self.replace) {
            match (is_directory(&there), directory) {
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
        self.links.remove(path);
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
            Some(entry) if is_directory(&entry) => {
                self.parents(path)?;
                if !self.placed.contains_key(path) {
                    self.on_the_way.insert(path.to_vec(), entry);
                }
                Ok(())
            }
            Some(_) => Err(self.clash(path, "not a directory", "a directory")),
            None => {
                let entry = self.new_directory(path);
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
                    let entry = self.new_directory(ancestor);
                    self.placed.insert(ancestor.to_vec(), (entry, Source::None));
                }
            }
        }
        Ok(())
    }

    /// A directory that nothing was said about but the attributes of the operation, which BuildKit (since 0.21)
    /// applies to it in full.
    fn new_directory(&self, path: &[u8]) -> Entry {
        let Attributes { owner, mode, time, .. } = &self.attributes;
        let (uid, gid) = owner.unwrap_or_default();
        let mode = mode.as_ref().map_or(0o755, |change| change.apply(0o755, true));
        directory_entry(path, mode, uid, gid, *time)
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
        self.item(&resolved.path, Item { entry, source: Source::Bytes(bytes.to_vec()), linked: false })
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
        for (name, first) in self.links {
            let Some((shared, source)) = all.get(&first) else { continue };
            let same = |(entry, own): &(Entry, Source)| {
                own == source && *entry == Entry { path: entry.path.clone(), ..shared.clone() }
            };
            if all.get(&name).is_some_and(same)
                && let Some((entry, source)) = all.get_mut(&name)
            {
                (entry.kind, *source) = (Kind::Hardlink { target: first }, Source::None);
            }
        }
        for (path, entry) in self.on_the_way {
            all.entry(path).or_insert((entry, Source::None));
        }
        all.into_values().collect()
    }
}

fn is_directory(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::Directory { .. })
}

/// Whether this is what a table of contents says of a directory that an archive only has entries below.
fn is_implied(entry: &Entry) -> bool {
    *entry == Entry { kind: entry.kind.clone(), ..directory_entry(&entry.path, 0o755, 0, 0, 0) } && is_directory(entry)
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
        hash_item(&mut hasher, &Item { entry: entry.clone(), source: source.clone(), linked: false }, true);
    }
    LayerId(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::testing::{Listed, directory, file};
    use crate::select::select;

    fn copied(base: &Listed, from: &Listed, paths: &[&str], to: &str, mode: Option<&str>) -> Result<Vec<Entry>, Error> {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let mode = mode.map(ModeChange::parse).transpose()?;
        let mut placement = Placement::new(base, Attributes { mode, ..Attributes::default() });
        placement.copy(select(from, &paths, &[], false, "the context")?, to)?;
        Ok(placement.finish().into_iter().map(|(entry, _)| entry).collect())
    }

    fn named(entries: &[Entry]) -> Vec<(String, String)> {
        let kind = |kind: &Kind| match kind {
            Kind::Hardlink { target } => format!("= {}", String::from_utf8_lossy(target)),
            Kind::Directory { .. } => "dir".to_owned(),
            _ => "file".to_owned(),
        };
        entries.iter().map(|entry| (String::from_utf8_lossy(&entry.path).into_owned(), kind(&entry.kind))).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    /// A directory with a file of two names, and another with a file that takes the place of the first.
    fn linked() -> Listed {
        let mut second = file("d/b");
        (second.source, second.linked) = (file("d/a").source, true);
        Listed(vec![directory("d"), file("d/a"), second, directory("e"), file("e/a")])
    }

    #[test]
    fn names_of_one_file_stay_so_unless_one_is_replaced() {
        let both = copied(&Listed::default(), &linked(), &["d"], "/to", None).unwrap();
        assert_eq!(named(&both), pairs(&[("to", "dir"), ("to/a", "file"), ("to/b", "= to/a")]));
        let replaced = copied(&Listed::default(), &linked(), &["d", "e"], "/to", None).unwrap();
        assert_eq!(named(&replaced), pairs(&[("to", "dir"), ("to/a", "file"), ("to/b", "file")]));
        let apart = copied(&Listed::default(), &linked(), &["d/a", "d/b"], "/to/", None).unwrap();
        assert_eq!(named(&apart), pairs(&[("to", "dir"), ("to/a", "file"), ("to/b", "file")]));
    }

    #[test]
    fn several_files_need_a_directory_that_may_come_of_the_copy_itself_or_the_last_one_stays() {
        let from = Listed(vec![file("a"), file("b"), directory("d"), file("d/c")]);
        let entries = copied(&Listed::default(), &from, &["a", "b"], "/to", None).unwrap();
        assert_eq!(named(&entries), pairs(&[("to", "file")]));
        for base in [Listed(vec![directory("to")]), Listed::default()] {
            let paths: &[&str] = if base.0.is_empty() { &["d", "a", "b"] } else { &["a", "b"] };
            let entries = copied(&base, &from, paths, "/to", None).unwrap();
            assert!(entries.iter().any(|entry| entry.path == b"to/b"), "{entries:?}");
        }
    }

    #[test]
    fn permissions_given_hold_for_directories_that_are_made_and_for_no_others() {
        let base = Listed(vec![directory("there")]);
        let from = Listed(vec![file("a")]);
        let entries = copied(&base, &from, &["a"], "/there/new/a", Some("0700")).unwrap();
        let modes: Vec<u32> = entries.iter().map(|entry| entry.mode).collect();
        assert_eq!(modes, [0o755, 0o700, 0o700]);
    }

    #[test]
    fn an_archive_changes_directories_it_names_and_no_others() {
        let mut owned = directory("to/sub");
        (owned.entry.uid, owned.entry.mode) = (7, 0o700);
        let mut implied = directory("sub");
        implied.entry.mtime = 0;
        let mut named = directory("sub");
        named.entry.mode = 0o711;
        for (entry, expected) in [(implied, (7, 0o700)), (named, (0, 0o711))] {
            let base = Listed(vec![directory("to"), owned.clone()]);
            let archive = Listed(vec![entry, file("sub/f")]);
            let items = archive.subtree(b"").unwrap().into_iter().map(|item| (item.path().to_vec(), item)).collect();
            let contents =
                Selected { given: "a.tar".into(), name: Vec::new(), keep_name: false, parents: Vec::new(), items };
            let attributes = Attributes { owner: Some((1, 2)), ..Attributes::default() };
            let mut placement = Placement::new(&base, attributes);
            placement.unpack(contents, "/to").unwrap();
            let entries = placement.finish();
            let (entry, _) = entries.iter().find(|(entry, _)| entry.path == b"to/sub").unwrap();
            assert_eq!((entry.uid, entry.mode), expected);
        }
    }

    #[test]
    fn the_directory_that_an_archive_makes_is_the_owners() {
        let archive = Listed(vec![file("f")]);
        let items = archive.subtree(b"").unwrap().into_iter().map(|item| (item.path().to_vec(), item)).collect();
        let contents =
            Selected { given: "a.tar".into(), name: Vec::new(), keep_name: false, parents: Vec::new(), items };
        let base = Listed::default();
        let mut placement = Placement::new(&base, Attributes { owner: Some((1, 2)), ..Attributes::default() });
        placement.unpack(contents, "/to").unwrap();
        let owners: Vec<(u32, u32)> = placement.finish().iter().map(|(entry, _)| (entry.uid, entry.gid)).collect();
        assert_eq!(owners, [(1, 2), (0, 0)]);
    }

    #[test]
    fn kept_directories_have_the_attributes_of_the_source() {
        let mut private = directory("x");
        private.entry.mode = 0o700;
        let from = Listed(vec![private, file("x/a")]);
        let selected = select(&from, &["x/a".to_owned()], &[], true, "the context").unwrap();
        let base = Listed::default();
        let mut placement = Placement::new(&base, Attributes::default());
        placement.copy(selected, "/to/").unwrap();
        let modes: Vec<u32> = placement.finish().iter().map(|(entry, _)| entry.mode).collect();
        assert_eq!(modes, [0o755, 0o700, 0o755]);
    }
}
