//! Archives made by hand, header by header, and a store to put them in.

use std::io::Write;
use std::path::{Path, PathBuf};

use cooperage_store::layer::{Kind, Toc};
use cooperage_store::layers::{LayerId, Layers, UnpackOptions};
use cooperage_store::{Blobs, Descriptor, Digest, Error};

/// A store in a directory that is removed at the end.
pub struct Fixture {
    pub temp: tempfile::TempDir,
    pub blobs: Blobs,
    pub layers: Layers,
}

pub fn fixture() -> Fixture {
    let temp = tempfile::tempdir().unwrap();
    let blobs = Blobs::at(&temp.path().join("blobs")).unwrap();
    let layers = Layers::open(&temp.path().join("layers"), blobs.clone()).unwrap();
    Fixture { temp, blobs, layers }
}

impl Fixture {
    /// Another view of the same store, as another process would have.
    pub fn again(&self) -> Layers {
        Layers::open(&self.temp.path().join("layers"), self.blobs.clone()).unwrap()
    }

    pub fn ingest_as(&self, tar: &[u8], blob: &[u8]) -> Result<(LayerId, std::sync::Arc<Toc>), Error> {
        let diff_id = Digest::of(tar);
        let digest = self.blobs.put(blob).unwrap();
        let descriptor = Descriptor::new("application/vnd.oci.image.layer.v1.tar", digest, blob.len() as u64);
        Ok((LayerId(diff_id), self.layers.ingest(&diff_id, &descriptor)?))
    }

    pub fn ingest(&self, tar: &[u8]) -> Result<(LayerId, std::sync::Arc<Toc>), Error> {
        self.ingest_as(tar, tar)
    }

    /// Everything the archive makes, as lines.
    pub fn listing(&self, tar: &[u8]) -> String {
        match self.ingest(tar) {
            Ok((_, toc)) => listing(&toc),
            Err(error) => format!("error: {error}"),
        }
    }

    pub fn unpack(&self, id: &LayerId) -> Result<PathBuf, Error> {
        self.layers.unpack(id, options())
    }
}

/// Options that work for whoever runs the tests.
pub fn options() -> UnpackOptions {
    UnpackOptions { userxattr: !is_root(), privileged: is_root() }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Entries as `path kind` lines.
pub fn listing(toc: &Toc) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let lines = toc.iter().map(|entry| {
        let kind = match &entry.kind {
            Kind::Directory { opaque: false } => "dir".to_owned(),
            Kind::Directory { opaque: true } => "opaque".to_owned(),
            Kind::File { size, .. } => format!("file {size}"),
            Kind::Symlink { target } => format!("-> {}", text(target)),
            Kind::Hardlink { target } => format!("== {}", text(target)),
            Kind::CharDevice { major, minor } => format!("char {major}:{minor}"),
            Kind::BlockDevice { major, minor } => format!("block {major}:{minor}"),
            Kind::Fifo => "fifo".to_owned(),
            Kind::Whiteout => "gone".to_owned(),
        };
        format!("/{} {kind}", text(&entry.path))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A tar archive in the making.
#[derive(Default, Clone)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    /// A header with everything in it, and data.
    pub fn raw(
        mut self,
        name: &[u8],
        flag: u8,
        link: &[u8],
        size: &[u8],
        data: &[u8],
        edit: impl FnOnce(&mut [u8]),
    ) -> Self {
        let mut block = [0u8; 512];
        block[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        block[100..108].copy_from_slice(b"0000644\0");
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..124 + size.len()].copy_from_slice(size);
        block[136..148].copy_from_slice(b"00000000001\0");
        block[156] = flag;
        block[157..157 + link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
        block[257..265].copy_from_slice(b"ustar\x0000");
        edit(&mut block);
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn entry(self, name: &str, flag: u8, link: &str, data: &[u8]) -> Self {
        let size = format!("{:011o}\0", data.len());
        self.raw(name.as_bytes(), flag, link.as_bytes(), size.as_bytes(), data, |_| {})
    }

    pub fn file(self, name: &str, data: &str) -> Self {
        self.entry(name, b'0', "", data.as_bytes())
    }

    pub fn dir(self, name: &str) -> Self {
        self.entry(name, b'5', "", b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, b'2', target, b"")
    }

    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(name, b'1', target, b"")
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest + 1..rest + 8).find(|length| length.to_string().len() + rest == *length).unwrap();
            write!(body, "{length} {key}=").unwrap();
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        let size = format!("{:011o}\0", body.len());
        self.raw(b"pax", b'x', b"", size.as_bytes(), &body, |_| {})
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    pub fn cut(self) -> Vec<u8> {
        self.0
    }
}

/// Everything below a directory with what can be told of it, links not followed.
pub fn tree(top: &Path) -> Vec<String> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut lines = Vec::new();
    let mut todo = vec![top.to_owned()];
    while let Some(directory) = todo.pop() {
        for item in std::fs::read_dir(&directory).unwrap() {
            let item = item.unwrap();
            let metadata = item.metadata().unwrap();
            let kind = metadata.file_type();
            let what = if kind.is_dir() {
                todo.push(item.path());
                "dir".to_owned()
            } else if kind.is_symlink() {
                format!("-> {}", std::fs::read_link(item.path()).unwrap().display())
            } else if kind.is_char_device() {
                format!("char {}", metadata.rdev())
            } else if kind.is_block_device() {
                format!("block {}", metadata.rdev())
            } else if kind.is_fifo() {
                "fifo".to_owned()
            } else {
                format!("file {}", String::from_utf8_lossy(&std::fs::read(item.path()).unwrap()))
            };
            let path = item.path().strip_prefix(top).unwrap().display().to_string();
            lines.push(format!("/{path} {:o} {what}", metadata.mode() & 0o7777));
        }
    }
    lines.sort();
    lines
}
