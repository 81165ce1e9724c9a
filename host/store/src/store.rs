//! The directory of a store: where each part lies, and scratch directories that vanish with their process.
//!
//! ```text
//! blobs/sha256/<hex>        layers/<hex>/{toc,meta.json,fs/}      images.db
//! cache/…                   what can be made again                work/<name>/  scratch, locked by its process
//! lease                     locked by all who work on the store
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::images::Images;
use crate::layers::Layers;
use crate::{Blobs, Error, Result};

/// Everything that is kept. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    blobs: Blobs,
    layers: Layers,
    images: Images,
}

impl Store {
    /// Opens the store at `root`, making it if it is missing. Asks the file system for little: this is on the
    /// path of builds that have nothing to do.
    pub fn open(root: &Path) -> Result<Self> {
        let work = root.join("work");
        if !work.is_dir() {
            fs::create_dir_all(&work).map_err(Error::io("making the store", &work))?;
        }
        // Layers can be looked up by absolute name only, and overlayfs takes no relative ones.
        let root = root.canonicalize().map_err(Error::io("opening the store", root))?;
        let blobs = Blobs::at(&root.join("blobs"))?;
        let layers = Layers::open(&root.join("layers"), blobs.clone())?;
        let images = Images::new(root.join("images.db"), blobs.clone());
        let store = Self(Arc::new(Inner { root, blobs, layers, images }));
        // There is nothing to do but after a kill, and this is when to do it: before the disk is full of leftovers.
        store.sweep()?;
        Ok(store)
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// The blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.0.blobs
    }

    /// The layers.
    pub fn layers(&self) -> &Layers {
        &self.0.layers
    }

    /// Manifests, configurations, tags and records.
    pub fn images(&self) -> &Images {
        &self.0.images
    }

    /// Tells collections that this process works on the store, until the file is dropped.
    pub fn lease(&self) -> Result<File> {
        let (path, file) = self.lease_file()?;
        rustix::fs::flock(&file, FlockOperation::LockShared)
            .map_err(|error| Error::io("locking", &path)(error.into()))?;
        Ok(file)
    }

    /// Keeps leases away while the file is held; none if somebody has one.
    pub(crate) fn lock_alone(&self) -> Result<Option<File>> {
        let (path, file) = self.lease_file()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(Error::io("locking", &path)(error.into())),
        }
    }

    fn lease_file(&self) -> Result<(PathBuf, File)> {
        let path = self.0.root.join("lease");
        let file = File::create(&path).map_err(Error::io("opening", &path))?;
        Ok((path, file))
    }

    /// A fresh scratch directory.
    pub fn work_dir(&self) -> Result<WorkDir> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let work = self.0.root.join("work");
        loop {
            // Processes of other containers on the same store can have the same number.
            let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = work.join(format!("{}-{number}-{time:x}", std::process::id()));
            match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(Error::io("making", &path))?,
            }
            // A sweep may take the directory in the moment before it is locked; then there is another.
            if let Some(lock) = lock_directory(&path)? {
                return Ok(WorkDir { path, _lock: lock });
            }
        }
    }

    /// Removes scratch directories whose process is dead; gives how many there were. What cannot be removed stays for
    /// somebody who may.
    pub fn sweep(&self) -> Result<usize> {
        let work = self.0.root.join("work");
        let mut swept = 0;
        for entry in fs::read_dir(&work).map_err(Error::io("reading", &work))? {
            let path = entry.map_err(Error::io("reading", &work))?.path();
            let removed = lock_directory(&path).and_then(|lock| match lock {
                Some(_lock) => remove_tree(&path).map(|()| true),
                None => Ok(false),
            });
            match removed {
                Ok(removed) => swept += usize::from(removed),
                Err(error) => tracing::debug!(%error, "a scratch directory of a dead process stays"),
            }
        }
        Ok(swept)
    }
}

/// Locks a directory for this process without waiting; none if somebody has it or it is gone.
fn lock_directory(path: &Path) -> Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(directory) => File::from(directory),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(error) => return Err(Error::io("opening", path)(error.into())),
    };
    lock_opened(path, lock)
}

/// The second half of locking, when `path` may have become another directory or none since it was opened.
fn lock_opened(path: &Path, lock: File) -> Result<Option<File>> {
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(Error::io("locking", path)(error.into())),
    }
    // Whoever had the lock may have removed the directory; then this lock is on nothing.
    let own = lock.metadata().map_err(Error::io("reading", path))?;
    let named = fs::symlink_metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino()));
    Ok(named.then_some(lock))
}

/// A scratch directory; removed when dropped, or by [`Store::sweep`] if its process was killed.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    /// Held as long as the directory is wanted; the kernel lets go of it however the process ends.
    _lock: File,
}

impl WorkDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            tracing::debug!(%error, "a scratch directory stays for the next sweep");
        }
    }
}

/// Removes a directory with all below it, also where a process left directories that nobody may write to.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path);
            fs::remove_dir_all(path).map_err(Error::io("removing", path))
        }
        Err(error) => Err(Error::io("removing", path)(error)),
    }
}

/// Gives the owner all rights on directories below `path`; what cannot be changed shows when it is removed.
fn open_up(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::set_permissions(path, PermissionsExt::from_mode(0o700));
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("new/store")).unwrap();
        (directory, store)
    }

    #[test]
    fn opening_again_finds_what_is_there_and_opens_no_database() {
        let (_directory, store) = store();
        let digest = store.blobs().put(b"kept").unwrap();
        let again = Store::open(store.root()).unwrap();
        assert_eq!(again.blobs().size(&digest).unwrap(), Some(4));
        assert!(!store.root().join("images.db").exists(), "the database is opened only when it is needed");
    }

    #[test]
    fn work_directories_are_fresh_and_vanish() {
        let (_directory, store) = store();
        let (one, two) = (store.work_dir().unwrap(), store.work_dir().unwrap());
        assert_ne!(one.path(), two.path());
        fs::create_dir_all(one.path().join("a/b")).unwrap();
        fs::set_permissions(one.path().join("a"), PermissionsExt::from_mode(0o000)).unwrap();
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists());
        assert!(two.path().is_dir());
    }

    #[test]
    fn opening_removes_leftovers_of_the_dead_alone() {
        let (_directory, store) = store();
        let living = store.work_dir().unwrap();
        let dead = store.root().join("work/1-0-0");
        fs::create_dir_all(dead.join("upper/etc")).unwrap();
        Store::open(store.root()).unwrap();
        assert!(!dead.exists());
        assert!(living.path().is_dir());
    }

    #[test]
    fn sweeps_beside_it_never_take_a_work_directory() {
        let (_directory, store) = store();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..200 {
                            let work = store.work_dir().unwrap();
                            fs::write(work.path().join("file"), "content").unwrap();
                            assert_eq!(fs::read(work.path().join("file")).unwrap(), b"content");
                        }
                    })
                })
                .collect();
            while workers.iter().any(|worker| !worker.is_finished()) {
                store.sweep().unwrap();
            }
        });
        assert_eq!(fs::read_dir(store.root().join("work")).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_was_swept_between_opening_and_locking_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("work");
        let make = || {
            fs::create_dir(&path).unwrap();
            File::open(&path).unwrap()
        };
        let opened = make();
        fs::remove_dir(&path).unwrap();
        assert!(lock_opened(&path, opened).unwrap().is_none());
        let opened = make();
        fs::rename(&path, directory.path().join("elsewhere")).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(lock_opened(&path, opened).unwrap().is_none());
        let opened = File::open(&path).unwrap();
        let held = lock_opened(&path, opened).unwrap();
        assert!(held.is_some() && lock_directory(&path).unwrap().is_none());
    }

    #[test]
    fn a_symbolic_link_among_the_scratch_is_not_followed() {
        let (directory, store) = store();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, store.root().join("work/link")).unwrap();
        assert_eq!(store.sweep().unwrap(), 0);
        assert!(outside.is_dir());
    }

    #[test]
    fn a_lease_keeps_others_from_being_alone() {
        let (_directory, store) = store();
        let lease = store.lease().unwrap();
        let _another = store.lease().unwrap();
        assert!(store.lock_alone().unwrap().is_none());
        drop((lease, _another));
        assert!(store.lock_alone().unwrap().is_some());
    }
}
