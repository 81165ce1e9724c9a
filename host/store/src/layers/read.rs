//! Reads files of a layer, from its directory if there is one, else from its blob, in one pass over either.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fs::{Mode, OFlags};

use super::content::Content;
use super::unpack::offset;
use super::{LayerId, Layers, missing};
use crate::layer::decode::{self, Format, StreamReader};
use crate::layer::entry::{Entry, Kind, display};
use crate::layer::{Toc, fault};
use crate::{Digest, Error, Hasher, Result};

/// What [`Layers::with_files`] calls for each file: its place in the list, and its content.
pub type EachFile<'a> = dyn FnMut(usize, &mut dyn Read) -> io::Result<()> + 'a;

impl Layers {
    /// The content of one file, following a hard link. `NotFound` if `path` is no regular file of the layer, `TooLarge` if
    /// it has more than `max` bytes.
    pub fn read(&self, id: &LayerId, path: &[u8], max: u64) -> Result<Vec<u8>> {
        let toc = self.toc(id)?;
        let what = || format!("the file {} of the layer {}", display(path), id.0);
        let entry = toc.get(path).ok_or_else(|| Error::NotFound { what: what() })?;
        if toc.resolve(entry).is_some_and(|file| file.size() > max) {
            return Err(Error::TooLarge { what: what(), limit: max });
        }
        let mut bytes = Vec::new();
        self.with_files(id, &[entry], &mut |_, input| input.read_to_end(&mut bytes).map(drop))?;
        Ok(bytes)
    }

    /// Calls `f` with the place and the content of each of `wanted`, entries of the layer that are regular files or hard
    /// links to such, in the order in which the layer has them. What `f` leaves unread is passed over; its first error ends
    /// the pass.
    pub fn with_files(
        &self,
        id: &LayerId,
        wanted: &[&Entry],
        f: &mut dyn FnMut(usize, &mut dyn Read) -> io::Result<()>,
    ) -> Result<()> {
        let toc = self.toc(id)?;
        let mut files = Vec::with_capacity(wanted.len());
        for (place, entry) in wanted.iter().enumerate() {
            files.push((place, file_of(&toc, id, &entry.path)?));
        }
        self.opening(id, files.iter().map(|(_, file)| &file.path[..]))?;
        if let Some(root) = self.directory_of(id)? {
            for (place, file) in files {
                let content = Content::Beneath(Arc::clone(&root), file.path.clone());
                let mut input = content.open(file.size())?;
                f(place, &mut input).map_err(fault::io("reading", fault::inside(&file.path)))?;
            }
            return Ok(());
        }
        files.sort_by_key(|(_, file)| offset(file));
        self.scan(id, &files, f)
    }

    /// Digests of the contents of `entries`, regular files or hard links to such, in their order. What had to be computed
    /// is remembered in the table of contents.
    pub fn digest_files(&self, id: &LayerId, entries: &[&Entry]) -> Result<Vec<Digest>> {
        let toc = self.toc(id)?;
        let mut files = Vec::with_capacity(entries.len());
        for entry in entries {
            files.push(file_of(&toc, id, &entry.path)?);
        }
        let mut unknown: Vec<&Entry> = files.iter().copied().filter(|file| digest(file).is_none()).collect();
        unknown.sort_by(|a, b| crate::layer::compare_paths(&a.path, &b.path));
        unknown.dedup_by(|a, b| a.path == b.path);
        if unknown.is_empty() {
            return Ok(files.iter().filter_map(|file| digest(file)).collect());
        }
        self.opening(id, unknown.iter().map(|file| &file.path[..]))?;
        let found = match self.directory_of(id)? {
            Some(root) => hash_parallel(&root, &unknown, self.inner.threads)?,
            None => self.hash_scanned(id, &unknown)?,
        };
        let _lock = self.lock(id)?;
        // Somebody else may have learnt other things meanwhile.
        let mut known = self.reread(id)?;
        for (file, digest) in unknown.iter().zip(found) {
            if let Some(index) = known.index_of(&file.path) {
                known.learn(index, Some(digest), 0);
            }
        }
        let known = self.update(id, known)?;
        let digests = files.iter().map(|file| known.get(&file.path).and_then(digest)).collect::<Option<Vec<_>>>();
        digests.ok_or_else(|| missing(id))
    }

    fn hash_scanned(&self, id: &LayerId, files: &[&Entry]) -> Result<Vec<Digest>> {
        let mut digests = vec![Digest::from_bytes([0; 32]); files.len()];
        let mut buffer = vec![0; 128 << 10];
        self.with_files(id, files, &mut |place, input| {
            digests[place] = hash(input, &mut buffer)?;
            Ok(())
        })?;
        Ok(digests)
    }

    /// The table as it is on disk, whatever memory says.
    fn reread(&self, id: &LayerId) -> Result<Toc> {
        let path = self.path(id).join("toc");
        Toc::decode(&std::fs::read(&path).map_err(Error::io("reading", &path))?)
    }

    /// The directory of a layer, opened, in whichever form there is one.
    fn directory_of(&self, id: &LayerId) -> Result<Option<Arc<OwnedFd>>> {
        let meta = self.meta(id)?;
        let Some(unpacked) = meta.unpacked.first() else { return Ok(None) };
        open_directory(&self.path(id).join(&unpacked.directory)).map(|root| Some(Arc::new(root)))
    }

    /// Passes once over the blob of a layer; `files` are sorted by their place in it.
    fn scan(&self, id: &LayerId, files: &[(usize, &Entry)], f: &mut EachFile<'_>) -> Result<()> {
        let blob = self.meta(id)?.blob.ok_or_else(|| missing(id))?;
        let what = format!("the layer {}", blob.digest);
        let mut file = self.blob(&blob)?;
        if is_plain(&mut file).map_err(Error::io("reading", &what))? {
            let file = Arc::new(file);
            for (place, entry) in files {
                let mut input = Content::Range(Arc::clone(&file), offset(entry)).open(entry.size())?;
                f(*place, &mut input).map_err(fault::io("reading", fault::inside(&entry.path)))?;
            }
            return Ok(());
        }
        let most = self.inner.limits.unpacked_from(blob.size);
        let pass = |stream: &mut StreamReader| {
            let mut at = 0;
            while at < files.len() {
                let (place, entry) = files[at];
                let start = offset(entry);
                // The same file may be wanted twice, under several names.
                let same =
                    files[at..].iter().take_while(|(_, other)| start > 0 && offset(other) == start).count().max(1);
                if entry.size() > 0 {
                    stream.seek(start)?;
                }
                if same > 1 {
                    let mut bytes = nameless(&self.inner.root)?;
                    io::copy(&mut Part { stream, left: entry.size() }, &mut bytes)?;
                    for (place, _) in &files[at..at + same] {
                        bytes.seek(SeekFrom::Start(0))?;
                        f(*place, &mut bytes)?;
                    }
                } else {
                    f(place, &mut Part { stream, left: entry.size() })?;
                }
                at += same;
            }
            Ok(())
        };
        decode::stream(file, most, false, pass).map(drop).map_err(fault::io("reading", &what))
    }

    /// Where the content of each entry of a layer is, by the entry's place. A layer without a directory and with a
    /// compressed blob is copied to a nameless file first.
    pub(super) fn contents_of(&self, id: &LayerId, toc: &Toc) -> Result<Vec<Content>> {
        let is_file = |entry: &Entry| matches!(entry.kind, Kind::File { .. });
        if let Some(root) = self.directory_of(id)? {
            let content = |entry: &Entry| match is_file(entry) {
                true => Content::Beneath(Arc::clone(&root), entry.path.clone()),
                false => Content::Empty,
            };
            return Ok(toc.iter().map(content).collect());
        }
        let files: Vec<usize> = (0..toc.len()).filter(|&at| is_file(&toc.entries()[at])).collect();
        let paths: Vec<&[u8]> = files.iter().map(|&at| &toc.entries()[at].path[..]).collect();
        let mut contents = vec![Content::Empty; toc.len()];
        for (at, content) in files.into_iter().zip(self.locate(id, &paths)?) {
            contents[at] = content;
        }
        Ok(contents)
    }

    /// Where the contents of the files at `paths` of a layer can be read in any order.
    pub(super) fn locate(&self, id: &LayerId, paths: &[&[u8]]) -> Result<Vec<Content>> {
        let toc = self.toc(id)?;
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            files.push(file_of(&toc, id, path)?);
        }
        if let Some(root) = self.directory_of(id)? {
            return Ok(files.iter().map(|file| Content::Beneath(Arc::clone(&root), file.path.clone())).collect());
        }
        let blob = self.meta(id)?.blob.ok_or_else(|| missing(id))?;
        let mut file = self.blob(&blob)?;
        if is_plain(&mut file).map_err(Error::io("reading", "a blob"))? {
            let file = Arc::new(file);
            return Ok(files.iter().map(|entry| Content::Range(Arc::clone(&file), offset(entry))).collect());
        }
        self.spool(id, &files)
    }

    /// Copies files of a compressed blob to a file without a name, in one pass.
    fn spool(&self, id: &LayerId, files: &[&Entry]) -> Result<Vec<Content>> {
        let failed = || fault::io("writing in", &self.inner.root);
        let mut spool = nameless(&self.inner.root).map_err(failed())?;
        let mut starts = vec![0u64; files.len()];
        let mut end = 0u64;
        let mut wanted: Vec<(usize, &Entry)> = files.iter().copied().enumerate().collect();
        wanted.sort_by_key(|(_, file)| offset(file));
        let mut once = wanted.clone();
        once.dedup_by_key(|(_, file)| (offset(file), file.size()));
        let mut buffer = vec![0; 256 << 10];
        self.scan(id, &once, &mut |place, input| {
            starts[place] = end;
            loop {
                let length = input.read(&mut buffer)?;
                if length == 0 {
                    return Ok(());
                }
                spool.write_all(&buffer[..length])?;
                end += length as u64;
            }
        })?;
        let file = Arc::new(spool);
        let mut contents = vec![Content::Empty; files.len()];
        let mut last = None;
        for (place, entry) in wanted {
            let key = (offset(entry), entry.size());
            let start = match last {
                Some((known, start)) if known == key => start,
                _ => starts[place],
            };
            last = Some((key, start));
            if entry.size() > 0 {
                contents[place] = Content::Range(Arc::clone(&file), start);
            }
        }
        Ok(contents)
    }
}

/// One file's content within the stream.
struct Part<'a> {
    stream: &'a mut StreamReader,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.stream.read(&mut buffer[..wanted])?;
        if length == 0 && wanted > 0 {
            return Err(fault::malformed("the archive ends within a file"));
        }
        self.left -= length as u64;
        Ok(length)
    }
}

/// The regular file at `path`, or the one that a hard link there names.
fn file_of<'a>(toc: &'a Toc, id: &LayerId, path: &[u8]) -> Result<&'a Entry> {
    let found = toc.get(path).and_then(|entry| toc.resolve(entry));
    found
        .filter(|file| matches!(file.kind, Kind::File { .. }))
        .ok_or_else(|| Error::NotFound { what: format!("the file {} of the layer {}", display(path), id.0) })
}

fn digest(entry: &Entry) -> Option<Digest> {
    match entry.kind {
        Kind::File { digest, .. } => digest,
        _ => None,
    }
}

fn hash(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    loop {
        match input.read(buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Hashes files of a directory in several threads.
fn hash_parallel(root: &Arc<OwnedFd>, files: &[&Entry], threads: usize) -> Result<Vec<Digest>> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Digest)>> {
        let mut found = Vec::new();
        let mut buffer = vec![0; 128 << 10];
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(at) else { return Ok(found) };
            let mut input = Content::Beneath(Arc::clone(root), file.path.clone()).open(file.size())?;
            let digest = hash(&mut input, &mut buffer).map_err(fault::io("reading", fault::inside(&file.path)))?;
            found.push((at, digest));
        }
    };
    let threads = threads.min(files.len().div_ceil(8)).max(1);
    let parts: Result<Vec<_>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("hashing does not panic")).collect()
    });
    let mut all: Vec<(usize, Digest)> = parts?.into_iter().flatten().collect();
    all.sort_unstable_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, digest)| digest).collect())
}

pub(super) fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(fault::sys("opening", path))
}

/// Whether a blob is an uncompressed tar stream.
fn is_plain(file: &mut File) -> io::Result<bool> {
    let mut head = [0; Format::HEAD];
    let length = crate::layer::blocks::read_full(file, &mut head)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(Format::of(&head[..length]) == Format::Plain)
}

/// A file that is gone when it is closed.
fn nameless(directory: &Path) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(directory, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(file) => return Ok(file.into()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let path = directory.join(format!(".spool-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
