//! Makes a table of contents real: a directory in the form that overlayfs takes as a layer. Reads no archive.
//!
//! The directory is new, private and filled from a [`Toc`], in which no path lies below anything but directories; so
//! all directories are made first, everything else is only ever created, never opened or replaced, and each open or
//! creation is relative to a directory that was reached without following a link ([`super::beneath`]). Modes are set by
//! `fchmod` after the owner, because `chown` clears setuid bits and the umask must not matter; attributes come after the
//! owner and the data, because both clear `security.capability`; directories get modes and times last, from the bottom
//! up, because filling them changes the one and may need more of the other.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, makedev};
use rustix::io::Errno;

use super::beneath::{self, Parents};
use super::entry::{Entry, Kind, display as show};
use super::fault;
use super::toc::Toc;
use crate::{Error, Result};

/// In which form a layer is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnpackOptions {
    /// Mark opaque directories with `user.overlay.opaque` instead of `trusted.overlay.opaque`, for mounts with the
    /// option `userxattr`, that is in user namespaces.
    pub userxattr: bool,
    /// Set owners, make devices, set every extended attribute. Without it owners are kept in the table of contents only.
    pub privileged: bool,
}

/// A directory being filled.
pub(crate) struct Target {
    root: OwnedFd,
    options: UnpackOptions,
    own: (u32, u32),
}

impl Target {
    /// Makes the directory, which must not exist.
    pub(crate) fn create(path: &Path, options: UnpackOptions) -> Result<Self> {
        rustix::fs::mkdir(path, Mode::RWXU).map_err(fault::sys("making", path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(fault::sys("opening", path))?;
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Ok(Self { root, options, own })
    }

    /// Makes all directories, for now accessible to the owner only.
    fn directories(&self, toc: &Toc) -> Result<()> {
        let mut parents = Parents::new(self.root.as_fd());
        for entry in toc.iter().filter(|entry| entry.is_directory() && !entry.path.is_empty()) {
            let make = |parents: &mut Parents<'_>| {
                let (parent, name) = parents.of(&entry.path)?;
                rustix::fs::mkdirat(parent, name, Mode::RWXU)
            };
            make(&mut parents).map_err(fault::sys("making", fault::inside(&entry.path)))?;
        }
        Ok(())
    }

    /// Creates a regular file.
    pub(crate) fn file(&self, entry: &Entry) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = beneath::open(self.root.as_fd(), &entry.path, flags, 0o600);
        file.map(File::from).map_err(fault::sys("creating", fault::inside(&entry.path)))
    }

    /// Makes everything but the content of files: `files` is called when the directories are there.
    pub(crate) fn make(&self, toc: &Toc, files: impl FnOnce() -> Result<()>) -> Result<()> {
        self.directories(toc)?;
        files()?;
        self.others(toc)?;
        self.links(toc)?;
        self.finish_directories(toc)
    }

    /// Gives a regular file its metadata, once it has its content.
    pub(crate) fn finish_file(&self, file: &File, entry: &Entry) -> Result<()> {
        self.metadata(file.as_fd(), entry)
    }

    /// Makes symbolic links, devices, pipes and whiteouts.
    fn others(&self, toc: &Toc) -> Result<()> {
        let mut parents = Parents::new(self.root.as_fd());
        for entry in toc {
            let (parent, name) = match entry.kind {
                Kind::Directory { .. } | Kind::File { .. } | Kind::Hardlink { .. } => continue,
                _ => parents.of(&entry.path).map_err(fault::sys("opening", fault::inside(&entry.path)))?,
            };
            self.special(parent, name, entry).map_err(fault::sys("creating", fault::inside(&entry.path)))?;
        }
        Ok(())
    }

    fn special(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), Errno> {
        let node = |kind, device| rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device);
        match &entry.kind {
            Kind::Whiteout => {
                return rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0));
            }
            Kind::Symlink { target } => rustix::fs::symlinkat(&target[..], parent, name)?,
            Kind::Fifo => node(FileType::Fifo, 0)?,
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } if !self.options.privileged => {
                tracing::debug!(path = show(&entry.path), "not privileged: the device is left out");
                return Ok(());
            }
            Kind::CharDevice { major, minor } => node(FileType::CharacterDevice, makedev(*major, *minor))?,
            Kind::BlockDevice { major, minor } => node(FileType::BlockDevice, makedev(*major, *minor))?,
            Kind::Directory { .. } | Kind::File { .. } | Kind::Hardlink { .. } => return Ok(()),
        }
        self.metadata_at(parent, name, entry)
    }

    /// Makes hard links; their files must be there.
    fn links(&self, toc: &Toc) -> Result<()> {
        let mut parents = Parents::new(self.root.as_fd());
        let mut targets = Parents::new(self.root.as_fd());
        for entry in toc {
            let Kind::Hardlink { target } = &entry.kind else { continue };
            if !toc.get(target).is_some_and(|found| matches!(found.kind, Kind::File { .. })) {
                return Err(Error::Unsupported {
                    what: show(&entry.path),
                    why: format!(
                        "it is a hard link to {}, which is in no file of this layer; files of lower layers cannot be linked",
                        show(target)
                    ),
                });
            }
            let make = |parents: &mut Parents<'_>, targets: &mut Parents<'_>| {
                let (old_parent, old) = targets.of(target)?;
                let (parent, name) = parents.of(&entry.path)?;
                rustix::fs::linkat(old_parent, old, parent, name, AtFlags::empty())
            };
            make(&mut parents, &mut targets).map_err(fault::sys("linking", fault::inside(&entry.path)))?;
        }
        Ok(())
    }

    /// Gives the directories their metadata, from the bottom up. Nothing can be added afterwards.
    fn finish_directories(&self, toc: &Toc) -> Result<()> {
        if toc.get(b"").is_none() {
            let mode = Mode::from_raw_mode(0o755);
            rustix::fs::fchmod(&self.root, mode).map_err(fault::sys("setting the mode of", "the layer's root"))?;
        }
        for entry in toc.iter().rev().filter(|entry| entry.is_directory()) {
            let failed = || fault::sys("opening", fault::inside(&entry.path));
            let directory = beneath::directory(self.root.as_fd(), &entry.path).map_err(failed())?;
            if let Kind::Directory { opaque: true } = entry.kind {
                let name = if self.options.userxattr { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
                rustix::fs::fsetxattr(&directory, name, b"y", XattrFlags::empty())
                    .map_err(fault::sys("marking as opaque", fault::inside(&entry.path)))?;
            }
            self.metadata(directory.as_fd(), entry)?;
        }
        Ok(())
    }

    fn metadata(&self, file: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        let failed = |action| fault::sys(action, fault::inside(&entry.path));
        if self.options.privileged && (entry.uid, entry.gid) != self.own {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(failed("setting the owner of"))?;
        }
        for (name, value) in &entry.xattrs {
            self.attribute(entry, name, || rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty()))?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode & 0o7777)).map_err(failed("setting the mode of"))?;
        rustix::fs::futimens(file, &times(entry)).map_err(failed("setting the time of"))
    }

    /// The same for what cannot be opened: links, devices, pipes.
    fn metadata_at(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), Errno> {
        if self.options.privileged && (entry.uid, entry.gid) != self.own {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        let symlink = matches!(entry.kind, Kind::Symlink { .. });
        if !symlink {
            // The name was created by us a moment ago in a directory nobody else can enter.
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode & 0o7777), AtFlags::empty())?;
        }
        if !entry.xattrs.is_empty() {
            let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            for (name, value) in &entry.xattrs {
                if let Err(Error::Io { source, .. }) = self
                    .attribute(entry, name, || rustix::fs::lsetxattr(&path[..], &name[..], value, XattrFlags::empty()))
                {
                    return Err(Errno::from_io_error(&source).unwrap_or(Errno::IO));
                }
            }
        }
        rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Sets an extended attribute; those that this user, this file system or this type of file cannot have are left out.
    fn attribute(&self, entry: &Entry, name: &[u8], set: impl FnOnce() -> Result<(), Errno>) -> Result<()> {
        if !self.options.privileged && !name.starts_with(b"user.") {
            tracing::debug!(path = show(&entry.path), name = show(name), "not privileged: attribute left out");
            return Ok(());
        }
        match set() {
            Ok(()) => Ok(()),
            Err(errno @ (Errno::PERM | Errno::NOTSUP | Errno::INVAL)) => {
                tracing::debug!(path = show(&entry.path), name = show(name), %errno, "attribute left out");
                Ok(())
            }
            Err(errno) => Err(fault::sys("setting an attribute of", fault::inside(&entry.path))(errno)),
        }
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime, tv_nsec: entry.mtime_nanos.into() };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: time }
}
