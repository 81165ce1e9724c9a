//! The layers of a store: each a table of contents, a blob, a directory for overlayfs, or several of these. Knows the
//! forms and how one is made of another; what a layer is for, its users know.
//!
//! `layers/<hex of the id>/` holds `toc`, `meta.json` and the directories. Everything in it appears by rename, `meta.json`
//! last, so readers need no lock; whoever changes a layer holds its lock in `layers/.locks`, so two processes that want
//! the same layer do the work once.

mod content;
mod lock;
mod meta;
mod put;
mod read;
mod seal;
mod stream;
mod tee;
mod unpack;
mod watch;
mod write;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use crate::layer::Compression;
use crate::layer::builder::Names;
use crate::layer::decode::{self, Format};
pub use crate::layer::extract::UnpackOptions;
use crate::layer::{Limits, Toc, archive, fault};
use crate::media_types;
use crate::{Blobs, Descriptor, Digest, Error, Result};
use lock::Lock;
use meta::Meta;
pub use stream::{Archive, FileAt};
use tee::Tee;
pub use watch::Watch;

/// What a layer is known by: the diff id of a layer of an image, or the key of the work that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct LayerId(pub Digest);

/// In which forms a layer is in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerInfo {
    /// Digest of its uncompressed tar stream, once there was one.
    pub diff_id: Option<Digest>,
    /// Its blob, once there was one. Garbage collection may have removed the content.
    pub blob: Option<Descriptor>,
    /// There is a directory for overlayfs.
    pub unpacked: bool,
}

/// Where the content of an entry comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The entry has none: everything but regular files, and empty files.
    None,
    /// A regular file on this host. A symbolic link is refused.
    File(PathBuf),
    /// The content itself.
    Bytes(Vec<u8>),
    /// A file of a layer in the store.
    Layer {
        /// The layer.
        id: LayerId,
        /// Path of the file, or of a hard link to it, in that layer.
        path: Vec<u8>,
    },
}

/// Which forms [`Layers::write`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Write {
    /// A directory for overlayfs.
    pub unpack: Option<UnpackOptions>,
    /// A blob.
    pub seal: Option<Compression>,
}

/// How [`Layers::seal`] makes a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seal {
    /// Compression of the blob.
    pub compression: Compression,
    /// Times after this one (seconds since 1970) are set back to it, as `SOURCE_DATE_EPOCH` asks.
    pub clamp_mtime: Option<i64>,
}

/// A layer that has a blob.
#[derive(Debug, Clone, PartialEq)]
pub struct Sealed {
    /// Descriptor of the blob.
    pub descriptor: Descriptor,
    /// Digest of the uncompressed tar stream.
    pub diff_id: Digest,
}

/// All layers of a store. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Layers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    blobs: Blobs,
    limits: Limits,
    threads: usize,
    tables: Mutex<Tables>,
    watch: OnceLock<Arc<dyn Watch>>,
}

/// Tables of contents that were used lately.
#[derive(Debug, Default)]
struct Tables {
    known: HashMap<LayerId, Arc<Toc>>,
    entries: usize,
}

/// Entries of all remembered tables together; at some 200 bytes each.
const REMEMBERED: usize = 1 << 20;

impl Layers {
    /// Opens the layers below `root`, making the directory if it is missing, with the default limits.
    pub fn open(root: &Path, blobs: Blobs) -> Result<Self> {
        Self::open_with(root, blobs, Limits::default())
    }

    /// The same with other limits on layers from outside.
    pub fn open_with(root: &Path, blobs: Blobs, limits: Limits) -> Result<Self> {
        let locks = root.join(".locks");
        if !locks.is_dir() {
            fs::create_dir_all(&locks).map_err(Error::io("making", &locks))?;
        }
        let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
        let inner =
            Inner { root: root.to_owned(), blobs, limits, threads, tables: Mutex::default(), watch: OnceLock::new() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The directory that holds a layer, or would hold it.
    pub fn path(&self, id: &LayerId) -> PathBuf {
        self.inner.root.join(id.0.hex())
    }

    /// In which forms a layer is here; none if it is not. Reads one small file.
    pub fn get(&self, id: &LayerId) -> Result<Option<LayerInfo>> {
        Ok(Meta::read(&self.path(id))?.map(|meta| LayerInfo {
            diff_id: meta.diff_id,
            blob: meta.blob,
            unpacked: !meta.unpacked.is_empty(),
        }))
    }

    /// The table of contents of a layer, from memory if it was used lately. `NotFound` if the layer is not here.
    pub fn toc(&self, id: &LayerId) -> Result<Arc<Toc>> {
        if let Some(toc) = self.tables().known.get(id) {
            return Ok(Arc::clone(toc));
        }
        let path = self.path(id).join("toc");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(id)),
            Err(error) => return Err(Error::io("reading", &path)(error)),
        };
        Ok(self.remember(id, Toc::decode(&bytes)?))
    }

    /// Takes in a layer whose blob is in the store: decompresses it once, checks it against `diff_id`, and makes the table
    /// of contents with the digest of every file. The layer's id is its diff id. Nothing is left behind if the blob is
    /// not what was announced, is malformed, or exceeds the limits.
    pub fn ingest(&self, diff_id: &Digest, blob: &Descriptor) -> Result<Arc<Toc>> {
        let id = LayerId(*diff_id);
        if let Some(meta) = Meta::read(&self.path(&id))?
            && meta.blob.as_ref() == Some(blob)
        {
            return self.toc(&id);
        }
        let _lock = self.lock(&id)?;
        self.attach(diff_id, blob, || {
            let (toc, found) = self.table(blob)?;
            let what = || format!("the layer {}", blob.digest);
            match found.filter(|found| found != diff_id) {
                Some(actual) => Err(Error::DigestMismatch { what: what(), expected: *diff_id, actual }),
                None => Ok(toc),
            }
        })
    }

    /// The same for a layer whose diff id nobody has told, and whose media type does not count: what compresses it is told
    /// by its first bytes.
    pub fn ingest_blob(&self, digest: &Digest) -> Result<LayerId> {
        let what = || format!("the layer {digest}");
        let missing = || Error::NotFound { what: format!("the blob {digest}") };
        let size = self.inner.blobs.size(digest)?.ok_or_else(missing)?;
        let mut head = [0; Format::HEAD];
        let mut file = self.inner.blobs.open(digest)?.ok_or_else(missing)?;
        let length = crate::layer::blocks::read_full(&mut file, &mut head).map_err(Error::io("reading", what()))?;
        let media_type = match Format::of(&head[..length]) {
            Format::Plain => media_types::LAYER,
            Format::Gzip => media_types::LAYER_GZIP,
            Format::Zstd => media_types::LAYER_ZSTD,
            Format::Bzip2 | Format::Xz => {
                let why = "a layer is plain or compressed with gzip or zstd".to_owned();
                return Err(Error::Unsupported { what: what(), why });
            }
        };
        let blob = Descriptor::new(media_type, *digest, size);
        if media_type == media_types::LAYER {
            // Its digest was checked when it came, and is the diff id.
            let id = LayerId(*digest);
            let _lock = self.lock(&id)?;
            self.attach(digest, &blob, || {
                let file = self.blob(&blob)?;
                archive::outline(file, Names::Layer, self.inner.limits).map_err(fault::io("reading", what()))
            })?;
            return Ok(id);
        }
        let (toc, diff_id) = self.table(&blob)?;
        let failed = || fault::io("reading", what());
        let diff_id = diff_id.ok_or_else(|| failed()(io::Error::other("no digest was made")))?;
        let _lock = self.lock(&LayerId(diff_id))?;
        self.attach(&diff_id, &blob, || Ok(toc))?;
        Ok(LayerId(diff_id))
    }

    /// Gives a layer the blob at hand; a layer that is not here is made with a table. The caller holds the lock.
    fn attach(&self, diff_id: &Digest, blob: &Descriptor, table: impl FnOnce() -> Result<Toc>) -> Result<Arc<Toc>> {
        let id = LayerId(*diff_id);
        let directory = self.path(&id);
        if let Some(mut meta) = Meta::read(&directory)? {
            if meta.blob.as_ref() == Some(blob) {
                return self.toc(&id);
            }
            // The same layer in another compression. The blob at hand is the one that is in the store.
            meta.blob = Some(blob.clone());
            meta.diff_id = Some(*diff_id);
            meta.sealed = None;
            meta.write(&directory)?;
            return self.toc(&id);
        }
        let meta = Meta { diff_id: Some(*diff_id), blob: Some(blob.clone()), ..Meta::default() };
        self.keep(&id, table()?, meta)
    }

    /// Reads the blob of a layer through: its table of contents, and its diff id.
    fn table(&self, blob: &Descriptor) -> Result<(Toc, Option<Digest>)> {
        let file = self.blob(blob)?;
        let most = self.inner.limits.unpacked_from(blob.size);
        decode::stream(file, most, true, |stream| archive::table(stream, Names::Layer, self.inner.limits))
            .map_err(fault::io("reading", format!("the layer {}", blob.digest)))
    }

    /// Takes in a user's tar archive, plain or compressed with gzip, bzip2, xz or zstd, as a layer to copy from
    /// ([`Source::Layer`]): names that mean whiteouts in layers are ordinary names. Its id is made of its content.
    pub fn import(&self, input: impl Read + Send) -> Result<(LayerId, Arc<Toc>)> {
        let failed = || fault::io("reading", "the archive");
        let mut blob = self.inner.blobs.writer()?;
        let limits = self.inner.limits;
        let (toc, diff_id) = decode::stream(input, limits.unpacked, true, |stream| {
            let mut tee = Tee::new(stream, &mut blob);
            let toc = archive::table(&mut tee, Names::Plain, limits)?;
            tee.finish().map(|()| toc)
        })
        .map_err(failed())?;
        let diff_id = diff_id.ok_or_else(|| failed()(io::Error::other("no digest was made")))?;
        let id = LayerId(Digest::of(&[b"archive\0", &diff_id.as_bytes()[..]].concat()));
        let _lock = self.lock(&id)?;
        let (digest, size) = blob.commit(None)?;
        if Meta::read(&self.path(&id))?.is_some() {
            return Ok((id, self.toc(&id)?));
        }
        let blob = Some(Descriptor::new(media_types::LAYER, digest, size));
        Ok((id, self.keep(&id, toc, Meta { blob, ..Meta::default() })?))
    }

    /// Removes a layer with its directories. Its blob stays. A layer that is not here is no error.
    pub fn remove(&self, id: &LayerId) -> Result<()> {
        let lock = self.lock(id)?;
        let mut tables = self.tables();
        if let Some(toc) = tables.known.remove(id) {
            tables.entries -= toc.len();
        }
        drop(tables);
        let directory = self.path(id);
        // Without meta.json the layer is gone for everybody, even if removing the rest is cut short.
        match fs::remove_file(directory.join("meta.json")) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("removing", &directory)(error)),
        }
        unpack::remove_tree(&directory)?;
        lock.remove()
    }

    /// The ids of all layers, in no order.
    pub fn list(&self) -> Result<Vec<LayerId>> {
        let failed = || Error::io("reading", &self.inner.root);
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.inner.root).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            if let Some(digest) = name.to_str().and_then(|name| Digest::from_hex(name).ok())
                && self.inner.root.join(&name).join("meta.json").exists()
            {
                all.push(LayerId(digest));
            }
        }
        Ok(all)
    }

    fn lock(&self, id: &LayerId) -> Result<Lock> {
        Lock::take(&self.inner.root.join(".locks"), &id.0.hex())
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.inner.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of a layer that must be here.
    fn meta(&self, id: &LayerId) -> Result<Meta> {
        Meta::read(&self.path(id))?.ok_or_else(|| missing(id))
    }

    /// The content of a blob that must be here.
    fn blob(&self, blob: &Descriptor) -> Result<File> {
        let missing = || Error::NotFound { what: format!("the blob {}", blob.digest) };
        let file = self.inner.blobs.open(&blob.digest)?.ok_or_else(missing)?;
        crate::layer::tarball::read_ahead(&file, u64::MAX);
        Ok(file)
    }

    /// Writes a new layer's table and state, in this order. The caller holds the lock.
    fn keep(&self, id: &LayerId, toc: Toc, mut meta: Meta) -> Result<Arc<Toc>> {
        let directory = self.path(id);
        make_directory(&directory)?;
        meta::replace(&directory.join("toc"), &toc.encode())?;
        meta.write(&directory)?;
        Ok(self.remember(id, toc))
    }

    /// Replaces the table of a layer by one that knows more. The caller holds the lock.
    fn update(&self, id: &LayerId, toc: Toc) -> Result<Arc<Toc>> {
        meta::replace(&self.path(id).join("toc"), &toc.encode())?;
        Ok(self.remember(id, toc))
    }

    fn remember(&self, id: &LayerId, toc: Toc) -> Arc<Toc> {
        let toc = Arc::new(toc);
        let mut tables = self.tables();
        if tables.entries + toc.len() > REMEMBERED {
            tables.known.clear();
            tables.entries = 0;
        }
        tables.entries += toc.len();
        if let Some(before) = tables.known.insert(*id, Arc::clone(&toc)) {
            tables.entries -= before.len();
        }
        toc
    }
}

fn missing(id: &LayerId) -> Error {
    Error::NotFound { what: format!("the layer {}", id.0) }
}

fn make_directory(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("making", path)(error)),
        _ => Ok(()),
    }
}
