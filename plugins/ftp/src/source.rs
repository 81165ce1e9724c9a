//! The role `source`: what an FTP URL stands for, and bringing it. A URL that ends in a slash is a directory.

use std::io::Write;

use cooperage_sdk::events::Step;
use cooperage_sdk::layer::LayerWriter;
use cooperage_sdk::roles::source::Version;
use cooperage_sdk::secrets::Secret;
use cooperage_sdk::{Context, Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::client::Client;
use crate::client::directories::walk;
use crate::client::download::{Download, Stamp};
use crate::client::listing::{Entry, Kind};
use crate::client::session::{Mode, is_time};
use crate::edge::Store;
use crate::fetch::Fetch;
use crate::paths;
use crate::server::{Access, Tls};
use crate::url::Url;

/// What can be set beside the URL.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// User name; that of the URL, or `anonymous`, by default.
    pub username: Option<String>,
    /// The password, as the name of a secret.
    pub password: Option<Secret>,
    /// How the connection is protected; by default what the scheme says, and for `ftp` not at all.
    pub tls: Option<Tls>,
    /// `binary`, or `ascii` to have line ends converted.
    #[serde(default)]
    pub mode: Mode,
    /// `sha256:` and 64 hexadecimal digits: the file must have this digest.
    pub checksum: Option<String>,
    /// What the file is called in the tree; by default as on the server.
    pub filename: Option<String>,
    /// Seconds without a byte after which a read or a write has failed; 60 by default.
    pub timeout: Option<u32>,
    /// How often to try again what broke; 3 by default.
    pub retries: Option<u32>,
}

impl Parameters {
    /// How to reach the server.
    #[must_use]
    pub fn access(&self) -> Access<'_> {
        Access {
            username: self.username.as_deref(),
            password: self.password.as_ref(),
            tls: self.tls,
            timeout: self.timeout,
            retries: self.retries,
        }
    }

    /// The digest that the file must have.
    ///
    /// # Errors
    /// `invalid-input` for anything but a SHA-256 of a file.
    pub fn checksum(&self, url: &Url) -> Result<Option<&str>> {
        let Some(checksum) = self.checksum.as_deref() else { return Ok(None) };
        let hexadecimal = |hex: &str| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !checksum.strip_prefix("sha256:").is_some_and(hexadecimal) {
            return Err(Error::invalid_input(format!("{checksum:?} is no checksum"))
                .hint("a checksum is `sha256:` and 64 lower-case hexadecimal digits"));
        }
        if url.is_directory() {
            return Err(Error::invalid_input("a directory has no checksum"));
        }
        Ok(Some(checksum))
    }
}

/// What the URL stands for. With a checksum the request says it itself, and nobody is asked.
///
/// # Errors
/// `not-found` and those of the server.
pub fn resolve(client: &mut Client, url: &Url, parameters: &Parameters) -> Result<Version> {
    if let Some(checksum) = parameters.checksum(url)? {
        return Ok(Version::immutable(checksum));
    }
    let path = client.absolute(&url.path)?;
    let what = format!("cannot resolve {}", client.server().url(&path));
    if url.is_directory() {
        let found = walk(client, &path).context(what)?;
        return Ok(Version::new(listing(&found)).annotation("files", count(&found)));
    }
    let stamp = client.again(|session| Stamp::of(session, &path)).map_err(missing).context(what)?;
    let named = [("size", stamp.size.map(|size| size.to_string())), ("modified", stamp.modified.clone())];
    let named = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
    Ok(named.fold(Version::new(value(&stamp)), |version, (name, value)| version.annotation(name, value)))
}

/// Brings the files of a version into a layer.
///
/// # Errors
/// `conflict` if the server does not have this version any more, or not these bytes.
pub fn fetch<W: Write>(
    client: &mut Client,
    store: &dyn Store,
    url: &Url,
    parameters: &Parameters,
    version: &str,
    layer: LayerWriter<W>,
) -> Result<LayerWriter<W>> {
    let path = client.absolute(&url.path)?;
    let shown = client.server().url(&path);
    let step = Step::new(format!("fetch {shown}"));
    let checksum = parameters.checksum(url)?.map(str::to_owned);
    step.run(|step| {
        let mut fetch = Fetch::new(layer, store, parameters.mode, step);
        if url.is_directory() {
            let found = walk(client, &path).with_context(|| format!("cannot fetch {shown}"))?;
            same(version, &listing(&found), &shown)?;
            fetch.directory(client, &path, &found, "")?;
            return Ok(fetch.layer);
        }
        let (_, name) = paths::split(&path).ok_or_else(|| Error::invalid_input(format!("{shown} names no file")))?;
        let name = parameters.filename.as_deref().unwrap_or(name);
        if !paths::is_name(name) {
            return Err(Error::invalid_input(format!("`filename` is {name:?}, which is no name of a file")));
        }
        paths::check_in_layer(name)?;
        if let Some(checksum) = checksum {
            let download = Download::begin(client, &path, parameters.mode, None).map_err(missing);
            let kept = download
                .and_then(|download| download.keep(store.sink(), "application/octet-stream", Some(&checksum), step))
                .with_context(|| format!("cannot fetch {shown}"))?;
            fetch.kept(store.payload(&kept.digest)?.as_ref(), name, 0o644)?;
            return Ok(fetch.layer);
        }
        let stamp = client.again(|session| Stamp::of(session, &path)).map_err(missing);
        let stamp = stamp.with_context(|| format!("cannot fetch {shown}"))?;
        same(version, &value(&stamp), &shown)?;
        fetch.file(client, &path, name, 0o644, Some(stamp))?;
        Ok(fetch.layer)
    })
}

/// Equal for equal states of a file, as far as the server lets them be told apart; else empty.
fn value(stamp: &Stamp) -> String {
    match stamp {
        Stamp { size: Some(size), modified: Some(modified) } => format!("{size} bytes of {modified}"),
        _ => String::new(),
    }
}

/// Equal for equal listings; empty if the size or the time of a file is not listed. Listings for people have times to the
/// minute or the day, within which a file can change unseen.
fn listing(found: &[(String, Entry)]) -> String {
    let told = |entry: &Entry| entry.size.is_some() && entry.modified.as_deref().is_some_and(is_time);
    if found.iter().any(|(_, entry)| entry.kind == Kind::File && !told(entry)) {
        return String::new();
    }
    // JSON frames each part, so that no name can take the place of another part.
    let parts = found.iter().map(|(path, entry)| {
        let kind = match &entry.kind {
            Kind::File => "file".to_owned(),
            Kind::Directory => "directory".to_owned(),
            Kind::Symlink(target) => format!("symlink {}", target.as_deref().unwrap_or_default()),
            Kind::Other => "other".to_owned(),
        };
        // The time of a directory changes with what comes and goes in it, which is listed anyway.
        let modified = entry.modified.as_deref().filter(|_| entry.kind == Kind::File);
        serde_json::json!([path, kind, entry.size.filter(|_| entry.kind == Kind::File), modified, entry.mode])
    });
    let text = serde_json::Value::from_iter(parts).to_string();
    let hash = Sha256::digest(text.as_bytes());
    hash.iter().fold("listing sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn count(found: &[(String, Entry)]) -> String {
    found.iter().filter(|(_, entry)| entry.kind == Kind::File).count().to_string()
}

fn same(version: &str, now: &str, shown: &str) -> Result<()> {
    if version.is_empty() || version == now {
        return Ok(());
    }
    Err(Error::conflict(format!("{shown} was changed since it was looked at")).hint("try again"))
}

fn missing(error: Error) -> Error {
    if error.kind == ErrorKind::NotFound && error.hint.is_none() {
        return error.hint("a URL of a directory ends in a slash");
    }
    error
}
