//! The role `registry`: each repository is an OCI image layout (image-spec 1.1, "OCI Image Layout") in a directory of
//! an FTP server, as `skopeo` and others read it once it is copied. A layout has no server that keeps order, so
//! everything comes by renaming, and only the one file that changes, `index.json`, is guarded by a lock.

pub mod index;
pub mod layout;
pub mod lock;
pub mod place;

use cooperage_sdk::events::Step;
use cooperage_sdk::names;
use cooperage_sdk::roles::registry::Arrival;
use cooperage_sdk::{Context, Descriptor, Error, ErrorKind, Result};
use serde_json::Value;

use crate::client::Client;
use crate::client::directories::Directories;
use crate::client::download::{Download, Stamp, small};
use crate::client::session::Mode;
use crate::client::upload::Upload;
use crate::edge::{CHUNK, Payload, Store};
use crate::paths;
use index::Index;
use lock::{Lock, Patience};
use place::Place;

/// What registries accept, and so the most that is read.
const LARGEST_MANIFEST: usize = 4 << 20;
const LARGEST_INDEX: usize = 32 << 20;
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// Manifests looked at for those that refer to another one.
const MOST_REFERRERS: usize = 5000;

/// One repository.
pub struct Layout<'l, 'c> {
    client: &'l mut Client<'c>,
    store: &'l dyn Store,
    place: &'l Place,
    patience: Patience,
}

impl<'l, 'c> Layout<'l, 'c> {
    /// Of a place, over a client of its server.
    pub fn new(client: &'l mut Client<'c>, store: &'l dyn Store, place: &'l Place, patience: Patience) -> Self {
        Self { client, store, place, patience }
    }

    /// What a tag or digest stands for.
    ///
    /// # Errors
    /// `not-found` if nothing.
    pub fn resolve(&mut self, reference: &str) -> Result<Descriptor> {
        names::check_reference(reference)?;
        let what = format!("cannot resolve {}", self.display(reference));
        match self.listed(reference).context(&what)? {
            Some(descriptor) => Ok(descriptor),
            // What an index lists, or what was pushed by its digest only, is not listed in the layout.
            None if names::is_digest(reference) => self.manifest(reference, None).context(what).map(|(d, _)| d),
            None => Err(self.no_such(what)),
        }
    }

    /// Brings a manifest or index into the store.
    ///
    /// # Errors
    /// `not-found` if it is not there, `conflict` if it has another digest.
    pub fn get_manifest(&mut self, reference: &str) -> Result<Descriptor> {
        names::check_reference(reference)?;
        let what = format!("cannot fetch {}", self.display(reference));
        let listed = self.listed(reference).context(&what)?;
        let digest = match &listed {
            Some(listed) => listed.digest.clone(),
            None if names::is_digest(reference) => reference.to_owned(),
            None => return Err(self.no_such(what)),
        };
        let (descriptor, bytes) = self.manifest(&digest, listed).context(&what)?;
        let mut sink = self.store.sink();
        sink.write(&bytes).context(&what)?;
        sink.commit(&descriptor.media_type, Some(&digest)).context(what)
    }

    /// Sends a manifest or index of the store, and tags it.
    ///
    /// # Errors
    /// Those of the server.
    pub fn put_manifest(&mut self, manifest: &Descriptor, tag: Option<&str>) -> Result<()> {
        names::check_digest(&manifest.digest)?;
        if let Some(tag) = tag {
            names::check_reference(tag)?;
        }
        let what = format!("cannot push {}", self.display(tag.unwrap_or(&manifest.digest)));
        let bytes = self.read(&manifest.digest, LARGEST_MANIFEST).context(&what)?;
        self.send_blob(manifest).context(&what)?;
        let subject = subject(&bytes);
        // Only what has a name, or refers to something, needs to be found without being asked for by its digest.
        if tag.is_none() && subject.is_none() {
            return Ok(());
        }
        self.change(|index| index.put(manifest, tag.filter(|tag| !names::is_digest(tag)))).context(what)
    }

    /// Whether there is a blob.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn has_blob(&mut self, digest: &str) -> Result<bool> {
        names::check_digest(digest)?;
        let path = self.blob(digest)?;
        self.size(&path).map(|size| size.is_some())
    }

    /// Brings a blob into the store.
    ///
    /// # Errors
    /// `not-found` if it is not there, `conflict` if it is not what it should be.
    pub fn get_blob(&mut self, blob: &Descriptor) -> Result<()> {
        names::check_digest(&blob.digest)?;
        if self.store.stat(&blob.digest)?.is_some() {
            return Ok(());
        }
        let what = format!("cannot fetch {} from {}", blob.digest, self.place.name());
        let path = self.blob(&blob.digest)?;
        let (client, store) = (&mut *self.client, self.store);
        let step = Step::new(format!("download {}", names::short(&blob.digest)));
        step.run(|step| {
            let stamp = Stamp { size: Some(blob.size), modified: None };
            let download = Download::begin(client, &path, Mode::Binary, Some(stamp))?;
            download.keep(store.sink(), &blob.media_type, Some(&blob.digest), step).map(drop)
        })
        .context(what)
    }

    /// Sends a blob of the store.
    ///
    /// # Errors
    /// Those of the server; `not-found` if the store lacks it.
    pub fn put_blob(&mut self, blob: &Descriptor) -> Result<Arrival> {
        names::check_digest(&blob.digest)?;
        let what = format!("cannot push {} to {}", blob.digest, self.place.name());
        self.send_blob(blob).context(what)
    }

    /// The tags, sorted.
    ///
    /// # Errors
    /// `not-found` if there is no such repository.
    pub fn tags(&mut self) -> Result<Vec<String>> {
        let what = format!("cannot list the tags of {}", self.place.name());
        match self.index().context(&what)? {
            Some(index) => Ok(index.tags()),
            None => Err(self.no_such(what)),
        }
    }

    /// Manifests that refer to this one.
    ///
    /// # Errors
    /// Those of the server.
    pub fn referrers(&mut self, digest: &str) -> Result<Vec<Descriptor>> {
        names::check_digest(digest)?;
        let what = format!("cannot list the referrers of {digest} in {}", self.place.name());
        let Some(index) = self.index().context(&what)? else { return Ok(Vec::new()) };
        let listed = index.descriptors();
        if listed.len() > MOST_REFERRERS {
            return Err(Error::limit(what).because(format!("there are more than {MOST_REFERRERS} manifests")));
        }
        let mut found = Vec::new();
        for descriptor in listed.into_iter().filter(|descriptor| descriptor.digest != digest) {
            let bytes = match self.manifest(&descriptor.digest.clone(), Some(descriptor.clone())) {
                Ok((_, bytes)) => bytes,
                // A layout that somebody cleaned by hand lists what is gone.
                Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Limit) => continue,
                Err(error) => return Err(error).context(what),
            };
            if subject(&bytes).as_deref() == Some(digest) {
                found.push(index::referrer(descriptor, &bytes));
            }
        }
        Ok(found)
    }

    /// Deletes a tag, or a manifest with all its tags. Its layers stay: another image may have them too.
    ///
    /// # Errors
    /// `not-found`.
    pub fn delete(&mut self, reference: &str) -> Result<()> {
        names::check_reference(reference)?;
        let what = format!("cannot delete {}", self.display(reference));
        if self.index().context(&what)?.is_none() {
            return Err(self.no_such(what));
        }
        let mut gone = false;
        self.change(|index| {
            gone = index.remove(reference);
            gone
        })
        .context(&what)?;
        if !names::is_digest(reference) {
            return if gone { Ok(()) } else { Err(self.no_such(what)) };
        }
        let path = self.blob(reference)?;
        match self.client.once(|session| session.must("DELE", &path)) {
            Err(error) if error.kind == ErrorKind::NotFound && gone => Ok(()),
            result => result.context(what).map(drop),
        }
    }

    fn send_blob(&mut self, blob: &Descriptor) -> Result<Arrival> {
        let path = self.blob(&blob.digest)?;
        if self.size(&path)? == Some(blob.size) {
            return Ok(Arrival::Exists);
        }
        let payload = self.store.payload(&blob.digest)?;
        if payload.size() != blob.size {
            return Err(Error::conflict(format!("it has {} bytes instead of {}", payload.size(), blob.size)));
        }
        let step = Step::new(format!("upload {}", names::short(&blob.digest)));
        step.run(|step| {
            self.write(&path, payload.as_ref(), &mut |done| step.bytes(done, Some(blob.size)), &|_| Ok(()))?;
            Ok(Arrival::Uploaded)
        })
    }

    fn write(
        &mut self,
        path: &str,
        payload: &dyn Payload,
        report: &mut dyn FnMut(u64),
        may: &dyn Fn(&mut Client) -> Result<()>,
    ) -> Result<()> {
        if let Some((directory, _)) = paths::split(path) {
            Directories::default().make(self.client, directory)?;
        }
        let upload = Upload { payload, path, mode: Mode::Binary, atomic: true, resume: None, permissions: None };
        upload.run_if(self.client, report, may)
    }

    /// Changes the index under the lock, if `edit` says that it changed.
    fn change(&mut self, edit: impl FnOnce(&mut Index) -> bool) -> Result<()> {
        let directory = self.directory()?;
        Directories::default().make(self.client, &directory)?;
        let lock = Lock::acquire(self.client, &directory, self.patience)?;
        let result = self.changed(&lock, edit);
        let released = lock.release(self.client);
        result.and(released)
    }

    fn changed(&mut self, lock: &Lock, edit: impl FnOnce(&mut Index) -> bool) -> Result<()> {
        let directory = self.directory()?;
        let mut index = self.index()?.unwrap_or_default();
        if !edit(&mut index) {
            return Ok(());
        }
        let layout = paths::join(&directory, "oci-layout");
        if self.size(&layout)?.is_none() {
            self.write(&layout, &LAYOUT.to_vec(), &mut |_| {}, &|_| Ok(()))?;
        }
        // The lock is looked at last: whatever took long before, it may have been taken away meanwhile.
        let path = paths::join(&directory, "index.json");
        self.write(&path, &index.to_bytes(), &mut |_| {}, &|client| lock.check(client))
    }

    /// None if there is no layout.
    fn index(&mut self) -> Result<Option<Index>> {
        let path = paths::join(&self.directory()?, "index.json");
        let Some(bytes) = small(self.client, &path, LARGEST_INDEX)? else { return Ok(None) };
        Index::parse(&bytes).with_context(|| format!("{} is no index", self.client.server().url(&path))).map(Some)
    }

    fn listed(&mut self, reference: &str) -> Result<Option<Descriptor>> {
        Ok(self.index()?.and_then(|index| index.find(reference)))
    }

    /// The bytes of a manifest that is small enough, with its descriptor. The digest is for the store to check.
    fn manifest(&mut self, digest: &str, listed: Option<Descriptor>) -> Result<(Descriptor, Vec<u8>)> {
        let path = self.blob(digest)?;
        let bytes = small(self.client, &path, LARGEST_MANIFEST)?;
        let bytes =
            bytes.ok_or_else(|| Error::not_found(format!("{} is not there", self.client.server().url(&path))))?;
        let size = bytes.len() as u64;
        match listed {
            Some(listed) if listed.size != size => {
                Err(Error::conflict(format!("it has {size} bytes instead of {}", listed.size)))
            }
            Some(listed) => Ok((listed, bytes)),
            None => {
                let media_type = layout::media_type(&bytes)?;
                Ok((Descriptor { media_type, digest: digest.to_owned(), size, annotations: Vec::new() }, bytes))
            }
        }
    }

    /// The size of a file: none if it is not there, or if the server cannot tell.
    fn size(&mut self, path: &str) -> Result<Option<u64>> {
        match self.client.again(|session| session.size(path)) {
            // Without sizes, what is half there cannot be told from what is there.
            Ok(size) => Ok(size),
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Denied) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, digest: &str, max: usize) -> Result<Vec<u8>> {
        let payload = self.store.payload(digest)?;
        if payload.size() > max as u64 {
            return Err(Error::limit(format!("{digest} has {} bytes, more than {max}", payload.size())));
        }
        let (mut chunks, mut all) = (payload.open(0)?, Vec::new());
        loop {
            let bytes = chunks.chunk(CHUNK)?;
            if bytes.is_empty() {
                return Ok(all);
            }
            all.extend(bytes);
        }
    }

    fn directory(&mut self) -> Result<String> {
        let below = self.place.directory();
        self.client.absolute(&below)
    }

    fn blob(&mut self, digest: &str) -> Result<String> {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        Ok(paths::join(&self.directory()?, &format!("blobs/sha256/{hex}")))
    }

    fn display(&self, reference: &str) -> String {
        let separator = if names::is_digest(reference) { '@' } else { ':' };
        format!("{}{separator}{reference}", self.place.name())
    }

    fn no_such(&mut self, what: String) -> Error {
        let directory = self.directory().unwrap_or_default();
        Error::not_found(what).because(format!("{} has no such image", self.client.server().url(&directory)))
    }
}

/// The digest of the manifest that another one refers to.
fn subject(manifest: &[u8]) -> Option<String> {
    let manifest: Value = serde_json::from_slice(manifest).ok()?;
    manifest["subject"]["digest"].as_str().filter(|digest| names::is_digest(digest)).map(str::to_owned)
}
