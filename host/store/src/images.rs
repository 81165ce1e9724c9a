//! Images by name, where blobs were seen, and records of builds. Short transactions in SQLite; the documents
//! themselves are blobs.
//!
//! The database is opened when the first question needs it, so that what needs none of this pays nothing.

mod schema;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;
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
        self.open()?.execute(
            "INSERT INTO images (name, manifest, created, updated) VALUES (?1, ?2, ?3, ?3)
             ON CONFLICT (name) DO UPDATE SET manifest = ?2, updated = ?3",
            params![name, json, now()],
        )?;
        Ok(())
    }

    /// The image of a name.
    pub fn get(&self, name: &str) -> Result<Option<ImageRecord>> {
        let connection = self.open()?;
        let mut statement =
            connection.prepare_cached("SELECT name, manifest, created, updated FROM images WHERE name = ?1")?;
        statement.query_row([name], |row| Ok(record(row))).optional()?.transpose()
    }

    /// All images, by name.
    pub fn list(&self) -> Result<Vec<ImageRecord>> {
        let connection = self.open()?;
        let mut statement =
            connection.prepare_cached("SELECT name, manifest, created, updated FROM images ORDER BY name")?;
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
        let transaction = connection.transaction()?;
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
        let mut statement = connection.prepare_cached(
            "SELECT id, subject, started, milliseconds, succeeded, body FROM builds WHERE id = ?1",
        )?;
        Ok(statement.query_row([id], build_entry).optional()?)
    }

    fn document<T: DeserializeOwned>(&self, digest: &Digest, what: &str) -> Result<T> {
        let bytes = self.0.blobs.read(digest, MAX_DOCUMENT)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Corrupt { what: format!("the {what} {digest}"), why: error.to_string() })
    }

    fn put_document(&self, value: &impl Serialize, media_type: &str) -> Result<Descriptor> {
        let bytes = to_json(value)?.into_bytes();
        let digest = self.0.blobs.put(&bytes)?;
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
    }

    /// A manifest of the store.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        self.document(digest, "manifest")
    }

    /// An index of the store.
    pub fn index(&self, digest: &Digest) -> Result<Index> {
        self.document(digest, "index")
    }

    /// The configuration of a manifest.
    pub fn config(&self, manifest: &Manifest) -> Result<ImageConfig> {
        self.document(&manifest.config.digest, "image configuration")
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
    Err(Error::NotFound { what: format!("an image for {platform} (there is one for {})", offered.join(", ")) })
}

fn record(row: &Row<'_>) -> Result<ImageRecord> {
    let manifest: String = row.get(1)?;
    Ok(ImageRecord { name: row.get(0)?, manifest: from_json(&manifest)?, created: row.get(2)?, updated: row.get(3)? })
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
