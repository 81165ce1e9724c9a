//! Blocks of a fixed size that travel from a writer of a tar stream through hashing and compression and back, so that
//! memory is bounded however large the stream is. Knows nothing of tar, compression or digests.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of a block. It decides where the gzip writer cuts, so changing it changes the digest of every layer.
pub(crate) const BLOCK: usize = 512 << 10;

/// A part of a block that belongs to a file of the layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Which file, by its place in the table of contents.
    pub(crate) file: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// The file ends here.
    pub(crate) last: bool,
}

/// A piece of the stream with room for its compressed form.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(super) data: Vec<u8>,
    pub(super) filled: usize,
    pub(crate) spans: Vec<Span>,
    pub(crate) packed: Vec<u8>,
}

impl Block {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data[..self.filled]
    }
}

/// Says that the other end of a pipeline is gone; its own error tells why.
pub(crate) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the pipeline was closed")
}

/// The writing end: fills blocks and sends full ones on.
pub(crate) struct BlockWriter {
    block: Box<Block>,
    out: Sender<Box<Block>>,
    pool: Receiver<Box<Block>>,
    unmade: usize,
    written: u64,
    file: Option<(usize, usize)>,
}

impl BlockWriter {
    /// A writer that has at most `blocks` blocks in flight, with the end that gets them and the end that takes them back.
    pub(crate) fn new(blocks: usize) -> (Self, Receiver<Box<Block>>, Sender<Box<Block>>) {
        let (out, full) = channel();
        let (give_back, pool) = channel();
        let block = Box::new(Block { data: vec![0; BLOCK], ..Block::default() });
        (Self { block, out, pool, unmade: blocks.max(2) - 1, written: 0, file: None }, full, give_back)
    }

    /// Bytes written so far.
    pub(crate) fn position(&self) -> u64 {
        self.written
    }

    /// Room for at least one more byte. What is put there counts after [`BlockWriter::advance`].
    pub(crate) fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.block.filled == BLOCK {
            self.turn()?;
        }
        Ok(&mut self.block.data[self.block.filled..])
    }

    /// Takes `length` bytes of [`BlockWriter::room`] as written.
    pub(crate) fn advance(&mut self, length: usize) {
        self.block.filled += length;
        self.written += length as u64;
    }

    /// What is written from here on is the content of file `index`.
    pub(crate) fn begin_file(&mut self, index: usize) {
        self.file = Some((index, self.block.filled));
    }

    /// The content of the file that was begun is complete.
    pub(crate) fn end_file(&mut self) {
        self.close_span(true);
        self.file = None;
    }

    /// Writes `length` zero bytes.
    pub(crate) fn zeros(&mut self, mut length: usize) -> io::Result<()> {
        while length > 0 {
            let room = self.room()?;
            let step = room.len().min(length);
            room[..step].fill(0);
            self.advance(step);
            length -= step;
        }
        Ok(())
    }

    /// Sends what is left.
    pub(crate) fn finish(self) -> io::Result<()> {
        if self.block.filled > 0 { self.out.send(self.block).map_err(|_| closed()) } else { Ok(()) }
    }

    fn close_span(&mut self, last: bool) {
        let end = self.block.filled;
        if let Some((file, start)) = &mut self.file {
            self.block.spans.push(Span { file: *file, start: *start, end, last });
            *start = 0;
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        self.close_span(false);
        let mut next = if self.unmade > 0 {
            self.unmade -= 1;
            Box::new(Block { data: vec![0; BLOCK], ..Block::default() })
        } else {
            self.pool.recv().map_err(|_| closed())?
        };
        next.filled = 0;
        next.spans.clear();
        self.out.send(std::mem::replace(&mut self.block, next)).map_err(|_| closed())
    }
}

impl Write for BlockWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room()?;
        let length = room.len().min(bytes.len());
        room[..length].copy_from_slice(&bytes[..length]);
        self.advance(length);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads until `buffer` is full or the input ends.
pub(crate) fn read_full(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
