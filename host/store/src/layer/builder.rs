//! Plays the entries of an archive, in order, on a virtual tree, and makes the table of contents of what would be there.
//! Touches no disk.
//!
//! This is where hostile archives are dealt with, so the rules are written out. They follow what Docker and containerd do
//! with honest images:
//! - A path is taken from the root of the layer: a leading `/` and `.` components mean nothing, `..` is resolved as text
//!   and must not lead out.
//! - A path through a symbolic link *of the same layer* goes where the link points, the root of the layer being `/`:
//!   `..` stops there, and after 40 links the archive is refused.
//! - Of several entries with one path the last counts. A directory over a directory keeps what is below; anything else
//!   over a directory removes it.
//! - Whiteouts speak of lower layers only, whatever their place in the archive: a whiteout and a file of one name leave
//!   the file, a whiteout and a directory of one name leave an opaque directory.
//! - Names of one file (hard links) share its metadata; when the name that had the data is replaced, the others keep it.
//! - A character device 0:0 *is* a whiteout for overlayfs, and `trusted.overlay.*` and `user.overlay.*` attributes are
//!   orders to it; the one becomes a whiteout here, the others are dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;

use super::entry::{Entry, Kind, display};
use super::fault::{limit, malformed};
use super::limits::Limits;
use super::reader::{Record, Type};
use super::toc::Toc;
use crate::Digest;

/// Prefix of the names of whiteouts in archives.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// Name of the entry that makes its directory opaque.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// Prefix of names that aufs used for itself.
const AUFS: &[u8] = b".wh..wh.";
const LINKS: u32 = 40;

/// What names point to.
struct Node {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    mtime_nanos: u32,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Whether `.wh.` names mean whiteouts, as in layers, or are names like others, as in a user's archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Layer,
    Plain,
}

/// A tree in the making. Paths are kept with a zero byte for each `/`, so that bytewise order is that of
/// [`super::compare_paths`].
pub(crate) struct Builder {
    nodes: Vec<Node>,
    names: BTreeMap<Vec<u8>, usize>,
    whiteouts: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
    /// The parent that was resolved last, as written and as found; forgotten when a name changes its meaning.
    parent: Option<(Vec<u8>, Vec<u8>)>,
    naming: Names,
    limits: Limits,
    table: u64,
}

impl Builder {
    pub(crate) fn new(naming: Names, limits: Limits) -> Self {
        Self {
            nodes: Vec::new(),
            names: BTreeMap::new(),
            whiteouts: BTreeSet::new(),
            opaque: BTreeSet::new(),
            parent: None,
            naming,
            limits,
            table: 0,
        }
    }

    /// Takes the next entry of the archive. `digest` is that of a regular file's content.
    pub(crate) fn add(&mut self, record: Record, digest: Option<Digest>) -> io::Result<()> {
        let size = record.path.len() + record.link.len() + 128;
        let attributes: usize = record.xattrs.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        self.table += (size + attributes) as u64;
        if self.table > self.limits.table {
            return Err(limit(format!("names and attributes take more than {} bytes", self.limits.table)));
        }
        let Some(clean) = clean(&record.path) else {
            return Err(malformed(format!("{} leads out of the layer", display(&record.path))));
        };
        let (parent, name) = split_key(&clean);
        if self.naming == Names::Layer {
            if parent.split(|&byte| byte == 0).any(|part| part.starts_with(WHITEOUT)) {
                return Err(malformed(format!("{} is below a whiteout", display(&record.path))));
            }
            if name.starts_with(WHITEOUT) {
                return self.add_whiteout(&record.path, parent, name);
            }
        }
        if clean.is_empty() {
            return if record.kind == Type::Directory {
                self.insert(Vec::new(), record, digest)
            } else {
                Err(malformed("the root of the layer is not a directory".to_owned()))
            };
        }
        let path = self.place(&record.path, parent, name)?;
        self.insert(path, record, digest)
    }

    /// The table of contents of what came in.
    pub(crate) fn finish(self) -> Toc {
        let Self { nodes, names, whiteouts, opaque, .. } = self;
        let mut entries: Vec<Entry> = Vec::with_capacity(names.len() + whiteouts.len());
        let mut first: Vec<Option<Vec<u8>>> = vec![None; nodes.len()];
        for (key, &node) in &names {
            let path = to_path(key);
            let from = &nodes[node];
            let mut kind = from.kind.clone();
            if let Kind::File { .. } = kind {
                match &first[node] {
                    Some(target) => kind = Kind::Hardlink { target: target.clone() },
                    None => first[node] = Some(path.clone()),
                }
            }
            if let Kind::Directory { opaque: is_opaque } = &mut kind {
                *is_opaque = opaque.contains(key) || whiteouts.contains(key);
            }
            let (mode, uid, gid) = (from.mode, from.uid, from.gid);
            let (mtime, mtime_nanos, xattrs) = (from.mtime, from.mtime_nanos, from.xattrs.clone());
            entries.push(Entry { path, kind, mode, uid, gid, mtime, mtime_nanos, xattrs });
        }
        for key in opaque.iter().filter(|key| !names.contains_key(*key)) {
            entries.push(Entry::new(to_path(key), Kind::Directory { opaque: true }, 0o755));
        }
        for key in whiteouts.iter().filter(|key| !names.contains_key(*key) && !opaque.contains(*key)) {
            let kind = if below(&names, key).next().is_some() || has_below(&whiteouts, key) {
                Kind::Directory { opaque: true }
            } else {
                Kind::Whiteout
            };
            let mode = if kind == Kind::Whiteout { 0 } else { 0o755 };
            entries.push(Entry::new(to_path(key), kind, mode));
        }
        Toc::new(entries)
    }

    fn add_whiteout(&mut self, written: &[u8], parent: &[u8], name: &[u8]) -> io::Result<()> {
        if name == OPAQUE {
            let directory = self.resolve(written, parent)?;
            self.opaque.insert(directory);
            return Ok(());
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(malformed(format!("{} is a whiteout of nothing", display(written))));
        }
        let path = self.place(written, parent, hidden)?;
        self.whiteouts.insert(path);
        Ok(())
    }

    fn insert(&mut self, path: Vec<u8>, record: Record, digest: Option<Digest>) -> io::Result<()> {
        let written = record.path.clone();
        let kind = match record.kind {
            Type::Directory => Kind::Directory { opaque: false },
            Type::File => Kind::File { size: record.size, digest, offset: record.offset },
            Type::Symlink if record.link.is_empty() => {
                return Err(malformed(format!("{} is a symbolic link to nothing", display(&written))));
            }
            Type::Symlink => Kind::Symlink { target: record.link },
            Type::Hardlink => return self.insert_link(path, &written, &record.link),
            Type::CharDevice if (record.major, record.minor) == (0, 0) && self.naming == Names::Layer => {
                self.remove(&path);
                self.whiteouts.insert(path);
                return Ok(());
            }
            Type::CharDevice => Kind::CharDevice { major: record.major, minor: record.minor },
            Type::BlockDevice => Kind::BlockDevice { major: record.major, minor: record.minor },
            Type::Fifo => Kind::Fifo,
        };
        let mut xattrs = record.xattrs;
        xattrs.retain(|(name, _)| !is_overlay_attribute(name));
        xattrs.sort();
        let directory = matches!(kind, Kind::Directory { .. });
        let known = self.names.get(&path).is_some_and(|&node| matches!(self.nodes[node].kind, Kind::Directory { .. }));
        if !(directory && known) {
            self.remove_for(&path, directory);
        }
        let (mode, uid, gid) = (record.mode, record.uid, record.gid);
        let (mtime, mtime_nanos) = (record.mtime, record.mtime_nanos);
        self.nodes.push(Node { kind, mode, uid, gid, mtime, mtime_nanos, xattrs });
        self.names.insert(path, self.nodes.len() - 1);
        Ok(())
    }

    fn insert_link(&mut self, path: Vec<u8>, written: &[u8], link: &[u8]) -> io::Result<()> {
        let outside =
            || malformed(format!("{} is a hard link out of the layer, to {}", display(written), display(link)));
        let target = clean(link).ok_or_else(outside)?;
        let (parent, name) = split_key(&target);
        let target = self.place(link, parent, name)?;
        let Some(&node) = self.names.get(&target) else {
            // The file is in a lower layer: legal, though no writer makes it. Whoever needs the file gets the error.
            self.remove(&path);
            let mut entry = Node::bare(Kind::Hardlink { target: to_path(&target) });
            entry.mode = 0o644;
            self.nodes.push(entry);
            self.names.insert(path, self.nodes.len() - 1);
            return Ok(());
        };
        if matches!(self.nodes[node].kind, Kind::Directory { .. }) {
            return Err(malformed(format!("{} is a hard link to the directory {}", display(written), display(link))));
        }
        if path != target {
            self.remove(&path);
            self.names.insert(path, node);
        }
        Ok(())
    }

    /// Makes way for something that is not a directory, or for a directory where none was.
    fn remove_for(&mut self, path: &[u8], directory: bool) {
        if !directory {
            self.remove(path);
        } else if self.names.remove(path).is_some() {
            self.parent = None;
        }
    }

    /// Removes a path with all that is below it.
    fn remove(&mut self, path: &[u8]) {
        self.parent = None;
        self.names.remove(path);
        self.opaque.remove(path);
        let doomed: Vec<Vec<u8>> = below(&self.names, path).map(|(key, _)| key.clone()).collect();
        for key in doomed {
            self.names.remove(&key);
        }
    }

    /// Where an entry called `name` in the directory `parent` goes.
    fn place(&mut self, written: &[u8], parent: &[u8], name: &[u8]) -> io::Result<Vec<u8>> {
        let mut path = self.resolve(written, parent)?;
        if !path.is_empty() {
            path.push(0);
        }
        path.extend_from_slice(name);
        Ok(path)
    }

    /// Follows the symbolic links of a directory's path. What is missing will be a directory.
    fn resolve(&mut self, written: &[u8], parent: &[u8]) -> io::Result<Vec<u8>> {
        if let Some((known, found)) = &self.parent
            && known == parent
        {
            return Ok(found.clone());
        }
        let mut todo: Vec<Vec<u8>> = components(parent).rev().map(<[u8]>::to_vec).collect();
        let mut found: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                found.truncate(split_key(&found).0.len());
                continue;
            }
            let before = found.len();
            if !found.is_empty() {
                found.push(0);
            }
            found.extend_from_slice(&part);
            match self.names.get(&found).map(|&node| &self.nodes[node].kind) {
                None | Some(Kind::Directory { .. }) => {}
                Some(Kind::Symlink { target }) => {
                    links += 1;
                    if links > LINKS {
                        return Err(malformed(format!("{} goes through too many symbolic links", display(written))));
                    }
                    found.truncate(if target.starts_with(b"/") { 0 } else { before });
                    let parts = target.split(|&byte| byte == b'/').rev();
                    todo.extend(parts.filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec));
                }
                Some(_) => {
                    let file = display(&to_path(&found));
                    return Err(malformed(format!("{} lies below {file}, which is not a directory", display(written))));
                }
            }
            if found.len() > self.limits.path {
                return Err(limit(format!("a name has more than {} bytes", self.limits.path)));
            }
        }
        self.parent = Some((parent.to_vec(), found.clone()));
        Ok(found)
    }
}

impl Node {
    fn bare(kind: Kind) -> Self {
        Self { kind, mode: 0, uid: 0, gid: 0, mtime: 0, mtime_nanos: 0, xattrs: Vec::new() }
    }
}

/// Whether an extended attribute is an order to overlayfs rather than data.
pub(crate) fn is_overlay_attribute(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// A path of an archive with its components separated by zero bytes; none if it leads above the root.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if out.is_empty() => return None,
            b".." => out.truncate(split_key(&out).0.len()),
            _ => {
                if !out.is_empty() {
                    out.push(0);
                }
                out.extend_from_slice(part);
            }
        }
    }
    Some(out)
}

fn components(key: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    key.split(|&byte| byte == 0).filter(|part| !part.is_empty())
}

fn split_key(key: &[u8]) -> (&[u8], &[u8]) {
    match key.iter().rposition(|&byte| byte == 0) {
        Some(at) => (&key[..at], &key[at + 1..]),
        None => (&[], key),
    }
}

fn to_path(key: &[u8]) -> Vec<u8> {
    key.iter().map(|&byte| if byte == 0 { b'/' } else { byte }).collect()
}

fn bounds(key: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let edge = |last| [key, &[last]].concat();
    if key.is_empty() {
        (Bound::Excluded(Vec::new()), Bound::Unbounded)
    } else {
        (Bound::Excluded(edge(0)), Bound::Excluded(edge(1)))
    }
}

/// What is below `key`.
fn below<'a>(names: &'a BTreeMap<Vec<u8>, usize>, key: &[u8]) -> impl Iterator<Item = (&'a Vec<u8>, &'a usize)> {
    names.range(bounds(key))
}

fn has_below(names: &BTreeSet<Vec<u8>>, key: &[u8]) -> bool {
    names.range(bounds(key)).next().is_some()
}
