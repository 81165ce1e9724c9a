//! A directory in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use cooperage_sdk::{Error, Result};

use crate::edge::Body;
use crate::session::{Entry, Files, Kind};
use crate::testing::{Pieces, digest};

#[derive(Default)]
pub struct Tree {
    /// By directory, then by name.
    entries: BTreeMap<String, BTreeMap<String, Entry>>,
    contents: BTreeMap<String, Content>,
    /// Directories that were looked into.
    pub seen: RefCell<Vec<String>>,
}

enum Content {
    Bytes(Vec<u8>),
    /// So many, and how many were read of them.
    Zeros(usize, Rc<RefCell<usize>>),
    Broken,
}

impl Tree {
    pub fn new() -> Self {
        let mut tree = Self::default();
        tree.entries.insert(String::new(), BTreeMap::new());
        tree
    }

    pub fn file(mut self, path: &str, bytes: &[u8]) -> Self {
        let entry = self.add(path, Kind::File);
        (entry.size, entry.digest) = (bytes.len() as u64, Some(digest(bytes)));
        self.contents.insert(path.to_owned(), Content::Bytes(bytes.to_vec()));
        self
    }

    /// A large file without a digest; the counter says how much of it was read.
    pub fn zeros(mut self, path: &str, size: usize, read: &Rc<RefCell<usize>>) -> Self {
        self.add(path, Kind::File).size = size as u64;
        self.contents.insert(path.to_owned(), Content::Zeros(size, read.clone()));
        self
    }

    pub fn broken(mut self, path: &str) -> Self {
        self.add(path, Kind::File).size = 5;
        self.contents.insert(path.to_owned(), Content::Broken);
        self
    }

    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.add(path, Kind::Symlink).link_target = Some(target.to_owned());
        self
    }

    pub fn directory(mut self, path: &str) -> Self {
        self.add(path, Kind::Directory);
        self.entries.entry(path.to_owned()).or_default();
        self
    }

    pub fn socket(mut self, path: &str) -> Self {
        self.add(path, Kind::Other);
        self
    }

    fn add(&mut self, path: &str, kind: Kind) -> &mut Entry {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if !parent.is_empty() && !self.entries.contains_key(parent) {
            self.add(parent, Kind::Directory);
        }
        let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
        let name = name.to_owned();
        let entry = Entry { name: name.clone(), kind, size: 0, mode, uid: 0, gid: 0, link_target: None, digest: None };
        self.entries.entry(parent.to_owned()).or_default().entry(name).insert_entry(entry).into_mut()
    }
}

impl Files for Tree {
    fn entries(&self, path: &str) -> Result<Vec<Entry>> {
        self.seen.borrow_mut().push(path.to_owned());
        let entries =
            self.entries.get(path).ok_or_else(|| Error::not_found(format!("there is no directory {path}")))?;
        Ok(entries.values().cloned().collect())
    }

    fn open(&self, path: &str) -> Result<Box<dyn Body>> {
        Ok(match self.contents.get(path) {
            Some(Content::Bytes(bytes)) => Box::new(Pieces::of(bytes, 1000)),
            Some(Content::Zeros(size, read)) => Box::new(Zeros { left: *size, read: read.clone() }),
            Some(Content::Broken) => return Err(Error::denied("the disk is full of holes")),
            None => return Err(Error::not_found(path)),
        })
    }
}

struct Zeros {
    left: usize,
    read: Rc<RefCell<usize>>,
}

impl Body for Zeros {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        let length = self.left.min(max as usize);
        self.left -= length;
        *self.read.borrow_mut() += length;
        Ok(vec![0; length])
    }
}
