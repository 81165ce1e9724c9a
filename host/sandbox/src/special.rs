//! Mounts /dev, /proc and /sys into a root and hides what of them is not for strangers; knows nothing of layers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::overlay::{self, NO_SUID_DEV};
use crate::resolve::open_in;
use crate::wire::{Failure, Result, Step};

/// What runc hides by default.
pub(crate) const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What runc makes read-only by default.
pub(crate) const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];
const DEFAULT_SHM: u64 = 64 << 20;
const PROTECTED: MountAttrFlags = NO_SUID_DEV.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// How /proc and /sys come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Fresh ones for the namespaces of the sandbox.
    Fresh,
    /// Those that surround us, with all that is mounted in them.
    Surrounding,
}

/// A directory of the root that must be a real one: mounting /proc where a link of the image leads would let the
/// image choose what is hidden by it.
fn real_directory(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let fd = open_in(root, path, ResolveFlags::NO_SYMLINKS).map_err(|error| match error {
        Errno::LOOP => Failure::Setup(format!("{path} of the image is a symbolic link")),
        other => Failure::Setup(format!("find {path} in the image: {other}")),
    })?;
    match crate::resolve::file_type(&fd)? {
        FileType::Directory => Ok(fd),
        _ => Err(Failure::Setup(format!("{path} of the image is not a directory"))),
    }
}

/// Mounts a minimal /dev. The nodes are those of the host, bound one by one: the file system around them admits no
/// device, so a process that keeps CAP_MKNOD, as in Docker, can make nodes but never open them.
pub(crate) fn dev(root: BorrowedFd<'_>, shm_size: Option<u64>) -> Result<()> {
    let target = real_directory(root, "/dev")?;
    let dev = overlay::tmpfs(Some(64 << 20), 0o755, NO_SUID_DEV).step(|| "make /dev".to_owned())?;
    let made = |done: rustix::io::Result<()>, name: &str| done.step(|| format!("make /dev/{name}"));
    let node_mode = Mode::from_raw_mode(0o666);
    for name in DEVICES {
        made(rustix::fs::mknodat(&dev, *name, FileType::RegularFile, node_mode, 0), name)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        made(rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755)), name)?;
    }
    for (name, to) in LINKS {
        made(rustix::fs::symlinkat(*to, &dev, *name), name)?;
    }
    made(overlay::attach(dev.as_fd(), target.as_fd()), "")?;
    let put = |tree: rustix::io::Result<OwnedFd>, name: &str| -> Result<()> {
        let at = open_in(dev.as_fd(), name, ResolveFlags::NO_SYMLINKS);
        made(at.and_then(|at| overlay::attach(tree?.as_fd(), at.as_fd())), name)
    };
    for name in DEVICES {
        put(overlay::clone(CWD, &format!("/dev/{name}"), false), name)?;
    }
    // Group 5 is `tty` everywhere, but exists in a user namespace only with a range of ids.
    let pts = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    let no_suid_exec = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let devpts = overlay::special("devpts", &pts, no_suid_exec);
    put(devpts.or_else(|_| overlay::special("devpts", &pts[..3], no_suid_exec)), "pts")?;
    put(overlay::tmpfs(Some(shm_size.unwrap_or(DEFAULT_SHM)), 0o1777, PROTECTED), "shm")?;
    // Not every kernel has POSIX message queues.
    if let Ok(queues) = overlay::special("mqueue", &[], PROTECTED) {
        put(Ok(queues), "mqueue")?;
    }
    Ok(())
}

/// All of the host's /dev, for `Isolation::None`.
pub(crate) fn host_dev(root: BorrowedFd<'_>) -> Result<()> {
    let target = real_directory(root, "/dev")?;
    let tree = overlay::clone(CWD, "/dev", true).step(|| "copy /dev".to_owned())?;
    overlay::attach(tree.as_fd(), target.as_fd()).step(|| "mount /dev".to_owned())
}

/// Mounts /proc and /sys.
pub(crate) fn proc_and_sys(root: BorrowedFd<'_>, kernel: Kernel) -> Result<()> {
    let (proc_at, sys_at) = (real_directory(root, "/proc")?, real_directory(root, "/sys")?);
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
    let surrounding = |path: &str| -> rustix::io::Result<OwnedFd> {
        let tree = overlay::clone(CWD, path, true)?;
        if path == "/sys" {
            overlay::set(tree.as_fd(), read_only, true)?;
        }
        Ok(tree)
    };
    let (proc_fs, sys_fs) = match kernel {
        Kernel::Fresh => {
            let proc_fs = overlay::special("proc", &[], PROTECTED).map_err(|error| match error {
                Errno::PERM => Failure::Unsupported {
                    what: "the kernel refuses a fresh /proc (parts of the surrounding /proc are hidden)".to_owned(),
                    hint: "run this container privileged or with --security-opt systempaths=unconfined, or choose the \
                           chroot isolation"
                        .to_owned(),
                },
                other => Failure::Setup(format!("mount /proc: {other}")),
            })?;
            // A user namespace may mount sysfs only for a network namespace of its own.
            let sys_fs = overlay::special("sysfs", &[], PROTECTED | read_only).or_else(|_| surrounding("/sys"));
            (proc_fs, sys_fs)
        }
        Kernel::Surrounding => (surrounding("/proc").step(|| "copy /proc".to_owned())?, surrounding("/sys")),
    };
    let sys_fs = sys_fs.step(|| "mount /sys".to_owned())?;
    overlay::attach(proc_fs.as_fd(), proc_at.as_fd()).step(|| "mount /proc".to_owned())?;
    overlay::attach(sys_fs.as_fd(), sys_at.as_fd()).step(|| "mount /sys".to_owned())
}

/// Hides and write-protects parts of /proc and /sys.
pub(crate) fn mask(root: BorrowedFd<'_>) -> Result<()> {
    let mut nothing: Option<OwnedFd> = None;
    for path in MASKED {
        let Some(at) = present(root, path)? else { continue };
        let tree = if crate::resolve::file_type(&at)? == FileType::Directory {
            // One empty file system serves for all.
            let empty = match &nothing {
                Some(empty) => overlay::clone(empty.as_fd(), "", false),
                None => overlay::tmpfs(Some(0), 0o555, PROTECTED | MountAttrFlags::MOUNT_ATTR_RDONLY),
            };
            empty.step(|| format!("hide {path}"))?
        } else {
            overlay::clone(CWD, "/dev/null", false).step(|| format!("hide {path}"))?
        };
        overlay::attach(tree.as_fd(), at.as_fd()).step(|| format!("hide {path}"))?;
        if crate::resolve::file_type(&tree)? == FileType::Directory {
            nothing = Some(tree);
        }
    }
    for path in READ_ONLY {
        let Some(at) = present(root, path)? else { continue };
        let tree = overlay::clone(at.as_fd(), "", true).step(|| format!("protect {path}"))?;
        let flags = PROTECTED | MountAttrFlags::MOUNT_ATTR_RDONLY;
        overlay::set(tree.as_fd(), flags, true).step(|| format!("protect {path}"))?;
        overlay::attach(tree.as_fd(), at.as_fd()).step(|| format!("protect {path}"))?;
    }
    Ok(())
}

fn present(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>> {
    match open_in(root, path, ResolveFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
        Err(error) => Err(error).step(|| format!("find {path}")),
    }
}

/// Writes a file into a private memory file system.
pub(crate) fn write_file(dir: BorrowedFd<'_>, name: &str, bytes: &[u8], mode: u32, owner: (u32, u32)) -> Result<()> {
    let step = || format!("write the file {name}");
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600)).step(step)?;
    let mut file = std::fs::File::from(file);
    std::io::Write::write_all(&mut file, bytes).step(step)?;
    if owner != (0, 0) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(owner.0), rustix::fs::Gid::from_raw(owner.1));
        rustix::fs::fchown(&file, Some(uid), Some(gid)).step(step)?;
    }
    // After the change of owner, which clears the set-user-id bits.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777)).step(step)
}
