//! Fetching a file as a stream of bytes that goes on where it broke, as long as the file on the server is the same.

use std::io;

use cooperage_sdk::events::{Step, check_cancelled};
use cooperage_sdk::{Context, Descriptor, Error, ErrorKind, Result};

use super::Client;
use super::retry::Tries;
use super::session::{Data, Mode, Session};
use super::text::FromNetwork;
use crate::edge::{CHUNK, Sink};

/// What tells one state of a file from another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes, if the server says.
    pub size: Option<u64>,
    /// `YYYYMMDDhhmmss`, if the server says.
    pub modified: Option<String>,
}

impl Stamp {
    /// What the server says of a file.
    ///
    /// # Errors
    /// `not-found` and the like.
    pub fn of(session: &mut Session, path: &str) -> Result<Self> {
        Ok(Self { size: session.size(path)?, modified: session.modified(path)?.as_deref().map(seconds) })
    }
}

/// A time without the fraction of a second, which not all commands give.
#[must_use]
pub fn seconds(time: &str) -> String {
    time.split('.').next().unwrap_or(time).to_owned()
}

/// A file on its way here.
pub struct Download<'c, 'a> {
    client: &'c mut Client<'a>,
    path: String,
    mode: Mode,
    stamp: Stamp,
    /// Bytes given so far, as the server counts them.
    done: u64,
    /// Where the last fault was.
    mark: u64,
    /// Bytes that come again because the server does not continue.
    skip: u64,
    restarts: bool,
    /// A digest tells in the end if it is all of one file.
    proven: bool,
    data: Option<Data>,
    ended: bool,
    tries: Tries,
    text: FromNetwork,
    /// What `read` had no room for, and how much of it was given since.
    rest: (Vec<u8>, usize),
}

impl<'c, 'a> Download<'c, 'a> {
    /// Of the file at an absolute path. Without a stamp the server is asked for one.
    ///
    /// # Errors
    /// `not-found` and the like.
    pub fn begin(client: &'c mut Client<'a>, path: &str, mode: Mode, stamp: Option<Stamp>) -> Result<Self> {
        let mut stamp = match stamp {
            Some(stamp) => stamp,
            None => client.again(|session| Stamp::of(session, path))?,
        };
        if mode == Mode::Ascii {
            // As text it has another size than the server counts.
            stamp.size = None;
        }
        let tries = client.tries();
        Ok(Self {
            client,
            path: path.to_owned(),
            mode,
            stamp,
            done: 0,
            mark: 0,
            skip: 0,
            restarts: false,
            proven: false,
            data: None,
            ended: false,
            tries,
            text: FromNetwork::default(),
            rest: (Vec::new(), 0),
        })
    }

    /// How many bytes it will give, if that is known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.stamp.size
    }

    /// The next bytes, at most `max` in binary mode; empty at the end.
    ///
    /// # Errors
    /// `unavailable` if it keeps breaking, `conflict` if the file is another one meanwhile or has another length.
    pub fn chunk(&mut self, max: usize) -> Result<Vec<u8>> {
        while !self.ended {
            check_cancelled()?;
            match self.receive(max) {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(bytes),
                Err(error) => self.recover(error)?,
            }
        }
        Ok(Vec::new())
    }

    fn recover(&mut self, error: Error) -> Result<()> {
        self.data = None;
        let whole = self.stamp.size == Some(self.done);
        // Without a time, what comes next may be of another file of the same size.
        let known = self.stamp.size.is_some() && (self.proven || self.stamp.modified.is_some());
        let resumable = self.done == 0 || whole || known;
        if error.kind != ErrorKind::Unavailable || !resumable {
            self.client.abandon();
            return Err(error);
        }
        let progress = self.done > self.mark;
        self.mark = self.done;
        self.skip = 0;
        self.client.wait(&mut self.tries, error, progress)
    }

    /// What one read brings: bytes, or none at the end and for what came again.
    fn receive(&mut self, max: usize) -> Result<Vec<u8>> {
        let mut data = match self.data.take() {
            Some(data) => data,
            None if self.done > 0 && self.stamp.size == Some(self.done) => {
                // Only the server's last word is missing.
                self.check_same()?;
                self.ended = true;
                return Ok(Vec::new());
            }
            None => self.open()?,
        };
        let bytes = match data.read(max) {
            // All is there; that the connection ended badly changes nothing.
            Err(_) if self.done > 0 && self.stamp.size == Some(self.done) => Vec::new(),
            Err(error) => return Err(self.client.once(|session| Ok(session.why(data, error)))?),
            Ok(bytes) => bytes,
        };
        if bytes.is_empty() {
            return self.end(data);
        }
        self.data = Some(data);
        let bytes = self.unskipped(bytes);
        self.done += bytes.len() as u64;
        if let Some(size) = self.stamp.size.filter(|size| self.done > *size) {
            return Err(Error::conflict(format!("the server sends more than the {size} bytes that it announced")));
        }
        Ok(if self.mode == Mode::Ascii { self.text.convert(&bytes) } else { bytes })
    }

    /// Without what came before.
    fn unskipped(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        if skipped > 0 {
            bytes.drain(..usize::try_from(skipped).unwrap_or(usize::MAX));
        }
        bytes
    }

    fn open(&mut self) -> Result<Data> {
        if self.done > 0 {
            self.check_same()?;
        } else if !self.proven && self.stamp.size.is_some() && self.stamp.modified.is_none() {
            // Not all listings have a time that can be compared.
            let path = &self.path;
            self.stamp.modified = self.client.once(|session| session.modified(path))?.as_deref().map(seconds);
        }
        let (mode, done, path) = (self.mode, self.done, &self.path);
        if self.restarts || done == 0 {
            self.skip = done;
            return self.client.once(|session| session.begin(mode, 0, "RETR", Some(path)));
        }
        match self.client.once(|session| session.begin(mode, done, "RETR", Some(path))) {
            Err(error) if error.kind == ErrorKind::Unsupported => {
                self.restarts = true;
                self.open()
            }
            result => result,
        }
    }

    fn check_same(&mut self) -> Result<()> {
        let (path, stamp) = (&self.path, &self.stamp);
        let now = self.client.once(|session| Stamp::of(session, path))?;
        // Some servers know no sizes but those that they list.
        let same_size = now.size.is_none() || now.size == stamp.size;
        if same_size && (self.proven || now.modified == stamp.modified) {
            return Ok(());
        }
        Err(Error::conflict("the file was changed on the server while it was fetched").hint("try again"))
    }

    fn end(&mut self, data: Data) -> Result<Vec<u8>> {
        self.client.once(|session| session.end(data))?;
        if let Some(size) = self.stamp.size.filter(|size| self.done < *size) {
            let path = &self.path;
            let (done, there) = (self.done, self.client.once(|session| session.size(path))?);
            return Err(if there == Some(done) {
                Error::conflict(format!("the server has {done} bytes of it instead of {size}"))
            } else {
                Error::unavailable(format!("it ends after {done} of {size} bytes"))
            });
        }
        self.ended = true;
        Ok(self.text.end().to_vec())
    }

    /// Puts all of it into the store.
    ///
    /// # Errors
    /// Those of the transfer, and `conflict` if it has another digest than expected.
    pub fn keep(
        mut self,
        mut sink: Box<dyn Sink>,
        media_type: &str,
        expected: Option<&str>,
        step: &Step,
    ) -> Result<Descriptor> {
        self.proven = expected.is_some();
        let (mut done, total) = (0, self.size());
        loop {
            let bytes = self.chunk(CHUNK)?;
            if bytes.is_empty() {
                return sink.commit(media_type, expected);
            }
            sink.write(&bytes)?;
            done += bytes.len() as u64;
            step.bytes(done, total);
        }
    }
}

impl io::Read for Download<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.1 == self.rest.0.len() && !buffer.is_empty() {
            // As much as there is: what little room the caller has at times would make many small reads.
            self.rest = (self.chunk(CHUNK)?, 0);
        }
        let (bytes, given) = &mut self.rest;
        let length = (bytes.len() - *given).min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[*given..*given + length]);
        *given += length;
        Ok(length)
    }
}

/// A small file as a whole; none if there is none.
///
/// # Errors
/// `limit` if it has more than `max` bytes.
pub fn small(client: &mut Client, path: &str, max: usize) -> Result<Option<Vec<u8>>> {
    let mut download = match Download::begin(client, path, Mode::Binary, None) {
        Ok(download) => download,
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot fetch {path}")),
    };
    let mut all = Vec::new();
    loop {
        match download.chunk(CHUNK) {
            Ok(bytes) if bytes.is_empty() => return Ok(Some(all)),
            Ok(bytes) => all.extend(bytes),
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot fetch {path}")),
        }
        if all.len() > max {
            download.client.abandon();
            return Err(Error::limit(format!("{path} has more than {max} bytes")));
        }
    }
}
