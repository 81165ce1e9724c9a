//! Blobs by digest: written once, checked while they stream, never changed. Knows nothing of what they mean.
//!
//! A blob is written to a file without a name (`O_TMPFILE`) and gets its name only when it is whole and its digest is
//! right, so that neither a kill nor a full disk leaves a trace. Where the file system has no nameless files, a
//! temporary name and a rename do the same, and what a kill leaves is removed with the other leftovers.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

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
        Ok(BlobWriter { blobs: self.clone(), file, temporary, hasher: Hasher::new(), size: 0 })
    }

    fn temporary(&self) -> Result<(File, Option<PathBuf>)> {
        let mode = Mode::from_raw_mode(0o644);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, &*self.directory, flags, mode) {
            Ok(file) => return Ok((file.into(), None)),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(Error::io("writing a blob in", &*self.directory)(error.into())),
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!(".new-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = self.directory.join(name);
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        Ok((file.map_err(Error::io("writing", &path))?, Some(path)))
    }

    /// Keeps a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.size(&digest)?.is_some() {
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

    /// All blobs with their sizes, in no order.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let failed = || Error::io("reading", &*self.directory);
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let name = entry.file_name();
            if let Some(digest) = name.to_str().and_then(|name| Digest::from_hex(name).ok()) {
                all.push((digest, entry.metadata().map_err(failed())?.len()));
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
}

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
        if self.blobs.size(&digest)? == Some(self.size) {
            return Ok((digest, self.size));
        }
        self.file.sync_data().map_err(Error::io("writing", &path))?;
        match self.temporary.take() {
            Some(temporary) => fs::rename(&temporary, &path).map_err(Error::io("naming", &path))?,
            None => self.link(&path)?,
        }
        Ok((digest, self.size))
    }

    /// Names the nameless file.
    fn link(&self, path: &Path) -> Result<()> {
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        match rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW) {
            // The same content came from somebody else meanwhile.
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(Error::io("naming", path)(error.into())),
        }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
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
