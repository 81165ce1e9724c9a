//! Writes entries as a tar stream, always in the same way: POSIX ustar headers, PAX records only for what does not fit,
//! numbers for owners, whole seconds. Knows nothing of where contents come from or where the stream goes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::blocks::BlockWriter;
use super::builder::{OPAQUE, WHITEOUT};
use super::entry::{Entry, Kind, display, split};
use super::fault::{self, changed};
use crate::{Error, Result};

const HEADER: usize = 512;
/// What fits into eleven octal digits: sizes and times.
const ELEVEN: u64 = (1 << 33) - 1;
/// What fits into seven octal digits: owners and device numbers.
const SEVEN: u64 = (1 << 21) - 1;

/// Writes the headers of `entry`; the content of a regular file is to follow. `clamp` is the latest time allowed.
pub(crate) fn header(out: &mut BlockWriter, entry: &Entry, clamp: Option<i64>) -> Result<()> {
    let name = name(entry)?;
    if let Kind::Whiteout = entry.kind {
        return put(out, &name, entry, clamp, b'0', 0);
    }
    let size = entry.size();
    let flag = match entry.kind {
        Kind::Directory { .. } => b'5',
        Kind::File { .. } | Kind::Whiteout => b'0',
        Kind::Hardlink { .. } => b'1',
        Kind::Symlink { .. } => b'2',
        Kind::CharDevice { .. } => b'3',
        Kind::BlockDevice { .. } => b'4',
        Kind::Fifo => b'6',
    };
    put(out, &name, entry, clamp, flag, size)?;
    if let Kind::Directory { opaque: true } = entry.kind {
        let mut marker = Entry::whiteout(entry.path.clone());
        marker.mtime = entry.mtime;
        let directory = if entry.path.is_empty() { Vec::new() } else { [&entry.path[..], b"/"].concat() };
        put(out, &[&directory[..], OPAQUE].concat(), &marker, clamp, b'0', 0)?;
    }
    Ok(())
}

/// Copies exactly `size` bytes of file `index` from `input`, and the padding. `path` is for messages.
pub(crate) fn content(out: &mut BlockWriter, index: usize, size: u64, input: &mut dyn Read, path: &Path) -> Result<()> {
    let failed = || fault::io("reading", path);
    out.begin_file(index);
    let mut left = size;
    while left > 0 {
        let room = out.room().map_err(failed())?;
        let wanted = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match input.read(&mut room[..wanted]) {
            Ok(0) => return Err(failed()(changed(format!("it has {} bytes, not {size}", size - left)))),
            Ok(length) => {
                out.advance(length);
                left -= length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed()(error)),
        }
    }
    out.end_file();
    if input.read(&mut [0]).map_err(failed())? != 0 {
        return Err(failed()(changed(format!("it has more than {size} bytes"))));
    }
    pad(out).map_err(failed())
}

/// Ends the archive.
pub(crate) fn end(out: &mut BlockWriter) -> io::Result<()> {
    out.zeros(2 * HEADER)
}

/// Tells the kernel that `file` will be read from its beginning to its end.
pub(crate) fn read_ahead(file: &File, size: u64) {
    if size > 256 << 10 {
        // Advice only: where it fails, reading is slower.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
    }
}

fn pad(out: &mut BlockWriter) -> io::Result<()> {
    let over = (out.position() % HEADER as u64) as usize;
    if over > 0 { out.zeros(HEADER - over) } else { Ok(()) }
}

/// The name an entry has in the archive.
fn name(entry: &Entry) -> Result<Vec<u8>> {
    let (parent, last) = split(&entry.path);
    if entry.path.split(|&byte| byte == b'/').any(|part| part.starts_with(WHITEOUT)) {
        return Err(Error::Unsupported {
            what: display(&entry.path),
            why: "names that begin with .wh. mean deletions in image layers, so a layer cannot hold such a file"
                .to_owned(),
        });
    }
    Ok(match entry.kind {
        Kind::Directory { .. } if entry.path.is_empty() => b"./".to_vec(),
        Kind::Directory { .. } => [&entry.path[..], b"/"].concat(),
        Kind::Whiteout if parent.is_empty() => [WHITEOUT, last].concat(),
        Kind::Whiteout => [parent, b"/", WHITEOUT, last].concat(),
        _ => entry.path.clone(),
    })
}

fn put(out: &mut BlockWriter, name: &[u8], entry: &Entry, clamp: Option<i64>, flag: u8, size: u64) -> Result<()> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut block = [0u8; HEADER];
    match ustar_name(name) {
        Some((prefix, rest)) => {
            block[..rest.len()].copy_from_slice(rest);
            block[345..345 + prefix.len()].copy_from_slice(prefix);
        }
        None => {
            block[..100].copy_from_slice(&name[..100]);
            records.push((b"path".to_vec(), name.to_vec()));
        }
    }
    if let Kind::Symlink { target } | Kind::Hardlink { target } = &entry.kind {
        let short = &target[..target.len().min(100)];
        block[157..157 + short.len()].copy_from_slice(short);
        if target.len() > 100 {
            records.push((b"linkpath".to_vec(), target.clone()));
        }
    }
    octal(&mut block[100..108], u64::from(entry.mode & 0o7777));
    let mut number = |range: std::ops::Range<usize>, key: &[u8], value: u64, most: u64| {
        octal(&mut block[range], if value > most { 0 } else { value });
        if value > most {
            records.push((key.to_vec(), value.to_string().into_bytes()));
        }
    };
    number(108..116, b"uid", entry.uid.into(), SEVEN);
    number(116..124, b"gid", entry.gid.into(), SEVEN);
    number(124..136, b"size", size, ELEVEN);
    let mtime = clamp.map_or(entry.mtime, |latest| entry.mtime.min(latest));
    match u64::try_from(mtime) {
        Ok(value) => number(136..148, b"mtime", value, ELEVEN),
        Err(_) => {
            octal(&mut block[136..148], 0);
            records.push((b"mtime".to_vec(), mtime.to_string().into_bytes()));
        }
    }
    let (major, minor) = match entry.kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => (major, minor),
        _ => (0, 0),
    };
    if u64::from(major.max(minor)) > SEVEN {
        return Err(Error::Unsupported {
            what: display(&entry.path),
            why: format!("the device number {major}:{minor} does not fit into a tar header"),
        });
    }
    octal(&mut block[329..337], major.into());
    octal(&mut block[337..345], minor.into());
    records.extend(entry.xattrs.iter().map(|(name, value)| ([b"SCHILY.xattr.", &name[..]].concat(), value.clone())));
    let failed = || fault::io("writing", "a layer");
    if !records.is_empty() {
        extension(out, records).map_err(failed())?;
    }
    seal(&mut block, flag);
    out.write_all(&block).map_err(failed())
}

/// Splits a name into the prefix and name fields of a header; none if it does not fit.
fn ustar_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((&[], name));
    }
    let from = name.len().saturating_sub(101);
    let slash = name.iter().enumerate().skip(from).take_while(|&(at, _)| at <= 155).find(|&(_, &byte)| byte == b'/');
    let (at, _) = slash?;
    (at > 0 && at + 1 < name.len()).then(|| (&name[..at], &name[at + 1..]))
}

fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for byte in field[..digits].iter_mut().rev() {
        *byte = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// Fills in what all headers share, and the checksum.
fn seal(block: &mut [u8; HEADER], flag: u8) {
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    octal(&mut block[148..155], sum);
    block[155] = b' ';
}

fn extension(out: &mut BlockWriter, mut records: Vec<(Vec<u8>, Vec<u8>)>) -> io::Result<()> {
    records.sort();
    let mut body = Vec::new();
    for (key, value) in &records {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length.to_string().len() + rest != length {
            length = length.to_string().len() + rest;
        }
        body.extend_from_slice(length.to_string().as_bytes());
        body.push(b' ');
        body.extend_from_slice(key);
        body.push(b'=');
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    let mut block = [0u8; HEADER];
    let name = b"././@PaxHeader";
    block[..name.len()].copy_from_slice(name);
    octal(&mut block[100..108], 0o644);
    for range in [108..116, 116..124, 136..148, 329..337, 337..345] {
        octal(&mut block[range], 0);
    }
    octal(&mut block[124..136], body.len() as u64);
    seal(&mut block, b'x');
    out.write_all(&block)?;
    out.write_all(&body)?;
    pad(out)
}
