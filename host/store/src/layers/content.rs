//! Where the content of one file comes from, opened when its turn comes. Knows nothing of what is made of it.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use crate::layer::{beneath, fault, tarball};
use crate::{Error, Result};

/// The source of one file's content.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Empty,
    Bytes(Vec<u8>),
    /// A file on the host, which others may change at any time.
    Host(PathBuf),
    /// A file of an unpacked layer.
    Beneath(Arc<OwnedFd>, Vec<u8>),
    /// A part of a file of the store, from the byte given.
    Range(Arc<File>, u64),
}

/// Content ready to be read.
#[derive(Debug)]
pub(super) enum Opened {
    Bytes(Cursor<Vec<u8>>),
    File(File),
    Range { file: Arc<File>, at: u64, end: u64 },
}

impl Content {
    /// Whether nobody changes it while it is read.
    pub(super) fn is_stable(&self) -> bool {
        !matches!(self, Self::Host(_))
    }

    /// Opens the content, which has `size` bytes. Anything but a regular file of that size is an error.
    pub(super) fn open(&self, size: u64) -> Result<Opened> {
        let (file, path) = match self {
            Self::Empty => return Ok(Opened::Bytes(Cursor::new(Vec::new()))),
            Self::Bytes(bytes) => return Ok(Opened::Bytes(Cursor::new(bytes.clone()))),
            Self::Range(file, at) => return Ok(Opened::Range { file: Arc::clone(file), at: *at, end: at + size }),
            Self::Host(path) => {
                // Without O_NONBLOCK, a fifo put in the file's place would stop us for ever.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
                (rustix::fs::open(path, flags, Mode::empty()), path.clone())
            }
            Self::Beneath(root, path) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
                (beneath::open(root.as_fd(), path, flags, 0), fault::inside(path))
            }
        };
        let file = File::from(file.map_err(fault::sys("opening", &path))?);
        let metadata = file.metadata().map_err(Error::io("reading", &path))?;
        let changed = |why: String| Error::Changed { what: path.display().to_string(), why };
        if !metadata.is_file() {
            return Err(changed("it is no regular file".to_owned()));
        }
        if metadata.len() != size {
            return Err(changed(format!("it has {} bytes, not {size}", metadata.len())));
        }
        tarball::read_ahead(&file, size);
        Ok(Opened::File(file))
    }

    /// The name for messages of a file that is called `path` in its layer.
    pub(super) fn name(&self, path: &[u8]) -> PathBuf {
        match self {
            Self::Host(path) => path.clone(),
            Self::Beneath(_, path) => fault::inside(path),
            _ => fault::inside(path),
        }
    }
}

impl Read for Opened {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Bytes(bytes) => bytes.read(buffer),
            Self::File(file) => file.read(buffer),
            Self::Range { file, at, end } => {
                let wanted = buffer.len().min(usize::try_from(*end - *at).unwrap_or(usize::MAX));
                let length = file.read_at(&mut buffer[..wanted], *at)?;
                *at += length as u64;
                Ok(length)
            }
        }
    }
}
