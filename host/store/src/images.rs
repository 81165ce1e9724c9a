//! Images by name, where blobs were seen, and records of builds. Short transactions in SQLite; the documents
//! themselves are blobs.
//!
//! The database is opened when the first question needs it, so that what needs none of this pays nothing.

mod schema;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::{Blobs, Descriptor, Digest, Error, ImageConfig, Index, Manifest, Platform, Result, media_types};

/// Registries accept manifests up to this size; larger ones are a mistake or an attack.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// An image under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRecord {
    /// Canonical name with tag.
    pub name: String,
    /// Its manifest or index.
    pub manifest: Descriptor,
    /// When the name was first used, in seconds since 1970.
    pub created: i64,
    /// When it last got another image.
    pub updated: i64,
    /// When it was last tagged or [used](Images::mark_used).
    pub used: i64,
}

/// One build or run, for history and explanations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildEntry {
    /// Its number.
    pub id: i64,
    /// What was built: builds with the same subject are compared.
    pub subject: String,
    /// When it began, in milliseconds since 1970.
    pub started: i64,
    /// How long it took, in milliseconds.
    pub milliseconds: i64,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// What it did, as JSON of the caller.
    pub body: String,
}

/// Names, documents and records. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Images(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    blobs: Blobs,
    connection: Mutex<Option<Connection>>,
}

struct Open<'a>(MutexGuard<'a, Option<Connection>>);

impl std::ops::Deref for Open<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0.as_ref().expect("opened by `Images::open`, which is the only maker of this value")
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

impl Images {
    pub(crate) fn new(path: PathBuf, blobs: Blobs) -> Self {
        Self(Arc::new(Inner { path, blobs, connection: Mutex::new(None) }))
    }

    fn open(&self) -> Result<Open<'_>> {
        let mut guard = self.0.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            *guard = Some(schema::open(&self.0.path)?);
        }
        Ok(Open(guard))
    }

    /// Gives a name to an image, taking it from the image that had it.
    pub fn tag(&self, name: &str, manifest: &Descriptor) -> Result<()> {
        let json = to_json(manifest)?;
        // After a crash of the machine a name must not outlive the blobs it stands for.
        self.0.blobs.sync()?;
        self.open()?.execute(
            "INSERT INTO images (name, manifest, created, updated, used) VALUES (?1, ?2, ?3, ?3, ?3)
             ON CONFLICT (name) DO UPDATE
             SET manifest = ?2, updated = CASE manifest WHEN ?2 THEN updated ELSE ?3 END, used = ?3",
            params![name, json, now()],
        )?;
        Ok(())
    }

    /// The image of a name.
    pub fn get(&self, name: &str) -> Result<Option<ImageRecord>> {
        let connection = self.open()?;
        let mut statement =
            connection.prepare_cached("SELECT name, manifest, created, updated, used FROM images WHERE name = ?1")?;
        statement.query_row([name], |row| Ok(record(row))).optional()?.transpose()
    }

    /// Remembers that an image was of use now; tells whether the name exists.
    pub fn mark_used(&self, name: &str) -> Result<bool> {
        Ok(self.open()?.execute("UPDATE images SET used = ?2 WHERE name = ?1", params![name, now()])? > 0)
    }

    /// All images, by name.
    pub fn list(&self) -> Result<Vec<ImageRecord>> {
        let connection = self.open()?;
        let mut statement =
            connection.prepare_cached("SELECT name, manifest, created, updated, used FROM images ORDER BY name")?;
        let rows = statement.query_map([], |row| Ok(record(row)))?;
        rows.map(|row| row?).collect()
    }

    /// Takes a name away; tells whether it was there. Its content stays until the next collection.
    pub fn remove(&self, name: &str) -> Result<bool> {
        Ok(self.open()?.execute("DELETE FROM images WHERE name = ?1", [name])? > 0)
    }

    /// Remembers what a name at a registry stood for when it was last asked.
    pub fn pin(&self, reference: &str, platform: &Platform, manifest: &Descriptor) -> Result<()> {
        let json = to_json(manifest)?;
        self.open()?.execute(
            "INSERT INTO pins (reference, platform, manifest, updated) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (reference, platform) DO UPDATE SET manifest = ?3, updated = ?4",
            params![reference, platform.to_string(), json, now()],
        )?;
        Ok(())
    }

    /// What a name at a registry last stood for on a platform.
    pub fn pinned(&self, reference: &str, platform: &Platform) -> Result<Option<Descriptor>> {
        let connection = self.open()?;
        let mut statement =
            connection.prepare_cached("SELECT manifest FROM pins WHERE reference = ?1 AND platform = ?2")?;
        let json: Option<String> =
            statement.query_row(params![reference, platform.to_string()], |row| row.get(0)).optional()?;
        json.map(|json| from_json(&json)).transpose()
    }

    /// All pins: names at registries and what they stood for.
    pub fn pins(&self) -> Result<Vec<(String, Descriptor)>> {
        let connection = self.open()?;
        let mut statement = connection.prepare_cached("SELECT reference, manifest FROM pins ORDER BY reference")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| {
            let (reference, json) = row?;
            Ok((reference, from_json(&json)?))
        })
        .collect()
    }

    /// Forgets all pins.
    pub(crate) fn remove_pins(&self) -> Result<()> {
        self.open()?.execute("DELETE FROM pins", [])?;
        Ok(())
    }

    /// Remembers that a repository of a registry has a blob.
    pub fn add_source(&self, blob: &Digest, host: &str, repository: &str) -> Result<()> {
        self.open()?.execute(
            "INSERT OR IGNORE INTO sources (digest, host, repository) VALUES (?1, ?2, ?3)",
            params![blob.to_string(), host, repository],
        )?;
        Ok(())
    }

    /// Repositories of a registry that had a blob, the latest first.
    pub fn sources(&self, blob: &Digest, host: &str) -> Result<Vec<String>> {
        let connection = self.open()?;
        let mut statement = connection.prepare_cached(
            "SELECT repository FROM sources WHERE digest = ?1 AND host = ?2 ORDER BY rowid DESC LIMIT 8",
        )?;
        let rows = statement.query_map(params![blob.to_string(), host], |row| row.get(0))?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    /// Keeps the record of a build; gives its number.
    pub fn add_build(&self, entry: &BuildEntry) -> Result<i64> {
        /// As many builds as a person looks back over.
        const KEPT: i64 = 500;
        let mut connection = self.open()?;
        let connection: &mut Connection = connection.0.as_mut().expect("opened above");
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "INSERT INTO builds (subject, started, milliseconds, succeeded, body) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![entry.subject, entry.started, entry.milliseconds, entry.succeeded, entry.body],
        )?;
        let id = transaction.last_insert_rowid();
        transaction.execute("DELETE FROM builds WHERE id <= ?1", [id - KEPT])?;
        transaction.commit()?;
        Ok(id)
    }

    /// The latest builds, the newest first; of one subject if it is given.
    pub fn builds(&self, subject: Option<&str>, limit: u32) -> Result<Vec<BuildEntry>> {
        let connection = self.open()?;
        let mut statement = connection.prepare_cached(
            "SELECT id, subject, started, milliseconds, succeeded, body FROM builds
             WHERE ?1 IS NULL OR subject = ?1 ORDER BY id DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![subject, limit], build_entry)?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    /// One build.
    pub fn build(&self, id: i64) -> Result<Option<BuildEntry>> {
        let connection = self.open()?;
        let mut statement = connection
            .prepare_cached("SELECT id, subject, started, milliseconds, succeeded, body FROM builds WHERE id = ?1")?;
        Ok(statement.query_row([id], build_entry).optional()?)
    }

    /// A document of the store. `foreign` are fields that only other kinds of documents have: what reads as two kinds is
    /// one image to us and another to somebody else, which is an attack (CVE-2021-41190).
    fn document<T: DeserializeOwned>(&self, digest: &Digest, what: &str, foreign: &[&str]) -> Result<T> {
        let bytes = self.0.blobs.read(digest, MAX_DOCUMENT)?;
        let corrupt = |why: String| Error::Corrupt { what: format!("the {what} {digest}"), why };
        let parse = |error: serde_json::Error| corrupt(error.to_string());
        if !foreign.is_empty() {
            let fields: BTreeMap<String, IgnoredAny> = serde_json::from_slice(&bytes).map_err(parse)?;
            if let Some(field) = foreign.iter().find(|field| fields.contains_key(**field)) {
                return Err(corrupt(format!("it has the field {field:?}, which no {what} has")));
            }
        }
        serde_json::from_slice(&bytes).map_err(parse)
    }

    fn put_document(&self, value: &impl Serialize, media_type: &str) -> Result<Descriptor> {
        let bytes = to_json(value)?.into_bytes();
        let digest = self.0.blobs.put(&bytes)?;
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
    }

    /// A manifest of the store.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        let manifest: Manifest = self.document(digest, "manifest", &["manifests", "fsLayers"])?;
        check_kind(digest, "manifest", manifest.schema_version, media_types::is_manifest(&manifest.media_type))?;
        Ok(manifest)
    }

    /// An index of the store.
    pub fn index(&self, digest: &Digest) -> Result<Index> {
        let index: Index = self.document(digest, "index", &["config", "layers", "fsLayers"])?;
        check_kind(digest, "index", index.schema_version, media_types::is_index(&index.media_type))?;
        Ok(index)
    }

    /// The configuration of a manifest.
    pub fn config(&self, manifest: &Manifest) -> Result<ImageConfig> {
        self.document(&manifest.config.digest, "image configuration", &[])
    }

    /// Writes a manifest.
    pub fn put_manifest(&self, manifest: &Manifest) -> Result<Descriptor> {
        self.put_document(manifest, &manifest.media_type)
    }

    /// Writes an index.
    pub fn put_index(&self, index: &Index) -> Result<Descriptor> {
        self.put_document(index, &index.media_type)
    }

    /// Writes a configuration.
    pub fn put_config(&self, config: &ImageConfig) -> Result<Descriptor> {
        self.put_document(config, media_types::CONFIG)
    }

    /// The manifest for a platform: the descriptor itself, or the best of the index that it names.
    pub fn resolve_platform(&self, descriptor: &Descriptor, platform: &Platform) -> Result<Descriptor> {
        if !media_types::is_index(&descriptor.media_type) {
            return Ok(descriptor.clone());
        }
        choose_platform(&self.index(&descriptor.digest)?, platform)
    }
}

/// The manifest of an index that serves a platform best.
pub fn choose_platform(index: &Index, platform: &Platform) -> Result<Descriptor> {
    let images = index.manifests.iter().filter(|manifest| media_types::is_manifest(&manifest.media_type));
    let score = |manifest: &&Descriptor| manifest.platform.as_ref().and_then(|have| have.serves(platform));
    let best = images.clone().filter_map(|manifest| Some((score(&manifest)?, manifest)));
    if let Some((_, manifest)) = best.rev().max_by_key(|(score, _)| *score) {
        return Ok(manifest.clone());
    }
    let mut all = images.clone();
    if let (Some(only), None) = (all.next(), all.next())
        && only.platform.is_none()
    {
        return Ok(only.clone());
    }
    let offered: Vec<String> =
        images.filter_map(|manifest| manifest.platform.as_ref()).map(Platform::to_string).collect();
    let offered = if offered.is_empty() { "no named platform".to_owned() } else { offered.join(", ") };
    Err(Error::NotFound { what: format!("an image for {platform} (there is one for {offered})") })
}

fn check_kind(digest: &Digest, what: &str, version: u32, fits: bool) -> Result<()> {
    let why = match (version, fits) {
        (2, true) => return Ok(()),
        (2, false) => "its own media type is another kind's".to_owned(),
        (other, _) => format!("its schema version is {other}, not 2"),
    };
    Err(Error::Corrupt { what: format!("the {what} {digest}"), why })
}

fn record(row: &Row<'_>) -> Result<ImageRecord> {
    let manifest: String = row.get(1)?;
    Ok(ImageRecord {
        name: row.get(0)?,
        manifest: from_json(&manifest)?,
        created: row.get(2)?,
        updated: row.get(3)?,
        used: row.get(4)?,
    })
}

fn build_entry(row: &Row<'_>) -> rusqlite::Result<BuildEntry> {
    Ok(BuildEntry {
        id: row.get(0)?,
        subject: row.get(1)?,
        started: row.get(2)?,
        milliseconds: row.get(3)?,
        succeeded: row.get(4)?,
        body: row.get(5)?,
    })
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::Corrupt { what: "a document".to_owned(), why: error.to_string() })
}

fn from_json<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json)
        .map_err(|error| Error::Corrupt { what: "a record of the database".to_owned(), why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> (tempfile::TempDir, Images) {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::at(&directory.path().join("blobs")).unwrap();
        let images = Images::new(directory.path().join("images.db"), blobs);
        (directory, images)
    }

    fn descriptor(text: &str) -> Descriptor {
        Descriptor::new(media_types::MANIFEST, Digest::of(text.as_bytes()), text.len() as u64)
    }

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_given_moved_and_taken() {
        let (_directory, images) = images();
        assert_eq!(images.get("a").unwrap(), None);
        images.tag("b", &descriptor("one")).unwrap();
        images.tag("a", &descriptor("one")).unwrap();
        images.tag("a", &descriptor("two")).unwrap();
        let all = images.list().unwrap();
        assert_eq!(all.iter().map(|image| &*image.name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(images.get("a").unwrap().unwrap().manifest, descriptor("two"));
        assert!(images.mark_used("a").unwrap() && !images.mark_used("c").unwrap());
        assert!(images.remove("a").unwrap());
        assert!(!images.remove("a").unwrap());
        assert_eq!(images.list().unwrap().len(), 1);
    }

    #[test]
    fn tagging_the_same_image_again_is_use_and_no_update() {
        let (_directory, images) = images();
        images.tag("a", &descriptor("one")).unwrap();
        images.open().unwrap().execute("UPDATE images SET created = 1, updated = 2, used = 3", []).unwrap();
        images.tag("a", &descriptor("one")).unwrap();
        let same = images.get("a").unwrap().unwrap();
        assert_eq!((same.created, same.updated), (1, 2));
        assert!(same.used > 3);
        images.tag("a", &descriptor("two")).unwrap();
        let other = images.get("a").unwrap().unwrap();
        assert_eq!(other.created, 1);
        assert!(other.updated > 2);
    }

    #[test]
    fn pins_are_per_platform() {
        let (_directory, images) = images();
        let (amd64, arm64) = (platform("linux/amd64"), platform("linux/arm64"));
        images.pin("docker.io/library/a:1", &amd64, &descriptor("one")).unwrap();
        images.pin("docker.io/library/a:1", &amd64, &descriptor("two")).unwrap();
        images.pin("docker.io/library/a:1", &arm64, &descriptor("three")).unwrap();
        assert_eq!(images.pinned("docker.io/library/a:1", &amd64).unwrap(), Some(descriptor("two")));
        assert_eq!(images.pinned("docker.io/library/a:1", &arm64).unwrap(), Some(descriptor("three")));
        assert_eq!(images.pinned("docker.io/library/b:1", &amd64).unwrap(), None);
        assert_eq!(images.pins().unwrap().len(), 2);
        images.remove_pins().unwrap();
        assert_eq!(images.pins().unwrap(), []);
    }

    #[test]
    fn sources_are_told_latest_first_and_per_host() {
        let (_directory, images) = images();
        let blob = Digest::of(b"layer");
        for repository in ["a", "b", "a"] {
            images.add_source(&blob, "host", repository).unwrap();
        }
        images.add_source(&blob, "other", "c").unwrap();
        assert_eq!(images.sources(&blob, "host").unwrap(), ["b", "a"]);
        assert_eq!(images.sources(&Digest::of(b"?"), "host").unwrap(), [""; 0]);
    }

    #[test]
    fn builds_are_numbered_and_the_oldest_forgotten() {
        let (_directory, images) = images();
        let entry = |subject: &str| BuildEntry {
            id: 0,
            subject: subject.to_owned(),
            started: 5,
            milliseconds: 7,
            succeeded: true,
            body: "{}".to_owned(),
        };
        for number in 1..=502 {
            let id = images.add_build(&entry(if number % 2 == 0 { "even" } else { "odd" })).unwrap();
            assert_eq!(id, number);
        }
        let latest = images.builds(None, 2).unwrap();
        assert_eq!(latest.iter().map(|build| build.id).collect::<Vec<_>>(), [502, 501]);
        assert_eq!(images.builds(Some("odd"), 1).unwrap()[0], BuildEntry { id: 501, ..entry("odd") });
        assert_eq!(images.build(2).unwrap(), None);
        assert_eq!(images.build(3).unwrap().unwrap().subject, "odd");
        assert_eq!(images.builds(None, 1000).unwrap().len(), 500);
    }

    #[test]
    fn documents_come_back_and_their_digest_is_of_their_bytes() {
        let (_directory, images) = images();
        let config = ImageConfig::new(serde_json::json!({ "os": "linux", "architecture": "amd64", "Unknown": 1 }));
        let manifest = Manifest { config: images.put_config(&config).unwrap(), ..Manifest::default() };
        let written = images.put_manifest(&manifest).unwrap();
        assert_eq!(images.0.blobs.size(&written.digest).unwrap(), Some(written.size));
        assert_eq!(images.put_manifest(&manifest).unwrap(), written);
        assert_eq!(images.manifest(&written.digest).unwrap(), manifest);
        assert_eq!(images.config(&manifest).unwrap(), config);
        let index = Index { manifests: vec![written], ..Index::default() };
        let written = images.put_index(&index).unwrap();
        assert_eq!(written.media_type, media_types::INDEX);
        assert_eq!(images.index(&written.digest).unwrap(), index);
    }

    #[test]
    fn documents_of_two_kinds_or_none_are_refused() {
        let (_directory, images) = images();
        let config = format!(r#"{{"mediaType":"x","digest":"{}","size":0}}"#, Digest::of(b""));
        let oci = media_types::MANIFEST;
        for (text, why) in [
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#), "\"manifests\""),
            (format!(r#"{{"schemaVersion":1,"config":{config}}}"#), "schema version is 1"),
            (format!(r#"{{"schemaVersion":2,"mediaType":"text/plain","config":{config}}}"#), "media type"),
            (r#"{"schemaVersion":2,"layers":[]}"#.to_owned(), "missing field `config`"),
            ("[]".to_owned(), "invalid type"),
        ] {
            let digest = images.0.blobs.put(text.as_bytes()).unwrap();
            let error = images.manifest(&digest).unwrap_err();
            assert!(matches!(&error, Error::Corrupt { why: told, .. } if told.contains(why)), "{text}: {error}");
        }
        for text in [
            format!(r#"{{"schemaVersion":2,"manifests":[],"config":{config}}}"#),
            r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.to_owned(),
            format!(r#"{{"schemaVersion":2,"mediaType":"{oci}","manifests":[]}}"#),
        ] {
            let digest = images.0.blobs.put(text.as_bytes()).unwrap();
            assert!(matches!(images.index(&digest), Err(Error::Corrupt { .. })), "{text}");
        }
        let huge = images.0.blobs.put(&vec![b' '; MAX_DOCUMENT as usize + 1]).unwrap();
        assert!(matches!(images.manifest(&huge), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn the_best_manifest_for_a_platform_is_chosen() {
        let of = |text: &str| Descriptor { platform: Some(platform(text)), ..descriptor(text) };
        let mut attestation = of("unknown/unknown");
        attestation.annotations.insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
        let offered = ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6", "linux/amd64/v3", "linux/amd64", "linux/arm64"];
        let manifests = offered.into_iter().map(of).chain([attestation]).collect();
        let index = Index { manifests, ..Index::default() };
        for (wanted, chosen) in [
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/amd64", "linux/amd64"),
            ("linux/amd64/v2", "linux/amd64"),
            ("linux/amd64/v4", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
        ] {
            assert_eq!(choose_platform(&index, &platform(wanted)).unwrap(), of(chosen), "{wanted}");
        }
        let error = choose_platform(&index, &platform("linux/s390x")).unwrap_err().to_string();
        assert!(error.contains("linux/s390x") && error.contains("linux/arm/v5, linux/arm"), "{error}");
        let nameless = Index { manifests: vec![descriptor("only")], ..Index::default() };
        assert_eq!(choose_platform(&nameless, &platform("linux/s390x")).unwrap(), descriptor("only"));
        let error = choose_platform(&Index::default(), &platform("linux/amd64")).unwrap_err().to_string();
        assert!(error.contains("no named platform"), "{error}");
    }

    #[test]
    fn many_processes_write_at_once() {
        let (directory, _images) = images();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = directory.path();
                // Each with a connection of its own, as processes have.
                scope.spawn(move || {
                    let images = Images::new(path.join("images.db"), Blobs::at(&path.join("blobs")).unwrap());
                    for turn in 0..20 {
                        images.tag(&format!("{number}-{turn}"), &descriptor("one")).unwrap();
                        assert!(images.get(&format!("{number}-{turn}")).unwrap().is_some());
                    }
                });
            }
        });
        let images =
            Images::new(directory.path().join("images.db"), Blobs::at(&directory.path().join("blobs")).unwrap());
        assert_eq!(images.list().unwrap().len(), 160);
    }
}
