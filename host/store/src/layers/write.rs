//! Makes a layer from entries and the sources of their contents: a directory, a blob, or both.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::io::Errno;

use super::content::{Content, Opened};
use super::meta::{Meta, Unpacked};
use super::seal::check;
use super::{LayerId, Layers, Seal, Source, UnpackOptions, Write};
use crate::layer::entry::{Entry, Kind, display, is_valid_path};
use crate::layer::extract::Target;
use crate::layer::{Toc, compare_paths, fault};
use crate::{Digest, Error, Hasher, Result};

impl Layers {
    /// Makes the layer `id` of `entries`, in any order; of several with one path the last counts. Parents that are not
    /// among them come out as directories of root with mode 0755. Whatever digest an entry claims for a file of the host
    /// is checked against what is read. If the layer is here already, only the forms that it lacks are made.
    ///
    /// Without `seal` and without `unpack` nothing would hold the contents, so then it is sealed as by default.
    pub fn write(&self, id: &LayerId, entries: Vec<(Entry, Source)>, how: Write) -> Result<Arc<Toc>> {
        let compression = how.seal.or_else(|| how.unpack.is_none().then(Default::default));
        {
            let _lock = self.lock(id)?;
            if Meta::read(&self.path(id))?.is_none() {
                self.write_new(id, entries, how.unpack, compression.map(Seal::from))?;
                return self.toc(id);
            }
        }
        if let Some(options) = how.unpack {
            self.unpack(id, options)?;
        }
        if let Some(compression) = how.seal {
            self.seal(id, Seal::from(compression))?;
        }
        self.toc(id)
    }

    fn write_new(
        &self,
        id: &LayerId,
        entries: Vec<(Entry, Source)>,
        unpack: Option<UnpackOptions>,
        seal: Option<Seal>,
    ) -> Result<()> {
        let (mut toc, sources) = arrange(entries)?;
        let mut contents = self.contents(&toc, sources)?;
        let mut meta = Meta::default();
        if let Some(options) = unpack {
            let unpacked = Unpacked::made(options);
            let mut digests = Vec::new();
            let path = self.build(id, &unpacked, options, &toc, |target| {
                digests = self.copy_files(target, &toc, &contents)?;
                Ok(())
            })?;
            for (index, digest) in digests {
                toc.learn(index, Some(digest), 0);
            }
            meta.unpacked.push(unpacked);
            // The blob is made of what is in the directory now, whatever becomes of the sources.
            let root = Arc::new(super::read::open_directory(&path)?);
            for (entry, content) in toc.iter().zip(&mut contents) {
                if let Kind::File { .. } = entry.kind {
                    *content = Content::Beneath(Arc::clone(&root), entry.path.clone());
                }
            }
        }
        if let Some(seal) = seal {
            let sealed = self.seal_contents(&mut toc, &contents, seal)?;
            self.record(&mut meta, &sealed, seal, &toc);
        }
        self.keep(id, toc, meta).map(drop)
    }

    /// Where each entry's content is, in the table's order.
    pub(super) fn contents(&self, toc: &Toc, sources: Vec<Source>) -> Result<Vec<Content>> {
        let mut contents = vec![Content::Empty; toc.len()];
        let mut by_layer: HashMap<LayerId, Vec<(usize, Vec<u8>)>> = HashMap::new();
        for (index, (entry, source)) in toc.iter().zip(sources).enumerate() {
            let Kind::File { size, .. } = entry.kind else { continue };
            contents[index] = match source {
                Source::None if size == 0 => Content::Empty,
                Source::Bytes(bytes) if bytes.len() as u64 == size => Content::Bytes(bytes),
                Source::None | Source::Bytes(_) => {
                    let why = format!("its content has not the {size} bytes of its entry");
                    return Err(Error::Invalid { what: display(&entry.path), why });
                }
                Source::File(path) => Content::Host(path),
                Source::Layer { id, path } => {
                    by_layer.entry(id).or_default().push((index, path));
                    continue;
                }
            };
        }
        for (id, wanted) in by_layer {
            let paths: Vec<&[u8]> = wanted.iter().map(|(_, path)| &path[..]).collect();
            self.opening(&id, paths.iter().copied())?;
            for ((index, _), content) in wanted.iter().zip(self.locate(&id, &paths)?) {
                contents[*index] = content;
            }
        }
        Ok(contents)
    }

    /// Creates all regular files, several at a time. Gives the digests that became known.
    pub(super) fn copy_files(&self, target: &Target, toc: &Toc, contents: &[Content]) -> Result<Vec<(usize, Digest)>> {
        let files: Vec<usize> =
            (0..toc.len()).filter(|&at| matches!(toc.entries()[at].kind, Kind::File { .. })).collect();
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || -> Result<Vec<(usize, Digest)>> {
            let mut digests = Vec::new();
            let mut buffer = vec![0; 256 << 10];
            while !failed.load(Ordering::Relaxed) {
                let Some(&index) = files.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                match copy_file(target, toc, index, &contents[index], &mut buffer) {
                    Ok(digest) => digests.extend(digest.map(|digest| (index, digest))),
                    Err(error) => {
                        failed.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            Ok(digests)
        };
        let threads = self.inner.threads.min(files.len().div_ceil(16)).max(1);
        let parts: Result<Vec<_>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join().expect("copying does not panic")).collect()
        });
        Ok(parts?.into_iter().flatten().collect())
    }
}

/// Sorts entries into a table, and their sources beside it. Hard links come to follow the file they name.
pub(super) fn arrange(mut entries: Vec<(Entry, Source)>) -> Result<(Toc, Vec<Source>)> {
    for (entry, _) in &entries {
        let what = || display(&entry.path);
        if !is_valid_path(&entry.path) {
            return Err(Error::Invalid { what: what(), why: "it is no path inside a layer".to_owned() });
        }
        if let Kind::Symlink { target } = &entry.kind
            && (target.is_empty() || target.contains(&0))
        {
            return Err(Error::Invalid { what: what(), why: "it is a symbolic link to nothing".to_owned() });
        }
    }
    entries.sort_by(|(a, _), (b, _)| compare_paths(&a.path, &b.path));
    entries.reverse();
    entries.dedup_by(|(a, _), (b, _)| a.path == b.path);
    entries.reverse();
    order_links(&mut entries)?;
    let mut sources: Vec<(Vec<u8>, Source)> = Vec::with_capacity(entries.len());
    let mut bare = Vec::with_capacity(entries.len());
    for (entry, source) in entries {
        if !matches!(source, Source::None) {
            sources.push((entry.path.clone(), source));
        }
        bare.push(entry);
    }
    let toc = Toc::new(bare);
    let mut sources = sources.into_iter().peekable();
    let aligned = toc.iter().map(|entry| {
        // Entries that contradict one above them are not in the table; nor are their sources needed.
        while sources.next_if(|(path, _)| compare_paths(path, &entry.path).is_lt()).is_some() {}
        sources.next_if(|(path, _)| *path == entry.path).map_or(Source::None, |(_, source)| source)
    });
    let aligned = aligned.collect();
    Ok((toc, aligned))
}

/// A tar stream must have a file before the hard links to it: of all names of a file, the first becomes the file.
fn order_links(entries: &mut [(Entry, Source)]) -> Result<()> {
    let mut links: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    for (at, (entry, _)) in entries.iter().enumerate() {
        if let Kind::Hardlink { target } = &entry.kind {
            links.entry(target.clone()).or_default().push(at);
        }
    }
    for (target, names) in links {
        let file = entries.binary_search_by(|(entry, _)| compare_paths(&entry.path, &target)).ok();
        let Some(file) = file.filter(|&at| matches!(entries[at].0.kind, Kind::File { .. })) else {
            let what = display(&entries[names[0]].0.path);
            let why = format!("it is a hard link to {}, which is no file of this layer", display(&target));
            return Err(Error::Invalid { what, why });
        };
        let first = names[0].min(file);
        if first != file {
            let (before, after) = entries.split_at_mut(file);
            std::mem::swap(&mut before[first], &mut after[0]);
            std::mem::swap(&mut before[first].0.path, &mut after[0].0.path);
        }
        // The names of a file share its metadata, whatever was said of each.
        let shared = entries[first].0.clone();
        for at in names.into_iter().chain([file]).filter(|&at| at != first) {
            let path = std::mem::take(&mut entries[at].0.path);
            entries[at].0 = Entry { path, kind: Kind::Hardlink { target: shared.path.clone() }, ..shared.clone() };
        }
    }
    Ok(())
}

/// Creates one file. A file of the host is read, so that it can be hashed and checked; what lies in the store was checked
/// when it came, so the kernel may copy it, or share its blocks.
fn copy_file(target: &Target, toc: &Toc, index: usize, content: &Content, buffer: &mut [u8]) -> Result<Option<Digest>> {
    let entry = &toc.entries()[index];
    let size = entry.size();
    let mut output = target.file(entry)?;
    let mut input = content.open(size)?;
    let copied = content.is_stable()
        && copy_in_kernel(&input, &output, size).map_err(fault::sys("writing", fault::inside(&entry.path)))?;
    let digest = if copied {
        None
    } else {
        let digest = copy_hashed(&mut input, &mut output, size, content, entry, buffer)?;
        check(toc, index, digest, content)?;
        Some(digest)
    };
    target.finish_file(&output, entry)?;
    Ok(digest)
}

/// Has the kernel copy the content; false, and nothing written, if it cannot.
fn copy_in_kernel(input: &Opened, output: &File, size: u64) -> std::result::Result<bool, Errno> {
    let (file, mut from) = match input {
        Opened::Bytes(_) => return Ok(false),
        Opened::File(file) => (file, 0),
        Opened::Range { file, at, .. } => (&**file, *at),
    };
    let mut to = 0;
    while to < size {
        let wanted = usize::try_from(size - to).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(file, Some(&mut from), output, Some(&mut to), wanted) {
            Ok(0) => return Err(Errno::IO),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) if to == 0 => {
                return Ok(false);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(size > 0)
}

fn copy_hashed(
    input: &mut Opened,
    output: &mut File,
    size: u64,
    content: &Content,
    entry: &Entry,
    buffer: &mut [u8],
) -> Result<Digest> {
    let name = || content.name(&entry.path);
    let mut hasher = Hasher::new();
    let mut copied = 0u64;
    loop {
        let length = match input.read(buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(fault::io("reading", name())(error)),
        };
        copied += length as u64;
        if copied > size {
            break;
        }
        hasher.update(&buffer[..length]);
        output.write_all(&buffer[..length]).map_err(fault::io("writing", fault::inside(&entry.path)))?;
    }
    if copied != size {
        let why = format!("it has {} {size} bytes", if copied > size { "more than" } else { "less than" });
        return Err(Error::Changed { what: name().display().to_string(), why });
    }
    Ok(hasher.finish())
}
