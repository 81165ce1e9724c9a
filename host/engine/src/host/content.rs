//! `content`: bytes into and out of the blob store. Hashing happens here, in the host.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use cooperage_solve::{Error, ErrorKind};
use cooperage_store::layers::{Archive, FileAt};
use cooperage_store::{BlobWriter, Descriptor};
use wasmtime::component::Resource;

use crate::bindings::imports::cooperage::plugin::content;
use crate::bindings::wit;
use crate::convert::{descriptor_to_wit, digest_from_wit};
use crate::host::{answer, blocking};
use crate::instance::{Answer, State};

/// The most that one read gives.
const LARGEST_READ: u32 = 1024 * 1024;

/// Takes bytes into the store. The file is opened with the first byte, so that one left empty costs nothing.
pub struct Writer {
    blob: Option<BlobWriter>,
    /// Why nothing can be written any more.
    broken: Option<Error>,
}

/// Gives bytes of a blob or of a file of a tree.
pub struct Reader {
    from: From,
    size: u64,
    position: u64,
}

enum From {
    Blob(File),
    Tree(FileAt),
}

impl Reader {
    pub(crate) fn of_tree(file: FileAt) -> Self {
        Self { size: file.size(), from: From::Tree(file), position: 0 }
    }
}

/// An archive that the host makes while the guest reads it.
pub struct GuestArchive(std::sync::Arc<std::sync::Mutex<Archive>>);

impl GuestArchive {
    pub(crate) fn new(archive: Archive) -> Self {
        Self(std::sync::Arc::new(std::sync::Mutex::new(archive)))
    }
}

impl content::HostArchive for State {
    async fn read(&mut self, this: Resource<GuestArchive>, max: u32) -> Answer<Vec<u8>> {
        let archive = self.table.get(&this)?.0.clone();
        let most = usize::try_from(max.clamp(1, LARGEST_READ)).unwrap_or(1);
        // What makes the archive may wait for the disk.
        let next = blocking(move || {
            let mut archive = archive.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Ok(archive.next_bytes(most)?)
        });
        answer(next.await)
    }

    async fn drop(&mut self, this: Resource<GuestArchive>) -> wasmtime::Result<()> {
        let archive = self.table.delete(this)?;
        // Waits for the thread that makes it.
        tokio::task::spawn_blocking(move || drop(archive));
        Ok(())
    }
}

impl content::Host for State {
    async fn open(&mut self, digest: String) -> Answer<Resource<Reader>> {
        let store = self.store();
        let opened = blocking(move || {
            let digest = digest_from_wit(&digest)?;
            let file = store?.blobs().open(&digest)?;
            let file = file.ok_or_else(|| Error::not_found(format!("the store does not have {digest}")))?;
            let size = file.metadata().map_err(|error| Error::io("look at a blob", &error))?.len();
            Ok(Reader { from: From::Blob(file), size, position: 0 })
        });
        match opened.await {
            Ok(reader) => Ok(Ok(self.push(reader)?)),
            Err(error) => answer(Err(error)),
        }
    }

    async fn stat(&mut self, digest: String) -> Answer<Option<u64>> {
        let store = self.store();
        answer(blocking(move || Ok(store?.blobs().size(&digest_from_wit(&digest)?)?)).await)
    }
}

impl content::HostWriter for State {
    fn new(&mut self) -> wasmtime::Result<Resource<Writer>> {
        // A constructor cannot fail, so one writer too many fails at its first write.
        let limit = self.limits.writers;
        let message = format!("no more than {limit} writers may be open at a time");
        let broken = (self.used.writers >= limit).then(|| Error::new(ErrorKind::Limit, message));
        self.used.writers += 1;
        self.push(Writer { blob: None, broken })
    }

    /// Writes and hashes on the thread of the call: a chunk takes microseconds in the page cache, less than moving it
    /// to another thread would.
    async fn write(&mut self, this: Resource<Writer>, bytes: Vec<u8>) -> Answer<()> {
        let store = self.store();
        let used = self.used.blob_bytes.saturating_add(bytes.len() as u64);
        let writer = self.table.get_mut(&this)?;
        if let Some(error) = &writer.broken {
            return answer(Err(error.clone()));
        }
        if used > self.limits.blob_bytes {
            let message = format!("the call may write {} bytes to the store", self.limits.blob_bytes);
            return answer(Err(Error::new(ErrorKind::Limit, message)));
        }
        self.used.blob_bytes = used;
        let written = match &mut writer.blob {
            Some(blob) => write(blob, &bytes),
            None => store.and_then(|store| Ok(store.blobs().writer()?)).and_then(|mut blob| {
                write(&mut blob, &bytes)?;
                writer.blob = Some(blob);
                Ok(())
            }),
        };
        if let Err(error) = &written {
            writer.broken = Some(error.clone());
            writer.blob = None;
        }
        answer(written)
    }

    fn size(&mut self, this: Resource<Writer>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&this)?.blob.as_ref().map_or(0, BlobWriter::size))
    }

    async fn commit(
        &mut self,
        this: Resource<Writer>,
        media_type: String,
        expected: Option<String>,
    ) -> Answer<wit::Descriptor> {
        let writer = self.table.delete(this)?;
        self.used.writers = self.used.writers.saturating_sub(1);
        let store = self.store();
        let committed = blocking(move || {
            if let Some(error) = writer.broken {
                return Err(error);
            }
            let expected = expected.as_deref().map(digest_from_wit).transpose()?;
            let blob = match writer.blob {
                Some(blob) => blob,
                None => store?.blobs().writer()?,
            };
            let (digest, size) = blob.commit(expected.as_ref())?;
            Ok(descriptor_to_wit(&Descriptor::new(media_type, digest, size)))
        });
        answer(committed.await)
    }

    async fn drop(&mut self, this: Resource<Writer>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        self.used.writers = self.used.writers.saturating_sub(1);
        Ok(())
    }
}

fn write(blob: &mut BlobWriter, bytes: &[u8]) -> Result<(), Error> {
    blob.write_all(bytes).map_err(|error| Error::io("write to the store", &error))
}

impl content::HostReader for State {
    fn size(&mut self, this: Resource<Reader>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&this)?.size)
    }

    async fn read(&mut self, this: Resource<Reader>, max: u32) -> Answer<Vec<u8>> {
        let reader = self.table.get_mut(&this)?;
        let left = reader.size.saturating_sub(reader.position);
        let mut bytes = vec![0; usize::try_from(left.min(max.min(LARGEST_READ).into())).unwrap_or(0)];
        answer(read(reader, &mut bytes).map(|length| {
            bytes.truncate(length);
            bytes
        }))
    }

    fn seek(&mut self, this: Resource<Reader>, offset: u64) -> Answer<()> {
        let reader = self.table.get_mut(&this)?;
        if offset > reader.size {
            let message = format!("cannot go to byte {offset} of {}", reader.size);
            return answer(Err(Error::invalid(message)));
        }
        reader.position = offset;
        Ok(Ok(()))
    }

    async fn drop(&mut self, this: Resource<Reader>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

fn read(reader: &mut Reader, bytes: &mut [u8]) -> Result<usize, Error> {
    let read = match &reader.from {
        From::Blob(file) => file.read_at(bytes, reader.position),
        From::Tree(file) => file.read_at(bytes, reader.position),
    };
    let length = read.map_err(|error| Error::io("read from the store", &error))?;
    if length == 0 && !bytes.is_empty() {
        return Err(Error::new(ErrorKind::Conflict, "what is read has become shorter meanwhile"));
    }
    reader.position += length as u64;
    Ok(length)
}
