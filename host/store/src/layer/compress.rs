//! The pipeline that turns a tar stream into a blob: digest of the stream, digests of its files, compression over
//! several threads, and the store's blob writer, each in a thread of its own. Knows nothing of tar.
//!
//! Gzip is a series of members, one for every [`super::blocks::BLOCK`] bytes of input: each is compressed without regard
//! to the others, so that they can be made in any order by any number of threads and still always come out the same.
//! RFC 1952 defines such a file as the concatenation of what its members hold, and every reader of layers takes it so.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use libdeflater::{CompressionLvl, Compressor};
use sha2::{Digest as _, Sha256};
use zstd::stream::raw::CParameter;

use super::blocks::{Block, BlockWriter, closed};
use super::fault;
use crate::{BlobWriter, Digest, Result};

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// Gzip, which everything reads.
    Gzip {
        /// 1 (fast) to 9 (small).
        level: u32,
    },
    /// Zstandard: faster and smaller; Docker reads it since version 23.
    Zstd {
        /// 1 (fast) to 19 (small).
        level: i32,
    },
}

impl Compression {
    /// The level whose output is about as small as zlib's 3 at several times its speed.
    pub const GZIP: Self = Self::Gzip { level: 1 };
    /// Zstandard's own default.
    pub const ZSTD: Self = Self::Zstd { level: 3 };

    /// Media type of an image's layer that is compressed so.
    pub fn media_type(self) -> &'static str {
        use crate::media_types::{LAYER, LAYER_GZIP, LAYER_ZSTD};
        match self {
            Self::None => LAYER,
            Self::Gzip { .. } => LAYER_GZIP,
            Self::Zstd { .. } => LAYER_ZSTD,
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::GZIP
    }
}

/// What came out of [`compress`].
#[derive(Debug)]
pub(crate) struct Compressed {
    pub(crate) diff_id: Digest,
    /// The blob, whole, but not yet in the store.
    pub(crate) blob: BlobWriter,
    /// Digests of the files that the stream was said to hold, by their place in the table of contents.
    pub(crate) files: Vec<(usize, Digest)>,
}

/// Runs `produce`, which writes a tar stream, and makes a blob of it. Nothing is left behind on failure.
pub(crate) fn compress<T>(
    blob: BlobWriter,
    compression: Compression,
    threads: usize,
    produce: impl FnOnce(&mut BlockWriter) -> Result<T>,
) -> Result<(T, Compressed)> {
    let threads = threads.clamp(1, 16);
    let (mut writer, full, give_back) = BlockWriter::new(2 * threads + 6);
    let (product, diff_id, files, packed) = thread::scope(|scope| {
        let (hashed_send, hashed) = channel();
        let diff_id = scope.spawn(move || hash_stream(&full, &hashed_send));
        let (checked_send, checked) = channel();
        let files = scope.spawn(move || hash_files(&hashed, &checked_send));
        let packed = match compression {
            Compression::None => scope.spawn(move || store(blob, &checked, &give_back)),
            Compression::Zstd { level } => scope.spawn(move || zstd_into(blob, level, threads, &checked, &give_back)),
            Compression::Gzip { level } => {
                let (jobs_send, jobs) = channel();
                let jobs = Arc::new(Mutex::new(jobs));
                for _ in 0..threads {
                    let jobs = Arc::clone(&jobs);
                    scope.spawn(move || deflate_jobs(&jobs, level));
                }
                let (order_send, order) = channel();
                scope.spawn(move || hand_out(&checked, &jobs_send, &order_send));
                scope.spawn(move || gzip_into(blob, level, &order, &give_back))
            }
        };
        let product = produce(&mut writer).and_then(|product| {
            writer.finish().map_err(fault::io("writing", "a layer"))?;
            Ok(product)
        });
        let diff_id = diff_id.join().expect("hashing does not panic");
        let files = files.join().expect("hashing does not panic");
        (product, diff_id, files, packed.join().expect("compression does not panic"))
    });
    // When writing the blob failed, the producer only saw a closed pipeline.
    let blob = packed.map_err(fault::io("writing", "the blob of a layer"))?;
    let product = product?;
    Ok((product, Compressed { diff_id, blob, files }))
}

fn hash_stream(input: &Receiver<Box<Block>>, output: &Sender<Box<Block>>) -> Digest {
    let mut hasher = Sha256::new();
    for block in input {
        hasher.update(block.bytes());
        if output.send(block).is_err() {
            break;
        }
    }
    Digest::from_bytes(hasher.finalize().into())
}

fn hash_files(input: &Receiver<Box<Block>>, output: &Sender<Box<Block>>) -> Vec<(usize, Digest)> {
    let mut digests = Vec::new();
    let mut hasher = Sha256::new();
    for block in input {
        for span in &block.spans {
            hasher.update(&block.bytes()[span.start..span.end]);
            if span.last {
                digests.push((span.file, Digest::from_bytes(hasher.finalize_reset().into())));
            }
        }
        if output.send(block).is_err() {
            break;
        }
    }
    digests
}

fn store(mut blob: BlobWriter, input: &Receiver<Box<Block>>, give_back: &Sender<Box<Block>>) -> io::Result<BlobWriter> {
    for block in input {
        blob.write_all(block.bytes())?;
        let _ = give_back.send(block);
    }
    Ok(blob)
}

fn zstd_into(
    blob: BlobWriter,
    level: i32,
    threads: usize,
    input: &Receiver<Box<Block>>,
    give_back: &Sender<Box<Block>>,
) -> io::Result<BlobWriter> {
    let mut encoder = zstd::Encoder::new(blob, level)?;
    encoder.include_checksum(true)?;
    // At least one worker, and jobs of a fixed size: then the output does not depend on the number of workers.
    encoder.multithread(threads as u32)?;
    encoder.set_parameter(CParameter::JobSize(4 << 20))?;
    for block in input {
        encoder.write_all(block.bytes())?;
        let _ = give_back.send(block);
    }
    encoder.finish()
}

/// A block to deflate, and where the result is awaited.
type Job = (Box<Block>, SyncSender<io::Result<Box<Block>>>);

/// Hands blocks to the workers and tells the writer in which order to take the results.
fn hand_out(input: &Receiver<Box<Block>>, jobs: &Sender<Job>, order: &Sender<Receiver<io::Result<Box<Block>>>>) {
    for block in input {
        let (done, result) = sync_channel(1);
        if order.send(result).is_err() || jobs.send((block, done)).is_err() {
            break;
        }
    }
}

fn deflate_jobs(jobs: &Mutex<Receiver<Job>>, level: u32) {
    let mut compressor = gzip(level);
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((mut block, done)) = job else { break };
        let result = member(&mut compressor, &mut block).map(|()| block);
        if done.send(result).is_err() {
            break;
        }
    }
}

fn gzip(level: u32) -> Compressor {
    let level = i32::try_from(level).unwrap_or(i32::MAX).clamp(1, 9);
    Compressor::new(CompressionLvl::new(level).unwrap_or_default())
}

/// Compresses a block as a member of a gzip file. It has no name, no time, and "unknown" as the operating system: nothing
/// that differs between machines.
fn member(compressor: &mut Compressor, block: &mut Block) -> io::Result<()> {
    block.packed.resize(compressor.gzip_compress_bound(block.filled), 0);
    let length = compressor.gzip_compress(&block.data[..block.filled], &mut block.packed).map_err(io::Error::other)?;
    block.packed.truncate(length);
    Ok(())
}

fn gzip_into(
    mut blob: BlobWriter,
    level: u32,
    order: &Receiver<Receiver<io::Result<Box<Block>>>>,
    give_back: &Sender<Box<Block>>,
) -> io::Result<BlobWriter> {
    let mut empty = true;
    for result in order {
        let block = result.recv().map_err(|_| closed())??;
        blob.write_all(&block.packed)?;
        empty = false;
        let _ = give_back.send(block);
    }
    if empty {
        let mut block = Block::default();
        member(&mut gzip(level), &mut block)?;
        blob.write_all(&block.packed)?;
    }
    Ok(blob)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Blobs;
    use crate::layer::blocks::BLOCK;
    use std::io::Read;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut step = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            b"abcdefgh 0123456"[(state >> 60) as usize]
        };
        (0..length).map(|_| step()).collect()
    }

    /// The blob of `data`, written in pieces of `piece` bytes.
    fn blob(data: &[u8], compression: Compression, threads: usize, piece: usize) -> Vec<u8> {
        let temp = tempfile::tempdir().unwrap();
        let blobs = Blobs::at(temp.path()).unwrap();
        let write = |out: &mut BlockWriter| {
            data.chunks(piece).try_for_each(|part| out.write_all(part)).map_err(fault::io("writing", "a test"))
        };
        let ((), made) = compress(blobs.writer().unwrap(), compression, threads, write).unwrap();
        assert_eq!(made.diff_id, Digest::of(data));
        let (digest, size) = made.blob.commit(None).unwrap();
        blobs.read(&digest, size).unwrap()
    }

    #[test]
    fn output_does_not_depend_on_threads_or_writes() {
        let data = noise(9 * BLOCK + 12345);
        for compression in [Compression::None, Compression::GZIP, Compression::Gzip { level: 9 }, Compression::ZSTD] {
            let one = blob(&data, compression, 1, 1 << 20);
            for (threads, piece) in [(2, 1000), (3, BLOCK), (8, BLOCK + 1)] {
                assert!(blob(&data, compression, threads, piece) == one, "{compression:?} with {threads} threads");
            }
        }
    }

    #[test]
    fn every_length_is_read_back() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7] {
            let data = noise(length);
            let mut back = Vec::new();
            flate2::read::MultiGzDecoder::new(&blob(&data, Compression::GZIP, 2, 4096)[..])
                .read_to_end(&mut back)
                .unwrap();
            assert!(back == data, "{length}");
            assert!(zstd::decode_all(&blob(&data, Compression::ZSTD, 2, 4096)[..]).unwrap() == data, "{length}");
        }
    }

    #[test]
    fn bytes_that_do_not_compress_fit() {
        let mut state = 1u64;
        let random = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        });
        let data: Vec<u8> = random.take(2 * BLOCK + 5).collect();
        for level in 1..=9 {
            let mut back = Vec::new();
            let packed = blob(&data, Compression::Gzip { level }, 2, 65536);
            flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut back).unwrap();
            assert!(back == data, "level {level}");
            assert!(packed.len() < data.len() + data.len() / 100, "level {level}: {}", packed.len());
        }
    }

    #[test]
    fn a_failing_producer_ends_the_pipeline() {
        let temp = tempfile::tempdir().unwrap();
        let blobs = Blobs::at(temp.path()).unwrap();
        for compression in [Compression::None, Compression::GZIP, Compression::ZSTD] {
            let failed = compress(blobs.writer().unwrap(), compression, 2, |out| -> Result<()> {
                out.zeros(5 * BLOCK).map_err(fault::io("writing", "a test"))?;
                Err(crate::Error::NotFound { what: "the rest".to_owned() })
            });
            assert!(matches!(failed, Err(crate::Error::NotFound { .. })));
        }
        assert!(blobs.list().unwrap().is_empty());
    }
}
