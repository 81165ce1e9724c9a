//! Files and trees as readers: one file at any place of it, a whole tree as a tar archive that is made while it is read.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::JoinHandle;

use super::content::{Content, Opened};
use super::write::arrange;
use super::{Layers, Source};
use crate::layer::blocks::{Block, BlockWriter};
use crate::layer::entry::{Entry, Kind};
use crate::layer::{fault, tarball};
use crate::{Descriptor, Reference, Result, Store};

/// Blocks that an archive is ahead of its reader.
const AHEAD: usize = 4;

/// One file that can be read at any place.
#[derive(Debug)]
pub struct FileAt {
    opened: Opened,
    size: u64,
}

impl FileAt {
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads at most as much as `buffer` holds from `offset`; 0 at the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let buffer = &mut buffer[..wanted];
        match &self.opened {
            Opened::Bytes(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                bytes.get_ref().get(from..).unwrap_or_default().read(buffer)
            }
            Opened::File(file) => file.read_at(buffer, offset),
            Opened::Range { file, at, .. } => file.read_at(buffer, at + offset),
        }
    }
}

/// An archive that a thread of its own makes while it is read. Dropping it ends the thread.
#[derive(Debug)]
pub struct Archive {
    full: Option<Receiver<Box<Block>>>,
    give_back: Sender<Box<Block>>,
    block: Option<(Box<Block>, usize)>,
    maker: Option<JoinHandle<Result<()>>>,
}

impl Archive {
    fn made_by(make: impl FnOnce(&mut BlockWriter) -> Result<()> + Send + 'static) -> Self {
        let (mut writer, full, give_back) = BlockWriter::new(AHEAD);
        let maker = std::thread::spawn(move || {
            make(&mut writer)?;
            writer.finish().map_err(fault::io("writing", "an archive"))
        });
        Self { full: Some(full), give_back, block: None, maker: Some(maker) }
    }

    /// The next bytes, at most `most`; empty at the end.
    pub fn next_bytes(&mut self, most: usize) -> Result<Vec<u8>> {
        while self.block.is_none() {
            let next = self.full.as_ref().and_then(|full| full.recv().ok());
            let Some(block) = next else { return self.ended().map(|()| Vec::new()) };
            self.block = Some((block, 0));
        }
        let Some((block, from)) = &mut self.block else { return Ok(Vec::new()) };
        let to = block.bytes().len().min(*from + most);
        let bytes = block.bytes()[*from..to].to_vec();
        *from = to;
        if to == block.bytes().len()
            && let Some((block, _)) = self.block.take()
        {
            // The maker may be done already.
            let _ = self.give_back.send(block);
        }
        Ok(bytes)
    }

    /// Tells an archive that is complete from one whose maker failed.
    fn ended(&mut self) -> Result<()> {
        match self.maker.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(fault::io("writing", "an archive")(io::Error::other("its thread panicked"))),
        }
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        // Without a receiver the maker's next block fails, and it ends.
        self.full = None;
        self.give_back = std::sync::mpsc::channel().0;
        if let Some(maker) = self.maker.take() {
            let _ = maker.join();
        }
    }
}

impl Layers {
    /// Opens the content of a regular file of `size` bytes. A file of a compressed layer is copied to a nameless file
    /// first.
    pub fn open_file(&self, source: &Source, size: u64) -> Result<FileAt> {
        let content = match source {
            Source::None => Content::Empty,
            Source::Bytes(bytes) => Content::Bytes(bytes.clone()),
            Source::File(path) => Content::Host(path.clone()),
            Source::Layer { id, path } => {
                self.opening(id, [&path[..]])?;
                self.locate(id, &[path])?.pop().unwrap_or(Content::Empty)
            }
        };
        Ok(FileAt { opened: content.open(size)?, size })
    }

    /// Entries as a tar archive, in the order of a layer's table: sorted, parents first. Parents that are missing are
    /// directories of root.
    pub fn pack(&self, entries: Vec<(Entry, Source)>) -> Result<Archive> {
        let (toc, sources) = arrange(entries)?;
        let contents = self.contents(&toc, sources)?;
        Ok(Archive::made_by(move |out| {
            for (index, entry) in toc.iter().enumerate() {
                tarball::header(out, entry, None)?;
                if let Kind::File { size, .. } = entry.kind {
                    let mut input = contents[index].open(size)?;
                    tarball::content(out, index, size, &mut input, &contents[index].name(&entry.path))?;
                }
            }
            tarball::end(out).map_err(fault::io("writing", "an archive"))
        }))
    }
}

impl Store {
    /// The archive of [`export_archive`](Self::export_archive), made while it is read.
    pub fn stream_archive(&self, image: Descriptor, names: Vec<Reference>, docker: bool) -> Archive {
        let store = self.clone();
        Archive::made_by(move |out| store.export_archive(&image, &names, docker, out))
    }
}
