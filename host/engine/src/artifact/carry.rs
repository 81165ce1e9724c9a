//! Plugins for machines without a network: out of registries into an OCI layout, and from there into the cache. The
//! entries of the layout are named by the whole reference, so that they are found again under it; signatures lie beside
//! them under the reference that they have in the registry, and bundles under their digests.

use std::path::Path;

use cooperage_store::Digest;
use hyper::body::Bytes;

use super::layout::{blob, entries};
use super::pack::{LARGEST_MANIFEST, Packed, read_manifest};
use super::{Error, RegistryReference, Sources, write_layout};

impl Sources {
    /// Writes a plugin of a registry into a layout directory, beside what is there already. The reference may name the
    /// digest that is to be had; the layout has it without, as others will ask for it.
    pub async fn save(&self, reference: &RegistryReference, directory: &Path) -> Result<Digest, Error> {
        let (manifest, manifest_digest) = self.remote.manifest(reference).await?;
        let layer = read_manifest(&manifest, &reference.to_string(), self.largest)?;
        let config = self.remote.blob(reference, &layer.config.digest, layer.config.size).await?;
        Error::verify(|| format!("the configuration of {reference}"), &layer.config.digest, &config)?;
        let component = self.remote.blob(reference, &layer.descriptor.digest, layer.descriptor.size).await?;
        let (config_digest, origin) = (layer.config.digest, reference.to_string());
        let component_digest = layer.descriptor.digest;
        layer.accept(component.clone(), manifest_digest, origin)?;
        let packed = Packed {
            manifest: manifest.to_vec(),
            manifest_digest,
            config: config.to_vec(),
            config_digest,
            component,
            component_digest,
        };
        write_layout(directory, &named(reference).to_string(), &packed)?;
        self.save_signatures(reference, &manifest_digest, directory).await?;
        Ok(manifest_digest)
    }

    /// Puts all plugins of a layout directory that are named by a reference into the cache; gives the references.
    pub fn restore(&self, directory: &Path) -> Result<Vec<RegistryReference>, Error> {
        let mut restored = Vec::new();
        for (name, digest) in entries(directory)? {
            let Ok(reference) = name.parse::<RegistryReference>() else { continue };
            let what = format!("{name} in {}", directory.display());
            let manifest = blob(directory, &digest, LARGEST_MANIFEST)?;
            Error::verify(|| format!("the manifest of {what}"), &digest, &manifest)?;
            if super::signatures::is_one(&manifest) {
                continue;
            }
            let layer = read_manifest(&manifest, &what, self.largest)?;
            let component = blob(directory, &layer.descriptor.digest, self.largest)?;
            let component = Bytes::from(component);
            let artifact = layer.accept(component.clone(), digest, what)?;
            self.keep(&reference, &manifest, &artifact, &component)?;
            self.restore_signatures(&reference, &digest, directory)?;
            restored.push(reference);
        }
        match restored.is_empty() {
            true => {
                Err(Error::NotFound(format!("{} has no plugins that are named by a reference", directory.display())))
            }
            false => Ok(restored),
        }
    }
}

/// Without the digest, if there is a tag.
fn named(reference: &RegistryReference) -> RegistryReference {
    let digest = reference.digest.filter(|_| reference.tag.is_none());
    RegistryReference { digest, ..reference.clone() }
}
