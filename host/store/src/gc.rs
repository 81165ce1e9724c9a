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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{Blobs, ImageConfig, Index, Manifest, Platform};

    const HOUR: Duration = Duration::from_secs(3600);

    struct Fixture {
        directory: tempfile::TempDir,
        store: Store,
    }

    /// An image of one layer, which is in the store as a layer too.
    struct Image {
        manifest: Descriptor,
        config: Digest,
        layer: Digest,
        id: LayerId,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(directory.path()).unwrap();
            Self { directory, store }
        }

        fn layer(&self, content: &str) -> (LayerId, Descriptor) {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, "file", content.as_bytes()).unwrap();
            let bytes = builder.into_inner().unwrap();
            let digest = self.store.blobs().put(&bytes).unwrap();
            let blob = Descriptor::new(media_types::LAYER, digest, bytes.len() as u64);
            self.store.layers().ingest(&digest, &blob).unwrap();
            (LayerId(digest), blob)
        }

        fn image(&self, content: &str) -> Image {
            let (id, blob) = self.layer(content);
            let value = serde_json::json!({ "os": "linux", "architecture": "amd64", "rootfs": { "diff_ids": [id.0] } });
            let config = self.store.images().put_config(&ImageConfig::new(value)).unwrap();
            let manifest = Manifest { config: config.clone(), layers: vec![blob.clone()], ..Manifest::default() };
            let manifest = self.store.images().put_manifest(&manifest).unwrap();
            Image { manifest, config: config.digest, layer: blob.digest, id }
        }

        fn has(&self, image: &Image) -> bool {
            let blobs = [image.manifest.digest, image.config, image.layer];
            let present = blobs.map(|blob| self.store.blobs().size(&blob).unwrap().is_some());
            let layer = self.store.layers().get(&image.id).unwrap().is_some();
            assert!(present == [layer; 3], "half of an image: {present:?} and {layer}");
            layer
        }

        fn cache(&self, json: &str) -> PathBuf {
            let directory = self.directory.path().join("cache/def/ab");
            fs::create_dir_all(&directory).unwrap();
            let path = directory.join("abcd");
            fs::write(&path, json).unwrap();
            path
        }

        fn collect(&self, cache: bool) -> Collected {
            self.store.collect(Policy { cache, grace: HOUR }).unwrap()
        }
    }

    #[test]
    fn what_has_no_name_goes_and_what_has_stays() {
        let fixture = Fixture::new();
        let (kept, gone) = (fixture.image("kept"), fixture.image("gone"));
        fixture.store.images().tag("kept", &kept.manifest).unwrap();
        fixture.store.images().tag("gone", &gone.manifest).unwrap();
        assert_eq!(fixture.collect(false), Collected::default());
        fixture.store.images().remove("gone").unwrap();
        let collected = fixture.collect(false);
        assert_eq!((collected.blobs, collected.layers, collected.busy), (3, 1, false));
        assert!(collected.bytes > 0);
        assert!(fixture.has(&kept) && !fixture.has(&gone));
        assert_eq!(fixture.collect(false), Collected::default());
    }

    #[test]
    fn an_index_keeps_its_manifests_even_where_one_is_not_here() {
        let fixture = Fixture::new();
        let image = fixture.image("one");
        let absent = Descriptor::new(media_types::MANIFEST, Digest::of(b"absent"), 6);
        let index = Index { manifests: vec![absent, image.manifest.clone()], ..Index::default() };
        let index = fixture.store.images().put_index(&index).unwrap();
        fixture.store.images().tag("many", &index).unwrap();
        assert_eq!(fixture.collect(true), Collected::default());
        assert!(fixture.has(&image));
    }

    #[test]
    fn cache_records_keep_their_layers_and_the_blobs_of_these() {
        for record in [r#"{"stack":["ID"],"operations":[true]}"#, r#"{"layer":"ID"}"#] {
            let fixture = Fixture::new();
            let (id, blob) = fixture.layer("cached");
            let (other, _) = fixture.layer("not cached");
            let path = fixture.cache(&record.replace("ID", &id.0.to_string()));
            assert_eq!(fixture.collect(false).layers, 1);
            assert!(fixture.store.layers().get(&other).unwrap().is_none());
            assert_eq!(fixture.store.blobs().size(&blob.digest).unwrap(), Some(blob.size));
            assert!(fixture.store.layers().get(&id).unwrap().is_some());
            let collected = fixture.collect(true);
            assert_eq!((collected.layers, collected.blobs), (1, 1));
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_keeps_nothing_and_stops_nothing() {
        let fixture = Fixture::new();
        fixture.layer("one");
        fixture.cache("{half");
        assert_eq!(fixture.collect(false).layers, 1);
    }

    #[test]
    fn pins_keep_images_until_the_cache_is_given_up() {
        let fixture = Fixture::new();
        let base = fixture.image("base");
        fixture.store.images().pin("docker.io/library/base:1", &Platform::host(), &base.manifest).unwrap();
        assert_eq!(fixture.collect(false), Collected::default());
        assert!(fixture.has(&base));
        fixture.collect(true);
        assert!(!fixture.has(&base));
        assert_eq!(fixture.store.images().pins().unwrap(), []);
    }

    #[test]
    fn beside_others_the_young_the_cache_and_the_pins_stay() {
        let fixture = Fixture::new();
        let young = fixture.image("young");
        let (cached, _) = fixture.layer("cached");
        fixture.cache(&format!(r#"{{"stack":["{}"]}}"#, cached.0));
        let lease = fixture.store.lease().unwrap();
        let collected = fixture.collect(true);
        assert_eq!(collected, Collected { busy: true, ..Collected::default() });
        // Old, but a record may be about to be used.
        let collected = fixture.store.collect(Policy { cache: true, grace: Duration::ZERO }).unwrap();
        assert_eq!((collected.layers, collected.blobs), (1, 3));
        assert!(!fixture.has(&young));
        assert!(fixture.store.layers().get(&cached).unwrap().is_some());
        drop(lease);
        assert_eq!(fixture.collect(true).layers, 1);
    }

    #[test]
    fn a_blob_asked_for_during_a_build_outlives_the_collection() {
        let fixture = Fixture::new();
        let image = fixture.image("one");
        let old = SystemTime::now() - 2 * HOUR;
        let age = |path: PathBuf| fs::File::open(path).unwrap().set_modified(old).unwrap();
        for blob in [image.manifest.digest, image.config, image.layer] {
            age(fixture.store.blobs().path(&blob));
        }
        let _lease = fixture.store.lease().unwrap();
        fixture.store.blobs().touch(&image.manifest.digest).unwrap();
        // The layer is young, and so its blob stays; of the others nobody asked for the configuration.
        assert_eq!(fixture.collect(false).blobs, 1);
        assert!(fixture.store.blobs().size(&image.manifest.digest).unwrap().is_some());
        assert!(fixture.store.blobs().size(&image.layer).unwrap().is_some());
    }

    #[test]
    fn what_killed_writers_and_workers_left_goes_too() {
        let fixture = Fixture::new();
        let unfinished = fixture.store.blobs().path(&Digest::of(b"")).with_file_name(".new-1-1");
        fs::write(&unfinished, "half").unwrap();
        let scratch = fixture.directory.path().join("work/1-0-0");
        fs::create_dir(&scratch).unwrap();
        fixture.collect(false);
        assert!(!unfinished.exists() && !scratch.exists());
    }

    #[test]
    fn a_damaged_image_does_not_stop_the_collection() {
        let fixture = Fixture::new();
        let (damaged, gone) = (fixture.image("damaged"), fixture.image("gone"));
        fixture.store.images().tag("damaged", &damaged.manifest).unwrap();
        fs::write(fixture.store.blobs().path(&damaged.manifest.digest), "{}").unwrap();
        fixture.collect(false);
        assert!(!fixture.has(&gone));
        assert!(fixture.store.images().get("damaged").unwrap().is_some());
    }

    #[test]
    fn artifacts_whose_configuration_is_no_json_are_kept() {
        let fixture = Fixture::new();
        let put = |bytes: &[u8]| fixture.store.blobs().put(bytes).unwrap();
        let config = Descriptor::new("application/vnd.example.config", put(b"\0not json"), 9);
        let layer = Descriptor::new("application/wasm", put(b"\0asm"), 4);
        let manifest = Manifest { config, layers: vec![layer], ..Manifest::default() };
        let manifest = fixture.store.images().put_manifest(&manifest).unwrap();
        fixture.store.images().tag("plugin", &manifest).unwrap();
        assert_eq!(fixture.collect(true), Collected::default());
    }

    #[test]
    fn collecting_beside_writers_takes_nothing_from_them() {
        let fixture = Fixture::new();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|number| {
                    let fixture = &fixture;
                    scope.spawn(move || {
                        let _lease = fixture.store.lease().unwrap();
                        for turn in 0..30 {
                            // The same content in all threads: most of it is there already.
                            let digest = Blobs::put(fixture.store.blobs(), format!("{}", turn % 5).as_bytes()).unwrap();
                            assert_eq!(fixture.store.blobs().size(&digest).unwrap(), Some(1), "{number} {turn}");
                        }
                    })
                })
                .collect();
            while writers.iter().any(|writer| !writer.is_finished()) {
                fixture.collect(false);
            }
        });
    }
}
