//! Finds paths inside a root that is not `/` yet, never leaving it; mounts nothing.
//!
//! The root is made of somebody else's layers: any component may be a symbolic link to anywhere. Look-ups go
//! through openat2 with RESOLVE_IN_ROOT, so that absolute links and `..` stay inside, and RESOLVE_NO_MAGICLINKS,
//! so that no link below a mounted /proc leads out. Nothing runs in the root yet, so nobody races with us.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use rustix::io::Errno;

use crate::wire::{Failure, Result, Step};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// Opens (O_PATH) what `path` means inside `root`.
pub(crate) fn open_in(root: BorrowedFd<'_>, path: &str, flags: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | flags;
    let path = if path.is_empty() { "." } else { path };
    for _ in 0..1000 {
        match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename or mount anywhere on the machine while `..` was resolved.
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// The type of what an O_PATH descriptor stands for.
pub(crate) fn file_type(fd: impl AsFd) -> Result<FileType> {
    let stat = rustix::fs::fstat(fd).step(|| "look at a mount target".to_owned())?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// A mount target as components: absolute, without `.` and without `..`, which could only be there to confuse.
pub(crate) fn components(target: &str) -> Result<Vec<OsString>> {
    let invalid = |why: &str| Err(Failure::Invalid(format!("mount target {target:?} {why}")));
    if !target.starts_with('/') {
        return invalid("is not absolute");
    }
    if target.contains('\0') {
        return invalid("holds a NUL byte");
    }
    let parts: Vec<_> = target.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return invalid("holds `..`");
    }
    if parts.is_empty() {
        return invalid("is the root");
    }
    Ok(parts.into_iter().map(OsString::from).collect())
}

/// Where a path leads as far as it exists.
pub(crate) struct Walked {
    /// The deepest existing directory on the way.
    pub directory: OwnedFd,
    /// That directory's path without links.
    pub at: Vec<OsString>,
    /// What does not exist below it; empty when all of the path exists.
    pub missing: Vec<OsString>,
}

/// Follows `path` inside `root` as the kernel would, links included, and on where it ends to exist: also through
/// dangling links, for which openat2 only says ENOENT.
pub(crate) fn walk(root: BorrowedFd<'_>, path: &[OsString]) -> Result<Walked> {
    let shown = || format!("resolve {:?} in the image", path.join(OsStr::new("/")));
    let open = |at: BorrowedFd<'_>, name: &OsStr| {
        openat(at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    };
    let mut todo: VecDeque<OsString> = path.iter().cloned().collect();
    let mut stack = vec![open(root, OsStr::new(".")).step(shown)?];
    let mut at: Vec<OsString> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            if at.pop().is_some() {
                stack.pop();
            }
            continue;
        }
        let here = &stack[stack.len() - 1];
        let next = match open(here.as_fd(), &name) {
            Ok(next) => next,
            Err(Errno::NOENT) => {
                let mut missing = vec![name];
                for name in todo {
                    // `missing/..` is what it is made in once it exists.
                    if name == ".." { drop(missing.pop()) } else { missing.push(name) }
                }
                return Ok(Walked { directory: stack.remove(stack.len() - 1), at, missing });
            }
            Err(error) => return Err(error).step(shown),
        };
        match file_type(&next)? {
            FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP).step(shown);
                }
                let link = readlinkat(&next, "", Vec::new()).step(shown)?;
                if link.as_bytes().starts_with(b"/") {
                    stack.truncate(1);
                    at.clear();
                }
                for part in link.as_bytes().split(|byte| *byte == b'/').rev() {
                    if !part.is_empty() && part != b"." {
                        todo.push_front(OsStr::from_bytes(part).to_owned());
                    }
                }
            }
            FileType::Directory => {
                stack.push(next);
                at.push(name);
            }
            _ if todo.is_empty() => break,
            _ => return Err(Errno::NOTDIR).step(shown),
        }
    }
    Ok(Walked { directory: stack.remove(stack.len() - 1), at, missing: Vec::new() })
}

/// Makes `path` below `directory`: directories (0755), and the last component a directory or an empty file.
pub(crate) fn make(directory: BorrowedFd<'_>, path: &[OsString], is_directory: bool) -> rustix::io::Result<()> {
    let mut here = rustix::io::dup(directory)?;
    for (index, name) in path.iter().enumerate() {
        if index + 1 == path.len() && !is_directory {
            let mode = Mode::from_raw_mode(0o644);
            match rustix::fs::mknodat(&here, name, FileType::RegularFile, mode, 0) {
                Err(Errno::EXIST) => {}
                done => return done,
            }
            return Ok(());
        }
        match rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        here = openat(&here, name, flags, Mode::empty())?;
    }
    Ok(())
}

/// Whether both descriptors stand for the same file.
pub(crate) fn same(one: impl AsFd, other: impl AsFd) -> bool {
    let id = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((id(one.as_fd()), id(other.as_fd())), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn check(root: &std::path::Path, path: &str, at: &str, missing: &str) {
        let fd = rustix::fs::open(root, OFlags::PATH, Mode::empty()).unwrap();
        let walked = walk(fd.as_fd(), &components(path).unwrap()).unwrap();
        let join = |parts: &[OsString]| parts.join(OsStr::new("/")).into_string().unwrap();
        assert_eq!((join(&walked.at), join(&walked.missing)), (at.to_owned(), missing.to_owned()), "{path}");
    }

    #[test]
    fn follows_links_inside_the_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("run/x")).unwrap();
        std::fs::create_dir(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/file"), "").unwrap();
        symlink("/run", root.join("var")).unwrap();
        symlink("../../../../../../../run/x", root.join("up")).unwrap();
        symlink("/gone/deep", root.join("dangling")).unwrap();
        symlink("/", root.join("slash")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        check(root, "/run/x", "run/x", "");
        check(root, "//run/./x/", "run/x", "");
        check(root, "/var/x", "run/x", "");
        check(root, "/up", "run/x", "");
        check(root, "/up/new/dir", "run/x", "new/dir");
        check(root, "/dangling/sub", "", "gone/deep/sub");
        check(root, "/slash/slash/slash/etc/passwd", "etc", "passwd");
        check(root, "/etc/file", "etc", "");
        let fd = rustix::fs::open(root, OFlags::PATH, Mode::empty()).unwrap();
        assert!(walk(fd.as_fd(), &["loop".into()]).is_err());
        assert!(walk(fd.as_fd(), &["etc".into(), "file".into(), "below".into()]).is_err());
    }

    #[test]
    fn refuses_targets_that_confuse() {
        for bad in ["relative", "", "/", "/./", "/a/../b", "/..", "/a\0b"] {
            assert!(components(bad).is_err(), "{bad:?}");
        }
        assert_eq!(components("//a/./b/").unwrap(), ["a", "b"]);
    }
}
