//! Makes the blob of a layer: entries and contents in, tar stream through the pipeline, digests and offsets learnt.

use super::content::Content;
use super::meta::{Meta, SealedAs};
use super::{LayerId, Layers, Seal, Sealed};
use crate::layer::entry::Kind;
use crate::layer::{Compression, Toc, compress, fault, tarball};
use crate::{Descriptor, Digest, Error, Result, media_types};

impl Layers {
    /// The blob of a layer, made from its directory if there is none yet. A layer that came from outside keeps the blob it
    /// came with, whatever `seal` asks. Two processes that seal one layer do the work once.
    pub fn seal(&self, id: &LayerId, seal: Seal) -> Result<Sealed> {
        if let Some(sealed) = self.sealed(&self.meta(id)?, id, seal)? {
            return Ok(sealed);
        }
        let _lock = self.lock(id)?;
        let mut meta = self.meta(id)?;
        if let Some(sealed) = self.sealed(&meta, id, seal)? {
            return Ok(sealed);
        }
        if let Some(blob) = meta.blob.clone().filter(|blob| is_from_outside(&meta, blob)) {
            meta.blob = Some(self.compress(id, &blob, seal.compression)?);
            meta.write(&self.path(id))?;
            return Ok(Sealed { descriptor: meta.blob.unwrap_or(blob), diff_id: id.0 });
        }
        let toc = self.toc(id)?;
        let contents = self.contents_of(id, &toc)?;
        let mut known = (*toc).clone();
        let sealed = self.seal_contents(&mut known, &contents, seal)?;
        self.update(id, known)?;
        self.record(&mut meta, &sealed, seal, &toc);
        meta.write(&self.path(id))?;
        Ok(sealed)
    }

    /// The blob that is there already, if it is what `seal` asks for.
    fn sealed(&self, meta: &Meta, id: &LayerId, seal: Seal) -> Result<Option<Sealed>> {
        let (Some(diff_id), Some(blob)) = (meta.diff_id, &meta.blob) else { return Ok(None) };
        if let Some(done) = meta.sealed
            && done != SealedAs::new(seal.compression, effective_clamp(&*self.toc(id)?, seal.clamp_mtime))
        {
            return Ok(None);
        }
        if is_from_outside(meta, blob) && seal.compression != Compression::None {
            return Ok(None);
        }
        if meta.sealed.is_some() && self.inner.blobs.size(&blob.digest)?.is_none() {
            return Ok(None);
        }
        Ok(Some(Sealed { descriptor: blob.clone(), diff_id }))
    }

    /// Compresses a tar stream that came from outside as it is: it keeps its diff id.
    fn compress(&self, id: &LayerId, plain: &Descriptor, compression: Compression) -> Result<Descriptor> {
        let mut file = self.blob(plain)?;
        let what = format!("the layer {}", plain.digest);
        let writer = self.inner.blobs.writer()?;
        let (_, made) = compress::compress(writer, compression, self.inner.threads, |out| {
            std::io::copy(&mut file, out).map_err(fault::io("compressing", &what))
        })?;
        if made.diff_id != id.0 {
            return Err(Error::DigestMismatch { what, expected: id.0, actual: made.diff_id });
        }
        let (digest, size) = made.blob.commit(None)?;
        Ok(Descriptor::new(compression.media_type(), digest, size))
    }

    pub(super) fn record(&self, meta: &mut Meta, sealed: &Sealed, seal: Seal, toc: &Toc) {
        meta.diff_id = Some(sealed.diff_id);
        meta.blob = Some(sealed.descriptor.clone());
        meta.sealed = Some(SealedAs::new(seal.compression, effective_clamp(toc, seal.clamp_mtime)));
    }

    /// Writes the stream and the blob, and notes in `toc` where each file is and what its digest is. A digest that was
    /// known and is not what was read is an error: the file changed in between.
    pub(super) fn seal_contents(&self, toc: &mut Toc, contents: &[Content], seal: Seal) -> Result<Sealed> {
        let blob = self.inner.blobs.writer()?;
        let (offsets, made) = compress::compress(blob, seal.compression, self.inner.threads, |out| {
            let mut offsets: Vec<(usize, u64)> = Vec::new();
            for (index, entry) in toc.iter().enumerate() {
                tarball::header(out, entry, seal.clamp_mtime)?;
                if let Kind::File { size, .. } = entry.kind {
                    offsets.push((index, out.position()));
                    let mut input = contents[index].open(size)?;
                    tarball::content(out, index, size, &mut input, &contents[index].name(&entry.path))?;
                }
            }
            tarball::end(out).map_err(fault::io("writing", "a layer"))?;
            Ok(offsets)
        })?;
        for (index, offset) in offsets {
            toc.learn(index, None, offset);
        }
        for (index, digest) in made.files {
            check(toc, index, digest, &contents[index])?;
            toc.learn(index, Some(digest), 0);
        }
        let (digest, size) = made.blob.commit(None)?;
        let descriptor = Descriptor::new(seal.compression.media_type(), digest, size);
        Ok(Sealed { descriptor, diff_id: made.diff_id })
    }
}

/// Whether a blob is the plain tar stream of a layer that somebody else made.
fn is_from_outside(meta: &Meta, blob: &Descriptor) -> bool {
    meta.sealed.is_none() && blob.media_type == media_types::LAYER && meta.diff_id == Some(blob.digest)
}

/// Compares what was read of a file with what was known of it.
pub(super) fn check(toc: &Toc, index: usize, found: Digest, content: &Content) -> Result<()> {
    let entry = &toc.entries()[index];
    match entry.kind {
        Kind::File { digest: Some(known), .. } if known != found => Err(Error::Changed {
            what: content.name(&entry.path).display().to_string(),
            why: format!("its digest is {found}, not {known}"),
        }),
        _ => Ok(()),
    }
}

/// A limit on times that no entry exceeds is none.
fn effective_clamp(toc: &Toc, clamp: Option<i64>) -> Option<i64> {
    clamp.filter(|&latest| toc.iter().any(|entry| entry.mtime > latest))
}

impl From<Compression> for Seal {
    fn from(compression: Compression) -> Self {
        Self { compression, clamp_mtime: None }
    }
}
