//! Compiled code: makes it, keeps it, loads it. One file per component, engine settings and target.
//!
//! Compilation is outside of what wasmtime promises to survive: a crafted component may make it take minutes and
//! gigabytes, or panic. So the size is bounded, the outline is checked first (`outline`), and components of strangers
//! are compiled in a process of their own (`child`) with limits on memory and time.
//!
//! A compiled file is native code. It is made only here, lies in a directory that only this user can write, and is
//! never taken from anywhere else. Files are written under a temporary name, synced and linked into place; one that
//! is there is never written again, because it may be mapped into another process.

pub(crate) mod child;
pub(crate) mod outline;

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cooperage_store::Digest;
use wasmtime::component::Component;

use crate::engine::EngineError;

/// The directory of compiled files.
#[derive(Debug)]
pub(crate) struct CodeCache {
    directory: PathBuf,
    /// Of wasmtime's version, its settings and the target; wasmtime's own answer to what fits.
    compatibility: String,
}

impl CodeCache {
    pub(crate) fn open(directory: &Path, engine: &wasmtime::Engine) -> Result<Self, EngineError> {
        private_directory(directory)?;
        // A hasher that another toolchain changes costs one more compilation, no more.
        let mut hasher = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let compatibility = format!("{:016x}-{}", hasher.finish(), std::env::consts::ARCH);
        Ok(Self { directory: directory.to_owned(), compatibility })
    }

    fn path(&self, wasm: &Digest, extension: &str) -> PathBuf {
        self.directory.join(format!("{}-{}.{extension}", wasm.hex(), self.compatibility))
    }

    /// The compiled code of a component, if it is there and fits.
    #[allow(unsafe_code)]
    pub(crate) fn load(&self, wasm: &Digest, engine: &wasmtime::Engine) -> Option<Component> {
        let path = self.path(wasm, "cwasm");
        if !is_ours(&path) {
            return None;
        }
        // SAFETY: `deserialize_file` maps the file and later jumps into it, so the bytes must be what
        // `precompile_component` made and must not change while they are mapped.
        // - Made by us: the only writers of this directory are `keep` below, which stores what our own compiler
        //   (this process, or our own binary as a child) returned, and whoever is this user already. `is_ours` has
        //   just checked that the file is a regular one, belongs to this user and can be written by nobody else;
        //   `private_directory` did the same for the directory, so nobody else could exchange the file since.
        // - Made for this engine: wasmtime checks version, settings and target in the header and refuses others; they
        //   are in the file's name besides.
        // - Unchanged: files appear by `link` from a finished, synced temporary file and are never opened for writing
        //   afterwards; to drop one, it is unlinked, which leaves the mapped pages alone.
        // - Not from outside: no registry, no archive and no option leads to this function, only a digest of wasm.
        let loaded = unsafe { Component::deserialize_file(engine, &path) };
        match loaded {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!("{}: {error:#}; compiling again", path.display());
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Keeps compiled code. One that is there stays.
    pub(crate) fn keep(&self, wasm: &Digest, compiled: &[u8]) -> std::io::Result<()> {
        self.place(&self.path(wasm, "cwasm"), compiled)
    }

    /// What is kept beside the code.
    pub(crate) fn description(&self, wasm: &Digest) -> Option<Vec<u8>> {
        let path = self.path(wasm, "json");
        if is_ours(&path) { fs::read(path).ok() } else { None }
    }

    /// Keeps a description beside the code.
    pub(crate) fn keep_description(&self, wasm: &Digest, json: &[u8]) -> std::io::Result<()> {
        self.place(&self.path(wasm, "json"), json)
    }

    /// A fresh name in the directory.
    pub(crate) fn temporary(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.directory.join(format!("tmp-{}-{number}", std::process::id()))
    }

    fn place(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let temporary = self.temporary();
        let result = write_synced(&temporary, bytes).and_then(|()| match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
        let _ = fs::remove_file(&temporary);
        result?;
        File::open(&self.directory)?.sync_all()
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A regular file of this user that nobody else can write.
fn is_ours(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.is_file() && metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0
    })
}

/// Makes a directory with mode 0700, or refuses one that others can write or that belongs to somebody else.
pub(crate) fn private_directory(path: &Path) -> Result<(), EngineError> {
    let wrong = |reason: String| EngineError::Directory { path: path.to_owned(), reason };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| wrong(error.to_string()))?;
    let metadata = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(wrong("belongs to another user; compiled code in it could be anybody's".to_owned()));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(wrong("can be written by others; set its mode to 0700".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
