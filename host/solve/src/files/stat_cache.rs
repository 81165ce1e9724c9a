//! Remembers the digests of local files by what `stat` says of them, so that an unchanged file is not read again.
//!
//! A file is believed unchanged when size, modification time, change time and inode are the same. A file whose
//! change time is as young as the clock's grain could change once more without a trace; such a file is not
//! remembered (git calls it racily clean).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cooperage_store::Digest;

const MAGIC: &[u8; 8] = b"coopst\x00\x01";
/// Longer than the coarsest clock tick of a Linux kernel (10 ms), with room for a busy machine.
const GRAIN_NANOS: i64 = 50_000_000;

/// What `stat` says of a file's identity and change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) ctime: i64,
    pub(super) inode: u64,
}

/// Digests by path, each with what it was true for.
type Known = HashMap<Box<[u8]>, (Stamp, Digest)>;

/// The digests of one directory's files.
#[derive(Debug)]
pub(super) struct StatCache {
    file: PathBuf,
    known: Known,
    changed: bool,
}

impl StatCache {
    /// Reads what an earlier build left in `file`; anything unreadable counts as empty.
    pub(super) fn load(file: PathBuf) -> Self {
        let known = std::fs::read(&file).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        Self { file, known, changed: false }
    }

    pub(super) fn get(&self, path: &[u8], stamp: &Stamp) -> Option<Digest> {
        self.known.get(path).filter(|(known, _)| known == stamp).map(|(_, digest)| *digest)
    }

    pub(super) fn put(&mut self, path: &[u8], stamp: Stamp, digest: Digest, hashed_at: SystemTime) {
        let now = hashed_at.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
        if stamp.ctime.saturating_add(GRAIN_NANOS) < now {
            self.known.insert(path.into(), (stamp, digest));
            self.changed = true;
        }
    }

    /// Writes the file anew if something was learnt. A failure costs only time in the next build.
    pub(super) fn save(&mut self) -> std::io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        let directory = self.file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        let temporary = directory.join(format!(".{}.{:?}", std::process::id(), std::thread::current().id()));
        std::fs::write(&temporary, encode(&self.known))?;
        std::fs::rename(&temporary, &self.file)?;
        self.changed = false;
        Ok(())
    }
}

fn encode(known: &Known) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + known.len() * 120);
    bytes.extend_from_slice(MAGIC);
    for (path, (stamp, digest)) in known {
        bytes.extend_from_slice(&u32::try_from(path.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(path);
        bytes.extend_from_slice(&stamp.size.to_le_bytes());
        bytes.extend_from_slice(&stamp.mtime.to_le_bytes());
        bytes.extend_from_slice(&stamp.ctime.to_le_bytes());
        bytes.extend_from_slice(&stamp.inode.to_le_bytes());
        bytes.extend_from_slice(digest.as_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Known> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut known = HashMap::with_capacity(rest.len() / 100);
    while !rest.is_empty() {
        let length = u32::from_le_bytes(*take(&mut rest)?) as usize;
        let path = rest.get(..length)?;
        rest = &rest[length..];
        let stamp = Stamp {
            size: u64::from_le_bytes(*take(&mut rest)?),
            mtime: i64::from_le_bytes(*take(&mut rest)?),
            ctime: i64::from_le_bytes(*take(&mut rest)?),
            inode: u64::from_le_bytes(*take(&mut rest)?),
        };
        let digest = Digest::from_bytes(*take::<32>(&mut rest)?);
        known.insert(path.into(), (stamp, digest));
    }
    Some(known)
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(ctime: i64) -> Stamp {
        Stamp { size: 3, mtime: 1, ctime, inode: 9 }
    }

    #[test]
    fn round_trip_and_damage() {
        let mut known = HashMap::new();
        known.insert(Box::from(&b"a/\xff"[..]), (stamp(5), Digest::of(b"x")));
        let bytes = encode(&known);
        assert_eq!(decode(&bytes), Some(known));
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(decode(b"other"), None);
    }

    #[test]
    fn young_files_are_not_believed() {
        let mut cache = StatCache::load(PathBuf::from("/nonexistent"));
        let now = SystemTime::now();
        let nanos = i64::try_from(now.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        cache.put(b"young", stamp(nanos), Digest::of(b""), now);
        cache.put(b"old", stamp(nanos - 2 * GRAIN_NANOS), Digest::of(b""), now);
        assert!(cache.get(b"young", &stamp(nanos)).is_none());
        assert!(cache.get(b"old", &stamp(nanos - 2 * GRAIN_NANOS)).is_some());
        assert!(cache.get(b"old", &stamp(nanos)).is_none());
    }
}
