//! Reads an overlayfs upper directory, as the kernel left it, into entries. Changes nothing in it but sockets, which no
//! layer can hold and which go.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::beneath;
use super::builder::is_overlay_attribute;
use super::entry::{Entry, Kind, display};
use super::fault;
use super::limits::Limits;
use super::toc::Toc;
use crate::{Error, Result};

/// What the walk has found so far.
struct Walk {
    entries: Vec<Entry>,
    /// Regular files with several names, by inode.
    linked: HashMap<u64, Vec<usize>>,
    /// Prefix of the attributes that this mount takes as overlayfs's own. A build may set the other ones at will.
    orders: &'static [u8],
    limits: Limits,
}

/// The table of contents of the upper directory at `path`.
pub(crate) fn upper(path: &Path, userxattr: bool, limits: Limits) -> Result<Toc> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, Mode::empty()).map_err(fault::sys("opening", path))?;
    let orders: &[u8] = if userxattr { b"user.overlay." } else { b"trusted.overlay." };
    let mut walk = Walk { entries: Vec::new(), linked: HashMap::new(), orders, limits };
    let mut todo: Vec<Vec<u8>> = Vec::new();
    walk.root(root.as_fd()).map_err(fault::sys("reading", path))?;
    todo.push(Vec::new());
    while let Some(directory) = todo.pop() {
        walk.directory(root.as_fd(), &directory, &mut todo)?;
    }
    Ok(walk.finish())
}

impl Walk {
    fn root(&mut self, root: BorrowedFd<'_>) -> Result<(), Errno> {
        let stat = rustix::fs::statx(root, c"", AtFlags::EMPTY_PATH, wanted())?;
        let mut entry = entry(Vec::new(), Kind::Directory { opaque: false }, &stat);
        let found = attributes(format!("/proc/self/fd/{}/.", root.as_raw_fd()).as_bytes(), self.orders)?;
        entry.kind = Kind::Directory { opaque: found.opaque };
        entry.xattrs = found.kept;
        self.entries.push(entry);
        Ok(())
    }

    fn directory(&mut self, root: BorrowedFd<'_>, path: &[u8], todo: &mut Vec<Vec<u8>>) -> Result<()> {
        let failed = || fault::sys("reading", fault::inside(path));
        let directory = beneath::directory(root, path).map_err(failed())?;
        for item in Dir::read_from(&directory).map_err(failed())? {
            let item = item.map_err(failed())?;
            let name = item.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name.to_bytes());
            if below.len() > self.limits.path || self.entries.len() as u64 > self.limits.entries {
                return Err(Error::Exceeds {
                    what: display(&below),
                    why: "too many files, or too long a path".to_owned(),
                });
            }
            if self.item(directory.as_fd(), name, &below)? {
                todo.push(below);
            }
        }
        Ok(())
    }

    /// Takes one name of a directory; tells whether it is a directory itself.
    fn item(&mut self, parent: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<bool> {
        let failed = || fault::sys("reading", fault::inside(path));
        let stat = rustix::fs::statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, wanted()).map_err(failed())?;
        let mut place = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        place.extend_from_slice(name.to_bytes());
        let found = attributes(&place, self.orders).map_err(failed())?;
        if found.elsewhere {
            return Err(Error::Unsupported {
                what: display(path),
                why: "the overlay was mounted with redirect_dir or metacopy, so its content is not in the upper directory"
                    .to_owned(),
            });
        }
        let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
        let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Directory => Kind::Directory { opaque: found.opaque },
            FileType::RegularFile if found.whiteout && stat.stx_size == 0 => Kind::Whiteout,
            FileType::RegularFile => Kind::File { size: stat.stx_size, digest: None, offset: 0 },
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new()).map_err(failed())?;
                Kind::Symlink { target: target.into_bytes() }
            }
            FileType::CharacterDevice if (major, minor) == (0, 0) => Kind::Whiteout,
            FileType::CharacterDevice => Kind::CharDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            FileType::Fifo => Kind::Fifo,
            FileType::Socket | FileType::Unknown => {
                rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(failed())?;
                return Ok(false);
            }
        };
        if matches!(kind, Kind::Whiteout) {
            self.entries.push(Entry::whiteout(path));
            return Ok(false);
        }
        if matches!(kind, Kind::File { .. }) && stat.stx_nlink > 1 {
            self.linked.entry(stat.stx_ino).or_default().push(self.entries.len());
        }
        let directory = matches!(kind, Kind::Directory { .. });
        let mut entry = entry(path.to_vec(), kind, &stat);
        entry.xattrs = found.kept;
        self.entries.push(entry);
        Ok(directory)
    }

    /// Makes links of all names of a file but the first, and sorts.
    fn finish(mut self) -> Toc {
        for names in self.linked.values() {
            let path = |at: usize| &self.entries[at].path;
            let Some(&first) = names.iter().min_by(|&&a, &&b| super::compare_paths(path(a), path(b))) else { continue };
            let target = path(first).clone();
            for &name in names.iter().filter(|&&name| name != first) {
                self.entries[name].kind = Kind::Hardlink { target: target.clone() };
            }
        }
        Toc::new(self.entries)
    }
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS
}

fn entry(path: Vec<u8>, kind: Kind, stat: &Statx) -> Entry {
    Entry {
        path,
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: stat.stx_mtime.tv_sec,
        mtime_nanos: stat.stx_mtime.tv_nsec,
        xattrs: Vec::new(),
    }
}

/// The extended attributes of one file, sorted out.
#[derive(Default)]
struct Attributes {
    kept: Vec<(Vec<u8>, Vec<u8>)>,
    opaque: bool,
    whiteout: bool,
    /// The content, or that of the directory, is that of another path of a lower layer.
    elsewhere: bool,
}

/// Reads the extended attributes at `path`, a name below an open directory. Kept are those that belong to the file
/// rather than to this machine: `user.*` and `security.capability`.
fn attributes(path: &[u8], orders: &[u8]) -> Result<Attributes, Errno> {
    let mut found = Attributes::default();
    let mut names = [0u8; 4096];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(found),
        Err(Errno::RANGE) => return long_attributes(path, orders),
        Err(errno) => return Err(errno),
    };
    take_attributes(path, &names[..length], orders, &mut found)?;
    Ok(found)
}

fn long_attributes(path: &[u8], orders: &[u8]) -> Result<Attributes, Errno> {
    // XATTR_LIST_MAX: the kernel lists no more.
    let mut names = vec![0u8; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..])?;
    let mut found = Attributes::default();
    take_attributes(path, &names[..length], orders, &mut found)?;
    Ok(found)
}

fn take_attributes(path: &[u8], names: &[u8], orders: &[u8], found: &mut Attributes) -> Result<(), Errno> {
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        if let Some(order) = name.strip_prefix(orders) {
            match order {
                b"opaque" => found.opaque = value(path, name)? == b"y",
                b"whiteout" => found.whiteout = true,
                b"redirect" | b"metacopy" => found.elsewhere = true,
                _ => {}
            }
        } else if (name.starts_with(b"user.") && !is_overlay_attribute(name)) || name == b"security.capability" {
            found.kept.push((name.to_vec(), value(path, name)?));
        }
    }
    found.kept.sort();
    Ok(())
}

fn value(path: &[u8], name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0u8; 256];
    loop {
        match rustix::fs::lgetxattr(path, name, &mut buffer[..]) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 65536 => buffer.resize(65536, 0),
            Err(errno) => return Err(errno),
        }
    }
}
