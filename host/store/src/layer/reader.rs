//! Reads the headers of a tar stream (ustar, GNU and PAX) within limits. Judges no paths and writes nothing.
//!
//! Where tar programs disagree about a header, this follows Go's `archive/tar`, which is what registries' clients use:
//! links, directories and devices have no data whatever their size field says, and global PAX headers are passed over.

use std::io::{self, BufRead};

use super::fault::{limit, malformed};
use super::limits::Limits;

const BLOCK: u64 = 512;

/// What a header says its entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    File,
    Directory,
    Symlink,
    Hardlink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// One entry's headers, extensions applied; path and link are as the archive has them.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Type,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
    pub(crate) mtime_nanos: u32,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data starts in the stream.
    pub(crate) offset: u64,
}

/// A tar stream, read one record at a time.
pub(crate) struct TarReader<R> {
    input: R,
    limits: Limits,
    position: u64,
    /// Data of the current record that has not been read, and the padding behind it.
    remaining: u64,
    padding: u64,
    records: u64,
}

/// What extension headers say about the record that follows them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: BufRead> TarReader<R> {
    pub(crate) fn new(input: R, limits: Limits) -> Self {
        Self { input, limits, position: 0, remaining: 0, padding: 0, records: 0 }
    }

    /// Whether what comes next is a sound header.
    pub(crate) fn into_header_check(mut self) -> bool {
        matches!(self.header(), Ok(Some(_)))
    }

    /// The next record; what is left of the previous record's data is passed over. `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record>> {
        let mut extensions = Extensions::default();
        let mut extended = false;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return if extended { Err(malformed("the archive ends after an extension header")) } else { Ok(None) };
            };
            self.records += 1;
            if self.records > self.limits.entries {
                return Err(limit(format!("the archive has more than {} entries", self.limits.entries)));
            }
            let bytes = header.as_bytes();
            let size = field(&bytes[124..136], "size")?;
            match bytes[156] {
                b'x' => {
                    let body = self.extension(size)?;
                    pax(&body, &mut extensions, &self.limits)?;
                }
                // Global headers only ever carry comments (git archive) in images; Docker passes over them as well.
                b'g' => drop(self.extension(size)?),
                b'L' => extensions.path = Some(c_string(self.extension(size)?)),
                b'K' => extensions.link = Some(c_string(self.extension(size)?)),
                _ => return self.record(&header, size, extensions).map(Some),
            }
            extended = true;
        }
    }

    /// A part of the current record's data; empty when there is no more. To be followed by [`TarReader::consume`].
    pub(crate) fn data(&mut self) -> io::Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let remaining = self.remaining;
        let available = self.input.fill_buf()?;
        if available.is_empty() {
            return Err(malformed("the archive ends within a file"));
        }
        let length = available.len().min(usize::try_from(remaining).unwrap_or(usize::MAX));
        Ok(&available[..length])
    }

    /// Marks `length` bytes of [`TarReader::data`] as read.
    pub(crate) fn consume(&mut self, length: usize) {
        self.input.consume(length);
        self.remaining -= length as u64;
        self.position += length as u64;
    }

    /// Goes past what is left of the current record's data, with `pass`, without looking at it.
    pub(crate) fn pass_data(&mut self, pass: impl FnOnce(&mut R, u64) -> io::Result<()>) -> io::Result<()> {
        pass(&mut self.input, self.remaining)?;
        self.position += self.remaining;
        self.remaining = 0;
        Ok(())
    }

    fn skip(&mut self) -> io::Result<()> {
        let mut left = self.remaining + self.padding;
        let within_data = self.remaining > 0;
        while left > 0 {
            let available = self.input.fill_buf()?.len();
            if available == 0 {
                // Some writers leave out the last padding.
                if within_data {
                    return Err(malformed("the archive ends within a file"));
                }
                break;
            }
            let step = available.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.input.consume(step);
            self.position += step as u64;
            left -= step as u64;
        }
        self.remaining = 0;
        self.padding = 0;
        Ok(())
    }

    /// The next header block, checked; `None` at an all-zero block or at the end of the stream.
    fn header(&mut self) -> io::Result<Option<tar::Header>> {
        let mut header = tar::Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < block.len() {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(malformed("the archive ends within a header")) };
            }
            let step = available.len().min(block.len() - filled);
            block[filled..filled + step].copy_from_slice(&available[..step]);
            self.input.consume(step);
            filled += step;
        }
        self.position += BLOCK;
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let stored = field(&block[148..156], "checksum")?;
        if !checksums(block).contains(&stored) {
            return Err(malformed("a header has a wrong checksum; this is no tar archive, or it is damaged"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > self.limits.extension {
            return Err(limit(format!("an extension header has more than {} bytes", self.limits.extension)));
        }
        self.remaining = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
        let mut body = Vec::with_capacity(size as usize);
        while self.remaining > 0 {
            let part = self.data()?;
            let length = part.len();
            body.extend_from_slice(part);
            self.consume(length);
        }
        Ok(body)
    }

    fn record(&mut self, header: &tar::Header, size: u64, extensions: Extensions) -> io::Result<Record> {
        let bytes = header.as_bytes();
        let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extensions.link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        if path.contains(&0) || link.contains(&0) {
            return Err(malformed("a name holds a zero byte"));
        }
        if path.len() > self.limits.path || link.len() > self.limits.path {
            return Err(limit(format!("a name has more than {} bytes", self.limits.path)));
        }
        let kind = match bytes[156] {
            0 if path.ends_with(b"/") => Type::Directory,
            0 | b'0' | b'7' => Type::File,
            b'1' => Type::Hardlink,
            b'2' => Type::Symlink,
            b'3' => Type::CharDevice,
            b'4' => Type::BlockDevice,
            b'5' => Type::Directory,
            b'6' => Type::Fifo,
            b'S' => return Err(malformed(format!("{} is a sparse file, which layers do not have", show(&path)))),
            other => return Err(malformed(format!("{} has the unknown type {:?}", show(&path), other as char))),
        };
        let size = if kind == Type::File { extensions.size.unwrap_or(size) } else { 0 };
        self.remaining = size;
        self.padding = size.checked_next_multiple_of(BLOCK).ok_or_else(|| malformed("a size is too large"))? - size;
        if size > self.limits.unpacked {
            return Err(limit(format!("{} has {size} bytes, more than {}", show(&path), self.limits.unpacked)));
        }
        let (mtime, mtime_nanos) = match extensions.mtime {
            Some(time) => time,
            None => (signed(&bytes[136..148], "time")?, 0),
        };
        let device = matches!(kind, Type::CharDevice | Type::BlockDevice);
        let number =
            |range: std::ops::Range<usize>, what| if device { id(field(&bytes[range], what)?, what) } else { Ok(0) };
        Ok(Record {
            kind,
            size,
            mode: (field(&bytes[100..108], "mode")? & 0o7777) as u32,
            uid: id(extensions.uid.map_or_else(|| field(&bytes[108..116], "owner"), Ok)?, "owner")?,
            gid: id(extensions.gid.map_or_else(|| field(&bytes[116..124], "group"), Ok)?, "group")?,
            mtime,
            mtime_nanos,
            major: number(329..337, "device")?,
            minor: number(337..345, "device")?,
            xattrs: extensions.xattrs,
            offset: self.position,
            path,
            link,
        })
    }
}

fn show(path: &[u8]) -> String {
    super::entry::display(path)
}

/// The sums of a header with its checksum field blank: as unsigned bytes, and as the signed bytes of old Sun tars.
fn checksums(block: &[u8]) -> [u64; 2] {
    let blank = |at: usize| (148..156).contains(&at);
    let bytes = || block.iter().enumerate().map(move |(at, &byte)| if blank(at) { b' ' } else { byte });
    let unsigned = bytes().map(u64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte as i8)).sum();
    [unsigned, signed as u64]
}

fn id(value: u64, what: &str) -> io::Result<u32> {
    value.try_into().map_err(|_| malformed(format!("the {what} {value} is out of range")))
}

fn field(bytes: &[u8], what: &str) -> io::Result<u64> {
    signed(bytes, what)?.try_into().map_err(|_| malformed(format!("a {what} field is negative")))
}

/// A number of a header: octal digits, or GNU's base 256 (two's complement, the top bit set as a mark).
fn signed(bytes: &[u8], what: &str) -> io::Result<i64> {
    if bytes[0] & 0x80 != 0 {
        let negative = bytes[0] & 0x40 != 0;
        let first = if negative { bytes[0] } else { bytes[0] & 0x7f };
        let mut value = i128::from(first as i8);
        for &byte in &bytes[1..] {
            value = value.checked_mul(256).map(|value| value | i128::from(byte)).unwrap_or(i128::MAX);
        }
        return value.try_into().map_err(|_| malformed(format!("a {what} field is out of range")));
    }
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default().trim_ascii();
    let mut value = 0i64;
    for &byte in text {
        if !(b'0'..=b'7').contains(&byte) {
            return Err(malformed(format!("a {what} field is not a number")));
        }
        value = value * 8 + i64::from(byte - b'0');
    }
    Ok(value)
}

fn c_string(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Reads the records of a PAX extended header: `"%d %s=%s\n"`, the number being the length of the whole record.
fn pax(mut body: &[u8], extensions: &mut Extensions, limits: &Limits) -> io::Result<()> {
    let bad = || malformed("a PAX header is malformed");
    while !body.is_empty() {
        let space = body.iter().position(|&byte| byte == b' ').ok_or_else(bad)?;
        let length: usize =
            std::str::from_utf8(&body[..space]).ok().and_then(|text| text.parse().ok()).ok_or_else(bad)?;
        let record = body.get(space + 1..length).ok_or_else(bad)?;
        body = &body[length..];
        let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
        let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(bad)?;
        pax_value(&record[..equals], &record[equals + 1..], extensions, limits)?;
    }
    Ok(())
}

fn pax_value(key: &[u8], value: &[u8], extensions: &mut Extensions, limits: &Limits) -> io::Result<()> {
    let text = || std::str::from_utf8(value).map_err(|_| malformed("a PAX header is malformed"));
    let number = || text()?.parse().map(Some).map_err(|_| malformed("a PAX header holds a wrong number"));
    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
        if name.is_empty() || name.len() > 255 || name.contains(&0) || value.len() > 65536 {
            return Err(malformed("a PAX header holds an impossible extended attribute"));
        }
        extensions.xattrs.retain(|(known, _)| known != name);
        extensions.xattrs.push((name.to_vec(), value.to_vec()));
        if extensions.xattrs.len() > 1024 {
            return Err(limit("an entry has more than 1024 extended attributes".to_owned()));
        }
        return Ok(());
    }
    if key.starts_with(b"GNU.sparse.") {
        return Err(malformed("the archive has a sparse file, which layers do not have"));
    }
    // An empty value takes back an earlier one.
    let empty = value.is_empty();
    let name = |value: &[u8]| {
        if value.len() > limits.path {
            Err(limit(format!("a name has more than {} bytes", limits.path)))
        } else {
            Ok(())
        }
    };
    match key {
        b"path" => {
            name(value)?;
            extensions.path = (!empty).then(|| value.to_vec());
        }
        b"linkpath" => {
            name(value)?;
            extensions.link = (!empty).then(|| value.to_vec());
        }
        b"size" => extensions.size = if empty { None } else { number()? },
        b"uid" => extensions.uid = if empty { None } else { number()? },
        b"gid" => extensions.gid = if empty { None } else { number()? },
        b"mtime" => extensions.mtime = if empty { None } else { Some(time(text()?)?) },
        _ => {}
    }
    Ok(())
}

/// Seconds with an optional fraction, `-1.5` being half a second before -1.
fn time(text: &str) -> io::Result<(i64, u32)> {
    let bad = || malformed("a PAX header holds a wrong time");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| bad())?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let nanos: u32 = format!("{fraction:0<9.9}").parse().map_err(|_| bad())?;
    if whole.starts_with('-') && nanos > 0 {
        return Ok((seconds.checked_sub(1).ok_or_else(bad)?, 1_000_000_000 - nanos));
    }
    Ok((seconds, nanos))
}
