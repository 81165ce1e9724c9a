//! Reads the archive in which an engine hands an image out, while it comes: layers go straight into the store, small
//! documents stay in memory until the manifest, which comes last, says what they are.
//!
//! Three forms are known: Docker's own of a directory for each layer (`docker save` before version 25), the flat one of
//! Podman, and the OCI layout of Docker 25 and later with `manifest.json` beside it. Names are only ever keys here:
//! nothing is unpacked, so a name cannot lead anywhere.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Read};
use std::rc::Rc;

use cooperage_sdk::content::CHUNK;
use cooperage_sdk::{Descriptor, Error, Result};
use tar::EntryType;

use crate::edge::{Body, Edge, Sink, Store};
use crate::names;

/// Documents of images are smaller: registries accept 4 MiB.
pub const LARGEST_DOCUMENT: u64 = 4 << 20;
/// Files up to this size are kept in memory whatever they are.
const SMALL: u64 = 16 << 10;
/// Documents of one archive together.
const MOST_HELD: u64 = 64 << 20;
const MOST_FILES: usize = 100_000;
/// Bytes of the names in one archive together.
const MOST_NAMES: usize = 16 << 20;
/// A header with all that makes its name longer. The names in the archives of engines fit a plain one.
const LARGEST_HEADER: u64 = 1 << 20;
const MOST_LINKS: usize = 10;

/// What an archive had, by names as they are written in it.
#[derive(Debug, Default)]
pub struct Archive {
    files: HashMap<String, Held>,
    links: HashMap<String, String>,
    held: u64,
    /// Bytes of all names.
    names: usize,
}

#[derive(Debug)]
enum Held {
    Bytes(Vec<u8>),
    Stored(Descriptor),
}

impl Archive {
    /// Reads an archive to its end.
    ///
    /// # Errors
    /// `conflict` if it is no archive or ends early, `limit` if it has more than an image can have, and those of the
    /// connection and the store.
    pub fn read(edge: Edge<'_>, body: Box<dyn Body>) -> Result<Self> {
        let mut this = Self::default();
        let left = Rc::new(Cell::new(u64::MAX));
        let mut archive = tar::Archive::new(Stream { body, rest: Vec::new(), at: 0, left: left.clone() });
        let mut entries = archive.entries().map_err(broken)?;
        loop {
            // What makes a name longer is kept whole by the reader of archives, before it gives the entry.
            left.set(LARGEST_HEADER);
            let Some(entry) = entries.next() else { break };
            left.set(u64::MAX);
            let mut entry = entry.map_err(broken)?;
            this.entry(edge, &mut entry)?;
            // What is left of it goes by here, so that a header comes next.
            io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
        }
        left.set(u64::MAX);
        // What follows the end of the archive belongs to the answer all the same: the connection can then be kept.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
        Ok(this)
    }

    fn entry(&mut self, edge: Edge<'_>, entry: &mut tar::Entry<'_, impl Read>) -> Result<()> {
        let name = cleaned(&String::from_utf8_lossy(&entry.path_bytes()));
        let target = entry.link_name_bytes().unwrap_or_default();
        self.names += name.len() + target.len();
        if self.files.len() + self.links.len() >= MOST_FILES || self.names > MOST_NAMES {
            let most = MOST_NAMES >> 20;
            return Err(Error::limit(format!(
                "the engine's archive of the image has more than {MOST_FILES} files, or more than {most} MiB of names"
            )));
        }
        match entry.header().entry_type() {
            kind @ (EntryType::Symlink | EntryType::Link) => {
                let target = String::from_utf8_lossy(&target);
                let target = if kind == EntryType::Link { cleaned(&target) } else { beside(&name, &target) };
                self.links.insert(name, target);
            }
            kind if kind.is_file() => {
                let held = self.take(edge, &name, entry)?;
                self.files.insert(name, held);
            }
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, edge: Edge<'_>, name: &str, entry: &mut tar::Entry<'_, impl Read>) -> Result<Held> {
        let size = entry.size();
        let mut start = vec![0; usize::try_from(size.min(SMALL)).expect("a small number")];
        entry.read_exact(&mut start).map_err(broken)?;
        let document = size <= SMALL || (size <= LARGEST_DOCUMENT && matches!(start.first(), Some(b'{' | b'[')));
        if document && self.held + size <= MOST_HELD {
            self.held += size;
            entry.read_to_end(&mut start).map_err(broken)?;
            return Ok(Held::Bytes(start));
        }
        let known = by_digest(name);
        if let Some(digest) = &known
            && let Some(size) = edge.store.stat(digest)?
        {
            // Not a byte of it is written again; whether it is the right one shows when the image is put together.
            return Ok(Held::Stored(descriptor(digest.clone(), size)));
        }
        let mut sink = edge.store.sink();
        sink.write(&start)?;
        let left = size - start.len() as u64;
        if copy(entry, sink.as_mut())? != left {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        // Only the names of an OCI layout promise a digest. Of the others, those without compression are held against
        // the configuration later.
        let expected = known.filter(|_| name.starts_with("blobs/sha256/"));
        sink.commit(media_type(&start), expected.as_deref()).map(Held::Stored)
    }

    /// A document by its name.
    ///
    /// # Errors
    /// `conflict` if it is not there, `limit` if it is too large to be one.
    pub fn document(&self, name: &str) -> Result<&[u8]> {
        match self.find(name)? {
            Held::Bytes(bytes) => Ok(bytes),
            Held::Stored(descriptor) => Err(Error::limit(format!(
                "{name} in the engine's archive has {} bytes, which no document of an image has",
                descriptor.size
            ))),
        }
    }

    /// Whether there is a file of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// A layer by its name, in the store.
    ///
    /// # Errors
    /// `conflict` if it is not there, and those of the store.
    pub fn layer(&self, edge: Edge<'_>, name: &str) -> Result<Descriptor> {
        match self.find(name)? {
            Held::Stored(found) => {
                let start = edge.store.open(&found.digest)?.chunk(4)?;
                Ok(Descriptor { media_type: media_type(&start).to_owned(), ..found.clone() })
            }
            Held::Bytes(bytes) => put(edge, bytes, media_type(bytes)),
        }
    }

    fn find(&self, name: &str) -> Result<&Held> {
        let mut at = cleaned(name);
        for _ in 0..MOST_LINKS {
            match self.links.get(&at) {
                Some(target) => at.clone_from(target),
                None => break,
            }
        }
        self.files.get(&at).ok_or_else(|| Error::conflict(format!("the engine's archive of the image has no {name:?}")))
    }
}

/// Reads a document of the store whole.
///
/// # Errors
/// `not-found` if the store does not have it, `limit` if it is too large to be one.
pub fn document(store: &dyn Store, digest: &str) -> Result<Vec<u8>> {
    let size = store.stat(digest)?.ok_or_else(|| Error::not_found(format!("{digest} is not in the store")))?;
    if size > LARGEST_DOCUMENT {
        return Err(Error::limit(format!("{digest} has {size} bytes, which no document of an image has")));
    }
    let (mut body, mut bytes) = (store.open(digest)?, Vec::new());
    loop {
        let chunk = body.chunk(CHUNK)?;
        if chunk.is_empty() {
            return Ok(bytes);
        }
        bytes.extend(chunk);
    }
}

/// Keeps bytes in the store.
///
/// # Errors
/// Those of the store.
pub fn put(edge: Edge<'_>, bytes: &[u8], media_type: &str) -> Result<Descriptor> {
    let mut sink = edge.store.sink();
    sink.write(bytes)?;
    sink.commit(media_type, None)
}

/// The media type of a layer, by its first bytes.
#[must_use]
pub fn media_type(start: &[u8]) -> &'static str {
    match start {
        [0x1f, 0x8b, ..] => "application/vnd.oci.image.layer.v1.tar+gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "application/vnd.oci.image.layer.v1.tar+zstd",
        _ => "application/vnd.oci.image.layer.v1.tar",
    }
}

fn descriptor(digest: String, size: u64) -> Descriptor {
    Descriptor { media_type: media_type(&[]).to_owned(), digest, size, annotations: Vec::new() }
}

/// The digest that the name of a file promises: `blobs/sha256/DIGITS`, or Podman's `DIGITS.tar`.
fn by_digest(name: &str) -> Option<String> {
    let digits = name.strip_prefix("blobs/sha256/").or_else(|| name.strip_suffix(".tar"))?;
    names::is_hex(digits).then(|| format!("sha256:{digits}"))
}

/// A name without what does not distinguish it.
fn cleaned(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The name that a link in `name` means.
fn beside(name: &str, target: &str) -> String {
    let directory = name.rfind('/').map_or("", |slash| &name[..slash]);
    cleaned(&format!("{directory}/{target}"))
}

fn copy(from: &mut impl Read, to: &mut dyn Sink) -> Result<u64> {
    let mut buffer = vec![0; CHUNK as usize];
    let mut total = 0;
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match from.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
        if filled == 0 {
            return Ok(total);
        }
        to.write(&buffer[..filled])?;
        total += filled as u64;
    }
}

/// Errors of the outside come out as they were; the others are about the archive.
fn broken(error: io::Error) -> Error {
    if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        return error.into();
    }
    Error::conflict("the engine's archive of the image cannot be read").because(error.to_string())
}

/// The body of an answer as what the reader of archives wants.
struct Stream {
    body: Box<dyn Body>,
    rest: Vec<u8>,
    at: usize,
    /// How many bytes may be read until somebody allows more.
    left: Rc<Cell<u64>>,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.rest.len() {
            self.rest = self.body.chunk(CHUNK)?;
            self.at = 0;
        }
        let length = buffer.len().min(self.rest.len() - self.at);
        let left = self.left.get().checked_sub(length as u64).ok_or_else(|| {
            let most = LARGEST_HEADER >> 20;
            Error::limit(format!("the engine's archive of the image has a name of more than {most} MiB"))
        })?;
        self.left.set(left);
        buffer[..length].copy_from_slice(&self.rest[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Pieces, Script, digest};

    fn tar(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, target) in links {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
        }
        for (name, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(script: &Script, archive: &[u8]) -> Result<Archive> {
        Archive::read(script.edge(), Box::new(Pieces::of(archive, 700)))
    }

    #[test]
    fn links_lead_to_layers() {
        let script = Script::new();
        let large = vec![7; 50_000];
        let archive = tar(
            &[("b/layer.tar", &large), ("small.tar", b"tiny"), ("x.json", b"{}")],
            &[("a/layer.tar", "../b/layer.tar"), ("c/layer.tar", "../a/layer.tar"), ("loop", "loop")],
        );
        let archive = read(&script, &archive).unwrap();
        for name in ["b/layer.tar", "a/layer.tar", "./c/layer.tar"] {
            assert_eq!(archive.layer(script.edge(), name).unwrap().digest, digest(&large), "{name}");
        }
        assert_eq!(archive.layer(script.edge(), "small.tar").unwrap().size, 4);
        assert_eq!(archive.document("x.json").unwrap(), b"{}");
        for missing in ["loop", "y.json", ""] {
            assert!(archive.document(missing).is_err(), "{missing}");
        }
        assert_eq!(archive.document("b/layer.tar").unwrap_err().kind, cooperage_sdk::ErrorKind::Limit);
    }

    #[test]
    fn what_the_store_has_is_not_written_again() {
        let script = Script::new();
        let layer = [&[0x1f, 0x8b][..], &vec![9; 60_000]].concat();
        let known = script.contents.put(&layer);
        let name = format!("blobs/sha256/{}", &known[7..]);
        // Other bytes under that name would be refused if they were looked at.
        let other = vec![1; 60_000];
        let archive = read(&script, &tar(&[(&name, &other)], &[])).unwrap();
        let found = archive.layer(script.edge(), &name).unwrap();
        assert_eq!((found.digest, found.size), (known, layer.len() as u64));
        assert!(found.media_type.ends_with("+gzip"));
        assert_eq!(script.contents.len(), 1);
    }

    #[test]
    fn documents_that_the_store_has_stay_documents() {
        let script = Script::new();
        let document = format!("{{\"history\":\"{}\"}}", "x".repeat(20_000)).into_bytes();
        let name = format!("blobs/sha256/{}", &script.contents.put(&document)[7..]);
        let archive = read(&script, &tar(&[(&name, &document)], &[])).unwrap();
        assert_eq!(archive.document(&name).unwrap(), document);
    }

    #[test]
    fn names_have_an_end() {
        let script = Script::new();
        let mut cases = Vec::new();
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(4 << 20);
            header.set_cksum();
            cases.push([header.as_bytes().as_slice(), &vec![b'x'; 4 << 20], &tar(&[("a", b"a")], &[])].concat());
        }
        // Each name is short enough, but not all of them.
        let name = |number: u32| format!("{number}{}", "/x".repeat(250_000));
        let mut many = tar::Builder::new(Vec::new());
        for number in 0..40 {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            many.append_data(&mut header, name(number), &b""[..]).unwrap();
        }
        cases.push(many.into_inner().unwrap());
        for archive in cases {
            let read = Archive::read(script.edge(), Box::new(Pieces::of(&archive, 1 << 16)));
            assert_eq!(read.unwrap_err().kind, cooperage_sdk::ErrorKind::Limit);
        }
        let long = "long/".repeat(1000);
        let archive = read(&script, &tar(&[(&format!("{long}a"), b"a")], &[])).unwrap();
        assert_eq!(archive.document(&format!("{long}a")).unwrap(), b"a");
    }

    #[test]
    fn false_digests_are_refused() {
        let script = Script::new();
        let name = format!("blobs/sha256/{}", "0".repeat(64));
        let error = read(&script, &tar(&[(&name, &vec![1; 60_000])], &[])).unwrap_err();
        assert_eq!(error.kind, cooperage_sdk::ErrorKind::Conflict);
        assert_eq!(script.contents.len(), 0);
    }

    #[test]
    fn broken_archives_are_told() {
        let script = Script::new();
        let whole = tar(&[("a", &vec![7; 50_000])], &[]);
        for archive in [&whole[..2000], &whole[..100], b"<html>no such thing</html>", &[0xff; 4096][..]] {
            let error = read(&script, archive).unwrap_err();
            assert!(error.message.contains("cannot be read"), "{error:?}");
        }
        assert_eq!(script.contents.len(), 0);
        assert!(read(&script, b"").is_ok());
    }
}
