//! Frees what no image, no cache record and no work under way needs.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::layers::LayerId;
use crate::{Descriptor, Digest, Error, Result, Store, media_types};

/// What a collection may take.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Whether layers that only cache records need go too, with the records.
    pub cache: bool,
    /// Anything younger may belong to work under way and stays.
    pub grace: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { cache: false, grace: Duration::from_secs(15 * 60) }
    }
}

/// What a collection freed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs removed.
    pub blobs: usize,
    /// Layers removed.
    pub layers: usize,
    /// Bytes of the blobs removed.
    pub bytes: u64,
}

/// A cache record, as far as its layers go.
#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    stack: Vec<LayerId>,
}

#[derive(Default)]
struct Needed {
    blobs: HashSet<Digest>,
    layers: HashSet<LayerId>,
}

impl Store {
    /// Removes what nothing needs. Safe beside builds: what is younger than the grace period stays.
    pub fn collect(&self, policy: Policy) -> Result<Collected> {
        self.sweep()?;
        let mut needed = Needed::default();
        for image in self.images().list()? {
            self.reach(&image.manifest, &mut needed)?;
        }
        if policy.cache {
            self.forget_cache()?;
        } else {
            for (_, pin) in self.images().pins()? {
                self.reach(&pin, &mut needed)?;
            }
            self.reach_cache(&mut needed)?;
        }
        let mut collected = Collected::default();
        for id in self.layers().list()? {
            if !needed.layers.contains(&id) && !is_young(&self.layers().path(&id), policy.grace) {
                self.layers().remove(&id)?;
                collected.layers += 1;
            } else if let Some(blob) = self.layers().get(&id)?.and_then(|layer| layer.blob) {
                needed.blobs.insert(blob.digest);
            }
        }
        for (digest, size) in self.blobs().list()? {
            if !needed.blobs.contains(&digest) && !is_young(&self.blobs().path(&digest), policy.grace) {
                self.blobs().remove(&digest)?;
                collected.blobs += 1;
                collected.bytes += size;
            }
        }
        Ok(collected)
    }

    /// Everything that an image needs; what is not in the store needs nothing.
    fn reach(&self, image: &Descriptor, needed: &mut Needed) -> Result<()> {
        let mut todo = VecDeque::from([image.clone()]);
        while let Some(descriptor) = todo.pop_front() {
            if !needed.blobs.insert(descriptor.digest) || self.blobs().size(&descriptor.digest)?.is_none() {
                continue;
            }
            if media_types::is_index(&descriptor.media_type) {
                todo.extend(self.images().index(&descriptor.digest)?.manifests);
            } else if media_types::is_manifest(&descriptor.media_type) {
                let manifest = self.images().manifest(&descriptor.digest)?;
                needed.blobs.insert(manifest.config.digest);
                needed.blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
                if self.blobs().size(&manifest.config.digest)?.is_some() {
                    let ids = self.images().config(&manifest).and_then(|config| config.diff_ids());
                    needed.layers.extend(ids.unwrap_or_default().into_iter().map(LayerId));
                }
            }
        }
        Ok(())
    }

    /// The layers that cache records name.
    fn reach_cache(&self, needed: &mut Needed) -> Result<()> {
        let directory = self.root().join("cache").join("def");
        for group in entries(&directory)? {
            for file in entries(&group)? {
                let Ok(bytes) = fs::read(&file) else { continue };
                if let Ok(record) = serde_json::from_slice::<Record>(&bytes) {
                    needed.layers.extend(record.stack);
                }
            }
        }
        Ok(())
    }

    fn forget_cache(&self) -> Result<()> {
        let directory = self.root().join("cache").join("def");
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", &directory)(error)),
            _ => Ok(()),
        }
    }
}

fn entries(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(Error::io("reading", directory)(error)),
    }
}

fn is_young(path: &Path, grace: Duration) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| SystemTime::now().duration_since(time).map_or(true, |age| age < grace))
}
