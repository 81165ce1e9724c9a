//! Decompression of an object of a pack, into memory or piece by piece. Whatever the stream says, no more comes out
//! than its header announced.

use std::io;

use cooperage_sdk::{Error, Result};
use flate2::{Decompress, FlushDecompress, Status};

use super::bytes::Bytes;

/// A piece of a large object.
const PIECE: usize = 64 << 10;

/// Gets more of the pack, or fails because there is no more.
pub type More<'m> = dyn FnMut(&mut Bytes) -> Result<()> + 'm;

/// A decompressor that is used again for every object.
pub struct Inflater(Decompress);

impl Inflater {
    /// Begins with nothing.
    #[must_use]
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Decompresses the stream at `at` into memory, and moves `at` behind it.
    ///
    /// # Errors
    /// `invalid-input` if there is no stream of exactly `size` bytes, and those of `more`.
    pub fn whole(&mut self, bytes: &mut Bytes, at: &mut usize, size: usize, more: &mut More<'_>) -> Result<Vec<u8>> {
        // One byte more than wanted shows a stream that is too long.
        let mut out = Vec::with_capacity(size + 1);
        self.0.reset(true);
        // There is room for everything, so there need be no window to look back into.
        while !self.step(bytes, at, &mut out, FlushDecompress::Finish, more)? {
            if out.len() > size {
                return Err(wrong_size());
            }
        }
        if out.len() == size { Ok(out) } else { Err(wrong_size()) }
    }

    /// Decompresses the stream at `at` piece by piece, and moves `at` behind it.
    ///
    /// # Errors
    /// As for [`whole`](Self::whole), and those of `take`.
    pub fn pieces(
        &mut self,
        bytes: &mut Bytes,
        at: &mut usize,
        size: u64,
        more: &mut More<'_>,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut piece = Vec::with_capacity(PIECE);
        let mut total = 0;
        self.0.reset(true);
        loop {
            let end = self.step(bytes, at, &mut piece, FlushDecompress::None, more)?;
            total += piece.len() as u64;
            if total > size {
                return Err(wrong_size());
            }
            take(&piece)?;
            piece.clear();
            if end {
                return if total == size { Ok(()) } else { Err(wrong_size()) };
            }
        }
    }

    /// Fills what room there is in `out`; whether the stream has ended.
    fn step(
        &mut self,
        bytes: &mut Bytes,
        at: &mut usize,
        out: &mut Vec<u8>,
        flush: FlushDecompress,
        more: &mut More<'_>,
    ) -> Result<bool> {
        if bytes.from(*at).is_empty() {
            more(bytes)?;
        }
        let (read, written) = (self.0.total_in(), out.len());
        let status = self.0.decompress_vec(bytes.from(*at), out, flush);
        let status = status.map_err(|error| corrupt().because(error.to_string()))?;
        let read = usize::try_from(self.0.total_in() - read).map_err(|_| corrupt())?;
        *at += read;
        match status {
            Status::StreamEnd => Ok(true),
            _ if read == 0 && out.len() == written => Err(corrupt()),
            _ => Ok(false),
        }
    }
}

/// Decompresses, while it is read, a stream that came whole before.
pub struct Stream<'b> {
    bytes: &'b Bytes,
    at: usize,
    decompress: Decompress,
}

impl<'b> Stream<'b> {
    /// The stream that begins at `at`.
    #[must_use]
    pub fn new(bytes: &'b Bytes, at: usize) -> Self {
        Self { bytes, at, decompress: Decompress::new(true) }
    }
}

impl io::Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let input = self.bytes.from(self.at);
            let (read, written) = (self.decompress.total_in(), self.decompress.total_out());
            let status = self.decompress.decompress(input, buffer, FlushDecompress::None);
            let status = status.map_err(|error| corrupt().because(error.to_string()))?;
            let read = (self.decompress.total_in() - read) as usize;
            let written = (self.decompress.total_out() - written) as usize;
            self.at += read;
            if written > 0 || read == 0 || status == Status::StreamEnd {
                return Ok(written);
            }
        }
    }
}

fn corrupt() -> Error {
    Error::invalid_input("the server sends a corrupt pack: an object cannot be decompressed")
}

fn wrong_size() -> Error {
    Error::invalid_input("the server sends a corrupt pack: an object has not the size that its header announces")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    fn compressed(content: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    /// Both ways, over a stream that comes in small pieces and is followed by something else.
    fn check(stream: &[u8], size: usize) -> Result<Vec<u8>> {
        let mut source = stream.chunks(1000).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter();
        let mut more = |bytes: &mut Bytes| {
            bytes.push(&source.next().ok_or_else(|| Error::unavailable("the end"))?);
            Ok(())
        };
        let (mut bytes, mut inflater, mut at) = (Bytes::default(), Inflater::new(), 0);
        let whole = inflater.whole(&mut bytes, &mut at, size, &mut more);
        let (mut pieces, mut again) = (Vec::new(), 0);
        let mut take = |piece: &[u8]| {
            pieces.extend_from_slice(piece);
            Ok(())
        };
        let streamed = inflater.pieces(&mut bytes, &mut again, size as u64, &mut more, &mut take);
        assert_eq!(whole.is_ok(), streamed.is_ok());
        if let Ok(whole) = &whole {
            assert_eq!((whole, at), (&pieces, again));
        }
        whole
    }

    #[test]
    fn streams_of_all_sizes() {
        for size in [0, 1, 100, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17] {
            let content: Vec<u8> = (0..size).map(|at| (at * at % 253) as u8).collect();
            let mut stream = compressed(&content);
            stream.extend_from_slice(b"the next object");
            assert_eq!(check(&stream, size).unwrap(), content, "{size}");
        }
    }

    #[test]
    fn bombs_and_lies() {
        let bomb = compressed(&vec![0; 50 << 20]);
        assert!(check(&bomb, 1000).is_err());
        let stream = compressed(b"hello");
        assert!(check(&stream, 4).is_err());
        assert!(check(&stream, 6).is_err());
        assert!(check(&stream[..stream.len() - 1], 5).is_err());
        assert!(check(b"no stream", 5).is_err());
        let mut damaged = stream.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(check(&damaged, 5).is_err());
    }
}
