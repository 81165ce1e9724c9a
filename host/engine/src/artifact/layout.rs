//! Plugins that are at hand: a file, an OCI layout directory, the layout that is part of this program.

use std::io::Read as _;
use std::path::Path;

use cooperage_store::Digest;
use hyper::body::Bytes;

use super::Error;
use super::pack::{Artifact, Component, Descriptor, Index, LARGEST_MANIFEST, Packed, read_manifest};

/// Annotation that names an entry of a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The OCI layout that is part of the program.
#[derive(Debug, Clone, Copy)]
pub struct Bundle {
    /// Its `index.json`; the entries are named by the annotation `org.opencontainers.image.ref.name`.
    pub index: &'static [u8],
    /// Its blobs: 64 hexadecimal digits of the SHA-256 digest, and the bytes.
    pub blobs: &'static [(&'static str, &'static [u8])],
}

impl Bundle {
    /// Names of the plugins, sorted.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let index = read_index(self.index, "the bundled plugins")?;
        let mut names: Vec<_> = index.manifests.iter().filter_map(|m| m.annotations.get(REF_NAME).cloned()).collect();
        names.sort();
        Ok(names)
    }

    /// The plugin with a name. The bytes are not hashed again: they are part of the program.
    pub fn get(&self, name: &str) -> Result<Artifact, Error> {
        let index = read_index(self.index, "the bundled plugins")?;
        let entry = index.manifests.iter().find(|m| m.annotations.get(REF_NAME).is_some_and(|n| n == name));
        let Some(entry) = entry else {
            let names = self.names()?.join(", ");
            return Err(Error::NotFound(format!("no plugin `{name}` is bundled; there are: {names}")));
        };
        let what = format!("bundled plugin {name}");
        let layer = read_manifest(self.blob(&entry.digest, &what)?, &what, u64::MAX)?;
        let digest = layer.descriptor.digest;
        let component = Component::Bytes(Bytes::from_static(self.blob(&digest, &what)?));
        Ok(Artifact { component, digest, manifest: Some(entry.digest), annotations: layer.annotations, origin: what })
    }

    fn blob(&self, digest: &Digest, what: &str) -> Result<&'static [u8], Error> {
        let hex = digest.hex();
        let found = self.blobs.iter().find(|(name, _)| *name == hex);
        found.map(|(_, bytes)| *bytes).ok_or_else(|| Error::invalid(what, format!("the bundle lacks blob {digest}")))
    }
}

/// Reads a component from a file of at most `limit` bytes.
pub fn read_file(path: &Path, limit: u64) -> Result<Artifact, Error> {
    let component = read_limited(path, limit)?;
    let origin = path.display().to_string();
    super::section::surface(&component).map_err(|error| error.about(&origin))?;
    let digest = Digest::of(&component);
    let component = Component::Bytes(component.into());
    Ok(Artifact { component, digest, manifest: None, annotations: Default::default(), origin })
}

/// Reads a plugin from an OCI layout directory: the entry with the name, or the only one.
pub fn read_layout(directory: &Path, name: Option<&str>, limit: u64) -> Result<Artifact, Error> {
    let shown = directory.display();
    let index = read_index(&read_limited(&directory.join("index.json"), LARGEST_MANIFEST)?, &shown.to_string())?;
    let entry = match name {
        Some(name) => index.manifests.iter().find(|m| m.annotations.get(REF_NAME).is_some_and(|n| n == name)),
        None => match index.manifests.as_slice() {
            [only] => Some(only),
            more => {
                let reason = format!("it has {} entries; say which one with layout:{shown}:NAME", more.len());
                return Err(Error::invalid(shown.to_string(), reason));
            }
        },
    };
    let entry = entry.ok_or_else(|| Error::NotFound(format!("{shown} has no entry `{}`", name.unwrap_or_default())))?;
    let what = format!("{shown}:{}", name.unwrap_or("the only entry"));
    let manifest = blob(directory, &entry.digest, LARGEST_MANIFEST)?;
    Error::verify(|| format!("the manifest of {what}"), &entry.digest, &manifest)?;
    let layer = read_manifest(&manifest, &what, limit)?;
    let component = blob(directory, &layer.descriptor.digest, limit)?;
    layer.accept(component.into(), entry.digest, what)
}

/// What each entry of a layout directory is called, with the digest of its manifest; unnamed ones are left out.
pub(super) fn entries(directory: &Path) -> Result<Vec<(String, Digest)>, Error> {
    let path = directory.join("index.json");
    let index = read_index(&read_limited(&path, LARGEST_MANIFEST)?, &path.display().to_string())?;
    let named = |entry: Descriptor| Some((entry.annotations.get(REF_NAME)?.clone(), entry.digest));
    Ok(index.manifests.into_iter().filter_map(named).collect())
}

/// A blob of a layout directory of at most `limit` bytes. The caller checks it.
pub(super) fn blob(directory: &Path, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
    read_limited(&directory.join("blobs/sha256").join(digest.hex()), limit)
}

/// Writes a plugin as an OCI layout directory, beside the plugins that are in it already.
pub fn write_layout(directory: &Path, name: &str, packed: &Packed) -> Result<(), Error> {
    let blobs: [(Digest, &[u8]); 2] =
        [(packed.component_digest, &packed.component), (packed.config_digest, &packed.config)];
    write_entry(directory, name, &packed.manifest, blobs)
}

/// Writes a manifest under a name, and the blobs that it names.
pub(super) fn write_entry<'a>(
    directory: &Path,
    name: &str,
    manifest: &'a [u8],
    blobs: impl IntoIterator<Item = (Digest, &'a [u8])>,
) -> Result<(), Error> {
    let place = directory.join("blobs/sha256");
    std::fs::create_dir_all(&place).map_err(Error::file(&place))?;
    let manifest_digest = Digest::of(manifest);
    for (digest, bytes) in blobs.into_iter().chain([(manifest_digest, manifest)]) {
        let path = place.join(digest.hex());
        std::fs::write(&path, bytes).map_err(Error::file(&path))?;
    }
    let path = directory.join("index.json");
    let mut index = match std::fs::read(&path) {
        Ok(bytes) => read_index(&bytes, &path.display().to_string())?,
        Err(_) => Index { schema_version: 2, manifests: Vec::new() },
    };
    index.manifests.retain(|m| m.annotations.get(REF_NAME).is_none_or(|n| n != name));
    index.manifests.push(Descriptor {
        media_type: super::pack::MANIFEST_TYPE.to_owned(),
        digest: manifest_digest,
        size: manifest.len() as u64,
        annotations: [(REF_NAME.to_owned(), name.to_owned())].into(),
    });
    index.manifests.sort_by(|a, b| a.annotations.get(REF_NAME).cmp(&b.annotations.get(REF_NAME)));
    std::fs::write(&path, serde_json::to_vec(&index).expect("strings can be written")).map_err(Error::file(&path))?;
    let marker = directory.join("oci-layout");
    std::fs::write(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(Error::file(&marker))
}

fn read_index(bytes: &[u8], what: &str) -> Result<Index, Error> {
    serde_json::from_slice(bytes).map_err(|e| Error::invalid(what, format!("its index.json cannot be read: {e}")))
}

/// Reads a file, but never more than the limit.
pub(super) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let file = std::fs::File::open(path).map_err(Error::file(path))?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::file(path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { what: path.display().to_string(), size: bytes.len() as u64, limit });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::pack::{PackOptions, pack};
    use super::super::section::{EMPTY_COMPONENT, embed_description};
    use super::*;

    fn packed(name: &str) -> Packed {
        let component = embed_description(EMPTY_COMPONENT, &format!("{{\"name\":\"{name}\"}}")).unwrap();
        pack(component.into(), &PackOptions { name: name.into(), ..Default::default() }).unwrap()
    }

    #[test]
    fn layouts_are_written_and_read() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (packed("a"), packed("b"));
        write_layout(directory.path(), "a", &a).unwrap();
        assert_eq!(read_layout(directory.path(), None, 1000).unwrap().digest, a.component_digest);
        write_layout(directory.path(), "b", &b).unwrap();
        write_layout(directory.path(), "b", &b).unwrap();
        assert_eq!(read_layout(directory.path(), Some("b"), 1000).unwrap().manifest, Some(b.manifest_digest));
        assert!(read_layout(directory.path(), None, 1000).unwrap_err().to_string().contains("2 entries"));
        assert!(matches!(read_layout(directory.path(), Some("c"), 1000), Err(Error::NotFound(_))));
        assert!(matches!(read_layout(directory.path(), Some("a"), 10), Err(Error::TooLarge { .. })));
        let blob = directory.path().join("blobs/sha256").join(a.component_digest.hex());
        let mut bytes = std::fs::read(&blob).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&blob, bytes).unwrap();
        assert!(matches!(read_layout(directory.path(), Some("a"), 1000), Err(Error::Digest { .. })));
    }

    #[test]
    fn the_bundle_is_a_layout() {
        let directory = tempfile::tempdir().unwrap();
        let a = packed("a");
        write_layout(directory.path(), "a", &a).unwrap();
        let index: &'static [u8] = std::fs::read(directory.path().join("index.json")).unwrap().leak();
        let hex = |digest: Digest| -> &'static str { digest.hex().leak() };
        let blobs: &'static [(&str, &[u8])] = vec![
            (hex(a.manifest_digest), &*a.manifest.clone().leak()),
            (hex(a.component_digest), &*a.component.to_vec().leak()),
        ]
        .leak();
        let bundle = Bundle { index, blobs };
        assert_eq!(bundle.names().unwrap(), ["a"]);
        let Component::Bytes(component) = bundle.get("a").unwrap().component else {
            panic!("it is part of the program")
        };
        assert_eq!(component, a.component);
        assert!(bundle.get("z").unwrap_err().to_string().contains("there are: a"));
    }

    #[test]
    fn files_are_checked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.wasm");
        std::fs::write(&path, b"hello").unwrap();
        let error = read_file(&path, 1000).unwrap_err().to_string();
        assert!(error.contains("x.wasm"), "{error}");
        std::fs::write(&path, EMPTY_COMPONENT).unwrap();
        assert_eq!(read_file(&path, 1000).unwrap().digest, Digest::of(EMPTY_COMPONENT));
        assert!(matches!(read_file(&path, 4), Err(Error::TooLarge { .. })));
    }
}
