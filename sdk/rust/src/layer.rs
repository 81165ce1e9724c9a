//! Makes a tree of files that the plugin has: an archive written into the host's store while the files come, so that
//! neither the number of files nor their size counts.
//!
//! ```no_run
//! # fn main() -> cooperage_sdk::Result<()> {
//! use cooperage_sdk::layer::LayerWriter;
//!
//! let mut layer = LayerWriter::new();
//! layer.directory("docs", 0o755)?;
//! layer.file("docs/index.html", 0o644, b"<h1>Hello</h1>")?;
//! layer.symlink("index.html", "docs/index.html")?;
//! let tree = layer.finish()?;
//! # Ok(())
//! # }
//! ```
//!
//! The entries belong to root and have the time of the layer, 1970 unless set: equal files make equal layers.

use std::io::{self, Read, Write};

use crate::content::{CHUNK, Writer};
use crate::trees::Tree;
use crate::{Error, Result};

const BLOCK: usize = 512;
/// What a name or a link target has room for in a plain header.
const SHORT: usize = 100;
/// Sizes from here on need an extended header.
const LARGE: u64 = 1 << 33;

/// Takes files and makes a tree of them. Dropped without `finish`, nothing remains.
pub struct LayerWriter<W = Writer> {
    output: W,
    buffer: Vec<u8>,
    mtime: u64,
}

impl LayerWriter {
    /// Begins with nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::to(Writer::new())
    }

    /// Ends the archive and gives the tree.
    ///
    /// # Errors
    /// Those of the host, for instance `limit` for the quota, or `invalid-input` for a path that means no file.
    pub fn finish(self) -> Result<Tree> {
        let writer = self.end()?;
        let layer = Writer::commit(writer, "application/vnd.oci.image.layer.v1.tar", None)?;
        Tree::layers(&[layer])
    }
}

impl Default for LayerWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Write> LayerWriter<W> {
    /// Writes the archive to any writer; [`end`](Self::end) gives it back.
    pub fn to(output: W) -> Self {
        Self { output, buffer: Vec::with_capacity(CHUNK as usize), mtime: 0 }
    }

    /// The time of the entries that follow, in seconds since 1970.
    #[must_use]
    pub fn mtime(mut self, seconds: u64) -> Self {
        self.mtime = seconds;
        self
    }

    /// A directory. Those on the way to a file need not be named; they are made with mode 0755.
    ///
    /// # Errors
    /// `invalid-input` for a path that is no plain relative one, and those of the store.
    pub fn directory(&mut self, path: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        self.header(&[checked(path.as_ref())?, b"/"].concat(), b'5', mode, 0, b"")
    }

    /// A file.
    ///
    /// # Errors
    /// As for [`directory`](Self::directory).
    pub fn file(&mut self, path: impl AsRef<[u8]>, mode: u32, bytes: &[u8]) -> Result<()> {
        self.file_from(path, mode, bytes.len() as u64, &mut &bytes[..])
    }

    /// A file of `size` bytes that come from a reader.
    ///
    /// # Errors
    /// As for [`directory`](Self::directory); `conflict` if the reader ends early. What it has beyond `size` is left
    /// in it.
    pub fn file_from(&mut self, path: impl AsRef<[u8]>, mode: u32, size: u64, bytes: &mut dyn Read) -> Result<()> {
        let path = path.as_ref();
        self.header(checked(path)?, b'0', mode, size, b"")?;
        let mut left = size;
        while left > 0 {
            self.make_room(1)?;
            let filled = self.buffer.len();
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK as usize - filled);
            self.buffer.resize(filled + most, 0);
            let read = bytes.read(&mut self.buffer[filled..]);
            self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(Error::conflict(format!("{} ends {left} bytes early", shown(path)))),
                Ok(length) => left -= length as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::from(error)),
            }
        }
        self.pad()
    }

    /// A symbolic link; where it leads is not looked at.
    ///
    /// # Errors
    /// As for [`directory`](Self::directory).
    pub fn symlink(&mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Result<()> {
        let (path, target) = (path.as_ref(), target.as_ref());
        if target.is_empty() || target.contains(&0) {
            let message = format!("{} is a link to {:?}, which is no path", shown(path), shown(target));
            return Err(Error::invalid_input(message));
        }
        self.header(checked(path)?, b'2', 0o777, 0, target)
    }

    /// Ends the archive and gives the writer.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn end(mut self) -> Result<W> {
        self.put(&[0; 2 * BLOCK])?;
        self.output.write_all(&self.buffer)?;
        Ok(self.output)
    }

    /// A header as POSIX has it, after an extended one where its fields are too narrow.
    fn header(&mut self, path: &[u8], kind: u8, mode: u32, size: u64, target: &[u8]) -> Result<()> {
        let mut records = Vec::new();
        for (key, value) in [("path", path), ("linkpath", target)] {
            if value.len() > SHORT {
                records.extend(record(key, value));
            }
        }
        if size >= LARGE {
            records.extend(record("size", size.to_string().as_bytes()));
        }
        if !records.is_empty() {
            self.plain_header(b"././@PaxHeader", b'x', 0o644, records.len() as u64, b"")?;
            self.put(&records)?;
            self.pad()?;
        }
        let size = if size >= LARGE { 0 } else { size };
        self.plain_header(path, kind, mode, size, target)
    }

    fn plain_header(&mut self, path: &[u8], kind: u8, mode: u32, size: u64, target: &[u8]) -> Result<()> {
        let mut block = [0; BLOCK];
        let mut field = |at: usize, bytes: &[u8], room: usize| {
            let bytes = &bytes[..bytes.len().min(room)];
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        field(0, path, SHORT);
        field(100, format!("{:07o}", mode & 0o7777).as_bytes(), 7);
        field(108, b"0000000", 7);
        field(116, b"0000000", 7);
        field(124, format!("{size:011o}").as_bytes(), 11);
        field(136, format!("{:011o}", self.mtime).as_bytes(), 11);
        field(148, b"        ", 8);
        field(156, &[kind], 1);
        field(157, target, SHORT);
        field(257, b"ustar\x0000", 8);
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.put(&block)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.make_room(bytes.len())?;
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn make_room(&mut self, wanted: usize) -> Result<()> {
        if self.buffer.len() + wanted > CHUNK as usize {
            self.output.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Entries begin at whole blocks. The buffer is a whole number of blocks whenever it is written, so its length
    /// tells how far the block has come.
    fn pad(&mut self) -> Result<()> {
        let rest = self.buffer.len() % BLOCK;
        if rest == 0 { Ok(()) } else { self.put(&[0; BLOCK][rest..]) }
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// A path that can only mean a file below the root.
fn checked(path: &[u8]) -> Result<&[u8]> {
    let plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    if path.contains(&0) || !path.split(|byte| *byte == b'/').all(plain) {
        return Err(Error::invalid_input(format!("{:?} is no path of a file within a tree", shown(path))));
    }
    Ok(path)
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists an archive with a tool that we did not write.
    fn listed(archive: &[u8]) -> String {
        let directory = std::env::temp_dir().join(format!("cooperage-layer-{}", std::process::id()));
        std::fs::write(&directory, archive).unwrap();
        let output = std::process::Command::new("tar").arg("-tvf").arg(&directory).env("TZ", "UTC").output().unwrap();
        std::fs::remove_file(&directory).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn tar_reads_what_is_written() {
        let long = format!("{}/{}", "d".repeat(90), "n".repeat(60));
        let mut layer = LayerWriter::to(Vec::new()).mtime(60);
        layer.directory("bin", 0o755).unwrap();
        layer.file("bin/run", 0o4755, b"#!/bin/sh\n").unwrap();
        layer.symlink("sh", "bin/run").unwrap();
        layer.file(&long, 0o600, &vec![7; 3 << 20]).unwrap();
        layer.symlink("far", &long).unwrap();
        layer.file("empty", 0o644, b"").unwrap();
        let archive = layer.end().unwrap();
        assert_eq!(archive.len() % BLOCK, 0);
        let names: Vec<_> = listed(&archive)
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                format!("{} {} {}", words[0], words[2], words[5..].join(" "))
            })
            .collect();
        assert_eq!(
            names,
            [
                "drwxr-xr-x 0 bin/".to_owned(),
                "-rwsr-xr-x 10 bin/run".to_owned(),
                "lrwxrwxrwx 0 sh -> bin/run".to_owned(),
                format!("-rw------- 3145728 {long}"),
                format!("lrwxrwxrwx 0 far -> {long}"),
                "-rw-r--r-- 0 empty".to_owned(),
            ]
        );
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let mut layer = LayerWriter::to(Vec::new());
        for path in ["", "/etc/passwd", "a/../b", "..", "a//b", "./a", "a/", "a\0b"] {
            assert!(layer.file(path, 0o644, b"").is_err(), "{path:?}");
        }
    }

    #[test]
    fn short_files_are_told() {
        let mut layer = LayerWriter::to(Vec::new());
        let error = layer.file_from("a", 0o644, 10, &mut &b"abc"[..]).unwrap_err();
        assert!(error.message.contains("7 bytes early"), "{}", error.message);
    }

    #[test]
    fn lengths_of_records_count_themselves() {
        assert_eq!(record("path", b"x"), b"9 path=x\n");
        for length in [1, 88, 89, 90, 91, 92, 987, 988, 989, 990] {
            let record = record("path", &vec![b'v'; length]);
            let counted = record.split(|byte| *byte == b' ').next().unwrap();
            assert_eq!(String::from_utf8_lossy(counted), record.len().to_string());
        }
    }
}
