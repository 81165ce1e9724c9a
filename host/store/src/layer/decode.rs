//! Decompression of a stream ahead of its reader, in a thread of its own, with the digest taken in another. Tells the
//! format by its first bytes; knows nothing of tar.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use sha2::{Digest as _, Sha256};

use super::blocks::{closed, read_full};
use super::fault::{limit, malformed, of_decompressor};
use crate::Digest;

const CHUNK: usize = 256 << 10;
const AHEAD: usize = 4;
const READ: usize = 128 << 10;

/// What compresses a stream, told by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Plain,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Format {
    /// Bytes that [`Format::of`] wants to see.
    pub(crate) const HEAD: usize = 6;

    pub(crate) fn of(head: &[u8]) -> Self {
        // A zstd stream may start with a skippable frame (0x184D2A5?), as zstd:chunked writers make them.
        match head {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// The decompressed form of `input`, with the format it had.
pub(crate) fn decompressor<'a>(mut input: impl Read + Send + 'a) -> io::Result<(Format, Box<dyn Read + Send + 'a>)> {
    let mut head = vec![0; Format::HEAD];
    let length = read_full(&mut input, &mut head)?;
    head.truncate(length);
    let format = Format::of(&head);
    let input = Cursor::new(head).chain(input);
    Ok((
        format,
        match format {
            Format::Plain => Box::new(input),
            Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(READ, input))),
            Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(BufReader::with_capacity(READ, input))),
            Format::Xz => Box::new(lzma_rust2::XzReader::new(BufReader::with_capacity(READ, input), true)),
            // The decoder refuses windows above 128 MiB by itself.
            Format::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(READ, input))?),
        },
    ))
}

/// A piece of the decompressed stream, or why there is none.
type Piece = io::Result<(Vec<u8>, usize)>;

/// The reading end: the decompressed stream.
pub(crate) struct StreamReader {
    pieces: Receiver<Piece>,
    give_back: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    filled: usize,
    at: usize,
    position: u64,
    ended: bool,
}

impl StreamReader {
    /// Bytes read so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Reads on until `position`.
    pub(crate) fn seek(&mut self, position: u64) -> io::Result<()> {
        let mut left = position.checked_sub(self.position).ok_or_else(|| malformed("files overlap in the archive"))?;
        while left > 0 {
            let available = self.fill_buf()?.len();
            if available == 0 {
                return Err(malformed("the archive ends early"));
            }
            let step = available.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.consume(step);
            left -= step as u64;
        }
        Ok(())
    }

    /// Reads to the end and throws it away.
    fn drain(&mut self) -> io::Result<()> {
        loop {
            let available = self.fill_buf()?.len();
            if available == 0 {
                return Ok(());
            }
            self.consume(available);
        }
    }
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for StreamReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.filled && !self.ended {
            match self.pieces.recv() {
                Ok(piece) => {
                    let (chunk, filled) = piece?;
                    let used = std::mem::replace(&mut self.chunk, chunk);
                    if !used.is_empty() {
                        // The other side may have reached its end already.
                        let _ = self.give_back.send(used);
                    }
                    (self.at, self.filled) = (0, filled);
                }
                Err(_) => self.ended = true,
            }
        }
        Ok(&self.chunk[self.at..self.filled])
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
        self.position += length as u64;
    }
}

/// Decompresses `input` in the background while `read` reads it, at most `most` bytes. With `hash`, reads to the end
/// whatever `read` left, and returns the SHA-256 of the whole stream.
pub(crate) fn stream<T>(
    input: impl Read + Send,
    most: u64,
    hash: bool,
    read: impl FnOnce(&mut StreamReader) -> io::Result<T>,
) -> io::Result<(T, Option<Digest>)> {
    thread::scope(|scope| {
        let (send, pieces) = sync_channel(AHEAD);
        let (give_back, pool) = channel();
        scope.spawn(move || inflate(input, most, &send, &pool));
        let (pieces, hasher) = if hash {
            let (send, hashed) = sync_channel(AHEAD);
            (hashed, Some(scope.spawn(move || hash_pieces(&pieces, &send))))
        } else {
            (pieces, None)
        };
        let mut reader =
            StreamReader { pieces, give_back, chunk: Vec::new(), filled: 0, at: 0, position: 0, ended: false };
        let mut result = read(&mut reader);
        if hash && let Ok(value) = result {
            result = reader.drain().map(|()| value);
        }
        drop(reader);
        let digest = hasher.map(|hasher| hasher.join().expect("hashing does not panic"));
        Ok((result?, digest))
    })
}

fn inflate(input: impl Read + Send, most: u64, send: &SyncSender<Piece>, pool: &Receiver<Vec<u8>>) {
    let mut total = 0u64;
    let result = decompressor(input).and_then(|(format, mut input)| {
        loop {
            let mut chunk = pool.try_recv().unwrap_or_else(|_| vec![0; CHUNK]);
            let filled = read_full(&mut input, &mut chunk)
                .map_err(|error| if format == Format::Plain { error } else { of_decompressor(error) })?;
            if filled == 0 {
                return Ok(());
            }
            total += filled as u64;
            if total > most {
                return Err(limit(format!("the archive unpacks to more than {most} bytes")));
            }
            send.send(Ok((chunk, filled))).map_err(|_| closed())?;
        }
    });
    if let Err(error) = result {
        // When the reader is gone, nobody wants to know.
        let _ = send.send(Err(error));
    }
}

fn hash_pieces(pieces: &Receiver<Piece>, send: &SyncSender<Piece>) -> Digest {
    let mut hasher = Sha256::new();
    for piece in pieces {
        if let Ok((chunk, filled)) = &piece {
            hasher.update(&chunk[..*filled]);
        }
        if send.send(piece).is_err() {
            break;
        }
    }
    Digest::from_bytes(hasher.finalize().into())
}
