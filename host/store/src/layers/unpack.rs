//! Makes the directory of a layer from its blob, or adopts one that overlayfs made. Decompression runs ahead in a thread
//! of its own; small files are created by a few others, in batches, because creating a file costs more than filling it.

use std::fs;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::meta::{Meta, Unpacked};
use super::{LayerId, Layers, UnpackOptions, make_directory};
use crate::layer::decode::{self, StreamReader};
use crate::layer::entry::{Entry, Kind};
use crate::layer::extract::Target;
use crate::layer::{Toc, fault, walk};
use crate::{Error, Result};

/// Files up to this size are handed to the workers, in batches of at most this size.
const SMALL: u64 = 1 << 20;
const BATCH_FILES: usize = 64;
const WORKERS: usize = 3;

impl Layers {
    /// The directory of a layer in the form that overlayfs takes: whiteouts are character devices 0:0, opaque directories
    /// have an attribute. Made if it is not there; then it appears at once, whole.
    pub fn unpack(&self, id: &LayerId, options: UnpackOptions) -> Result<PathBuf> {
        let directory = self.path(id);
        let existing = |meta: &Meta| {
            meta.unpacked.iter().find(|unpacked| unpacked.fits(options)).map(|found| directory.join(&found.directory))
        };
        if let Some(path) = existing(&self.meta(id)?) {
            return Ok(path);
        }
        let _lock = self.lock(id)?;
        let mut meta = self.meta(id)?;
        if let Some(path) = existing(&meta) {
            return Ok(path);
        }
        let Some(blob) = meta.blob.clone() else {
            return Err(Error::Unsupported {
                what: format!("the layer {}", id.0),
                why: "it was made for mounts with other options, and has no blob to make it anew".to_owned(),
            });
        };
        let toc = self.toc(id)?;
        let file = self.blob(&blob)?;
        let most = self.inner.limits.unpacked_from(blob.size);
        let unpacked = Unpacked::made(options);
        let path = self.build(id, &unpacked, options, &toc, |target| {
            decode::stream(file, most, false, |stream| fill(target, &toc, stream).map_err(fault::wrap))
                .map(drop)
                .map_err(fault::io("reading", format!("the layer {}", blob.digest)))
        })?;
        meta.unpacked.push(unpacked);
        meta.write(&directory)?;
        Ok(path)
    }

    /// Makes a finished overlay upper directory the layer `id`, by moving it; none, and nothing moved, if it has nothing
    /// but its root. It must be on the same file system as the store. Sockets in it are removed. If the layer is here
    /// already, it stays as it is.
    pub fn adopt(&self, id: &LayerId, upper: &Path, userxattr: bool) -> Result<Option<Arc<Toc>>> {
        let toc = walk::upper(upper, userxattr, self.inner.limits)?;
        if toc.iter().all(|entry| entry.path.is_empty()) {
            return Ok(None);
        }
        let _lock = self.lock(id)?;
        let directory = self.path(id);
        if Meta::read(&directory)?.is_some() {
            return self.toc(id).map(Some);
        }
        make_directory(&directory)?;
        let unpacked = Unpacked::adopted(userxattr);
        let path = directory.join(&unpacked.directory);
        remove_tree(&path)?;
        fs::rename(upper, &path).map_err(Error::io("moving", upper))?;
        let toc = self.keep(id, toc, Meta { unpacked: vec![unpacked], ..Meta::default() })?;
        self.adopted(id, upper);
        Ok(Some(toc))
    }

    /// Fills a new directory of a layer by `files` and gives it its name. The caller holds the lock.
    pub(super) fn build(
        &self,
        id: &LayerId,
        unpacked: &Unpacked,
        options: UnpackOptions,
        toc: &Toc,
        files: impl FnOnce(&Target) -> Result<()>,
    ) -> Result<PathBuf> {
        let directory = self.path(id);
        make_directory(&directory)?;
        let path = directory.join(&unpacked.directory);
        let temporary = directory.join("unpacking");
        // Leftovers of a process that died, or of a crash before meta.json was written.
        remove_tree(&temporary)?;
        remove_tree(&path)?;
        let made = Target::create(&temporary, options).and_then(|target| target.make(toc, || files(&target)));
        if let Err(error) = made {
            // The first error counts; what cannot be removed now is removed at the next attempt.
            let _ = remove_tree(&temporary);
            return Err(error);
        }
        fs::rename(&temporary, &path).map_err(Error::io("naming", &path))?;
        Ok(path)
    }
}

/// The regular files of a table in the order of the stream; those without content first.
pub(super) fn in_stream_order(toc: &Toc) -> Vec<&Entry> {
    let mut files: Vec<&Entry> = toc.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })).collect();
    files.sort_by_key(|entry| offset(entry));
    files
}

/// Where a file's content is in the stream; 0 for what has none.
pub(super) fn offset(entry: &Entry) -> u64 {
    match entry.kind {
        Kind::File { size, offset, .. } if size > 0 => offset,
        _ => 0,
    }
}

/// Files with their contents, for one worker to create.
#[derive(Default)]
struct Batch<'a> {
    data: Vec<u8>,
    files: Vec<(&'a Entry, usize)>,
}

/// Creates all regular files of `toc` from the stream.
fn fill(target: &Target, toc: &Toc, stream: &mut StreamReader) -> Result<()> {
    let (send, batches) = sync_channel::<Batch<'_>>(WORKERS + 1);
    let batches = Mutex::new(batches);
    let batches = &batches;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(move || create(target, batches))).collect();
        let mut batch = Batch::default();
        let mut result = Ok(());
        for entry in in_stream_order(toc) {
            result = if entry.size() > SMALL {
                copy_large(target, entry, stream)
            } else {
                if batch.files.len() == BATCH_FILES || batch.data.len() as u64 + entry.size() > SMALL {
                    // Fails only when every worker has failed, and then they say why.
                    if send.send(std::mem::take(&mut batch)).is_err() {
                        break;
                    }
                }
                take(&mut batch, entry, stream)
            };
            if result.is_err() {
                break;
            }
        }
        let _ = send.send(batch);
        drop(send);
        for worker in workers {
            let done = worker.join().expect("creating files does not panic");
            result = result.and(done);
        }
        result
    })
}

fn create(target: &Target, batches: &Mutex<Receiver<Batch<'_>>>) -> Result<()> {
    let mut result = Ok(());
    loop {
        let next = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = next else { return result };
        // After a failure the queue is still emptied, so that the sender never waits in vain.
        if result.is_ok() {
            result = create_batch(target, &batch);
        }
    }
}

fn create_batch(target: &Target, batch: &Batch<'_>) -> Result<()> {
    for &(entry, start) in &batch.files {
        let mut file = target.file(entry)?;
        let data = &batch.data[start..start + entry.size() as usize];
        file.write_all(data).map_err(fault::io("writing", fault::inside(&entry.path)))?;
        target.finish_file(&file, entry)?;
    }
    Ok(())
}

fn take<'a>(batch: &mut Batch<'a>, entry: &'a Entry, stream: &mut StreamReader) -> Result<()> {
    batch.files.push((entry, batch.data.len()));
    each_part(entry, stream, |part| {
        batch.data.extend_from_slice(part);
        Ok(())
    })
}

fn copy_large(target: &Target, entry: &Entry, stream: &mut StreamReader) -> Result<()> {
    let mut file = target.file(entry)?;
    each_part(entry, stream, |part| file.write_all(part))?;
    target.finish_file(&file, entry)
}

/// Gives the parts of a file's content, as the stream has them.
fn each_part(entry: &Entry, stream: &mut StreamReader, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
    let failed = || fault::io("writing", fault::inside(&entry.path));
    let mut left = entry.size();
    if left == 0 {
        return Ok(());
    }
    stream.seek(offset(entry)).map_err(failed())?;
    while left > 0 {
        let available = stream.fill_buf().map_err(failed())?;
        if available.is_empty() {
            return Err(failed()(fault::malformed("the archive ends within the file")));
        }
        let length = available.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        take(&available[..length]).map_err(failed())?;
        stream.consume(length);
        left -= length as u64;
    }
    Ok(())
}

/// Removes a directory with all that is in it, following no links. Directories that their owner may not enter are
/// opened up first. What is not there is no error.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    for attempt in 0..2 {
        match fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && attempt == 0 => open_up(path),
            Err(error) => return Err(Error::io("removing", path)(error)),
        }
    }
    Ok(())
}

/// Lets the owner into all directories below `path`; only needed without privileges.
fn open_up(path: &Path) {
    let _ = fs::set_permissions(path, PermissionsExt::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
