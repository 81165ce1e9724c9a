//! Writes images out of the store: as an OCI layout, or as one archive that is an OCI layout and loads into Docker.
//!
//! The same image gives the same bytes: entries are in a fixed order and have fixed times and owners.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use crate::{Descriptor, Digest, Error, Index, Reference, Result, Store, media_types};

/// What an export holds.
struct Contents {
    /// Every document and layer, each once, in order of digest.
    blobs: BTreeSet<(Digest, u64)>,
    index: Vec<u8>,
    /// Docker's list of images; empty for an index of several platforms that Docker could not load.
    docker: Vec<u8>,
}

pub(crate) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The annotation by which readers of a layout know an image's name.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation by which containerd and Docker know an image's full name.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";

impl Store {
    /// Writes an OCI layout into a directory that does not exist yet or is empty. It appears whole or not at all.
    pub fn export_layout(&self, image: &Descriptor, names: &[Reference], directory: &Path) -> Result<()> {
        let contents = self.contents(image, names)?;
        if fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
            let why = "it exists and is not empty".to_owned();
            return Err(Error::Invalid { what: directory.display().to_string(), why });
        }
        let Some(name) = directory.file_name() else {
            let why = "an export needs a directory with a name, which it can replace".to_owned();
            return Err(Error::Invalid { what: directory.display().to_string(), why });
        };
        let name = name.to_string_lossy().into_owned();
        let fresh = directory.with_file_name(format!(".{name}.{}", std::process::id()));
        let result = self.write_layout(&contents, &fresh).and_then(|()| {
            if directory.exists() {
                fs::remove_dir(directory).map_err(Error::io("replacing", directory))?;
            }
            fs::rename(&fresh, directory).map_err(Error::io("naming", directory))
        });
        if result.is_err() {
            // The first failure is the one to tell.
            let _ = fs::remove_dir_all(&fresh);
        }
        result
    }

    fn write_layout(&self, contents: &Contents, directory: &Path) -> Result<()> {
        let blobs = directory.join("blobs").join("sha256");
        fs::create_dir_all(&blobs).map_err(Error::io("making", &blobs))?;
        for (digest, _) in &contents.blobs {
            let to = blobs.join(digest.hex());
            fs::copy(self.blobs().path(digest), &to).map_err(Error::io("writing", &to))?;
        }
        for (name, bytes) in [("oci-layout", OCI_LAYOUT), ("index.json", &contents.index)] {
            let to = directory.join(name);
            fs::write(&to, bytes).map_err(Error::io("writing", &to))?;
        }
        Ok(())
    }

    /// Writes an archive. With `docker` it has Docker's list of images too, so that `docker load` takes it.
    pub fn export_archive(
        &self,
        image: &Descriptor,
        names: &[Reference],
        docker: bool,
        out: &mut dyn Write,
    ) -> Result<()> {
        let contents = self.contents(image, names)?;
        if docker && contents.docker.is_empty() {
            return Err(Error::Invalid {
                what: "this image".to_owned(),
                why: "it has several platforms, which `docker load` cannot take; choose one, or type=oci".to_owned(),
            });
        }
        let mut archive = Archive { out };
        archive.directory("blobs/")?;
        archive.directory("blobs/sha256/")?;
        for (digest, size) in &contents.blobs {
            let path = self.blobs().path(digest);
            let file = File::open(&path).map_err(Error::io("opening", &path))?;
            archive.file(&format!("blobs/sha256/{}", digest.hex()), *size, &mut io::Read::take(file, *size))?;
        }
        archive.bytes("index.json", &contents.index)?;
        if docker {
            archive.bytes("manifest.json", &contents.docker)?;
        }
        archive.bytes("oci-layout", OCI_LAYOUT)?;
        archive.finish()
    }

    fn contents(&self, image: &Descriptor, names: &[Reference]) -> Result<Contents> {
        let mut blobs = BTreeSet::new();
        self.gather(image, &mut blobs, 0)?;
        let mut manifests = Vec::new();
        for name in names {
            let mut named = image.clone();
            named.annotations.insert(IMAGE_NAME.to_owned(), name.tagged().to_string());
            let tag = name.tag().unwrap_or("latest");
            named.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
            manifests.push(named);
        }
        if manifests.is_empty() {
            manifests.push(image.clone());
        }
        let index = Index { manifests, ..Index::default() };
        let index = serde_json::to_vec(&index)
            .map_err(|error| Error::Corrupt { what: "the index".to_owned(), why: error.to_string() })?;
        Ok(Contents { blobs, index, docker: self.docker_list(image, names)? })
    }

    /// Collects all blobs of an image; fails on the first that is not in the store.
    fn gather(&self, descriptor: &Descriptor, blobs: &mut BTreeSet<(Digest, u64)>, depth: usize) -> Result<()> {
        /// An index in an index is legal, but nobody nests them deeper; a cycle cannot be made of digests.
        const DEEPEST: usize = 4;
        if depth > DEEPEST {
            let why = "indexes are nested too deeply".to_owned();
            return Err(Error::Corrupt { what: format!("the index {}", descriptor.digest), why });
        }
        self.have(descriptor, blobs)?;
        if media_types::is_index(&descriptor.media_type) {
            for manifest in self.images().index(&descriptor.digest)?.manifests {
                self.gather(&manifest, blobs, depth + 1)?;
            }
        } else if media_types::is_manifest(&descriptor.media_type) {
            let manifest = self.images().manifest(&descriptor.digest)?;
            self.have(&manifest.config, blobs)?;
            for layer in &manifest.layers {
                self.have(layer, blobs)?;
            }
        }
        Ok(())
    }

    fn have(&self, descriptor: &Descriptor, blobs: &mut BTreeSet<(Digest, u64)>) -> Result<()> {
        match self.blobs().size(&descriptor.digest)? {
            Some(size) if size == descriptor.size => {
                blobs.insert((descriptor.digest, size));
                Ok(())
            }
            Some(size) => {
                let why = format!("it has {size} bytes, expected {}", descriptor.size);
                Err(Error::Corrupt { what: format!("the blob {}", descriptor.digest), why })
            }
            None => Err(Error::NotFound { what: format!("the blob {}", descriptor.digest) }),
        }
    }

    fn docker_list(&self, image: &Descriptor, names: &[Reference]) -> Result<Vec<u8>> {
        let manifest = if media_types::is_index(&image.media_type) {
            let index = self.images().index(&image.digest)?;
            match &index.manifests[..] {
                [only] => self.images().manifest(&only.digest)?,
                _ => return Ok(Vec::new()),
            }
        } else {
            self.images().manifest(&image.digest)?
        };
        let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let layers: Vec<String> = manifest.layers.iter().map(|layer| path(&layer.digest)).collect();
        let tags: Vec<String> = names.iter().map(docker_tag).collect();
        let list = json!([{ "Config": path(&manifest.config.digest), "RepoTags": tags, "Layers": layers }]);
        Ok(list.to_string().into_bytes())
    }
}

/// A name as Docker's own archives have it: short, but always with a tag.
fn docker_tag(name: &Reference) -> String {
    let tagged = name.tagged();
    let familiar = tagged.familiar();
    if tagged.tag() == Some("latest") { format!("{familiar}:latest") } else { familiar }
}

/// A tar archive with nothing accidental in it.
struct Archive<'a> {
    out: &'a mut dyn Write,
}

impl Archive<'_> {
    fn header(name: &str, kind: tar::EntryType, mode: u32, size: u64) -> Result<tar::Header> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).map_err(Error::io("naming", name))?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        Ok(header)
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        let header = Self::header(name, tar::EntryType::Directory, 0o755, 0)?;
        self.out.write_all(header.as_bytes()).map_err(Error::io("writing", "the archive"))
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.file(name, bytes.len() as u64, &mut &bytes[..])
    }

    fn file(&mut self, name: &str, size: u64, from: &mut dyn io::Read) -> Result<()> {
        let failed = || Error::io("writing", "the archive");
        let header = Self::header(name, tar::EntryType::Regular, 0o644, size)?;
        self.out.write_all(header.as_bytes()).map_err(failed())?;
        let mut buffer = vec![0; 256 * 1024];
        let mut left = size;
        while left > 0 {
            let count = from.read(&mut buffer).map_err(failed())?;
            if count == 0 {
                let why = "it became shorter while it was read".to_owned();
                return Err(Error::Corrupt { what: name.to_owned(), why });
            }
            self.out.write_all(&buffer[..count]).map_err(failed())?;
            left = left.saturating_sub(count as u64);
        }
        let padding = (512 - size % 512) % 512;
        self.out.write_all(&buffer_of_zeros(padding)).map_err(failed())
    }

    fn finish(self) -> Result<()> {
        self.out.write_all(&[0; 1024]).and_then(|()| self.out.flush()).map_err(Error::io("writing", "the archive"))
    }
}

fn buffer_of_zeros(count: u64) -> Vec<u8> {
    vec![0; usize::try_from(count).unwrap_or(0)]
}
