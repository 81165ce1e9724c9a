//! Writes the files of a commit into a layer, in git's order, while its objects come in whatever order they do: it goes
//! as far as it can, says which object it needs, and goes on from there. It knows no network.

use std::io::Write;

use cooperage_sdk::layer::LayerWriter;
use cooperage_sdk::{Error, Result};

use crate::id::{Id, Kind};
use crate::object::{self, Commit, Mode, TreeEntry};
use crate::pack::{LARGE, Number, Pack};
use crate::packet::shown;

/// Bytes of all files of one commit.
const MOST_BYTES: u64 = 32 << 30;
/// What Linux takes as a path, and as the target of a symbolic link.
const LONGEST_PATH: usize = 4095;
/// Tags of tags of tags.
const MOST_TAGS: usize = 8;
const MODULES: &[u8] = b".gitmodules";

/// Writes the files of one commit.
pub struct Checkout<'l, W> {
    layer: &'l mut LayerWriter<W>,
    /// What the paths of the layer begin with: empty, or ending in a slash.
    prefix: Vec<u8>,
    subdirectory: Vec<String>,
    /// The object without which it does not go on; none at the end.
    needs: Option<Id>,
    place: Place,
    /// The path of the directory at hand within the repository: empty, or ending in a slash.
    path: Vec<u8>,
    /// How much of the path is the way to the subdirectory.
    above: usize,
    /// The directories from the first to the one at hand.
    stack: Vec<Directory>,
    /// Entries of the directories that were read so far.
    entries: usize,
    bytes: u64,
    found: Found,
}

/// A directory whose files are being written.
struct Directory {
    /// What is left of it.
    entries: std::vec::IntoIter<TreeEntry>,
    /// The length of the path before it.
    before: usize,
    /// What it takes of the memory of the pack.
    held: u64,
}

/// What the object that is needed next is.
enum Place {
    /// The commit that is wanted, or the so many-th tag on the way to it.
    Wanted(usize),
    /// A directory, so many names of the subdirectory below the root.
    Descent(usize),
    /// What the entry needs.
    Files(TreeEntry),
    /// None.
    End,
}

/// What was found on the way.
#[derive(Debug, Default)]
pub struct Found {
    /// The commit.
    pub commit: Option<(Id, Commit)>,
    /// The directory whose files were written; none if it lies in a submodule.
    pub tree: Option<Id>,
    /// Submodules below the directory that was written.
    pub submodules: Vec<Submodule>,
    /// The file that says where submodules come from.
    pub modules: Option<Id>,
}

/// A commit of another repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submodule {
    /// Where it is in the repository that has it.
    pub path: Vec<u8>,
    /// What the paths of its files in the layer begin with.
    pub prefix: Vec<u8>,
    /// Which commit.
    pub id: Id,
    /// The part of it that is wanted; empty is all of it.
    pub subdirectory: Vec<String>,
}

impl<'l, W: Write> Checkout<'l, W> {
    /// Begins at a commit or a tag of one, for what is in a subdirectory of it.
    pub fn new(layer: &'l mut LayerWriter<W>, id: Id, prefix: &[u8], subdirectory: &[String]) -> Self {
        Self {
            layer,
            prefix: prefix.to_vec(),
            subdirectory: subdirectory.to_vec(),
            needs: Some(id),
            place: Place::Wanted(0),
            path: Vec::new(),
            above: 0,
            stack: Vec::new(),
            entries: 0,
            bytes: 0,
            found: Found::default(),
        }
    }

    /// Goes as far as the objects allow that are there.
    ///
    /// # Errors
    /// `denied` for what attacks, `limit` for what is too much, `not-found` if there is no such subdirectory, and those
    /// of the layer.
    pub fn advance(&mut self, pack: &mut Pack) -> Result<()> {
        while let Some(id) = self.needs
            && let Some(number) = pack.find(&id)
        {
            self.needs = self.step(pack, id, number)?;
        }
        Ok(())
    }

    /// Whether not even the commit was there.
    #[must_use]
    pub fn has_not_begun(&self) -> bool {
        matches!(self.place, Place::Wanted(0))
    }

    /// What was found, once everything was written.
    ///
    /// # Errors
    /// `conflict` if an object was not there.
    pub fn finish(self) -> Result<Found> {
        match self.needs {
            None => Ok(self.found),
            Some(id) => Err(Error::conflict(format!("the server did not send object {id}"))
                .because(format!("it is needed for {}", shown(&self.path)))),
        }
    }

    /// Uses the object that was needed; gives what is needed next.
    fn step(&mut self, pack: &mut Pack, id: Id, number: Number) -> Result<Option<Id>> {
        match std::mem::replace(&mut self.place, Place::End) {
            Place::Wanted(tags) => self.wanted(pack, id, number, tags).map(Some),
            Place::Descent(depth) => self.descend(pack, id, number, depth),
            Place::Files(entry) => {
                self.write(pack, &entry, number)?;
                self.next_entry(pack)
            }
            Place::End => Ok(None),
        }
    }

    fn wanted(&mut self, pack: &mut Pack, id: Id, number: Number, tags: usize) -> Result<Id> {
        match pack.kind(number) {
            Kind::Commit => {
                let commit = object::commit(&pack.content(number)?)?;
                self.found.commit = Some((id, commit));
                self.place = Place::Descent(0);
                Ok(commit.tree)
            }
            Kind::Tag if tags < MOST_TAGS => {
                self.place = Place::Wanted(tags + 1);
                object::tag(&pack.content(number)?)
            }
            kind => Err(object::unexpected(&id, kind, Kind::Commit)),
        }
    }

    fn descend(&mut self, pack: &mut Pack, id: Id, number: Number, depth: usize) -> Result<Option<Id>> {
        let entries = self.directory(pack, id, number)?;
        if depth == 0 {
            let file =
                |entry: &&TreeEntry| &*entry.name == MODULES && matches!(entry.mode, Mode::File | Mode::Executable);
            self.found.modules = entries.iter().find(file).map(|entry| entry.id);
        }
        let Some(name) = self.subdirectory.get(depth) else {
            self.found.tree = Some(id);
            self.above = self.path.len();
            self.enter(pack, entries, self.path.len())?;
            return self.next_entry(pack);
        };
        let entry = entries.into_iter().find(|entry| &*entry.name == name.as_bytes());
        self.path.extend_from_slice(name.as_bytes());
        let not = |what: &str| {
            Err(Error::not_found(format!("the commit has no directory {}", shown(&self.path)))
                .because(what)
                .hint("check the subdirectory; it begins at the root of the repository"))
        };
        match entry {
            None => not("there is nothing of that name"),
            Some(TreeEntry { mode: Mode::Directory, id, .. }) => {
                self.path.push(b'/');
                self.place = Place::Descent(depth + 1);
                Ok(Some(id))
            }
            Some(TreeEntry { mode: Mode::Submodule, id, .. }) => {
                let subdirectory = self.subdirectory[depth + 1..].to_vec();
                let (path, prefix) = (self.path.clone(), self.prefix.clone());
                self.found.submodules.push(Submodule { path, prefix, id, subdirectory });
                Ok(None)
            }
            Some(TreeEntry { mode: Mode::Symlink, .. }) => not("it is a symbolic link"),
            Some(_) => not("it is a file"),
        }
    }

    /// Goes on with a directory; the path was one of `before` bytes.
    fn enter(&mut self, pack: &mut Pack, entries: Vec<TreeEntry>, before: usize) -> Result<()> {
        let bytes: usize = entries.iter().map(|entry| size_of::<TreeEntry>() + entry.name.len()).sum();
        let held = bytes as u64;
        pack.hold(held)?;
        self.entries += entries.len();
        self.stack.push(Directory { entries: entries.into_iter(), before, held });
        Ok(())
    }

    /// The next entry that needs an object.
    fn next_entry(&mut self, pack: &mut Pack) -> Result<Option<Id>> {
        while let Some(Directory { entries, before, held }) = self.stack.last_mut() {
            let Some(entry) = entries.next() else {
                self.path.truncate(*before);
                pack.release(*held);
                self.stack.pop();
                continue;
            };
            if entry.mode == Mode::Submodule {
                let target = self.target(&entry.name)?;
                self.layer.directory(&target, 0o755)?;
                self.found.submodules.push(Submodule {
                    path: [&self.path[..], &entry.name].concat(),
                    prefix: [&target[..], b"/"].concat(),
                    id: entry.id,
                    subdirectory: Vec::new(),
                });
                continue;
            }
            let id = entry.id;
            self.place = Place::Files(entry);
            return Ok(Some(id));
        }
        Ok(None)
    }

    fn write(&mut self, pack: &mut Pack, entry: &TreeEntry, number: Number) -> Result<()> {
        let target = self.target(&entry.name)?;
        if entry.mode == Mode::Directory {
            let before = self.path.len();
            self.path.extend_from_slice(&entry.name);
            self.path.push(b'/');
            let entries = self.directory(pack, entry.id, number)?;
            self.enter(pack, entries, before)?;
            return self.layer.directory(&target, 0o755);
        }
        let kind = pack.kind(number);
        if kind != Kind::Blob {
            return Err(object::unexpected(&entry.id, kind, Kind::Blob));
        }
        let size = pack.size(number);
        self.bytes += size;
        if self.bytes > MOST_BYTES {
            return Err(Error::limit(format!("the files of the commit have more than {} GiB", MOST_BYTES >> 30)));
        }
        match entry.mode {
            Mode::Symlink => {
                if size > LONGEST_PATH as u64 {
                    let message = format!("{} is a symbolic link to a path of {size} bytes", shown(&target));
                    return Err(Error::unsupported(message));
                }
                self.layer.symlink(&target, pack.content(number)?.as_slice())
            }
            mode => {
                let mode = if mode == Mode::Executable { 0o755 } else { 0o644 };
                if size > LARGE {
                    return self.layer.file_from(&target, mode, size, &mut pack.open(number)?);
                }
                self.layer.file(&target, mode, &pack.content(number)?)
            }
        }
    }

    fn directory(&self, pack: &mut Pack, id: Id, number: Number) -> Result<Vec<TreeEntry>> {
        let kind = pack.kind(number);
        if kind != Kind::Tree {
            return Err(object::unexpected(&id, kind, Kind::Tree));
        }
        let place = if self.path.is_empty() {
            "at the root of the repository".to_owned()
        } else {
            format!("in {}", shown(&self.path))
        };
        let content = pack.content(number)?;
        // The content itself, and what is made of it, which is at most twice as much.
        let in_hand = 3 * content.len() as u64;
        pack.hold(in_hand)?;
        let entries = object::tree(&content, self.entries).map_err(|error| error.because(place))?;
        pack.release(in_hand);
        Ok(entries)
    }

    /// Where a name of the directory at hand goes in the layer.
    fn target(&self, name: &[u8]) -> Result<Vec<u8>> {
        let target = [&self.prefix[..], &self.path[self.above..], name].concat();
        if target.len() > LONGEST_PATH {
            return Err(Error::unsupported(format!("the repository has a path of {} bytes", target.len()))
                .because(format!("paths have at most {LONGEST_PATH} bytes")));
        }
        Ok(target)
    }
}
