//! Opening paths below a directory, never through a symbolic link and never out of it. Knows no layers.
//!
//! Names come from archives and from file systems that a build wrote, so every component may be hostile. `openat2` has
//! the kernel refuse links, `..` and magic links in one call. Where a kernel (before 5.6) or a seccomp filter does not
//! know it, the path is opened component by component with `O_NOFOLLOW`, which refuses the same.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::entry::split;

static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Opens `path` below `root`. The empty path is `root` itself; an absolute one, or one with `..`, fails.
pub(crate) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: u32) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(mode);
    let path = if path.is_empty() { b"." } else { path };
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        match rustix::fs::openat2(root, path, flags, mode, RESOLVE) {
            // EPERM is what old filters of container engines answer to calls they do not know.
            Err(Errno::NOSYS | Errno::PERM) => {
                if openat2_works(root) {
                    return Err(Errno::PERM);
                }
                NO_OPENAT2.store(true, Ordering::Relaxed);
            }
            // The kernel could not exclude that a rename raced with the walk.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    stepwise(root, path, flags, mode)
}

/// Opens a directory below `root` for use as the base of other calls.
pub(crate) fn directory(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    open(root, path, OFlags::RDONLY | OFlags::DIRECTORY, 0)
}

fn openat2_works(root: BorrowedFd<'_>) -> bool {
    rustix::fs::openat2(root, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), RESOLVE).is_ok()
}

fn stepwise(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    if path.starts_with(b"/") {
        return Err(Errno::XDEV);
    }
    let (parent, name) = split(path);
    let mut above: Option<OwnedFd> = None;
    for part in parent.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
        if part == b".." {
            return Err(Errno::XDEV);
        }
        let base = above.as_ref().map_or(root, AsFd::as_fd);
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        above = Some(rustix::fs::openat(base, part, step, Mode::empty())?);
    }
    if name == b".." {
        return Err(Errno::XDEV);
    }
    rustix::fs::openat(above.as_ref().map_or(root, AsFd::as_fd), name, flags, mode)
}

/// The directory that was used last, kept open: neighbours in a sorted list share it.
pub(crate) struct Parents<'a> {
    root: BorrowedFd<'a>,
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl<'a> Parents<'a> {
    pub(crate) fn new(root: BorrowedFd<'a>) -> Self {
        Self { root, last: None }
    }

    /// The open directory that holds `path`, and the name in it.
    pub(crate) fn of<'p>(&mut self, path: &'p [u8]) -> Result<(BorrowedFd<'_>, &'p [u8]), Errno> {
        let (parent, name) = split(path);
        if parent.is_empty() {
            return Ok((self.root, name));
        }
        if self.last.as_ref().is_none_or(|(known, _)| known != parent) {
            self.last = Some((parent.to_vec(), directory(self.root, parent)?));
        }
        let (_, fd) = self.last.as_ref().expect("set above");
        Ok((fd.as_fd(), name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn links_and_dots_are_refused_both_ways() {
        let temp = tempfile::tempdir().unwrap();
        let top = temp.path().join("top");
        fs::create_dir_all(top.join("dir/sub")).unwrap();
        fs::write(top.join("dir/file"), "in").unwrap();
        fs::write(temp.path().join("secret"), "out").unwrap();
        std::os::unix::fs::symlink("dir", top.join("link")).unwrap();
        std::os::unix::fs::symlink("..", top.join("up")).unwrap();
        std::os::unix::fs::symlink("dir/file", top.join("filelink")).unwrap();
        let root = fs::File::open(&top).unwrap();
        let step = |path: &[u8]| {
            stepwise(root.as_fd(), path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        };
        for path in [&b"dir/file"[..], b"dir", b"dir/sub"] {
            assert!(open(root.as_fd(), path, OFlags::RDONLY, 0).is_ok(), "{path:?}");
            assert!(step(path).is_ok(), "{path:?}");
        }
        for path in [&b"link/file"[..], b"up/secret", b"../secret", b"dir/../../secret", b"/etc", b"filelink", b".."] {
            assert!(open(root.as_fd(), path, OFlags::RDONLY, 0).is_err(), "{path:?}");
            assert!(step(path).is_err(), "{path:?}");
        }
    }
}
