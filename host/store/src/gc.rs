//! Frees what no image, no cache record and no work under way needs.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::layers::LayerId;
use crate::{Descriptor, Digest, Error, Result, Store, media_types};

/// What a collection may take.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Whether layers that only cache records or pins need go too, with the records and pins. Not while other processes
    /// work on the store, for they may be about to use them.
    pub cache: bool,
    /// While other processes work on the store, anything younger may be theirs and stays.
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
    /// Bytes of the blobs and the unpacked layers removed, on disk.
    pub bytes: u64,
    /// Others were working on the store: cache records and what is young stayed.
    pub busy: bool,
}

/// A cache record, as far as its layers go.
#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    stack: Vec<LayerId>,
    #[serde(default)]
    layer: Option<LayerId>,
}

#[derive(Default)]
struct Needed {
    blobs: HashSet<Digest>,
    layers: HashSet<LayerId>,
}

impl Store {
    /// Removes what nothing needs. Safe beside builds: while any process holds a [`Store::lease`], what is younger
    /// than the grace period stays.
    pub fn collect(&self, policy: Policy) -> Result<Collected> {
        let alone = self.lock_alone()?;
        let grace = if alone.is_some() { Duration::ZERO } else { policy.grace };
        let mut collected = Collected { busy: alone.is_none(), ..Collected::default() };
        self.sweep()?;
        self.blobs().sweep()?;
        // What is there is listed before what is needed: so nothing is taken that came, or became needed, in between.
        let layers = self.layers().list()?;
        let blobs = self.blobs().list()?;
        let now = SystemTime::now();
        // A file written a moment ago is not yet older than now on a coarse clock.
        let limit = if grace.is_zero() { now + Duration::from_secs(1) } else { now - grace };
        let mut needed = self.needed(policy.cache && alone.is_some())?;
        for id in layers {
            if !needed.layers.contains(&id) && is_older(&self.layers().path(&id), limit) {
                collected.bytes += disk_usage(&self.layers().path(&id));
                self.layers().remove(&id)?;
                collected.layers += 1;
            } else if let Some(blob) = self.layers().get(&id)?.and_then(|layer| layer.blob) {
                needed.blobs.insert(blob.digest);
            }
        }
        for (digest, size) in blobs {
            if !needed.blobs.contains(&digest) && self.blobs().remove_unused(&digest, limit)? {
                collected.blobs += 1;
                collected.bytes += size;
            }
        }
        Ok(collected)
    }

    /// What must stay. With `forget`, the cache and the pins are given up first.
    fn needed(&self, forget: bool) -> Result<Needed> {
        let mut needed = Needed::default();
        for image in self.images().list()? {
            self.reach(&image.manifest, &mut needed)?;
        }
        if forget {
            self.images().remove_pins()?;
            self.forget_cache()?;
        } else {
            for (_, pin) in self.images().pins()? {
                self.reach(&pin, &mut needed)?;
            }
            self.reach_cache(&mut needed)?;
        }
        Ok(needed)
    }

    /// Everything that an image needs; what is not in the store needs nothing.
    fn reach(&self, image: &Descriptor, needed: &mut Needed) -> Result<()> {
        let mut todo = VecDeque::from([image.clone()]);
        while let Some(descriptor) = todo.pop_front() {
            if !needed.blobs.insert(descriptor.digest) || self.blobs().size(&descriptor.digest)?.is_none() {
                continue;
            }
            match self.parts(&descriptor, needed) {
                Ok(parts) => todo.extend(parts),
                // Nobody can use an image with a damaged document, so it holds nothing; and it must not keep the disk
                // full for ever.
                Err(error @ (Error::Corrupt { .. } | Error::DigestMismatch { .. } | Error::TooLarge { .. })) => {
                    tracing::warn!(%error, "an image of the store is damaged");
                }
                // Removed by somebody else meanwhile.
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds what a document names; gives the documents among it.
    fn parts(&self, descriptor: &Descriptor, needed: &mut Needed) -> Result<Vec<Descriptor>> {
        if media_types::is_index(&descriptor.media_type) {
            return Ok(self.images().index(&descriptor.digest)?.manifests);
        }
        if media_types::is_manifest(&descriptor.media_type) {
            let manifest = self.images().manifest(&descriptor.digest)?;
            needed.blobs.insert(manifest.config.digest);
            needed.blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
            // Configurations of artifacts need not be JSON, and have no layers to unpack.
            let image = matches!(&*manifest.config.media_type, media_types::CONFIG | media_types::DOCKER_CONFIG);
            if image && self.blobs().size(&manifest.config.digest)?.is_some() {
                needed.layers.extend(self.images().config(&manifest)?.diff_ids()?.into_iter().map(LayerId));
            }
        }
        Ok(Vec::new())
    }

    /// The layers that cache records name.
    fn reach_cache(&self, needed: &mut Needed) -> Result<()> {
        let directory = self.root().join("cache").join("def");
        for group in entries(&directory)? {
            for file in entries(&group)? {
                let Ok(bytes) = fs::read(&file) else { continue };
                if let Ok(record) = serde_json::from_slice::<Record>(&bytes) {
                    needed.layers.extend(record.stack.into_iter().chain(record.layer));
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

fn is_older(path: &Path, time: SystemTime) -> bool {
    // What is gone or cannot be asked is not for us to remove.
    fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).is_ok_and(|modified| modified < time)
}

/// Bytes on disk of all below `path`, each hard-linked file once.
fn disk_usage(path: &Path) -> u64 {
    let (mut total, mut links, mut todo) = (0, HashSet::new(), vec![path.to_owned()]);
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                todo.push(entry.path());
            }
            if metadata.nlink() < 2 || metadata.is_dir() || links.insert((metadata.dev(), metadata.ino())) {
                total += metadata.blocks() * 512;
            }
        }
    }
    total
}
