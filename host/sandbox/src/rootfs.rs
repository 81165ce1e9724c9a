//! Builds the root file system of a run in this process's private mount namespace: the overlay, the stubs of mount
//! points that the image lacks, and the mounts of the specification. Knows nothing of processes.
//!
//! Mount points must exist, and must leave nothing in the upper directory. They are put as empty stubs into one more
//! lower directory, below all layers, on a memory file system of this namespace: where the image has the path, its
//! own is seen, links included. Where the image hides such a stub (an opaque directory, a whiteout), the stub goes
//! into a directory above all layers instead, below copies of its parents that carry the image's metadata.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, mount_change};

use crate::overlay::{self, Branches, NO_SUID_DEV};
use crate::resolve::{components, file_type, make, open_in, same, walk};
use crate::spec::{Mount, Spec};
use crate::special::write_file;
use crate::wire::{Failure, Result, Step};

/// A private memory file system, mounted over the upper directory (which surely exists, and whose descriptor stays
/// valid below), so that it has a path in this namespace and in no other.
pub(crate) struct Scratch {
    pub directory: OwnedFd,
}

/// A tree that is ready to be attached.
struct Ready {
    target: Vec<OsString>,
    tree: OwnedFd,
    is_directory: bool,
}

/// The root of a run, mounted but attached nowhere.
pub(crate) struct Rootfs {
    pub scratch: Scratch,
    pub root: OwnedFd,
    mounts: Vec<Ready>,
}

/// Makes the mount namespace of this process private: no mount made here is seen outside, none made outside later
/// appears here.
pub(crate) fn make_private() -> Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).step(|| "make the mounts private".to_owned())
}

impl Scratch {
    fn new(place: BorrowedFd<'_>) -> Result<Self> {
        let step = || "mount the scratch file system".to_owned();
        let directory = overlay::tmpfs(None, 0o700, NO_SUID_DEV).step(step)?;
        overlay::attach(directory.as_fd(), place).step(step)?;
        let scratch = Self { directory };
        for name in ["stubs", "above", "empty"] {
            scratch.directory(name)?;
        }
        Ok(scratch)
    }

    /// A new directory in it.
    pub fn directory(&self, name: &str) -> Result<OwnedFd> {
        let step = || format!("make the scratch directory {name}");
        match rustix::fs::mkdirat(&self.directory, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error).step(step),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, name, flags, Mode::empty()).step(step)
    }
}

impl Rootfs {
    /// Mounts the root and readies the mounts of `spec`; nothing of them is attached yet. `defaults` are the mount
    /// points that the isolation adds (path, whether a directory).
    pub fn build(spec: &Spec, defaults: &[(&str, bool)]) -> Result<Self> {
        check_root(spec)?;
        let lowers = spec.root.lowers.iter().map(|path| overlay::open_branch(path)).collect::<Result<Vec<_>>>()?;
        let upper = overlay::open_branch(&spec.root.upper)?;
        let work = overlay::open_branch(&spec.root.work)?;
        let binds = spec.mounts.iter().map(open_sources).collect::<Result<Vec<_>>>()?;
        let scratch = Scratch::new(upper.as_fd())?;
        let mut mounts = Vec::new();
        for (index, (mount, sources)) in spec.mounts.iter().zip(binds).enumerate() {
            let tree = ready(mount, sources, index, &scratch, spec.root.userxattr)?;
            let is_directory = file_type(&tree)? == FileType::Directory;
            mounts.push(Ready { target: components(mount.target())?, tree, is_directory });
        }
        // Parents first, else they would hide what lies below them; otherwise in the order given.
        mounts.sort_by_key(|mount| mount.target.len());
        let mut wanted: Vec<(Vec<OsString>, bool)> =
            mounts.iter().map(|mount| (mount.target.clone(), mount.is_directory)).collect();
        for (path, is_directory) in defaults {
            wanted.push((components(path)?, *is_directory));
        }
        let root = overlay_with_stubs(&Layers { lowers, upper, work, spec }, &scratch, &wanted)?;
        Ok(Self { scratch, root, mounts })
    }

    /// Gives the root a place: only in an attached mount can others be attached.
    pub fn attach_root(&self) -> Result<()> {
        let place = self.scratch.directory("root")?;
        overlay::attach(self.root.as_fd(), place.as_fd()).step(|| "attach the root".to_owned())
    }

    /// Takes out the mounts below `/dev` and attaches each in the scratch file system: its path there, below the
    /// upper directory's, and its target. For runtimes that mount a /dev of their own.
    pub fn park_dev_mounts(&mut self) -> Result<Vec<(String, String)>> {
        let (dev, rest) = std::mem::take(&mut self.mounts).into_iter().partition(|one: &Ready| one.target[0] == "dev");
        self.mounts = rest;
        let mut parked = Vec::new();
        for (index, mount) in Vec::into_iter(dev).enumerate() {
            let name = format!("dev{index}");
            make(self.scratch.directory.as_fd(), &[name.clone().into()], mount.is_directory)
                .step(|| "make a mount point".to_owned())?;
            let place = open_in(self.scratch.directory.as_fd(), &name, ResolveFlags::empty());
            let place = place.step(|| "find a mount point".to_owned())?;
            overlay::attach(mount.tree.as_fd(), place.as_fd()).step(|| "park a mount".to_owned())?;
            parked.push((name, format!("/{}", mount.target.join(OsStr::new("/")).display())));
        }
        Ok(parked)
    }

    /// Attaches the mounts of the specification.
    pub fn attach_mounts(&mut self) -> Result<()> {
        for mount in std::mem::take(&mut self.mounts) {
            attach(self.root.as_fd(), &mount)?;
        }
        Ok(())
    }

    /// Attaches a generated read-only file, such as `/etc/hosts`.
    pub fn attach_file(&self, target: &str, bytes: &[u8]) -> Result<()> {
        let name = format!("generated{}", target.replace('/', "-"));
        write_file(self.scratch.directory.as_fd(), &name, bytes, 0o644, (0, 0))?;
        let tree = overlay::clone(self.scratch.directory.as_fd(), &name, false).step(|| format!("mount {target}"))?;
        read_only(tree.as_fd())?;
        attach(self.root.as_fd(), &Ready { target: components(target)?, tree, is_directory: false })
    }
}

fn check_root(spec: &Spec) -> Result<()> {
    if !spec.root.upper.is_absolute() {
        return Err(Failure::Invalid(format!("the upper directory {} is not absolute", spec.root.upper.display())));
    }
    // The kernel would mount it and then lose opaque marks, since `trusted` attributes are for the host's root only.
    if !spec.root.userxattr && !all_ids() {
        return Err(Failure::Invalid("in a user namespace layers need the userxattr form".to_owned()));
    }
    Ok(())
}

/// Whether every id exists here, that is, whether this is not a user namespace.
pub(crate) fn all_ids() -> bool {
    let map = std::fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

fn read_only(tree: BorrowedFd<'_>) -> Result<()> {
    overlay::set(tree, NO_SUID_DEV | MountAttrFlags::MOUNT_ATTR_RDONLY, true)
        .step(|| "make a mount read-only".to_owned())
}

/// What of a mount's sources must be opened before the scratch file system hides the upper directory.
fn open_sources(mount: &Mount) -> Result<Vec<OwnedFd>> {
    match mount {
        Mount::Bind { source, .. } => {
            let path = source.to_str().ok_or_else(|| Failure::Invalid("a bind source is not UTF-8".to_owned()))?;
            Ok(vec![overlay::clone(CWD, path, false).step(|| format!("bind {path}"))?])
        }
        Mount::Overlay { lowers, .. } => lowers.iter().map(|path| overlay::open_branch(path)).collect(),
        Mount::Tmpfs { .. } | Mount::File { .. } => Ok(Vec::new()),
    }
}

fn ready(
    mount: &Mount,
    mut sources: Vec<OwnedFd>,
    index: usize,
    scratch: &Scratch,
    userxattr: bool,
) -> Result<OwnedFd> {
    match mount {
        Mount::Bind { read_only: protect, .. } => {
            let tree = sources.swap_remove(0);
            let flags = if *protect { NO_SUID_DEV | MountAttrFlags::MOUNT_ATTR_RDONLY } else { NO_SUID_DEV };
            overlay::set(tree.as_fd(), flags, true).step(|| "restrict a bind mount".to_owned())?;
            Ok(tree)
        }
        Mount::Overlay { sub_path, read_only, .. } => {
            part_of_overlay(&sources, sub_path, *read_only, index, scratch, userxattr)
        }
        Mount::Tmpfs { target, size, mode } => {
            overlay::tmpfs(*size, *mode & 0o7777, NO_SUID_DEV).step(|| format!("mount a tmpfs on {target}"))
        }
        Mount::File { bytes, target, mode, uid, gid } => {
            let step = || format!("mount {target}");
            let memory = overlay::unswappable().step(step)?;
            overlay::attach(memory.as_fd(), scratch.directory(&format!("file{index}"))?.as_fd()).step(step)?;
            write_file(memory.as_fd(), "file", bytes, *mode, (*uid, *gid))?;
            let tree = overlay::clone(memory.as_fd(), "file", false).step(step)?;
            read_only(tree.as_fd())?;
            Ok(tree)
        }
    }
}

/// Mounts the layers in the scratch file system and takes the part asked for from there: even one layer needs the
/// overlay, to interpret its whiteouts. Writes go to the scratch file system, that is, to memory.
fn part_of_overlay(
    sources: &[OwnedFd],
    sub_path: &str,
    protect: bool,
    index: usize,
    scratch: &Scratch,
    userxattr: bool,
) -> Result<OwnedFd> {
    let empty = scratch.directory("empty")?;
    let mut lowers: Vec<BorrowedFd<'_>> = sources.iter().map(AsFd::as_fd).collect();
    lowers.push(empty.as_fd());
    let dirs = (scratch.directory(&format!("upper{index}"))?, scratch.directory(&format!("work{index}"))?);
    let upper_and_work = (!protect).then(|| (dirs.0.as_fd(), dirs.1.as_fd()));
    let flags = if protect { NO_SUID_DEV | MountAttrFlags::MOUNT_ATTR_RDONLY } else { NO_SUID_DEV };
    if let (Some((upper, _)), Some(top)) = (upper_and_work, sources.first()) {
        copy_metadata(top.as_fd(), upper)?;
    }
    let whole = overlay::overlay(&Branches { lowers, upper_and_work, userxattr }, flags)?;
    // Before Linux 6.15 only a mount that is attached can be copied from.
    let place = scratch.directory(&format!("overlay{index}"))?;
    overlay::attach(whole.as_fd(), place.as_fd()).step(|| "mount layers".to_owned())?;
    let part = open_in(whole.as_fd(), sub_path, ResolveFlags::empty())
        .step(|| format!("find {sub_path:?} in the layers to mount"))?;
    overlay::clone(part.as_fd(), "", false).step(|| format!("mount {sub_path:?} of layers"))
}

struct Layers<'a> {
    lowers: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
    spec: &'a Spec,
}

fn overlay_with_stubs(layers: &Layers<'_>, scratch: &Scratch, wanted: &[(Vec<OsString>, bool)]) -> Result<OwnedFd> {
    let (stubs, above) = (scratch.directory("stubs")?, scratch.directory("above")?);
    let mut lowers: Vec<BorrowedFd<'_>> = layers.lowers.iter().map(AsFd::as_fd).collect();
    lowers.push(stubs.as_fd());
    let mount = |lowers: &[BorrowedFd<'_>]| {
        let upper_and_work = Some((layers.upper.as_fd(), layers.work.as_fd()));
        let branches = Branches { lowers: lowers.to_vec(), upper_and_work, userxattr: layers.spec.root.userxattr };
        overlay::overlay(&branches, MountAttrFlags::MOUNT_ATTR_NODEV)
    };
    // As if no component were a link, which is nearly always so: then one mount is enough.
    for (path, is_directory) in wanted {
        // A target below a file target cannot be made; attaching it will tell.
        let _ = make(stubs.as_fd(), path, *is_directory);
    }
    overlay::forget_volatile(layers.work.as_fd());
    let mut root = mount(&lowers)?;
    for round in 0..2 {
        let missing = missing_in(root.as_fd(), wanted)?;
        if missing.is_empty() {
            return Ok(root);
        }
        for (path, is_directory) in &missing {
            if round == 0 {
                let _ = make(stubs.as_fd(), path, *is_directory);
            } else {
                make_above(above.as_fd(), root.as_fd(), path, *is_directory)?;
            }
        }
        if round == 1 {
            lowers.insert(0, above.as_fd());
        }
        drop(root);
        overlay::forget_volatile(layers.work.as_fd());
        root = mount(&lowers)?;
    }
    match missing_in(root.as_fd(), wanted)?.first() {
        None => Ok(root),
        Some((path, _)) => Err(Failure::Setup(format!("cannot make the mount point {:?}", path.join(OsStr::new("/"))))),
    }
}

/// The wanted paths, links resolved, that do not exist.
fn missing_in(root: BorrowedFd<'_>, wanted: &[(Vec<OsString>, bool)]) -> Result<Vec<(Vec<OsString>, bool)>> {
    let mut missing = Vec::new();
    for (path, is_directory) in wanted {
        if below_another(path, wanted) {
            // Made in what is mounted there, when it is attached.
            continue;
        }
        let walked = walk(root, path)?;
        if !walked.missing.is_empty() {
            missing.push(([walked.at, walked.missing].concat(), *is_directory));
        }
    }
    Ok(missing)
}

fn below_another(path: &[OsString], wanted: &[(Vec<OsString>, bool)]) -> bool {
    wanted.iter().any(|(other, _)| other.len() < path.len() && path.starts_with(other))
}

/// Makes a stub above all layers; its existing parents look as they do in the image.
fn make_above(above: BorrowedFd<'_>, root: BorrowedFd<'_>, path: &[OsString], is_directory: bool) -> Result<()> {
    make(above, path, is_directory).step(|| "make a mount point".to_owned())?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (mut image, mut copy) = (rustix::io::dup(root).ok(), rustix::io::dup(above).ok());
    // From the root down: a copied time is not changed by what was made before.
    for name in path.iter().map(Some).chain([None]) {
        let (Some(from), Some(to)) = (&image, &copy) else { break };
        copy_metadata(from.as_fd(), to.as_fd())?;
        let Some(name) = name else { break };
        (image, copy) = (
            rustix::fs::openat(from, name, flags, Mode::empty()).ok(),
            rustix::fs::openat(to, name, flags, Mode::empty()).ok(),
        );
    }
    Ok(())
}

/// Gives a directory the mode, owner and times of another.
fn copy_metadata(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let step = || "copy the metadata of a directory".to_owned();
    let stat = rustix::fs::fstat(from).step(step)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(to, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH).step(step)?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&to));
    rustix::fs::chmod(Path::new(&path), Mode::from_raw_mode(stat.st_mode & 0o7777)).step(step)?;
    let time = |sec, nsec| rustix::fs::Timespec { tv_sec: sec, tv_nsec: nsec as _ };
    let times = rustix::fs::Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::utimensat(CWD, Path::new(&path), &times, AtFlags::empty()).step(step)
}

/// Attaches a tree where its target leads inside the root; makes the target in a mount that lies there already.
fn attach(root: BorrowedFd<'_>, mount: &Ready) -> Result<()> {
    let shown = mount.target.join(OsStr::new("/"));
    let shown = format!("/{}", shown.display());
    let mut path = shown.as_str();
    let walked = walk(root, &mount.target)?;
    let canonical;
    if !walked.missing.is_empty() {
        if on(walked.directory.as_fd(), root)? {
            return Err(Failure::Setup(format!("the mount point {shown} is missing")));
        }
        make(walked.directory.as_fd(), &walked.missing, mount.is_directory)
            .step(|| format!("make {shown} in what is mounted there"))?;
        canonical = [walked.at, walked.missing].concat().join(OsStr::new("/"));
        path = canonical.to_str().unwrap_or(path);
    }
    let target = open_in(root, path, ResolveFlags::empty()).step(|| format!("find the mount point {shown}"))?;
    if same(&target, root) {
        return Err(Failure::Invalid(format!("mount target {shown} is the root")));
    }
    // The kernel's own files must stay what they are: other programs trust them.
    let kind = rustix::fs::fstatfs(&target).step(|| format!("look at {shown}"))?.f_type as i64;
    if kind == 0x9fa0 || kind == 0x6265_6572 {
        return Err(Failure::Invalid(format!("mount target {shown} is in /proc or /sys")));
    }
    if (file_type(&target)? == FileType::Directory) != mount.is_directory {
        let (what, there) = if mount.is_directory { ("directory", "file") } else { ("file", "directory") };
        return Err(Failure::Invalid(format!("cannot mount a {what} on {shown}, which is a {there}")));
    }
    overlay::attach(mount.tree.as_fd(), target.as_fd()).step(|| format!("mount {shown}"))
}

/// Whether a directory belongs to the overlay itself.
fn on(directory: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<bool> {
    let device =
        |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| stat.st_dev).step(|| "look at a directory".to_owned());
    Ok(device(directory)? == device(root)?)
}
