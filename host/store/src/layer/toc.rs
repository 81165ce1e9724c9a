//! The table of contents of a layer: its entries, sorted, complete and free of contradictions. Knows no contents.

use std::cmp::Ordering;

use sha2::{Digest as _, Sha256};

use super::entry::{Entry, Kind, compare_paths, is_valid_path, is_within};
use crate::{Digest, Error, Result};

const MAGIC: &[u8] = b"cooperage-toc 1\n";
const CHECKSUM: usize = 32;

/// The sorted entries of one layer. Every parent of an entry is an entry and a directory; the root is there only if the
/// layer says something about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toc {
    entries: Vec<Entry>,
}

impl Toc {
    /// Sorts `entries`. Of several with the same path the last counts, what lies below something that is no directory is
    /// left out, and directories that are not named but have entries below them are added (mode 0755, root, time 0).
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| compare_paths(&a.path, &b.path));
        let mut sorted: Vec<Entry> = Vec::with_capacity(entries.len());
        for entry in entries {
            match sorted.last_mut() {
                Some(last) if last.path == entry.path => *last = entry,
                _ => sorted.push(entry),
            }
        }
        Self { entries: complete(sorted) }
    }

    /// The entry at `path`.
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.index_of(path).map(|at| &self.entries[at])
    }

    /// Where the entry at `path` is in [`Toc::iter`]'s order.
    pub fn index_of(&self, path: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| compare_paths(&entry.path, path)).ok()
    }

    /// The entries right below `path`, whiteouts included, in order.
    pub fn children(&self, path: &[u8]) -> Children<'_> {
        let below = self.subtree(path);
        let own = below.first().is_some_and(|first| first.path == path);
        Children { rest: if own { &below[1..] } else { below } }
    }

    /// The entry at `path`, if there is one, and everything below it.
    pub fn subtree(&self, path: &[u8]) -> &[Entry] {
        let start = self.entries.partition_point(|entry| compare_paths(&entry.path, path) == Ordering::Less);
        let rest = &self.entries[start..];
        &rest[..rest.partition_point(|entry| is_within(&entry.path, path))]
    }

    /// All entries in the order of [`compare_paths`].
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// All entries in the order of [`compare_paths`].
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the layer says nothing at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sum of the sizes of all regular files.
    pub fn content_size(&self) -> u64 {
        self.entries.iter().map(Entry::size).sum()
    }

    /// Follows a hard link to the file it names. Links never name links.
    pub fn resolve<'a>(&'a self, entry: &'a Entry) -> Option<&'a Entry> {
        match &entry.kind {
            Kind::Hardlink { target } => {
                self.get(target).filter(|found| !matches!(found.kind, Kind::Hardlink { .. } | Kind::Whiteout))
            }
            _ => Some(entry),
        }
    }

    /// The table with what has been learnt of file `index`; `None` and 0 leave a value as it is.
    pub(crate) fn learn(&mut self, index: usize, digest: Option<Digest>, offset: u64) {
        if let Kind::File { digest: known, offset: at, .. } = &mut self.entries[index].kind {
            if digest.is_some() {
                *known = digest;
            }
            if offset != 0 {
                *at = offset;
            }
        }
    }

    /// A versioned form that [`Toc::decode`] reads back, with a checksum.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.entries.len() * 72);
        out.extend_from_slice(MAGIC);
        put(&mut out, self.entries.len() as u64);
        let mut previous: &[u8] = &[];
        for entry in &self.entries {
            encode_entry(&mut out, previous, entry);
            previous = &entry.path;
        }
        let checksum: [u8; CHECKSUM] = Sha256::digest(&out).into();
        out.extend_from_slice(&checksum);
        out
    }

    /// Reads what [`Toc::encode`] wrote. Anything else is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode(bytes).ok_or_else(|| Error::Corrupt {
            what: "the table of contents of a layer".to_owned(),
            why: "its checksum or form is wrong".to_owned(),
        })
    }
}

impl<'a> IntoIterator for &'a Toc {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The entries right below a directory; made by [`Toc::children`].
#[derive(Debug, Clone)]
pub struct Children<'a> {
    rest: &'a [Entry],
}

impl<'a> Iterator for Children<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        let (child, rest) = self.rest.split_first()?;
        let below = |entry: &Entry| is_within(&entry.path, &child.path);
        // Most children have nothing below them; of those that have, the end of the subtree is found by doubling steps.
        let mut reach = 1;
        while reach <= rest.len() && below(&rest[reach - 1]) {
            reach *= 2;
        }
        let skip = rest[..reach.min(rest.len())].partition_point(below);
        self.rest = &rest[skip..];
        Some(child)
    }
}

/// Adds missing parents to sorted `entries` and drops what contradicts an entry above it.
fn complete(entries: Vec<Entry>) -> Vec<Entry> {
    let mut out: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut above: Vec<usize> = Vec::new();
    for entry in entries {
        if entry.path.is_empty() {
            if entry.is_directory() {
                out.push(entry);
            }
            continue;
        }
        while above.last().is_some_and(|&top| !is_within(&entry.path, &out[top].path)) {
            above.pop();
        }
        if above.last().is_some_and(|&top| !out[top].is_directory()) {
            continue;
        }
        let known = above.last().map_or(0, |&top| out[top].path.len() + 1);
        for (at, _) in entry.path.iter().enumerate().filter(|&(at, &byte)| byte == b'/' && at > known) {
            above.push(out.len());
            out.push(Entry::directory(&entry.path[..at], 0o755));
        }
        above.push(out.len());
        out.push(entry);
    }
    out
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn encode_entry(out: &mut Vec<u8>, previous: &[u8], entry: &Entry) {
    let shared = previous.iter().zip(&entry.path).take_while(|(a, b)| a == b).count();
    put(out, shared as u64);
    put_bytes(out, &entry.path[shared..]);
    put(out, u64::from(entry.mode));
    put(out, u64::from(entry.uid));
    put(out, u64::from(entry.gid));
    put(out, ((entry.mtime << 1) ^ (entry.mtime >> 63)) as u64);
    put(out, u64::from(entry.mtime_nanos));
    put(out, entry.xattrs.len() as u64);
    for (name, value) in &entry.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
    match &entry.kind {
        Kind::Directory { opaque } => out.push(if *opaque { 1 } else { 0 }),
        Kind::File { size, digest, offset } => {
            out.push(if digest.is_some() { 3 } else { 2 });
            put(out, *size);
            put(out, *offset);
            if let Some(digest) = digest {
                out.extend_from_slice(digest.as_bytes());
            }
        }
        Kind::Symlink { target } => {
            out.push(4);
            put_bytes(out, target);
        }
        Kind::Hardlink { target } => {
            out.push(5);
            put_bytes(out, target);
        }
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            out.push(if matches!(entry.kind, Kind::CharDevice { .. }) { 6 } else { 7 });
            put(out, u64::from(*major));
            put(out, u64::from(*minor));
        }
        Kind::Fifo => out.push(8),
        Kind::Whiteout => out.push(9),
    }
}

/// What is left to decode.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }
}

fn decode(bytes: &[u8]) -> Option<Toc> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    let found: [u8; CHECKSUM] = Sha256::digest(body).into();
    if found != checksum {
        return None;
    }
    let mut cursor = Cursor(body.strip_prefix(MAGIC)?);
    let count = usize::try_from(cursor.number()?).ok()?;
    let mut entries: Vec<Entry> = Vec::with_capacity(count.min(body.len() / 9));
    for _ in 0..count {
        let previous = entries.last().map_or(&[][..], |entry| &entry.path);
        let entry = decode_entry(&mut cursor, previous)?;
        if !is_valid_path(&entry.path)
            || (!entries.is_empty() && compare_paths(previous, &entry.path) != Ordering::Less)
        {
            return None;
        }
        entries.push(entry);
    }
    cursor.0.is_empty().then_some(Toc { entries })
}

fn decode_entry(cursor: &mut Cursor<'_>, previous: &[u8]) -> Option<Entry> {
    let shared = usize::try_from(cursor.number()?).ok()?;
    let suffix_length = usize::try_from(cursor.number()?).ok()?;
    let suffix = cursor.take(suffix_length)?;
    let path = [previous.get(..shared)?, suffix].concat();
    let mode = cursor.small()?;
    let uid = cursor.small()?;
    let gid = cursor.small()?;
    let mtime = cursor.number()?;
    let mtime = (mtime >> 1) as i64 ^ -((mtime & 1) as i64);
    let mtime_nanos = cursor.small()?;
    let mut xattrs = Vec::new();
    for _ in 0..cursor.number()? {
        xattrs.push((cursor.bytes()?.to_vec(), cursor.bytes()?.to_vec()));
    }
    let kind = match cursor.take(1)?[0] {
        tag @ (0 | 1) => Kind::Directory { opaque: tag == 1 },
        tag @ (2 | 3) => {
            let (size, offset) = (cursor.number()?, cursor.number()?);
            let digest = match tag {
                3 => Some(Digest::from_bytes(cursor.take(32)?.try_into().ok()?)),
                _ => None,
            };
            Kind::File { size, digest, offset }
        }
        4 => Kind::Symlink { target: cursor.bytes()?.to_vec() },
        5 => Kind::Hardlink { target: cursor.bytes()?.to_vec() },
        6 => Kind::CharDevice { major: cursor.small()?, minor: cursor.small()? },
        7 => Kind::BlockDevice { major: cursor.small()?, minor: cursor.small()? },
        8 => Kind::Fifo,
        9 => Kind::Whiteout,
        _ => return None,
    };
    Some(Entry { path, kind, mode, uid, gid, mtime, mtime_nanos, xattrs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paths<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<String> {
        entries.into_iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect()
    }

    #[test]
    fn missing_parents_are_added_once() {
        let toc =
            Toc::new(vec![Entry::file("a/b/c", 0o644, 1), Entry::file("a/b/d", 0o644, 1), Entry::file("z", 0, 0)]);
        assert_eq!(paths(&toc), ["a", "a/b", "a/b/c", "a/b/d", "z"]);
        assert_eq!(toc.get(b"a").map(|entry| (entry.mode, entry.is_directory())), Some((0o755, true)));
    }

    #[test]
    fn the_last_of_equals_wins_and_nothing_lies_below_a_file() {
        let toc = Toc::new(vec![
            Entry::directory("a", 0o700),
            Entry::file("a/x", 0o644, 1),
            Entry::symlink("a", "b"),
            Entry::whiteout("w"),
            Entry::file("w/x/y", 0o644, 1),
        ]);
        assert_eq!(paths(&toc), ["a", "w"]);
        assert!(matches!(toc.get(b"a").map(|entry| &entry.kind), Some(Kind::Symlink { .. })));
    }

    #[test]
    fn children_skip_what_is_deeper() {
        let mut entries = vec![Entry::directory("", 0o755), Entry::directory("d-x", 0o755)];
        entries.extend((0..100).map(|n| Entry::file(format!("d/sub/f{n:03}"), 0o644, 1)));
        entries.extend((0..3).map(|n| Entry::file(format!("d/z{n}"), 0o644, 1)));
        let toc = Toc::new(entries);
        assert_eq!(paths(toc.children(b"")), ["d", "d-x"]);
        assert_eq!(paths(toc.children(b"d")), ["d/sub", "d/z0", "d/z1", "d/z2"]);
        assert_eq!(toc.children(b"d/sub").count(), 100);
        assert_eq!(toc.children(b"none").count(), 0);
        assert_eq!(toc.subtree(b"d").len(), 105);
        assert_eq!(toc.subtree(b"").len(), toc.len());
    }

    #[test]
    fn a_damaged_table_is_refused() {
        let bytes = Toc::new(vec![Entry::file("a/b", 0o644, 5)]).encode();
        assert!(Toc::decode(&bytes).is_ok());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Toc::decode(&bad).is_err(), "byte {at}");
            assert!(Toc::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    fn any_kind() -> impl Strategy<Value = Kind> {
        let bytes = proptest::collection::vec(1u8.., 0..20);
        prop_oneof![
            any::<bool>().prop_map(|opaque| Kind::Directory { opaque }),
            (any::<u64>(), any::<Option<[u8; 32]>>(), any::<u64>()).prop_map(|(size, digest, offset)| Kind::File {
                size,
                digest: digest.map(Digest::from_bytes),
                offset
            }),
            bytes.prop_map(|target| Kind::Symlink { target }),
            (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
            Just(Kind::Fifo),
            Just(Kind::Whiteout),
        ]
    }

    proptest! {
        #[test]
        fn encoding_is_read_back(
            entries in proptest::collection::vec(
                ("[a-c]{1,2}(/[a-c\u{e9}]{1,2}){0,3}", any_kind(), any::<u32>(), any::<i64>(),
                 proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..9), proptest::collection::vec(any::<u8>(), 0..9)), 0..3)),
                0..40)
        ) {
            let toc = Toc::new(entries.into_iter().map(|(path, kind, number, mtime, xattrs)| Entry {
                path: path.into_bytes(), kind, mode: number & 0o7777, uid: number, gid: !number, mtime, mtime_nanos: 7, xattrs,
            }).collect());
            prop_assert_eq!(Toc::decode(&toc.encode()).unwrap(), toc);
        }
    }
}
