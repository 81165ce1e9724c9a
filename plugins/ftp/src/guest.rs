//! The outside as the contract gives it.

use std::rc::Rc;
use std::time::Duration;

use cooperage_sdk::content::{self, Reader, Writer};
use cooperage_sdk::net::{self, Connection, Patience};
use cooperage_sdk::trees::{FileInfo, FileKind, Tree};
use cooperage_sdk::{Descriptor, Error, Result};

use crate::edge::{Chunks, File, Files, Link, Network, Payload, Sink, Store};

/// The outside of a plugin call.
pub struct Guest;

const CONNECT: Duration = Duration::from_secs(30);

impl Network for Guest {
    fn connect(&self, host: &str, port: u16, idle: Duration) -> Result<Box<dyn Link>> {
        // Without a look at whether the call is cancelled: what was begun on the server is cleaned up after that.
        let patience = Patience { connect: Some(CONNECT.min(idle)), idle: Some(idle) };
        Ok(Box::new(Wire(net::connect(host, port, patience)?)))
    }
}

struct Wire(Connection);

impl Link for Wire {
    fn read(&mut self, max: usize) -> Result<Vec<u8>> {
        self.0.read(clamp(max))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write(bytes)
    }

    fn start_tls(&mut self, name: &str) -> Result<()> {
        self.0.start_tls(name)
    }

    fn finish(&mut self) -> Result<()> {
        self.0.finish()
    }

    fn peer(&self) -> String {
        self.0.peer()
    }
}

fn clamp(max: usize) -> u32 {
    u32::try_from(max).unwrap_or(u32::MAX).min(content::CHUNK)
}

impl Store for Guest {
    fn stat(&self, digest: &str) -> Result<Option<u64>> {
        content::stat(digest)
    }

    fn payload(&self, digest: &str) -> Result<Box<dyn Payload>> {
        let size =
            content::stat(digest)?.ok_or_else(|| Error::not_found(format!("the store does not have {digest}")))?;
        Ok(Box::new(Content { digest: digest.to_owned(), size }))
    }

    fn sink(&self) -> Box<dyn Sink> {
        Box::new(Keeper(Writer::new()))
    }
}

struct Content {
    digest: String,
    size: u64,
}

impl Payload for Content {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, offset: u64) -> Result<Box<dyn Chunks>> {
        positioned(content::open(&self.digest)?, offset)
    }
}

fn positioned(reader: Reader, offset: u64) -> Result<Box<dyn Chunks>> {
    if offset > 0 {
        reader.seek(offset)?;
    }
    Ok(Box::new(Reading(reader)))
}

struct Reading(Reader);

impl Chunks for Reading {
    fn chunk(&mut self, max: usize) -> Result<Vec<u8>> {
        self.0.read(clamp(max))
    }
}

struct Keeper(Writer);

impl Sink for Keeper {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Writer::write(&self.0, bytes)
    }

    fn commit(self: Box<Self>, media_type: &str, expected: Option<&str>) -> Result<Descriptor> {
        Writer::commit(self.0, media_type, expected)
    }
}

/// The input of a step.
pub struct Input<'a>(pub &'a Tree);

impl Files for Input<'_> {
    fn stat(&self, path: &str) -> Result<Option<File>> {
        Ok(self.0.stat(path, true)?.map(|info| file(&info)))
    }

    fn entries(&self, path: &str) -> Result<Vec<(String, File)>> {
        Ok(self.0.entries(path)?.into_iter().map(|info| (info.path.clone(), file(&info))).collect())
    }

    fn payload(&self, path: &str) -> Result<Box<dyn Payload>> {
        let reader = self.0.open(path)?;
        let size = reader.size();
        // Trees are handles: a borrowed one cannot go into the box, but the reader can, and it goes back and forth.
        Ok(Box::new(Within { reader: reader.into(), size }))
    }

    fn identity(&self) -> Result<String> {
        self.0.digest()
    }
}

fn file(info: &FileInfo) -> File {
    match info.kind {
        FileKind::Regular => File::Regular(info.size),
        FileKind::Directory => File::Directory,
        FileKind::Symlink => File::Link,
        FileKind::Other => File::Other,
    }
}

struct Within {
    reader: Rc<Reader>,
    size: u64,
}

impl Payload for Within {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, offset: u64) -> Result<Box<dyn Chunks>> {
        self.reader.seek(offset)?;
        Ok(Box::new(Shared(self.reader.clone())))
    }
}

struct Shared(Rc<Reader>);

impl Chunks for Shared {
    fn chunk(&mut self, max: usize) -> Result<Vec<u8>> {
        self.0.read(clamp(max))
    }
}
