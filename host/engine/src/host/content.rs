//! `content`: bytes into and out of the blob store. Hashing happens here, in the host.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use cooperage_solve::{Error, ErrorKind};
use cooperage_store::layers::{Archive, FileAt};
use cooperage_store::{BlobWriter, Descriptor};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wasmtime::component::Resource;

use crate::bindings::imports::cooperage::plugin::content;
use crate::bindings::wit;
use crate::convert::{descriptor_to_wit, digest_from_wit};
use crate::host::{answer, blocking};
use crate::instance::{Answer, State};

/// The most that one read gives.
const LARGEST_READ: u32 = 1024 * 1024;

/// Bytes that are written and hashed where the guest runs; what comes after them gets a thread of its own.
const SMALL: u64 = 1 << 20;
/// Chunks that a guest may be ahead of the disk.
const AHEAD: usize = 4;

/// Takes bytes into the store.
pub struct Writer {
    sink: Sink,
    size: u64,
}

/// Where the bytes go. The file is opened with the first byte, so that a writer left empty costs nothing.
enum Sink {
    Empty,
    Here(BlobWriter),
    /// The guest goes on, most often waiting for a network, while this hashes and writes.
    Away(mpsc::Sender<Vec<u8>>, JoinHandle<Result<BlobWriter, Error>>),
    /// Why nothing can be written any more.
    Broken(Error),
}

impl Sink {
    async fn write(&mut self, store: Result<cooperage_store::Store, Error>, bytes: Vec<u8>) -> Result<(), Error> {
        if let Self::Empty = self {
            *self = Self::Here(store?.blobs().writer()?);
        }
        if let Self::Here(blob) = self
            && blob.size() + (bytes.len() as u64) < SMALL
        {
            return write(blob, &bytes);
        }
        if let Self::Here(_) = self
            && let Self::Here(blob) = std::mem::replace(self, Self::Empty)
        {
            *self = Self::away(blob);
        }
        match self {
            Self::Away(chunks, worker) => match chunks.send(bytes).await {
                Ok(()) => Ok(()),
                Err(_) => Err(ended(worker.await).err().unwrap_or_else(|| Error::internal("a writer ended early"))),
            },
            Self::Broken(error) => Err(error.clone()),
            Self::Empty | Self::Here(_) => Ok(()),
        }
    }

    fn away(mut blob: BlobWriter) -> Self {
        let (send, mut chunks) = mpsc::channel::<Vec<u8>>(AHEAD);
        let worker = tokio::task::spawn_blocking(move || {
            while let Some(bytes) = chunks.blocking_recv() {
                write(&mut blob, &bytes)?;
            }
            Ok(blob)
        });
        Self::Away(send, worker)
    }

    /// What was written, once all of it is.
    async fn finish(self, store: Result<cooperage_store::Store, Error>) -> Result<BlobWriter, Error> {
        match self {
            Self::Empty => Ok(store?.blobs().writer()?),
            Self::Here(blob) => Ok(blob),
            Self::Away(chunks, worker) => {
                drop(chunks);
                ended(worker.await)
            }
            Self::Broken(error) => Err(error),
        }
    }
}

fn ended(joined: Result<Result<BlobWriter, Error>, tokio::task::JoinError>) -> Result<BlobWriter, Error> {
    joined.unwrap_or_else(|_| Err(Error::internal("a writing thread died").hint("this is a defect; please report it")))
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

impl State {
    /// Whether one more archive may be made at the same time.
    pub(crate) fn may_archive(&self) -> Result<(), Error> {
        let limit = self.limits.archives;
        if self.used.archives < limit {
            return Ok(());
        }
        Err(self.used_up("archives", format!("no more than {limit} archives may be read at a time")))
    }

    /// Hands an archive to the guest.
    pub(crate) fn archive(&mut self, archive: Archive) -> wasmtime::Result<Resource<GuestArchive>> {
        self.used.archives += 1;
        self.push(GuestArchive(std::sync::Arc::new(std::sync::Mutex::new(archive))))
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
        self.used.archives = self.used.archives.saturating_sub(1);
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
        let sink = match self.used.writers >= limit {
            true => Sink::Broken(self.used_up("writers", message)),
            false => Sink::Empty,
        };
        self.used.writers += 1;
        self.push(Writer { sink, size: 0 })
    }

    async fn write(&mut self, this: Resource<Writer>, bytes: Vec<u8>) -> Answer<()> {
        let store = self.store();
        let length = bytes.len() as u64;
        let used = self.used.blob_bytes.saturating_add(length);
        if used > self.limits.blob_bytes && !matches!(self.table.get(&this)?.sink, Sink::Broken(_)) {
            let message = format!("the call may write {} bytes to the store", self.limits.blob_bytes);
            return answer(Err(self.used_up("blob_bytes", message)));
        }
        let writer = self.table.get_mut(&this)?;
        self.used.blob_bytes = used;
        let written = writer.sink.write(store, bytes).await;
        match &written {
            Ok(()) => writer.size += length,
            Err(error) => writer.sink = Sink::Broken(error.clone()),
        }
        answer(written)
    }

    fn size(&mut self, this: Resource<Writer>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&this)?.size)
    }

    async fn commit(
        &mut self,
        this: Resource<Writer>,
        media_type: String,
        expected: Option<String>,
    ) -> Answer<wit::Descriptor> {
        let writer = self.table.delete(this)?;
        self.used.writers = self.used.writers.saturating_sub(1);
        let blob = match writer.sink.finish(self.store()).await {
            Ok(blob) => blob,
            Err(error) => return answer(Err(error)),
        };
        let committed = blocking(move || {
            let expected = expected.as_deref().map(digest_from_wit).transpose()?;
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
