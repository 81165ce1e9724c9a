//! Blobs by digest: written once, checked while they stream, never changed. Knows nothing of what they mean.
//!
//! A blob is written to a file without a name (`O_TMPFILE`) and gets its name only when it is whole and its digest is
//! right, so that neither a kill nor a full disk leaves a trace. Where the file system has no nameless files, a
//! temporary name and a rename do the same, and what a kill leaves is removed by the next collection.
//!
//! A collection takes only what has not been asked for lately, and whoever finds that a blob is there already marks it
//! as asked for. Both happen under a lock on the directory, so that nobody is told of a blob that goes a moment later.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

/// Begins the names of blobs that are not whole.
const UNFINISHED: &str = ".new-";

use crate::digest::Hasher;
use crate::{Digest, Error, Result};

/// All blobs of a store. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Blobs {
    /// `<store>/blobs/sha256`.
    directory: Arc<Path>,
}

impl Blobs {
    /// Opens the blobs below `root`, making the directory if it is missing.
    pub fn at(root: &Path) -> Result<Self> {
        let directory = root.join("sha256");
        if !directory.is_dir() {
            fs::create_dir_all(&directory).map_err(Error::io("making", &directory))?;
        }
        Ok(Self { directory: directory.into() })
    }

    /// Where a blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    /// Begins a blob.
    pub fn writer(&self) -> Result<BlobWriter> {
        let (file, temporary) = self.temporary()?;
        Ok(BlobWriter { blobs: self.clone(), file, temporary, hasher: Hasher::new(), size: 0, begun: 0 })
    }

    fn temporary(&self) -> Result<(File, Option<PathBuf>)> {
        let mode = Mode::from_raw_mode(0o644);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, &*self.directory, flags, mode) {
            Ok(file) => return Ok((file.into(), None)),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
            Err(error) => return Err(Error::io("writing a blob in", &*self.directory)(error.into())),
        }
        let (file, path) = self.named_temporary()?;
        Ok((file, Some(path)))
    }

    /// A new file with a temporary name, locked as long as it is open: that tells it from what a kill left.
    fn named_temporary(&self) -> Result<(File, PathBuf)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            // Processes of other containers on the same store can have the same number.
            let name = format!("{UNFINISHED}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = self.directory.join(name);
            let file = match File::options().read(true).write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file.map_err(Error::io("writing", &path))?,
            };
            flock(&file, FlockOperation::LockExclusive).map_err(Error::io("locking", &path))?;
            return Ok((file, path));
        }
    }

    /// A lock on the whole directory, held until the file is dropped.
    fn lock(&self, operation: FlockOperation) -> Result<File> {
        let failed = || Error::io("locking", &*self.directory);
        let directory = File::open(&self.directory).map_err(failed())?;
        flock(&directory, operation).map_err(failed())?;
        Ok(directory)
    }

    /// Keeps a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.touch(&digest)? == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let mut writer = self.writer()?;
        writer.write_all(bytes).map_err(Error::io("writing", self.path(&digest)))?;
        writer.commit(Some(&digest))?;
        Ok(digest)
    }

    /// Opens a blob; none if the store does not have it.
    pub fn open(&self, digest: &Digest) -> Result<Option<File>> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("opening", &path)(error)),
        }
    }

    /// The size of a blob in bytes; none if the store does not have it.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("reading", &path)(error)),
        }
    }

    /// The size of a blob in bytes, marking it as asked for: no collection takes it for its grace period. Who means to
    /// use a blob that is there, instead of writing it, asks with this.
    pub fn touch(&self, digest: &Digest) -> Result<Option<u64>> {
        let _lock = self.lock(FlockOperation::LockShared)?;
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        match rustix::fs::utimensat(CWD, self.path(digest), &times, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(None),
            // Somebody else's store that may only be read; then nobody here collects either.
            Ok(()) | Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => self.size(digest),
            Err(error) => Err(Error::io("marking", self.path(digest))(error.into())),
        }
    }

    /// A whole blob of at most `max` bytes, checked against its digest.
    pub fn read(&self, digest: &Digest, max: u64) -> Result<Vec<u8>> {
        let what = || format!("the blob {digest}");
        let file = self.open(digest)?.ok_or_else(|| Error::NotFound { what: what() })?;
        let mut bytes = Vec::new();
        file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io("reading", self.path(digest)))?;
        if bytes.len() as u64 > max {
            return Err(Error::TooLarge { what: what(), limit: max });
        }
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(Error::DigestMismatch { what: what(), expected: *digest, actual });
        }
        Ok(bytes)
    }

    /// Removes a blob; tells whether it was there.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("removing", &path)(error)),
        }
    }

    /// Removes a blob that was last written or [touched](Self::touch) before `time`; tells whether it did.
    pub(crate) fn remove_unused(&self, digest: &Digest, time: SystemTime) -> Result<bool> {
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        let used = fs::metadata(self.path(digest)).and_then(|metadata| metadata.modified());
        if used.is_ok_and(|used| used < time) { self.remove(digest) } else { Ok(false) }
    }

    /// Removes what killed writers left, where the file system has no nameless files; gives how many there were.
    pub(crate) fn sweep(&self) -> Result<usize> {
        let failed = || Error::io("reading", &*self.directory);
        let mut swept = 0;
        for entry in fs::read_dir(&self.directory).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            if !entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                continue;
            }
            let Ok(file) = File::open(entry.path()) else { continue };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && fs::remove_file(entry.path()).is_ok() {
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Makes sure that the names of all blobs written so far survive a crash of the machine.
    pub(crate) fn sync(&self) -> Result<()> {
        File::open(&self.directory).and_then(|it| it.sync_all()).map_err(Error::io("writing", &*self.directory))
    }

    /// All blobs with their sizes, in no order.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let failed = || Error::io("reading", &*self.directory);
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let name = entry.file_name();
            if let Some(digest) = name.to_str().and_then(|name| Digest::from_hex(name).ok()) {
                match entry.metadata() {
                    // Removed by somebody else meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    metadata => all.push((digest, metadata.map_err(failed())?.len())),
                }
            }
        }
        Ok(all)
    }
}

/// A blob being written. Dropped without [`commit`](BlobWriter::commit), nothing remains.
#[derive(Debug)]
pub struct BlobWriter {
    blobs: Blobs,
    file: File,
    temporary: Option<PathBuf>,
    hasher: Hasher,
    size: u64,
    /// Up to where the kernel was told to begin writing to the disk.
    begun: u64,
}

/// Bytes after which the disk gets to work while more comes.
const WRITE_BACK: u64 = 16 << 20;

impl BlobWriter {
    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives the blob its name; gives digest and size. A blob that is there already stays as it is.
    pub fn commit(mut self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let digest = std::mem::take(&mut self.hasher).finish();
        if let Some(expected) = expected
            && *expected != digest
        {
            return Err(Error::DigestMismatch { what: "the content".to_owned(), expected: *expected, actual: digest });
        }
        let path = self.blobs.path(&digest);
        if self.blobs.touch(&digest)? == Some(self.size) {
            return Ok((digest, self.size));
        }
        self.file.sync_data().map_err(Error::io("writing", &path))?;
        match self.temporary.take() {
            Some(temporary) => {
                let renamed = fs::rename(&temporary, &path).map_err(Error::io("naming", &path));
                if renamed.is_err() {
                    self.temporary = Some(temporary);
                }
                renamed?;
            }
            None => self.link(&path)?,
        }
        Ok((digest, self.size))
    }

    /// Names the nameless file.
    fn link(&self, path: &Path) -> Result<()> {
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        match rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(()),
            // The same content came from somebody else meanwhile.
            Err(Errno::EXIST) if fs::metadata(path).is_ok_and(|found| found.len() == self.size) => Ok(()),
            // A damaged file has the name, or there is no /proc, or this file system has no hard links.
            Err(_) => self.copy(path),
        }
    }

    /// Writes the content again under a temporary name and renames that.
    fn copy(&self, path: &Path) -> Result<()> {
        let (mut copy, temporary) = self.blobs.named_temporary()?;
        let written = (&self.file).rewind().and_then(|()| io::copy(&mut &self.file, &mut copy));
        let written = written.and_then(|_| copy.sync_data()).map_err(Error::io("writing", path));
        let named = written.and_then(|()| fs::rename(&temporary, path).map_err(Error::io("naming", path)));
        if named.is_err() {
            // The first failure is the one to tell.
            let _ = fs::remove_file(&temporary);
        }
        named
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        if let Some(length) = NonZeroU64::new(self.size - self.begun).filter(|length| length.get() >= WRITE_BACK) {
            // For pages that are still to be written this advice begins the writing, and `commit` has less to wait for.
            // It is advice only: where it fails, nothing is lost but time.
            let _ = rustix::fs::fadvise(&self.file, self.begun, Some(length), rustix::fs::Advice::DontNeed);
            self.begun = self.size;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            // What cannot be removed now goes with the leftovers of dead processes.
            let _ = fs::remove_file(temporary);
        }
    }
}

fn flock(file: &File, operation: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::at(directory.path()).unwrap();
        (directory, blobs)
    }

    fn names(blobs: &Blobs) -> Vec<String> {
        let entries = fs::read_dir(&blobs.directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// A writer as on file systems without nameless files.
    fn named_writer(blobs: &Blobs) -> BlobWriter {
        let (file, path) = blobs.named_temporary().unwrap();
        BlobWriter { blobs: blobs.clone(), file, temporary: Some(path), hasher: Hasher::new(), size: 0, begun: 0 }
    }

    #[test]
    fn what_was_put_is_read_back() {
        let (_directory, blobs) = blobs();
        let digest = blobs.put(b"hello").unwrap();
        assert_eq!(digest, Digest::of(b"hello"));
        assert_eq!(blobs.put(b"hello").unwrap(), digest);
        assert_eq!(blobs.read(&digest, 5).unwrap(), b"hello");
        assert_eq!(blobs.size(&digest).unwrap(), Some(5));
        assert_eq!(blobs.list().unwrap(), [(digest, 5)]);
        assert!(blobs.remove(&digest).unwrap());
        assert!(!blobs.remove(&digest).unwrap());
        assert!(blobs.open(&digest).unwrap().is_none());
        assert_eq!((blobs.size(&digest).unwrap(), blobs.touch(&digest).unwrap()), (None, None));
        assert!(matches!(blobs.read(&digest, 5), Err(Error::NotFound { .. })));
    }

    #[test]
    fn reading_stops_at_the_cap_and_checks_the_digest() {
        let (_directory, blobs) = blobs();
        let digest = blobs.put(b"hello").unwrap();
        assert!(matches!(blobs.read(&digest, 4), Err(Error::TooLarge { limit: 4, .. })));
        fs::write(blobs.path(&digest), "jello").unwrap();
        let Err(Error::DigestMismatch { expected, actual, .. }) = blobs.read(&digest, 5) else { panic!("not refused") };
        assert_eq!((expected, actual), (digest, Digest::of(b"jello")));
    }

    #[test]
    fn a_wrong_digest_or_a_dropped_writer_leaves_nothing() {
        let (_directory, blobs) = blobs();
        for make in [|blobs: &Blobs| blobs.writer().unwrap(), named_writer] {
            let mut writer = make(&blobs);
            writer.write_all(b"one").unwrap();
            let refused = writer.commit(Some(&Digest::of(b"two")));
            assert!(matches!(refused, Err(Error::DigestMismatch { .. })));
            let mut writer = make(&blobs);
            writer.write_all(b"three").unwrap();
            assert_eq!(writer.size(), 5);
            drop(writer);
            assert_eq!(names(&blobs), [""; 0]);
        }
    }

    #[test]
    fn a_blob_appears_only_when_it_is_whole() {
        let (_directory, blobs) = blobs();
        for (make, content) in
            [(Blobs::writer as fn(&Blobs) -> Result<BlobWriter>, "a"), (|b| Ok(named_writer(b)), "b")]
        {
            let digest = Digest::of(content.as_bytes());
            let mut writer = make(&blobs).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
            assert_eq!(blobs.size(&digest).unwrap(), None);
            assert_eq!(writer.commit(Some(&digest)).unwrap(), (digest, 1));
            assert_eq!(blobs.read(&digest, 1).unwrap(), content.as_bytes());
        }
        assert_eq!(names(&blobs).len(), 2);
    }

    #[test]
    fn two_writers_of_one_blob_both_succeed() {
        let (_directory, blobs) = blobs();
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        thread::scope(|scope| {
            for number in 0..8 {
                let (blobs, content) = (&blobs, &content);
                scope.spawn(move || {
                    let mut writer = if number % 2 == 0 { blobs.writer().unwrap() } else { named_writer(blobs) };
                    content.chunks(4096).for_each(|chunk| writer.write_all(chunk).unwrap());
                    assert_eq!(writer.commit(None).unwrap(), (Digest::of(content), 400_000));
                });
            }
        });
        assert_eq!(names(&blobs), [Digest::of(&content).hex()]);
        assert_eq!(blobs.read(&Digest::of(&content), 400_000).unwrap(), content);
    }

    #[test]
    fn a_damaged_blob_is_replaced() {
        let (_directory, blobs) = blobs();
        let digest = blobs.put(b"whole").unwrap();
        fs::write(blobs.path(&digest), "wh").unwrap();
        assert_eq!(blobs.put(b"whole").unwrap(), digest);
        assert_eq!(blobs.read(&digest, 5).unwrap(), b"whole");
        assert_eq!(names(&blobs), [digest.hex()]);
    }

    #[test]
    fn what_was_asked_for_lately_is_not_removed_as_unused() {
        let (_directory, blobs) = blobs();
        let digest = blobs.put(b"base").unwrap();
        let age = |blobs: &Blobs| {
            let old = SystemTime::now() - Duration::from_secs(3600);
            File::options().write(true).open(blobs.path(&digest)).unwrap().set_modified(old).unwrap();
        };
        let minute_ago = SystemTime::now() - Duration::from_secs(60);
        let writers: [fn(&Blobs); 3] = [
            |blobs| assert_eq!(blobs.put(b"base").unwrap(), Digest::of(b"base")),
            |blobs| assert_eq!(blobs.touch(&Digest::of(b"base")).unwrap(), Some(4)),
            |blobs| {
                let mut writer = blobs.writer().unwrap();
                writer.write_all(b"base").unwrap();
                writer.commit(None).unwrap();
            },
        ];
        for ask in writers {
            age(&blobs);
            ask(&blobs);
            assert!(!blobs.remove_unused(&digest, minute_ago).unwrap());
        }
        age(&blobs);
        assert!(blobs.remove_unused(&digest, minute_ago).unwrap());
        assert!(!blobs.remove_unused(&digest, minute_ago).unwrap());
    }

    #[test]
    fn sweeping_takes_what_the_dead_left_and_nothing_else() {
        let (_directory, blobs) = blobs();
        let mut living = named_writer(&blobs);
        living.write_all(b"living").unwrap();
        fs::write(blobs.directory.join(".new-1-1"), "dead").unwrap();
        let kept = blobs.put(b"kept").unwrap();
        assert_eq!(blobs.sweep().unwrap(), 1);
        living.commit(None).unwrap();
        assert_eq!(blobs.list().unwrap().len(), 2);
        assert!(blobs.size(&kept).unwrap().is_some());
    }
}
