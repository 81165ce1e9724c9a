//! Reads a pack while it comes (gitformat-pack, "pack-*.pack files"): each object is decompressed and hashed once, and
//! whoever waits for it is told at once, so that files are written while later ones are still under way.

use std::collections::HashMap;

use cooperage_sdk::{Error, Result};
use sha1::{Digest, Sha1};

use super::bytes::Bytes;
use super::cache::Cache;
use super::{Entry, Known, LARGE, Number, Pack, too_large};
use crate::id::{self, Hasher, Id, Kind};

/// Larger files are refused.
const LARGEST: u64 = 2 << 30;

/// Where a pack comes from.
pub trait Source {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// Those of the far side.
    fn next(&mut self) -> Result<Option<&[u8]>>;
}

/// Told the number of each object as soon as it is known.
pub type Arrived<'a> = dyn FnMut(&mut Pack, Number) -> Result<()> + 'a;

/// Reads a whole pack into an empty one, and checks its checksum.
///
/// # Errors
/// Those of the far side and of `arrived`; `invalid-input` for what is no pack, `limit` for one that is too large.
pub fn receive(pack: &mut Pack, source: &mut dyn Source, arrived: &mut Arrived<'_>) -> Result<()> {
    Receiver {
        source,
        arrived,
        memory: pack.memory,
        at: 0,
        hashed: 0,
        checksum: Sha1::new(),
        starts: Vec::new(),
        waiting_for_id: HashMap::new(),
        waiting_for_number: HashMap::new(),
    }
    .run(pack)
}

struct Receiver<'a, 'c> {
    source: &'a mut dyn Source,
    arrived: &'a mut Arrived<'c>,
    /// Bytes that the pack may have.
    memory: u64,
    /// Where the next object begins.
    at: usize,
    /// How far the checksum has come.
    hashed: usize,
    checksum: Sha1,
    /// Where each object begins, header included.
    starts: Vec<usize>,
    waiting_for_id: HashMap<Id, Vec<Number>>,
    waiting_for_number: HashMap<Number, Vec<Number>>,
}

/// The header of an object.
enum Header {
    Whole(Kind),
    OnNumber(Number),
    OnId(Id),
}

impl Receiver<'_, '_> {
    fn run(mut self, pack: &mut Pack) -> Result<()> {
        let mut head = [0; 12];
        self.read(&mut pack.bytes, &mut head)?;
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes"));
        if &head[..4] != b"PACK" || !matches!(word(4), 2 | 3) {
            return Err(corrupt("it does not begin as a pack of version 2 or 3"));
        }
        for number in 0..word(8) {
            self.object(pack, number)?;
            self.hash(&pack.bytes);
        }
        self.hash(&pack.bytes);
        let expected: [u8; id::LENGTH] = self.checksum.finalize_reset().into();
        let mut trailer = [0; id::LENGTH];
        self.read(&mut pack.bytes, &mut trailer)?;
        if trailer != expected {
            return Err(corrupt("its checksum does not match"));
        }
        if !self.waiting_for_id.is_empty() || !self.waiting_for_number.is_empty() {
            return Err(corrupt("a delta applies to an object that was not sent"));
        }
        // What follows is at most the end of the message.
        while self.source.next()?.is_some() {}
        Ok(())
    }

    fn object(&mut self, pack: &mut Pack, number: Number) -> Result<()> {
        let start = self.at;
        let (header, size) = self.header(&mut pack.bytes, start)?;
        self.starts.push(start);
        let entry = Entry { data: self.at, inflated: size, base: None, known: None };
        pack.entries.push(entry);
        match header {
            Header::Whole(kind) => self.whole(pack, number, kind, size),
            Header::OnNumber(base) => {
                let known = pack.entries[base as usize].known.is_some();
                self.delta(pack, number, size, if known { Some(base) } else { None })?;
                if !known {
                    self.waiting_for_number.entry(base).or_default().push(number);
                }
                Ok(())
            }
            Header::OnId(base) => {
                let base_number = pack.find(&base);
                self.delta(pack, number, size, base_number)?;
                if base_number.is_none() {
                    self.waiting_for_id.entry(base).or_default().push(number);
                }
                Ok(())
            }
        }
    }

    fn whole(&mut self, pack: &mut Pack, number: Number, kind: Kind, size: u64) -> Result<()> {
        if size > LARGEST {
            return Err(Error::limit(format!("the repository has a file of {} MiB", size >> 20))
                .hint(format!("files of at most {} GiB can be fetched", LARGEST >> 30)));
        }
        let id = if kind == Kind::Blob && size > LARGE {
            pack.room_for(0)?;
            pack.spend(size)?;
            let mut hasher = Hasher::new(kind, size);
            let mut take = |piece: &[u8]| {
                hasher.update(piece);
                Ok(())
            };
            let most = pack.most_bytes();
            let mut more = |bytes: &mut Bytes| grow(self.source, bytes, most, &mut pack.cache);
            pack.inflater.pieces(&mut pack.bytes, &mut self.at, size, &mut more, &mut take)?;
            hasher.finish()?
        } else {
            let content = self.inflate(pack, size)?;
            let id = id::of(kind, &content)?;
            pack.cache.put(number, &content.into());
            id
        };
        self.known(pack, number, id, Known { kind, size })
    }

    fn delta(&mut self, pack: &mut Pack, number: Number, size: u64, base: Option<Number>) -> Result<()> {
        let delta = self.inflate(pack, size)?;
        let Some(base) = base else { return Ok(()) };
        pack.entries[number as usize].base = Some(base);
        let in_hand = delta.len() as u64;
        pack.hold(in_hand)?;
        let content = pack.content(base)?;
        pack.release(in_hand);
        let content = pack.apply(&content, &delta)?;
        drop(delta);
        let kind = pack.kind(base);
        let id = id::of(kind, &content)?;
        let size = content.len() as u64;
        pack.cache.put(number, &content.into());
        self.known(pack, number, id, Known { kind, size })
    }

    fn inflate(&mut self, pack: &mut Pack, size: u64) -> Result<Vec<u8>> {
        // What is announced is kept free while the pack grows by what it is made of.
        pack.hold(size)?;
        pack.spend(size)?;
        let most = pack.most_bytes();
        let mut more = |bytes: &mut Bytes| grow(self.source, bytes, most, &mut pack.cache);
        // There is room for it, so it fits a `usize`.
        let content = pack.inflater.whole(&mut pack.bytes, &mut self.at, size as usize, &mut more)?;
        pack.release(size);
        Ok(content)
    }

    /// Tells of an object, and of those that have waited for it.
    fn known(&mut self, pack: &mut Pack, number: Number, id: Id, known: Known) -> Result<()> {
        let mut new = vec![(number, id, known)];
        while let Some((number, id, known)) = new.pop() {
            pack.entries[number as usize].known = Some(known);
            pack.by_id.entry(id).or_insert(number);
            (self.arrived)(pack, number)?;
            let by_number = self.waiting_for_number.remove(&number).unwrap_or_default();
            let by_id = self.waiting_for_id.remove(&id).unwrap_or_default();
            for waiting in by_number.into_iter().chain(by_id) {
                pack.entries[waiting as usize].base = Some(number);
                let content = pack.content(waiting)?;
                let size = content.len() as u64;
                new.push((waiting, id::of(known.kind, &content)?, Known { kind: known.kind, size }));
            }
        }
        Ok(())
    }

    /// Type and size in groups of bits, then what a delta applies to.
    fn header(&mut self, bytes: &mut Bytes, start: usize) -> Result<(Header, u64)> {
        let mut byte = self.byte(bytes)?;
        let kind = byte >> 4 & 7;
        let mut size = u64::from(byte & 15);
        let mut shift = 4;
        while byte & 0x80 != 0 {
            byte = self.byte(bytes)?;
            if shift > 56 {
                return Err(corrupt("an object announces a size without end"));
            }
            size |= u64::from(byte & 0x7f) << shift;
            shift += 7;
        }
        let header = match kind {
            1 => Header::Whole(Kind::Commit),
            2 => Header::Whole(Kind::Tree),
            3 => Header::Whole(Kind::Blob),
            4 => Header::Whole(Kind::Tag),
            6 => Header::OnNumber(self.base_before(bytes, start)?),
            7 => {
                let mut id = [0; id::LENGTH];
                self.read(bytes, &mut id)?;
                Header::OnId(Id::from_bytes(&id).expect("as many bytes as an id has"))
            }
            _ => return Err(corrupt("an object is of a kind that git does not have")),
        };
        Ok((header, size))
    }

    /// The object that begins so many bytes before this one.
    fn base_before(&mut self, bytes: &mut Bytes, start: usize) -> Result<Number> {
        let mut byte = self.byte(bytes)?;
        let mut back = u64::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.byte(bytes)?;
            if back > u64::MAX >> 8 {
                return Err(corrupt("a delta applies to an object before the pack"));
            }
            back = (back + 1) << 7 | u64::from(byte & 0x7f);
        }
        let base = (start as u64).checked_sub(back).and_then(|at| usize::try_from(at).ok());
        let number = base.and_then(|at| self.starts.binary_search(&at).ok());
        number
            .and_then(|number| Number::try_from(number).ok())
            .ok_or_else(|| corrupt("a delta applies to what is no object"))
    }

    fn byte(&mut self, bytes: &mut Bytes) -> Result<u8> {
        let mut byte = [0];
        self.read(bytes, &mut byte)?;
        Ok(byte[0])
    }

    fn read(&mut self, bytes: &mut Bytes, out: &mut [u8]) -> Result<()> {
        for byte in out {
            while bytes.from(self.at).is_empty() {
                pull(self.source, bytes, self.memory)?;
            }
            *byte = bytes.from(self.at)[0];
            self.at += 1;
        }
        Ok(())
    }

    fn hash(&mut self, bytes: &Bytes) {
        while self.hashed < self.at {
            let part = bytes.from(self.hashed);
            let part = &part[..part.len().min(self.at - self.hashed)];
            self.checksum.update(part);
            self.hashed += part.len();
        }
    }
}

/// Gets more of the pack; what was made before goes where there is no room for it any more.
fn grow(source: &mut dyn Source, bytes: &mut Bytes, most: u64, cache: &mut Cache) -> Result<()> {
    pull(source, bytes, most)?;
    cache.shrink(most - bytes.len() as u64);
    Ok(())
}

/// Gets at least one more byte, unless there are too many already.
fn pull(source: &mut dyn Source, bytes: &mut Bytes, most: u64) -> Result<()> {
    let before = bytes.len();
    while bytes.len() == before {
        let next = source.next()?.ok_or_else(|| Error::unavailable("the server ended the pack in the middle"))?;
        bytes.push(next);
    }
    if bytes.len() as u64 > most { Err(too_large()) } else { Ok(()) }
}

fn corrupt(why: &str) -> Error {
    Error::invalid_input("the server sends a corrupt pack").because(why)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
