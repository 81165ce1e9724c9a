//! The objects of a pack, by number in their order, and by id. The pack stays in memory compressed; content is made
//! when it is asked for, and the latest of it is kept. It does not know where the pack comes from or what the objects
//! mean.

mod bytes;
mod cache;
mod delta;
mod inflate;
pub mod receive;

use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use cooperage_sdk::{Error, Result};

use crate::id::{Id, Kind};
use bytes::Bytes;
use cache::Cache;
use inflate::Inflater;

/// Larger files are never in memory as a whole, unless a delta makes them.
pub const LARGE: u64 = 4 << 20;
/// What a pack may take of the plugin's memory, with all that is made of it at a time.
const MEMORY: u64 = 384 << 20;
/// What the table of one object takes, generously.
const ENTRY: u64 = 128;
/// Bytes that may be decompressed in all. Git's longest chains over its largest objects would take hours.
const WORK: u64 = 32 << 30;
/// The longest chain of deltas; git makes none longer than 4095.
const CHAIN: usize = 4096;

/// Number of an object in its pack.
pub type Number = u32;

/// One object.
#[derive(Debug)]
struct Entry {
    /// Where its compressed bytes begin.
    data: usize,
    /// How many bytes they decompress to: the content, or a delta.
    inflated: u64,
    /// The object that the delta applies to.
    base: Option<Number>,
    /// Known once the base is.
    known: Option<Known>,
}

/// What is known of an object once its content was seen.
#[derive(Debug, Clone, Copy)]
struct Known {
    kind: Kind,
    size: u64,
}

/// The objects that a server has sent.
pub struct Pack {
    bytes: Bytes,
    entries: Vec<Entry>,
    by_id: HashMap<Id, Number>,
    cache: Cache,
    inflater: Inflater,
    /// Bytes that all of this may take.
    memory: u64,
    /// Bytes of content that somebody has in hand while something else is made.
    held: u64,
    /// Bytes that were decompressed.
    work: u64,
}

impl Default for Pack {
    fn default() -> Self {
        Self::new()
    }
}

impl Pack {
    /// Without objects.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: Bytes::default(),
            entries: Vec::new(),
            by_id: HashMap::new(),
            cache: Cache::default(),
            inflater: Inflater::new(),
            memory: MEMORY,
            held: 0,
            work: 0,
        }
    }

    /// The number of an object, if it is there.
    #[must_use]
    pub fn find(&self, id: &Id) -> Option<Number> {
        self.by_id.get(id).copied()
    }

    /// What an object is.
    ///
    /// # Panics
    /// If the number does not come from [`find`](Self::find).
    #[must_use]
    pub fn kind(&self, number: Number) -> Kind {
        self.known(number).kind
    }

    /// Bytes of its content.
    ///
    /// # Panics
    /// As for [`kind`](Self::kind).
    #[must_use]
    pub fn size(&self, number: Number) -> u64 {
        self.known(number).size
    }

    fn known(&self, number: Number) -> Known {
        self.entries[number as usize].known.expect("an object with an id was seen")
    }

    /// The content of an object, whole.
    ///
    /// # Errors
    /// `limit` if there is no memory for it, `invalid-input` if the pack is corrupt.
    pub fn content(&mut self, number: Number) -> Result<Rc<Vec<u8>>> {
        let mut chain = Vec::new();
        let mut lowest = number;
        let mut content = loop {
            if let Some(content) = self.cache.get(lowest) {
                break content;
            }
            let Some(base) = self.entries[lowest as usize].base else {
                let content = Rc::new(self.inflate(lowest)?);
                self.cache.put(lowest, &content);
                break content;
            };
            chain.push(lowest);
            if chain.len() > CHAIN {
                return Err(Error::limit(format!("the pack has a chain of more than {CHAIN} deltas")));
            }
            lowest = base;
        };
        for number in chain.into_iter().rev() {
            let size = content.len() as u64;
            self.hold(size)?;
            let delta = self.inflate(number)?;
            self.release(size);
            content = Rc::new(self.apply(&content, &delta)?);
            self.cache.put(number, &content);
        }
        Ok(content)
    }

    /// The content of an object, for reading in pieces. Only an object that is made of another one takes memory.
    ///
    /// # Errors
    /// As for [`content`](Self::content).
    pub fn open(&mut self, number: Number) -> Result<Box<dyn io::Read + '_>> {
        let entry = &self.entries[number as usize];
        if entry.base.is_some() {
            return Ok(Box::new(Shared { content: self.content(number)?, at: 0 }));
        }
        let at = entry.data;
        self.spend(entry.inflated)?;
        Ok(Box::new(inflate::Stream::new(&self.bytes, at)))
    }

    fn inflate(&mut self, number: Number) -> Result<Vec<u8>> {
        let entry = &self.entries[number as usize];
        let (mut at, size) = (entry.data, entry.inflated);
        self.room_for(size)?;
        self.spend(size)?;
        let mut more = |_: &mut Bytes| Err(Error::internal("an object of the pack was whole before"));
        self.inflater.whole(&mut self.bytes, &mut at, size as usize, &mut more)
    }

    fn apply(&mut self, base: &[u8], delta: &[u8]) -> Result<Vec<u8>> {
        let (sizes, _) = delta::sizes(delta)?;
        let together = (base.len() as u64 + delta.len() as u64).saturating_add(sizes.result);
        self.room_for(together)?;
        self.spend(sizes.result)?;
        delta::apply(base, delta)
    }

    /// Makes room for so many bytes of content beside the pack and what is held.
    fn room_for(&mut self, wanted: u64) -> Result<()> {
        let left = self.most_bytes().checked_sub(wanted);
        let left = left.and_then(|left| left.checked_sub(self.bytes.len() as u64)).ok_or_else(too_large)?;
        self.cache.shrink(left);
        Ok(())
    }

    /// How many bytes of the pack itself there may be beside its tables and what is held.
    fn most_bytes(&self) -> u64 {
        self.memory.saturating_sub(self.entries.len() as u64 * ENTRY + self.held)
    }

    /// Counts memory that is in hand until it is [released](Self::release). After an error the pack is of no use, so
    /// only what goes well releases.
    ///
    /// # Errors
    /// `limit` if there is not so much.
    pub fn hold(&mut self, bytes: u64) -> Result<()> {
        self.room_for(bytes)?;
        self.held += bytes;
        Ok(())
    }

    /// No longer counts it.
    pub fn release(&mut self, bytes: u64) {
        self.held -= bytes;
    }

    fn spend(&mut self, bytes: u64) -> Result<()> {
        self.work = self.work.saturating_add(bytes);
        if self.work > WORK {
            return Err(Error::limit(format!("the pack decompresses to more than {} GiB", WORK >> 30))
                .hint("if this repository is an honest one, clone it with git itself in a `script` step"));
        }
        Ok(())
    }
}

fn too_large() -> Error {
    Error::limit(format!(
        "the objects of the repository take more than the {} MiB of memory that there are",
        MEMORY >> 20
    ))
    .because("they are kept compressed, and what is made of them one by one")
    .hint("clone it with git itself in a `script` step, or split it")
}

/// Reads content that others read, too.
struct Shared {
    content: Rc<Vec<u8>>,
    at: usize,
}

impl io::Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.content[self.at..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at += length;
        Ok(length)
    }
}
