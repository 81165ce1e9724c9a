//! Reads a tar stream into a table of contents, hashing every file on the way; and tells archives from other files, as
//! `ADD` must. Unpacks nothing.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};

use sha2::{Digest as _, Sha256};

use super::blocks::read_full;
use super::builder::{Builder, Names};
use super::decode::decompressor;
use super::fault::malformed;
use super::limits::Limits;
use super::reader::{TarReader, Type};
use super::toc::Toc;
use crate::Digest;

/// Reads a tar stream to the end of the archive. What follows is left in `input`.
pub(crate) fn table(input: impl BufRead, naming: Names, limits: Limits) -> io::Result<Toc> {
    let mut archive = TarReader::new(input, limits);
    let mut builder = Builder::new(naming, limits);
    let mut hasher = Sha256::new();
    while let Some(record) = archive.next()? {
        let mut digest = None;
        if record.kind == Type::File {
            loop {
                let data = archive.data()?;
                let length = data.len();
                if length == 0 {
                    break;
                }
                hasher.update(data);
                archive.consume(length);
            }
            digest = Some(Digest::from_bytes(hasher.finalize_reset().into()));
        }
        builder.add(record, digest)?;
    }
    Ok(builder.finish())
}

/// The table of a plain archive in a file, without reading what its files hold: their digests stay unknown until somebody
/// asks for them.
pub(crate) fn outline(file: File, naming: Names, limits: Limits) -> io::Result<Toc> {
    let size = file.metadata()?.len();
    let mut archive = TarReader::new(BufReader::with_capacity(64 << 10, file), limits);
    let mut builder = Builder::new(naming, limits);
    while let Some(record) = archive.next()? {
        if record.kind == Type::File {
            archive.pass_data(|input, length| {
                let at = input.stream_position()?;
                if size.checked_sub(at).is_none_or(|left| left < length) {
                    return Err(malformed("the archive ends within a file"));
                }
                input.seek_relative(i64::try_from(length).unwrap_or(i64::MAX))
            })?;
        }
        builder.add(record, None)?;
    }
    Ok(builder.finish())
}

/// Whether `file` is a tar archive, plain or compressed with gzip, bzip2, xz or zstd, told by its content as Docker does.
/// Reads as little as the decompressor lets it.
pub fn is_archive_file(file: impl Read + Send) -> bool {
    let mut header = [0u8; 512];
    let read = decompressor(file).and_then(|(_, mut input)| read_full(&mut input, &mut header));
    if !read.is_ok_and(|length| length == header.len()) || header.iter().all(|&byte| byte == 0) {
        return false;
    }
    TarReader::new(&header[..], Limits::default()).into_header_check()
}

/// The same for the first bytes of a file. A few KiB suffice, but for bzip2, which needs up to 900 KiB to say anything.
pub fn is_archive(head: &[u8]) -> bool {
    is_archive_file(Cursor::new(head))
}
