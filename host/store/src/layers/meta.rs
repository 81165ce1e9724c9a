//! The small file that says in which forms a layer exists. It is the last thing written, so a layer is in the store if
//! and only if it is there and whole.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::layer::Compression;
use crate::layer::extract::UnpackOptions;
use crate::{Descriptor, Digest, Error, Result};

const NAME: &str = "meta.json";

/// What `meta.json` holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) version: u32,
    /// Digest of the uncompressed tar stream.
    pub(super) diff_id: Option<Digest>,
    /// The tar stream, compressed, in the store.
    pub(super) blob: Option<Descriptor>,
    /// How `blob` was made here; none if it came from outside.
    pub(super) sealed: Option<SealedAs>,
    /// The directories that exist, in the order in which they were made.
    pub(super) unpacked: Vec<Unpacked>,
}

/// The options a blob was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SealedAs {
    algorithm: Algorithm,
    level: i32,
    clamp_mtime: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Algorithm {
    None,
    Gzip,
    Zstd,
}

impl SealedAs {
    pub(super) fn new(compression: Compression, clamp_mtime: Option<i64>) -> Self {
        let (algorithm, level) = match compression {
            Compression::None => (Algorithm::None, 0),
            Compression::Gzip { level } => (Algorithm::Gzip, level as i32),
            Compression::Zstd { level } => (Algorithm::Zstd, level),
        };
        Self { algorithm, level, clamp_mtime }
    }
}

/// A form of the layer as a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unpacked {
    /// Name of the directory.
    pub(super) directory: String,
    userxattr: bool,
    /// None if the directory was an upper directory: then it has what the run could do, and that is right.
    privileged: Option<bool>,
}

impl Unpacked {
    /// A directory made with `options`.
    pub(super) fn made(options: UnpackOptions) -> Self {
        Self {
            directory: directory(options).to_owned(),
            userxattr: options.userxattr,
            privileged: Some(options.privileged),
        }
    }

    /// A directory that overlayfs filled.
    pub(super) fn adopted(userxattr: bool) -> Self {
        Self { directory: "fs".to_owned(), userxattr, privileged: None }
    }

    /// Whether it serves someone who wants `options`.
    pub(super) fn fits(&self, options: UnpackOptions) -> bool {
        self.userxattr == options.userxattr && self.privileged.is_none_or(|privileged| privileged == options.privileged)
    }
}

/// The name of the directory for each form. A store is seldom used in more than one.
fn directory(options: UnpackOptions) -> &'static str {
    match (options.userxattr, options.privileged) {
        (false, true) => "fs",
        (true, true) => "fs-userxattr",
        (true, false) => "fs-unprivileged",
        (false, false) => "fs-plain",
    }
}

impl Meta {
    /// Reads the file of a layer. None if there is none, or if a crash of the machine left it damaged.
    pub(super) fn read(layer: &Path) -> Result<Option<Self>> {
        let path = layer.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("reading", &path)(error)),
        };
        Ok(serde_json::from_slice::<Self>(&bytes).ok().filter(|meta| meta.version == 1))
    }

    /// Replaces the file. The caller holds the layer's lock.
    pub(super) fn write(&mut self, layer: &Path) -> Result<()> {
        self.version = 1;
        let bytes = serde_json::to_vec(self).expect("plain data");
        replace(&layer.join(NAME), &bytes)
    }
}

/// Writes a file under a temporary name and renames it. The caller holds the layer's lock.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let mut file = fs::File::create(temporary).map_err(Error::io("writing", temporary))?;
    file.write_all(bytes).map_err(Error::io("writing", temporary))?;
    drop(file);
    fs::rename(temporary, path).map_err(Error::io("naming", path))
}
