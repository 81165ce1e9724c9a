//! Takes images in: from an OCI layout, and from archives as Docker, Podman, skopeo and we write them. What comes in is
//! checked against its digest while it streams; nothing is unpacked, and giving names is left to the caller.

mod read;

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::export::{IMAGE_NAME, REF_NAME};
use crate::layer::decode::{self, Format};
use crate::{Descriptor, Digest, Error, Index, Manifest, Reference, Result, Store, media_types};
use read::{check_version, copy_blob, corrupt, open_regular, parse, read_document, unreadable, write_blob};

/// Entries of an archive; the largest images have some hundred.
const MOST_ENTRIES: usize = 100_000;
/// An index in an index is legal, but nobody nests them deeper.
const DEEPEST: usize = 4;

/// An image that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its manifest or index, which is in the store with all that it names.
    pub image: Descriptor,
    /// The names it had. None of them was given to it here.
    pub names: Vec<Reference>,
}

/// One image of the list in a Docker archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

impl Store {
    /// Takes in all images of an OCI layout directory.
    ///
    /// # Errors
    /// `NotFound` if a part is missing, `DigestMismatch` or `Corrupt` if one is not what it claims to be.
    pub fn import_layout(&self, directory: &Path) -> Result<Vec<Imported>> {
        self.import_some(directory, layout_index(directory)?)
    }

    /// Takes in one image of an OCI layout directory: the one with this tag or digest, or the only one.
    ///
    /// # Errors
    /// As [`import_layout`](Self::import_layout); `Invalid` if there is no such image, or more than one to choose from.
    pub fn import_layout_image(&self, directory: &Path, name: Option<&str>) -> Result<Descriptor> {
        let mut index = layout_index(directory)?;
        let wrong = |why: String| Error::Invalid { what: format!("the layout {}", directory.display()), why };
        let tags: Vec<String> =
            index.manifests.iter().filter_map(|image| image.annotations.get(REF_NAME).cloned()).collect();
        let is_wanted = |image: &Descriptor| match name {
            Some(name) => {
                image.annotations.get(REF_NAME).is_some_and(|tag| tag == name) || image.digest.to_string() == name
            }
            None => true,
        };
        index.manifests.retain(is_wanted);
        index.manifests.dedup_by(|one, other| one.digest == other.digest);
        match (&index.manifests[..], name) {
            ([_], _) => {}
            ([], Some(name)) => return Err(wrong(format!("it has no image {name}, but {}", tags.join(", ")))),
            ([], None) => return Err(wrong("it has no image".to_owned())),
            (_, _) => return Err(wrong(format!("it has several images; choose one of {}", tags.join(", ")))),
        }
        let imported = self.import_some(directory, index)?.pop();
        imported.map(|imported| imported.image).ok_or_else(|| wrong("it has no image".to_owned()))
    }

    fn import_some(&self, directory: &Path, index: Index) -> Result<Vec<Imported>> {
        let blobs = directory.join("blobs").join("sha256");
        self.import_index(index, &[], &mut |wanted| match open_regular(&blobs.join(wanted.digest.hex()))? {
            Some(file) => copy_blob(self.blobs(), file, wanted).map(|()| true),
            None => Ok(false),
        })
    }

    /// Takes in all images of an archive: of an OCI layout, or as `docker save` writes it, compressed or not.
    ///
    /// # Errors
    /// As [`import_layout`](Self::import_layout); `Corrupt` too if it is neither kind of archive.
    pub fn import_archive(&self, input: impl Read + Send) -> Result<Vec<Imported>> {
        let members = self.take_members(input)?;
        let docker: Vec<DockerImage> = match members.documents.get("manifest.json") {
            Some(bytes) => parse(bytes, "manifest.json")?,
            None => Vec::new(),
        };
        match (members.documents.get("oci-layout"), members.documents.get("index.json")) {
            (Some(version), Some(index)) => {
                check_version(version)?;
                self.import_index(parse(index, "index.json")?, &docker, &mut |wanted| {
                    Ok(self.blobs().size(&wanted.digest)?.is_some())
                })
            }
            _ if !docker.is_empty() => docker.iter().map(|image| self.import_docker(image, &members)).collect(),
            _ => Err(corrupt("the archive", "it has neither oci-layout and index.json nor manifest.json")),
        }
    }

    fn import_index(&self, index: Index, docker: &[DockerImage], bring: &mut Bring<'_>) -> Result<Vec<Imported>> {
        let mut all: Vec<Imported> = Vec::new();
        for mut image in index.manifests {
            let name = name_of(&image);
            // Names belong to this layout, not to the image.
            image.annotations.remove(IMAGE_NAME);
            image.annotations.remove(REF_NAME);
            if let Some(known) = all.iter_mut().find(|known| known.image.digest == image.digest) {
                known.names.extend(name);
                continue;
            }
            if !self.import_image(&image, bring, 0)? {
                return Err(Error::NotFound { what: format!("the blob {}", image.digest) });
            }
            let mut names: Vec<Reference> = name.into_iter().collect();
            if names.is_empty() && !docker.is_empty() && media_types::is_manifest(&image.media_type) {
                let config = self.images().manifest(&image.digest)?.config.digest.hex();
                let same = docker.iter().filter(|docker| docker.config.ends_with(&config));
                names.extend(same.flat_map(DockerImage::names));
            }
            all.push(Imported { image, names });
        }
        Ok(all)
    }

    /// Brings a document and all that it names; false if the document itself is missing.
    fn import_image(&self, image: &Descriptor, bring: &mut Bring<'_>, depth: usize) -> Result<bool> {
        if depth > DEEPEST {
            return Err(corrupt(&format!("the index {}", image.digest), "indexes are nested too deeply"));
        }
        if !self.import_blob(image, bring)? {
            return Ok(false);
        }
        if media_types::is_index(&image.media_type) {
            let children = self.images().index(&image.digest)?.manifests;
            let mut complete = children.is_empty();
            for child in &children {
                // A layout may leave out the platforms that nobody wanted.
                complete |= self.import_image(child, bring, depth + 1)?;
            }
            if !complete {
                return Err(Error::NotFound { what: format!("every manifest of the index {}", image.digest) });
            }
        } else if media_types::is_manifest(&image.media_type) {
            let manifest = self.images().manifest(&image.digest)?;
            for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
                if !self.import_blob(part, bring)? && part.urls.is_empty() {
                    return Err(Error::NotFound { what: format!("the blob {}", part.digest) });
                }
            }
        }
        Ok(true)
    }

    /// Brings one blob unless it is here; false if it is missing.
    fn import_blob(&self, wanted: &Descriptor, bring: &mut Bring<'_>) -> Result<bool> {
        if self.blobs().touch(&wanted.digest)? == Some(wanted.size) {
            return Ok(true);
        }
        if !bring(wanted)? {
            return Ok(false);
        }
        match self.blobs().size(&wanted.digest)? {
            Some(size) if size != wanted.size => {
                let why = format!("it has {size} bytes, expected {}", wanted.size);
                Err(corrupt(&format!("the blob {}", wanted.digest), &why))
            }
            found => Ok(found.is_some()),
        }
    }

    /// Makes an image of what Docker's own kind of archive lists.
    fn import_docker(&self, image: &DockerImage, members: &Members) -> Result<Imported> {
        let config = members.find(&image.config)?;
        let config = Descriptor::new(media_types::CONFIG, config.digest, config.size);
        let mut manifest = Manifest { config, ..Manifest::default() };
        let diff_ids = self.images().config(&manifest)?.diff_ids()?;
        if diff_ids.len() != image.layers.len() {
            let why = format!("it lists {} layers, its configuration {}", image.layers.len(), diff_ids.len());
            return Err(corrupt("manifest.json", &why));
        }
        for (path, diff_id) in image.layers.iter().zip(diff_ids) {
            let blob = members.find(path)?;
            let media_type = match blob.format {
                Format::Plain if blob.digest != diff_id => {
                    let what = format!("the layer {path}");
                    return Err(Error::DigestMismatch { what, expected: diff_id, actual: blob.digest });
                }
                Format::Plain => media_types::LAYER,
                Format::Gzip => media_types::LAYER_GZIP,
                Format::Zstd => media_types::LAYER_ZSTD,
                Format::Bzip2 | Format::Xz => {
                    let why = "images know no such compression; save it with gzip, zstd or none".to_owned();
                    return Err(Error::Unsupported { what: format!("the layer {path}"), why });
                }
            };
            manifest.layers.push(Descriptor::new(media_type, blob.digest, blob.size));
        }
        Ok(Imported { image: self.images().put_manifest(&manifest)?, names: image.names().collect() })
    }

    /// Puts the files of an archive into the store as they come. What turns out to be of no image goes with the next
    /// collection.
    fn take_members(&self, input: impl Read + Send) -> Result<Members> {
        let failed = || unreadable("the archive");
        let (_, input) = decode::decompressor(input).map_err(failed())?;
        let mut members = Members::default();
        let mut archive = tar::Archive::new(input);
        for (count, entry) in archive.entries().map_err(failed())?.enumerate() {
            let mut entry = entry.map_err(failed())?;
            if count >= MOST_ENTRIES {
                let why = format!("more than {MOST_ENTRIES} entries");
                return Err(Error::Exceeds { what: "the archive".to_owned(), why });
            }
            let Some(path) = clean(&String::from_utf8_lossy(&entry.path_bytes())) else { continue };
            match entry.header().entry_type() {
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    let Some(target) = entry.link_name_bytes() else { continue };
                    let target = String::from_utf8_lossy(&target).into_owned();
                    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                    let symbolic = entry.header().entry_type() == tar::EntryType::Symlink;
                    let target = if symbolic { clean(&format!("{parent}/{target}")) } else { clean(&target) };
                    target.map(|target| members.links.insert(path, target));
                }
                kind if kind.is_file() => self.take_member(&mut entry, path, &mut members)?,
                _ => {}
            }
        }
        Ok(members)
    }

    fn take_member(&self, entry: &mut tar::Entry<'_, impl Read>, path: String, members: &mut Members) -> Result<()> {
        let size = entry.size();
        match &*path {
            "oci-layout" | "index.json" | "manifest.json" => {
                // One that is cut short does not parse.
                let bytes = read_document(entry, &path)?;
                members.documents.insert(path, bytes);
                return Ok(());
            }
            // Of Docker's first format; manifest.json says the same.
            _ if matches!(path.rsplit('/').next(), Some("repositories" | "VERSION" | "json")) => return Ok(()),
            _ => {}
        }
        let expected = match path.strip_prefix("blobs/sha256/") {
            Some(hex) => Some(Digest::from_hex(hex).map_err(|error| corrupt("the archive", &error.to_string()))?),
            None => None,
        };
        let (digest, format) = write_blob(self.blobs(), entry, expected.as_ref(), size, &path)?;
        members.blobs.insert(path, Member { digest, size, format });
        Ok(())
    }
}

/// Puts a blob into the store if the source has it; false if it has not.
type Bring<'a> = dyn FnMut(&Descriptor) -> Result<bool> + 'a;

/// What an archive held.
#[derive(Default)]
struct Members {
    documents: HashMap<String, Vec<u8>>,
    blobs: HashMap<String, Member>,
    links: HashMap<String, String>,
}

#[derive(Clone, Copy)]
struct Member {
    digest: Digest,
    size: u64,
    format: Format,
}

impl Members {
    /// The file at a path, through links: Docker wrote a layer once and linked to it.
    fn find(&self, path: &str) -> Result<Member> {
        let missing = || Error::NotFound { what: format!("{path} in the archive") };
        let mut path = clean(path).ok_or_else(missing)?;
        for _ in 0..8 {
            if let Some(member) = self.blobs.get(&path) {
                return Ok(*member);
            }
            path = self.links.get(&path).ok_or_else(missing)?.clone();
        }
        Err(corrupt("the archive", "its links go round in a circle"))
    }
}

impl DockerImage {
    fn names(&self) -> impl Iterator<Item = Reference> {
        self.repo_tags.iter().flatten().filter_map(|name| name.parse().ok())
    }
}

/// The name of an image in a layout, where it has a whole one: the specification allows a bare tag as well, and that
/// names nothing outside of the layout.
fn name_of(image: &Descriptor) -> Option<Reference> {
    let whole = image.annotations.get(IMAGE_NAME);
    let name = whole.or_else(|| image.annotations.get(REF_NAME).filter(|name| name.contains(['/', ':'])))?;
    name.parse().ok()
}

/// A path in an archive without `.`, `..` and doubled slashes; none if it is the root or leads out.
fn clean(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The index of a layout whose version is known.
fn layout_index(directory: &Path) -> Result<Index> {
    let document = |name: &str| {
        let file = open_regular(&directory.join(name))?;
        let file = file.ok_or_else(|| Error::NotFound { what: directory.join(name).display().to_string() })?;
        read_document(file, name)
    };
    check_version(&document("oci-layout")?)?;
    parse(&document("index.json")?, "index.json")
}
