//! Files of a server as entries of a layer: one file, or all that lies below a directory.

use std::io::{self, Read, Write};

use cooperage_sdk::events::Step;
use cooperage_sdk::layer::LayerWriter;
use cooperage_sdk::{Context, Error, Result, warn};

use crate::client::Client;
use crate::client::directories::walk;
use crate::client::download::{Download, Stamp, seconds};
use crate::client::listing::{Entry, Kind};
use crate::client::session::{Mode, is_time};
use crate::edge::{CHUNK, Chunks, Payload, Store};
use crate::paths;

/// Brings files into a layer, and counts them.
pub struct Fetch<'f, W> {
    /// Where they go.
    pub layer: LayerWriter<W>,
    /// Where they wait whose size nobody knows in advance.
    pub store: &'f dyn Store,
    /// How they are sent.
    pub mode: Mode,
    /// Shows how far it is.
    pub step: &'f Step,
    /// How many there were.
    pub files: u64,
    /// How many bytes they had.
    pub bytes: u64,
    /// How many bytes there will be, if that is known.
    pub total: Option<u64>,
}

impl<'f, W: Write> Fetch<'f, W> {
    /// Into a layer.
    pub fn new(layer: LayerWriter<W>, store: &'f dyn Store, mode: Mode, step: &'f Step) -> Self {
        Self { layer, store, mode, step, files: 0, bytes: 0, total: None }
    }

    /// Brings the file at an absolute path.
    ///
    /// # Errors
    /// Those of the transfer.
    pub fn file(
        &mut self,
        client: &mut Client,
        remote: &str,
        name: &str,
        permissions: u32,
        stamp: Option<Stamp>,
    ) -> Result<()> {
        let what = || format!("cannot fetch {}", client_url(client, remote));
        let what = what();
        self.one(client, remote, name, permissions, stamp).context(what)
    }

    fn one(
        &mut self,
        client: &mut Client,
        remote: &str,
        name: &str,
        permissions: u32,
        stamp: Option<Stamp>,
    ) -> Result<()> {
        let mut download = Download::begin(client, remote, self.mode, stamp)?;
        let Some(size) = download.size() else {
            let kept = download.keep(self.store.sink(), "application/octet-stream", None, self.step)?;
            let payload = self.store.payload(&kept.digest)?;
            return self.kept(payload.as_ref(), name, permissions);
        };
        let total = self.total.unwrap_or(size);
        let mut counted = Counted { inner: &mut download, done: self.bytes, total, step: self.step };
        self.layer.file_from(name, permissions, size, &mut counted)?;
        // The server's last word, and that there is nothing behind the announced bytes.
        if !download.chunk(CHUNK)?.is_empty() {
            return Err(Error::conflict(format!("the server sends more than the {size} bytes that it announced")));
        }
        self.files += 1;
        self.bytes += size;
        Ok(())
    }

    /// Takes what is in the store already.
    ///
    /// # Errors
    /// Those of the store.
    pub fn kept(&mut self, payload: &dyn Payload, name: &str, permissions: u32) -> Result<()> {
        let mut reader = Reading { chunks: payload.open(0)?, rest: Vec::new() };
        self.layer.file_from(name, permissions, payload.size(), &mut reader)?;
        self.files += 1;
        self.bytes += payload.size();
        Ok(())
    }

    /// Brings what [`walk`] found below a directory; `prefix` is the directory in the layer, empty for its root.
    ///
    /// # Errors
    /// Those of the transfers.
    pub fn directory(
        &mut self,
        client: &mut Client,
        base: &str,
        found: &[(String, Entry)],
        prefix: &str,
    ) -> Result<()> {
        self.total = found.iter().filter(|(_, e)| e.kind == Kind::File).map(|(_, e)| e.size).sum();
        for (path, entry) in found {
            if let Err(error) = paths::check_in_layer(path) {
                warn!("left out: {}", error.message);
                continue;
            }
            let name = if prefix.is_empty() { path.clone() } else { format!("{prefix}/{path}") };
            match &entry.kind {
                Kind::Directory => self.layer.directory(&name, 0o755)?,
                Kind::File => {
                    // Who may read or write is for the tree's user to say; what can be run is part of the files.
                    let permissions = if entry.mode.unwrap_or(0) & 0o111 == 0 { 0o644 } else { 0o755 };
                    self.file(client, &paths::join(base, path), &name, permissions, stamp(entry))?;
                }
                Kind::Symlink(Some(target)) => self.layer.symlink(&name, target)?,
                Kind::Symlink(None) | Kind::Other => warn!("left out {path}: it is neither a file nor a directory"),
            }
        }
        Ok(())
    }

    /// The same, after walking.
    ///
    /// # Errors
    /// Those of the transfers.
    pub fn below(&mut self, client: &mut Client, base: &str, prefix: &str) -> Result<()> {
        let found = walk(client, base)?;
        self.directory(client, base, &found, prefix)
    }
}

fn client_url(client: &Client, path: &str) -> String {
    client.server().url(path)
}

/// What a listing says of a file; none if it does not say enough.
fn stamp(entry: &Entry) -> Option<Stamp> {
    let modified = entry.modified.as_deref().filter(|time| is_time(time)).map(seconds);
    entry.size.map(|size| Stamp { size: Some(size), modified })
}

struct Counted<'r> {
    inner: &'r mut dyn Read,
    done: u64,
    total: u64,
    step: &'r Step,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.done += length as u64;
        self.step.bytes(self.done, Some(self.total));
        Ok(length)
    }
}

struct Reading {
    chunks: Box<dyn Chunks>,
    rest: Vec<u8>,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            self.rest = self.chunks.chunk(CHUNK)?;
        }
        let length = self.rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest[..length]);
        self.rest.drain(..length);
        Ok(length)
    }
}
