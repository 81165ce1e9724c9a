//! Reads what an import brings: documents up to a size, and blobs against the size and digest that were announced.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::images::MAX_DOCUMENT;
use crate::layer::decode::Format;
use crate::layer::fault;
use crate::{Blobs, Descriptor, Digest, Error, Result};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutVersion {
    image_layout_version: String,
}

pub(super) fn copy_blob(blobs: &Blobs, file: File, wanted: &Descriptor) -> Result<()> {
    let what = format!("the blob {}", wanted.digest);
    // One byte more than announced is enough to know that it is wrong.
    write_blob(blobs, file.take(wanted.size.saturating_add(1)), Some(&wanted.digest), wanted.size, &what).map(drop)
}

/// Streams one blob into the store. It is refused if it has not `size` bytes.
pub(super) fn write_blob(
    blobs: &Blobs,
    mut from: impl Read,
    expected: Option<&Digest>,
    size: u64,
    what: &str,
) -> Result<(Digest, Format)> {
    let mut writer = blobs.writer()?;
    let mut buffer = vec![0; 256 << 10];
    let mut head = Vec::with_capacity(Format::HEAD);
    loop {
        let count = from.read(&mut buffer).map_err(unreadable(what))?;
        if count == 0 {
            break;
        }
        head.extend_from_slice(&buffer[..count.min(Format::HEAD - head.len())]);
        writer.write_all(&buffer[..count]).map_err(Error::io("writing a blob for", what))?;
    }
    complete(what, writer.size(), size)?;
    Ok((writer.commit(expected)?.0, Format::of(&head)))
}

fn complete(what: &str, size: u64, expected: u64) -> Result<()> {
    match size == expected {
        true => Ok(()),
        false => Err(corrupt(what, &format!("it does not have the {expected} bytes that were announced"))),
    }
}

/// Opens a regular file; none if there is none. Anything else under the name is refused, a fifo without waiting for it.
pub(super) fn open_regular(path: &Path) -> Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(Error::io("opening", path)(error.into())),
    };
    let metadata = file.metadata().map_err(Error::io("reading", path))?;
    if !metadata.is_file() {
        return Err(corrupt(&path.display().to_string(), "it is no regular file"));
    }
    Ok(Some(file))
}

pub(super) fn read_document(from: impl Read, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).map_err(unreadable(name))?;
    match bytes.len() as u64 > MAX_DOCUMENT {
        true => Err(Error::TooLarge { what: name.to_owned(), limit: MAX_DOCUMENT }),
        false => Ok(bytes),
    }
}

pub(super) fn check_version(layout: &[u8]) -> Result<()> {
    let version: LayoutVersion = parse(layout, "oci-layout")?;
    match version.image_layout_version.starts_with("1.") {
        true => Ok(()),
        false => Err(corrupt("oci-layout", &format!("its version is {:?}, not 1", version.image_layout_version))),
    }
}

/// What no system call said, the reader of the archive found.
pub(super) fn unreadable(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    move |error| match fault::io("reading", &what)(error) {
        Error::Io { source, .. } if source.raw_os_error().is_none() => corrupt(&what, &source.to_string()),
        other => other,
    }
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| corrupt(what, &error.to_string()))
}

pub(super) fn corrupt(what: &str, why: &str) -> Error {
    Error::Corrupt { what: what.to_owned(), why: why.to_owned() }
}
