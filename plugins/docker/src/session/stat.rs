//! An entry as the engine is told of it.
//!
//! The engine keeps the files of a build, and asks in the next one only for files of which something differs: mode,
//! owner, size, time of modification, target (`sameFile` and `compareStat` of tonistiigi/fsutil). Directories here have
//! no such times, but they have digests. So the time stands for the digest: a second that is always the same, and
//! nanoseconds made of the bytes' digest. A file that has changed has another time and is sent; one that has not has
//! the same, and is not; one of 10^9 changes that leave the size as it is goes unseen. BuildKit does not look at times
//! when it compares contexts, and layers have only the second. A step that runs right after COPY does see the
//! nanoseconds: for `make` the files are in no order of time, as they are in a fresh clone.

use super::messages::Stat;
use super::{Entry, Kind};

const NANOSECONDS: u64 = 1_000_000_000;
/// 1980-01-02: what COPY puts into the image keeps it, and zip archives hold no earlier times, wherever they are made.
const SECOND: u64 = 315_619_200;

/// From `io/fs` of Go.
const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
/// Bits of Unix and those of Go.
const SPECIAL: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

/// Tells of an entry. `otherwise` stands in for the digest of files without one.
pub fn stat(path: String, entry: &Entry, otherwise: u64) -> Stat {
    let linkname = entry.link_target.clone().filter(|_| entry.kind == Kind::Symlink).unwrap_or_default();
    let (size, nanoseconds) = match entry.kind {
        Kind::File => (entry.size, entry.digest.as_deref().and_then(number).unwrap_or(otherwise) % NANOSECONDS),
        Kind::Symlink => (linkname.len() as u64, 0),
        Kind::Directory | Kind::Other => (0, 0),
    };
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mod_time = signed(SECOND * NANOSECONDS + nanoseconds);
    Stat { path, mode: mode(entry), uid: entry.uid, gid: entry.gid, size: signed(size), mod_time, linkname }
}

/// The first eight bytes of a digest.
fn number(digest: &str) -> Option<u64> {
    let (_, hex) = digest.split_once(':')?;
    u64::from_str_radix(hex.get(..16)?, 16).ok()
}

fn mode(entry: &Entry) -> u32 {
    let special = SPECIAL.iter().filter(|(unix, _)| entry.mode & unix != 0).fold(0, |all, (_, go)| all | go);
    match entry.kind {
        Kind::Directory => DIRECTORY | special | (entry.mode & 0o777),
        // Linux gives symlinks these permissions, and the engine compares with what it finds.
        Kind::Symlink => SYMLINK | 0o777,
        Kind::File | Kind::Other => special | (entry.mode & 0o777),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind, mode: u32) -> Entry {
        let name = "a".to_owned();
        Entry { name, kind, size: 3, mode, uid: 1, gid: 2, link_target: None, digest: None }
    }

    #[test]
    fn modes_are_those_of_go() {
        let told = |entry: &Entry| stat("a".into(), entry, 0).mode;
        assert_eq!(told(&entry(Kind::File, 0o104_755)), (1 << 23) | 0o755);
        assert_eq!(told(&entry(Kind::Directory, 0o1777)), (1 << 31) | (1 << 20) | 0o777);
        assert_eq!(told(&entry(Kind::Directory, 0o2755)), (1 << 31) | (1 << 22) | 0o755);
        let link = Entry { link_target: Some("there".into()), ..entry(Kind::Symlink, 0o644) };
        assert_eq!((told(&link), stat("a".into(), &link, 0).size), ((1 << 27) | 0o777, 5));
    }

    #[test]
    fn times_stand_for_digests() {
        let time = |digest: Option<&str>, otherwise| {
            let entry = Entry { digest: digest.map(str::to_owned), ..entry(Kind::File, 0o644) };
            u64::try_from(stat("a".into(), &entry, otherwise).mod_time).unwrap()
        };
        let digest = "sha256:00000000000000ff";
        assert_eq!(time(Some(digest), 1), SECOND * NANOSECONDS + 255);
        assert_ne!(time(Some(digest), 1), time(Some("sha256:00000000000000fe"), 1));
        for wrong in [None, Some("sha256:ä0000000000000000000"), Some("sha256:ff"), Some("")] {
            assert_eq!(time(wrong, NANOSECONDS + 7), SECOND * NANOSECONDS + 7, "{wrong:?}");
        }
    }
}
