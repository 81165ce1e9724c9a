//! One lock per layer, held while its directory changes, against threads and other processes alike. Reading needs none:
//! what is read appears by rename.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::{Error, Result};

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits for the lock called `name` in `directory`.
    pub(super) fn take(directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(name);
        loop {
            let options = File::options().write(true).create(true).truncate(false).open(&path);
            let file = options.map_err(Error::io("opening", &path))?;
            loop {
                match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                    Ok(()) => break,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(Error::io("locking", &path)(error.into())),
                }
            }
            // Whoever had it may have removed the file; then this lock excludes nobody.
            let own = file.metadata().map_err(Error::io("reading", &path))?.ino();
            if fs::metadata(&path).is_ok_and(|named| named.ino() == own) {
                return Ok(Self { file, path });
            }
        }
    }

    /// Gives the lock up and removes its file.
    pub(super) fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).map_err(Error::io("removing", &self.path))?;
        drop(self.file);
        Ok(())
    }
}
