//! The directory of a store: where each part lies, and scratch directories that vanish with their process.
//!
//! ```text
//! blobs/sha256/<hex>        layers/<hex>/{toc,meta.json,fs/}      images.db
//! cache/…                   what can be made again                work/<name>/  scratch, locked by its process
//! ```

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;

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
        Ok(Self(Arc::new(Inner { root, blobs, layers, images })))
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

    /// A fresh scratch directory.
    pub fn work_dir(&self) -> Result<WorkDir> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let work = self.0.root.join("work");
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // The lock comes before the directory, so that nobody takes the directory for a dead process's.
        let lock_path = work.join(format!("{name}.lock"));
        let lock = File::create(&lock_path).map_err(Error::io("locking", &lock_path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| Error::io("locking", &lock_path)(error.into()))?;
        let path = work.join(name);
        if path.exists() {
            remove_tree(&path)?;
        }
        fs::create_dir(&path).map_err(Error::io("making", &path))?;
        Ok(WorkDir { path, lock_path, _lock: lock })
    }

    /// Removes scratch directories whose process is dead; gives how many there were.
    pub fn sweep(&self) -> Result<usize> {
        let work = self.0.root.join("work");
        let mut swept = 0;
        for entry in fs::read_dir(&work).map_err(Error::io("reading", &work))? {
            let entry = entry.map_err(Error::io("reading", &work))?;
            let lock_path = entry.path();
            if !entry.file_name().as_bytes().ends_with(b".lock") {
                continue;
            }
            let Ok(lock) = File::open(&lock_path) else { continue };
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let path = lock_path.with_extension("");
            if path.exists() {
                remove_tree(&path)?;
                swept += 1;
            }
            fs::remove_file(&lock_path).map_err(Error::io("removing", &lock_path))?;
        }
        Ok(swept)
    }
}

/// A scratch directory; removed when dropped, or by [`Store::sweep`] if its process was killed.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    lock_path: PathBuf,
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
        match remove_tree(&self.path) {
            // The lock file stays with what could not be removed, so that a sweep tries again.
            Err(error) => tracing::debug!(%error, "a scratch directory stays for the next sweep"),
            Ok(()) => drop(fs::remove_file(&self.lock_path)),
        }
    }
}

/// Removes a directory with all below it, also where a process left directories that nobody may write to.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
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
