//! Bytes in the host's store, by digest. The host hashes while they pass.

use std::io;

use crate::{Descriptor, Error, Result};

pub use crate::bindings::imports::cooperage::plugin::content::{Archive, Reader, Writer, open, stat};

/// Bytes per call between plugin and store: large enough that the call itself does not count.
pub const CHUNK: u32 = 1 << 20;

/// Keeps bytes in the store.
///
/// # Errors
/// Those of the host, for instance `limit` for the quota.
pub fn put(bytes: &[u8], media_type: &str) -> Result<Descriptor> {
    let writer = Writer::new();
    for chunk in bytes.chunks(CHUNK as usize) {
        writer.write(chunk)?;
    }
    Writer::commit(writer, media_type, None)
}

/// All bytes of a content of at most `max` bytes.
///
/// # Errors
/// `not-found` if the store does not have it, `limit` if it is larger.
pub fn read(digest: &str, max: u64) -> Result<Vec<u8>> {
    let reader = open(digest)?;
    let size = reader.size();
    if size > max {
        return Err(Error::limit(format!("{digest} has {size} bytes, more than {max}")));
    }
    let mut bytes = Vec::new();
    loop {
        let chunk = reader.read(CHUNK)?;
        if chunk.is_empty() {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&chunk);
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = &bytes[..bytes.len().min(CHUNK as usize)];
        Writer::write(self, chunk)?;
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max = u32::try_from(buffer.len()).unwrap_or(CHUNK).min(CHUNK);
        let chunk = Reader::read(self, max)?;
        buffer[..chunk.len()].copy_from_slice(&chunk);
        Ok(chunk.len())
    }
}

impl io::Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max = u32::try_from(buffer.len()).unwrap_or(CHUNK).min(CHUNK);
        let chunk = Archive::read(self, max)?;
        buffer[..chunk.len()].copy_from_slice(&chunk);
        Ok(chunk.len())
    }
}

impl io::Seek for Reader {
    /// From the start only: the host keeps the position.
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let offset = match to {
            io::SeekFrom::Start(offset) => Some(offset),
            io::SeekFrom::End(offset) => self.size().checked_add_signed(offset),
            io::SeekFrom::Current(_) => None,
        };
        let offset = offset.ok_or(io::ErrorKind::InvalidInput)?;
        Reader::seek(self, offset)?;
        Ok(offset)
    }
}
