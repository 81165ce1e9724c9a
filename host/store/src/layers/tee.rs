//! A reader that copies what passes; knows nothing of what it is.

use std::io::{self, BufRead, Read, Write as _};

use crate::BlobWriter;
use crate::layer::decode::StreamReader;

/// A stream that is copied to a blob while it is read.
pub(super) struct Tee<'a> {
    stream: &'a mut StreamReader,
    copy: &'a mut BlobWriter,
    copied: u64,
}

impl<'a> Tee<'a> {
    pub(super) fn new(stream: &'a mut StreamReader, copy: &'a mut BlobWriter) -> Self {
        Self { stream, copy, copied: 0 }
    }

    /// Copies what the reader left.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        loop {
            let available = self.fill_buf()?.len();
            if available == 0 {
                return Ok(());
            }
            self.consume(available);
        }
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Tee<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let position = self.stream.position();
        let available = self.stream.fill_buf()?;
        let new = available.len() - usize::try_from(self.copied - position).unwrap_or(usize::MAX).min(available.len());
        self.copy.write_all(&available[available.len() - new..])?;
        self.copied += new as u64;
        Ok(available)
    }

    fn consume(&mut self, length: usize) {
        self.stream.consume(length);
    }
}
