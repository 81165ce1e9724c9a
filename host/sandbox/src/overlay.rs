//! Makes mounts that are attached nowhere yet: overlays, memory file systems, copies of trees; knows no targets.
//!
//! Layers are named `/proc/self/fd/N`: short, so that any number of them fits, valid even when another mount hides
//! their real path, and free of the characters that have a meaning in mount options.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::sys;
use crate::wire::{Result, Step};

/// No set-user-id programs, no devices: for everything but the root itself, which has only the latter.
pub(crate) const NO_SUID_DEV: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// The branches of an overlay, topmost first, all opened O_PATH.
pub(crate) struct Branches<'a> {
    pub lowers: Vec<BorrowedFd<'a>>,
    pub upper_and_work: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    pub userxattr: bool,
}

/// Opens a directory of this host as a branch.
pub(crate) fn open_branch(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("open {}", path.display()))
}

fn name(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// An overlay of these branches.
pub(crate) fn overlay(branches: &Branches<'_>, attributes: MountAttrFlags) -> Result<OwnedFd> {
    let made = overlay_by_parts(branches, attributes);
    match made {
        // Before Linux 6.8 there is no `lowerdir+`.
        Err(Errno::INVAL) => overlay_at_once(branches, attributes),
        done => done,
    }
    .map_err(|error| explain(error, branches))
    .step(|| "mount the overlay".to_owned())
}

fn explain(error: Errno, branches: &Branches<'_>) -> String {
    match error {
        Errno::PERM => format!("{error} (is CAP_SYS_ADMIN there, or a user namespace entered?)"),
        Errno::NODEV => format!("{error} (the kernel has no overlayfs: modprobe overlay)"),
        Errno::INVAL => format!(
            "{error} (upper and work must be on one mount of a file system that overlayfs can write to; {} lowers)",
            branches.lowers.len()
        ),
        _ => error.to_string(),
    }
}

/// The options besides the branches. Nothing may be redirected, indexed or copied up by halves: what is in the
/// upper directory afterwards must be plain whiteouts, opaque marks and whole files.
fn options(branches: &Branches<'_>) -> Vec<(&'static str, Option<&'static str>)> {
    let mut options = vec![
        ("index", Some("off")),
        ("metacopy", Some("off")),
        // `off` would conflict with `userxattr`.
        ("redirect_dir", Some("nofollow")),
        ("xino", Some("off")),
    ];
    if branches.userxattr {
        options.push(("userxattr", None));
    }
    if branches.upper_and_work.is_some() {
        // No sync of the whole upper file system when unmounted; a layer is sealed from what is in the page cache.
        options.push(("volatile", None));
    }
    options
}

fn overlay_by_parts(branches: &Branches<'_>, attributes: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for lower in &branches.lowers {
        fsconfig_set_string(fs.as_fd(), "lowerdir+", name(*lower))?;
    }
    if let Some((upper, work)) = branches.upper_and_work {
        fsconfig_set_string(fs.as_fd(), "upperdir", name(upper))?;
        fsconfig_set_string(fs.as_fd(), "workdir", name(work))?;
    }
    for (key, value) in options(branches) {
        match value {
            Some(value) => fsconfig_set_string(fs.as_fd(), key, value)?,
            None => fsconfig_set_flag(fs.as_fd(), key)?,
        }
    }
    fsconfig_create(fs.as_fd())?;
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// With mount(2), whose options are one page at most: on top of the upper (or first lower) directory, whose
/// descriptor stays valid below, and then taken from there as a copy.
fn overlay_at_once(branches: &Branches<'_>, attributes: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
    let lowers: Vec<_> = branches.lowers.iter().map(|lower| name(*lower)).collect();
    let mut data = format!("lowerdir={}", lowers.join(":"));
    let mut place = branches.lowers.first().copied();
    if let Some((upper, work)) = branches.upper_and_work {
        data += &format!(",upperdir={},workdir={}", name(upper), name(work));
        place = Some(upper);
    }
    for (key, value) in options(branches) {
        data += &match value {
            Some(value) => format!(",{key}={value}"),
            None => format!(",{key}"),
        };
    }
    // By its real path: the name of a descriptor leads below what is mounted on top.
    let place = rustix::fs::readlink(name(place.ok_or(Errno::INVAL)?), Vec::new())?;
    let data = std::ffi::CString::new(data).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount("overlay", &place, "overlay", rustix::mount::MountFlags::empty(), Some(data.as_c_str()))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = open_tree(rustix::fs::CWD, &place, flags);
    rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH)?;
    let copy = copy?;
    set(copy.as_fd(), attributes, false)?;
    Ok(copy)
}

/// A file system in memory for secrets: never written to swap where the kernel lets us say so (Linux 6.4, not in a
/// user namespace).
pub(crate) fn unswappable() -> rustix::io::Result<OwnedFd> {
    special("tmpfs", &[("mode", "700"), ("noswap", "")], NO_SUID_DEV).or_else(|_| tmpfs(None, 0o700, NO_SUID_DEV))
}

/// An empty file system in memory.
pub(crate) fn tmpfs(size: Option<u64>, mode: u32, attributes: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(fs.as_fd(), "mode", format!("{mode:o}"))?;
    if let Some(size) = size {
        fsconfig_set_string(fs.as_fd(), "size", size.to_string())?;
    }
    fsconfig_create(fs.as_fd())?;
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A file system of the kernel's own, such as `proc`.
pub(crate) fn special(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(fs.as_fd(), *key)?;
        } else {
            fsconfig_set_string(fs.as_fd(), *key, *value)?;
        }
    }
    fsconfig_create(fs.as_fd())?;
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A copy of the tree at `path`, to be attached elsewhere. Mounts below it come along only if the kernel insists
/// (they are locked to it in a user namespace) or `recursive` says so.
pub(crate) fn clone(at: BorrowedFd<'_>, path: &str, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    match open_tree(at, path, flags) {
        Err(Errno::INVAL) if !recursive => open_tree(at, path, flags | OpenTreeFlags::AT_RECURSIVE),
        done => done,
    }
}

/// Adds attributes to a mount.
pub(crate) fn set(tree: BorrowedFd<'_>, attributes: MountAttrFlags, recursive: bool) -> rustix::io::Result<()> {
    sys::mount_setattr(tree, u64::from(attributes.bits()), recursive)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Attaches a tree on top of what `target` stands for.
pub(crate) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags)
}

/// Removes the mark that a `volatile` overlay leaves, so that it can be mounted again: it says that after a crash of
/// the machine the upper directory may be incomplete, and nobody uses one that is older than the machine's start.
pub(crate) fn forget_volatile(work: BorrowedFd<'_>) {
    // Absent when the directory is fresh or the kernel knows no `volatile`.
    let _ = rustix::fs::unlinkat(work, "work/incompat/volatile/dirty", AtFlags::empty());
    let _ = rustix::fs::unlinkat(work, "work/incompat/volatile", AtFlags::REMOVEDIR);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways of mounting, since a kernel uses only one of them.
    #[test]
    #[allow(clippy::print_stderr, clippy::disallowed_methods)]
    fn both_ways_mount_the_same() {
        if !crate::userns::is_privileged() {
            assert!(std::env::var_os("CI").is_none(), "not root");
            return eprintln!("skipped: not root");
        }
        // Mount namespaces are per thread.
        std::thread::spawn(|| {
            sys::unshare(rustix::thread::UnshareFlags::NEWNS | rustix::thread::UnshareFlags::FS).unwrap();
            crate::rootfs::make_private().unwrap();
            for how in [overlay_by_parts, overlay_at_once] {
                let dir = tempfile::tempdir().unwrap();
                let open = |name: &str| {
                    std::fs::create_dir(dir.path().join(name)).unwrap();
                    open_branch(&dir.path().join(name)).unwrap()
                };
                let (lower, other, upper, work) = (open("lower"), open("other"), open("upper"), open("work"));
                std::fs::write(dir.path().join("lower/a"), "a").unwrap();
                std::fs::write(dir.path().join("other/b"), "b").unwrap();
                let branches = Branches {
                    lowers: vec![lower.as_fd(), other.as_fd()],
                    upper_and_work: Some((upper.as_fd(), work.as_fd())),
                    userxattr: false,
                };
                let root = how(&branches, MountAttrFlags::MOUNT_ATTR_NODEV).unwrap();
                for name in ["a", "b"] {
                    assert!(rustix::fs::statat(&root, name, AtFlags::empty()).is_ok(), "{name}");
                }
                rustix::fs::mkdirat(&root, "made", Mode::from_raw_mode(0o755)).unwrap();
                assert!(dir.path().join("upper/made").is_dir());
                assert!(!dir.path().join("upper/a").exists(), "nothing is left on top of it");
            }
        })
        .join()
        .unwrap();
    }
}
