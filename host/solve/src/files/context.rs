//! The files of a local build context, without what the user ignores. Reads a file only to hash it once.
//!
//! Owners, times and extended attributes of a context are accidents of the machine it lies on: files belong to
//! root, and times are given by the solver.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use cooperage_store::layer::{Entry, Kind, compare_paths};
use cooperage_store::layers::Source;
use cooperage_store::{Digest, Hasher};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, StatxFlags};

use super::stat_cache::{Stamp, StatCache};
use super::{Files, Item, join, parent};
use crate::Error;
use crate::pattern::{Ignore, Inherited};

/// A directory of this machine as a file system.
pub(crate) struct ContextFiles {
    root: PathBuf,
    include: Ignore,
    ignore: Ignore,
    cache: Mutex<StatCache>,
    threads: usize,
}

/// A path as the walk found it.
struct Seen {
    entry: Entry,
    stamp: Stamp,
    /// Device and inode of a file that has several names.
    shared: Option<(u32, u32, u64)>,
    ignored: bool,
    inherited: Inherited,
}

impl ContextFiles {
    /// Looks at `root`. `cache` is the file that remembers digests.
    pub(crate) fn new(root: PathBuf, include: Ignore, ignore: Ignore, cache: PathBuf, threads: usize) -> Self {
        Self { root, include, ignore, cache: Mutex::new(StatCache::load(cache)), threads: threads.max(1) }
    }

    /// A digest over what `stat` says of all files, so that nothing needs to be read. Directories count by what they
    /// have: their own times change with files that are left out.
    pub(crate) fn state(&self) -> Result<Digest, Error> {
        let mut hasher = Hasher::new();
        for Seen { entry, stamp, .. } in self.walk(b"", self.inherited_by(b""))? {
            hasher.update(&(entry.path.len() as u64).to_be_bytes());
            hasher.update(&entry.path);
            hasher.update(&entry.mode.to_be_bytes());
            let stamp = match &entry.kind {
                Kind::Directory { .. } => [0; 4],
                _ => [stamp.size, stamp.mtime.cast_unsigned(), stamp.ctime.cast_unsigned(), stamp.inode],
            };
            stamp.iter().for_each(|part| hasher.update(&part.to_be_bytes()));
        }
        Ok(hasher.finish())
    }

    fn host_path(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(OsStr::from_bytes(path)) }
    }

    /// Whether the selection leaves this path out.
    fn left_out(&self, path: &[u8], directory: bool) -> bool {
        if path.is_empty() {
            return false;
        }
        if !self.include.is_empty() && !directory && !self.include.ignores(path) {
            return true;
        }
        self.ignore.ignores(path) && !(directory && self.ignore.has_exceptions())
    }

    fn item(&self, entry: Entry) -> Item {
        let source = match entry.kind {
            Kind::File { .. } => Source::File(self.host_path(&entry.path)),
            _ => Source::None,
        };
        Item { entry, source, linked: false }
    }

    /// Reads one directory; the second result says what its subdirectories are.
    fn read_directory(&self, path: &[u8], inherited: &Inherited) -> Result<Vec<Seen>, Error> {
        let host = self.host_path(path);
        let failed = |error: rustix::io::Errno| {
            Error::io(format!("reading the directory {} of the build context", host.display()), &error.into())
                .hint("name it in .dockerignore if the build does not need it")
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, &host, flags, Mode::empty()).map_err(failed)?;
        let mut seen = Vec::new();
        for found in Dir::read_from(&directory).map_err(failed)? {
            let found = found.map_err(failed)?;
            let name = found.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let path = join(path, name);
            let (ignored, inherited) = self.ignore.check(&path, inherited);
            if ignored && !(found.file_type() == FileType::Directory && self.ignore.has_exceptions()) {
                continue;
            }
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let stat = match rustix::fs::statx(&directory, found.file_name(), flags, StatxFlags::BASIC_STATS) {
                Ok(stat) => stat,
                // Removed since the directory was read.
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            };
            let link = || {
                let target = rustix::fs::readlinkat(&directory, found.file_name(), Vec::new()).map_err(failed)?;
                Ok(target.into_bytes())
            };
            if let Some(entry) = entry_of(path, &stat, link)? {
                let ignored = ignored || self.not_included(&entry);
                seen.push(Seen { entry, stamp: stamp_of(&stat), shared: shared(&stat), ignored, inherited });
            }
        }
        Ok(seen)
    }

    /// A directory is kept for what is included below it, not for itself.
    fn not_included(&self, entry: &Entry) -> bool {
        !self.include.is_empty() && !self.include.ignores(&entry.path)
    }

    /// Reads all directories below `start`, level by level, each level on several threads.
    fn walk(&self, start: &[u8], inherited: Inherited) -> Result<Vec<Seen>, Error> {
        let mut all = Vec::new();
        let mut level = vec![(start.to_vec(), inherited)];
        while !level.is_empty() {
            let found = in_parallel(&level, self.threads, |(path, inherited)| self.read_directory(path, inherited))?;
            level = found
                .iter()
                .flatten()
                .filter(|seen| matches!(seen.entry.kind, Kind::Directory { .. }))
                .map(|seen| (seen.entry.path.clone(), seen.inherited.clone()))
                .collect();
            all.extend(found.into_iter().flatten());
        }
        all.sort_unstable_by(|a, b| compare_paths(&a.entry.path, &b.entry.path));
        Ok(keep_parents(all))
    }

    fn add_digests(&self, seen: &mut [Seen]) -> Result<(), Error> {
        let mut cache = self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut unknown = Vec::new();
        for (index, Seen { entry, stamp, .. }) in seen.iter_mut().enumerate() {
            let path = &entry.path;
            let Kind::File { digest, .. } = &mut entry.kind else { continue };
            match cache.get(path, stamp) {
                Some(known) => *digest = Some(known),
                None => unknown.push(index),
            }
        }
        let hashed_at = SystemTime::now();
        let digests =
            in_parallel(&unknown, self.threads, |index| hash_file(&self.host_path(&seen[*index].entry.path)))?;
        for (index, found) in unknown.into_iter().zip(digests) {
            let Seen { entry, stamp, .. } = &mut seen[index];
            cache.put(&entry.path, *stamp, found, hashed_at);
            if let Kind::File { digest, .. } = &mut entry.kind {
                *digest = Some(found);
            }
        }
        if let Err(error) = cache.save() {
            tracing::debug!(%error, "the digests of the build context could not be remembered");
        }
        Ok(())
    }

    fn inherited_by(&self, path: &[u8]) -> Inherited {
        let mut inherited = Inherited::default();
        if !path.is_empty() {
            for ancestor in super::ancestors(path) {
                inherited = self.ignore.check(ancestor, &inherited).1;
            }
            inherited = self.ignore.check(path, &inherited).1;
        }
        inherited
    }

    fn stat(&self, path: &[u8]) -> Result<Option<(Entry, Stamp)>, Error> {
        let host = self.host_path(path);
        let failed = |error: rustix::io::Errno| Error::io(format!("reading {}", host.display()), &error.into());
        let flags = if path.is_empty() { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        match rustix::fs::statx(CWD, &host, flags, StatxFlags::BASIC_STATS) {
            Ok(stat) => {
                let link = || Ok(rustix::fs::readlink(&host, Vec::new()).map_err(failed)?.into_bytes());
                Ok(entry_of(path.to_vec(), &stat, link)?.map(|entry| (entry, stamp_of(&stat))))
            }
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Files for ContextFiles {
    fn lookup(&self, path: &[u8]) -> Result<Option<Item>, Error> {
        let Some((entry, _)) = self.stat(path)? else { return Ok(None) };
        let directory = matches!(entry.kind, Kind::Directory { .. });
        Ok((!self.left_out(path, directory)).then(|| self.item(entry)))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Item>, Error> {
        let Some((entry, _)) = self.stat(path)? else { return Ok(Vec::new()) };
        if !matches!(entry.kind, Kind::Directory { .. }) {
            return Ok(Vec::new());
        }
        let mut seen = self.read_directory(path, &self.inherited_by(path))?;
        seen.retain(|seen| !seen.ignored || matches!(seen.entry.kind, Kind::Directory { .. }));
        seen.sort_unstable_by(|a, b| a.entry.path.cmp(&b.entry.path));
        Ok(seen.into_iter().map(|seen| self.item(seen.entry)).collect())
    }

    fn subtree(&self, path: &[u8]) -> Result<Vec<Item>, Error> {
        let Some((entry, stamp)) = self.stat(path)? else { return Ok(Vec::new()) };
        let directory = matches!(entry.kind, Kind::Directory { .. });
        if self.left_out(path, directory) {
            return Ok(Vec::new());
        }
        let inherited = self.inherited_by(path);
        let mut seen = vec![Seen { entry, stamp, shared: None, ignored: false, inherited: inherited.clone() }];
        if directory {
            seen.extend(self.walk(path, inherited)?);
        }
        self.add_digests(&mut seen)?;
        let mut first: HashMap<(u32, u32, u64), Source> = HashMap::new();
        let item = |seen: Seen| {
            let mut item = self.item(seen.entry);
            if let Some(file) = seen.shared {
                item.source = first.entry(file).or_insert(item.source).clone();
                item.linked = true;
            }
            item
        };
        Ok(seen.into_iter().map(item).collect())
    }

    fn read(&self, item: &Item, max: u64) -> Result<Vec<u8>, Error> {
        use std::io::Read;
        let Source::File(host) = &item.source else {
            return Err(Error::invalid(format!("{} is not a regular file", super::display(item.path()))));
        };
        let failed = |error: std::io::Error| Error::io(format!("reading {}", host.display()), &error);
        let mut bytes = Vec::new();
        let file = std::fs::File::open(host).map_err(failed)?;
        file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > max {
            let message = format!("{} is larger than {max} bytes", super::display(item.path()));
            return Err(Error::new(crate::ErrorKind::Limit, message));
        }
        Ok(bytes)
    }
}

/// Drops ignored directories that have nothing left below them. `seen` is sorted, parents first.
fn keep_parents(seen: Vec<Seen>) -> Vec<Seen> {
    let mut kept: Vec<Seen> = Vec::with_capacity(seen.len());
    for seen in seen.into_iter().rev() {
        let needed = || {
            kept.last().is_some_and(|below| {
                parent(&below.entry.path).starts_with(&seen.entry.path) && {
                    let rest = &below.entry.path[seen.entry.path.len()..];
                    rest.first() == Some(&b'/')
                }
            })
        };
        if !seen.ignored || needed() {
            kept.push(seen);
        }
    }
    kept.reverse();
    kept
}

fn stamp_of(stat: &Statx) -> Stamp {
    let nanos = |time: &rustix::fs::StatxTimestamp| time.tv_sec.saturating_mul(1_000_000_000) + i64::from(time.tv_nsec);
    Stamp { size: stat.stx_size, mtime: nanos(&stat.stx_mtime), ctime: nanos(&stat.stx_ctime), inode: stat.stx_ino }
}

/// What tells the names of one regular file from other files, if it has several.
fn shared(stat: &Statx) -> Option<(u32, u32, u64)> {
    let regular = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile;
    (regular && stat.stx_nlink > 1).then_some((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
}

/// The entry of a path, or none for a socket, which no image can hold.
fn entry_of(
    path: Vec<u8>,
    stat: &Statx,
    link: impl FnOnce() -> Result<Vec<u8>, Error>,
) -> Result<Option<Entry>, Error> {
    let device = || (stat.stx_rdev_major, stat.stx_rdev_minor);
    let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => Kind::File { size: stat.stx_size, digest: None, offset: 0 },
        FileType::Directory => Kind::Directory { opaque: false },
        FileType::Symlink => Kind::Symlink { target: link()? },
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::CharDevice { major: device().0, minor: device().1 },
        FileType::BlockDevice => Kind::BlockDevice { major: device().0, minor: device().1 },
        _ => return Ok(None),
    };
    let mode = u32::from(stat.stx_mode) & 0o7777;
    Ok(Some(Entry { path, kind, mode, uid: 0, gid: 0, mtime: 0, mtime_nanos: 0, xattrs: Vec::new() }))
}

fn hash_file(path: &Path) -> Result<Digest, Error> {
    use std::io::Read;
    let failed = |error: std::io::Error| {
        Error::io(format!("reading {}", path.display()), &error)
            .hint("name it in .dockerignore if the build does not need it")
    };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Applies `work` to all items on up to `threads` threads; results are in the order of the items.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    /// Below this a thread costs more than it saves.
    const WORTH_A_THREAD: usize = 8;
    if threads < 2 || items.len() < WORTH_A_THREAD {
        return items.iter().map(work).collect();
    }
    let chunk = items.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let handles: Vec<_> = items
            .chunks(chunk)
            .map(|items| scope.spawn(|| items.iter().map(&work).collect::<Result<Vec<R>, Error>>()))
            .collect();
        let mut all = Vec::with_capacity(items.len());
        for handle in handles {
            all.extend(handle.join().map_err(|_| Error::internal("a thread that reads the context died"))??);
        }
        Ok(all)
    })
}
