//! Puts an image of the store into the engine: an archive made while it is sent, which is an OCI layout and has Docker's
//! `manifest.json` beside it, so that old engines, new ones and Podman find what they look for.

use std::collections::{HashSet, VecDeque};

use cooperage_sdk::names::is_digest;
use cooperage_sdk::{Descriptor, Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::archive::document;
use crate::edge::{Body, Next, Payload, Store};
use crate::engine::{Engine, Request};
use crate::faults;
use crate::lines::Records;
use crate::names;

const BLOCK: u64 = 512;

/// A manifest of the store, as far as an engine needs it.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    /// The configuration.
    pub config: Part,
    /// The layers, the lowest first.
    pub layers: Vec<Part>,
}

/// A blob of an image.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// Media type.
    #[serde(default)]
    pub media_type: String,
    /// Digest.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// Sees that the store has all of an image.
///
/// # Errors
/// `not-found` if it lacks a part.
pub fn check(store: &dyn Store, manifest: &Descriptor) -> Result<()> {
    let (_, parsed) = read(store, manifest)?;
    parsed.layers.iter().chain([&parsed.config]).try_for_each(|part| present(store, part))
}

/// Sends an image to the engine, which then has it under a name.
///
/// # Errors
/// `not-found` if the store lacks a part, and those of the engine.
pub fn load(engine: &Engine<'_>, manifest: &Descriptor, name: &str) -> Result<()> {
    let what = format!("the engine does not take {name}");
    let store = engine.edge().store;
    let (bytes, parsed) = read(store, manifest)?;
    let pieces = pieces(store, manifest, bytes, &parsed, name)?;
    let request = Request::post("/images/load").with("quiet", "1").archive(pieces.payload()).patient();
    let answer = faults::expect(engine.send(request)?, &what)?;
    Records::new(answer.body).follow(&what, |_| Ok(())).map_err(|error| {
        let zstd = parsed.layers.iter().any(|layer| layer.media_type.ends_with("zstd"));
        if zstd { error.hint("engines before Docker 23 take no layers compressed with zstd") } else { error }
    })
}

fn read(store: &dyn Store, manifest: &Descriptor) -> Result<(Vec<u8>, Manifest)> {
    let bytes = document(store, &manifest.digest)?;
    let parsed = serde_json::from_slice(&bytes)
        .map_err(|error| Error::invalid_input(format!("{} is no manifest of an image: {error}", manifest.digest)))?;
    Ok((bytes, parsed))
}

fn present(store: &dyn Store, part: &Part) -> Result<()> {
    match store.stat(&part.digest)? {
        Some(size) if size == part.size => Ok(()),
        Some(size) => Err(Error::conflict(format!("{} has {size} bytes, not {}", part.digest, part.size))),
        None => Err(Error::not_found(format!("{} is not in the store", part.digest))),
    }
}

/// An archive in the order in which it is sent.
struct Pieces<'a> {
    store: &'a dyn Store,
    queue: VecDeque<Piece>,
}

enum Piece {
    Bytes(Vec<u8>),
    Blob { body: Box<dyn Body>, digest: String, size: u64 },
}

fn pieces<'a>(
    store: &'a dyn Store,
    manifest: &Descriptor,
    bytes: Vec<u8>,
    parsed: &Manifest,
    name: &str,
) -> Result<Pieces<'a>> {
    let mut this = Pieces { store, queue: VecDeque::new() };
    let mut sent = HashSet::new();
    for part in parsed.layers.iter().chain([&parsed.config]) {
        if sent.insert(part.digest.clone()) {
            this.blob(part)?;
        }
    }
    this.file(&path(&manifest.digest)?, bytes)?;
    this.file("index.json", index(manifest, name)?.to_string().into_bytes())?;
    this.file("manifest.json", list(parsed, name)?.to_string().into_bytes())?;
    this.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())?;
    this.queue.push_back(Piece::Bytes(vec![0; 2 * usize::try_from(BLOCK).expect("small")]));
    Ok(this)
}

/// What engines of version 25 and later read, and every tool that knows OCI layouts.
fn index(manifest: &Descriptor, name: &str) -> Result<Value> {
    let (name, tag) = names::split(name)?;
    let full = format!("{}:{tag}", names::full(name));
    let annotations = json!({ "io.containerd.image.name": full, "org.opencontainers.image.ref.name": tag });
    let Descriptor { media_type, digest, size, .. } = manifest;
    let entry = json!({ "mediaType": media_type, "digest": digest, "size": size, "annotations": annotations });
    Ok(json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry] }))
}

/// What engines before that read, and Podman.
fn list(manifest: &Manifest, name: &str) -> Result<Value> {
    let layers: Vec<String> = manifest.layers.iter().map(|layer| path(&layer.digest)).collect::<Result<_>>()?;
    Ok(json!([{ "Config": path(&manifest.config.digest)?, "RepoTags": [name], "Layers": layers }]))
}

fn path(digest: &str) -> Result<String> {
    if is_digest(digest) {
        return Ok(format!("blobs/sha256/{}", &digest["sha256:".len()..]));
    }
    Err(Error::unsupported(format!("{digest} is no sha256 digest")))
}

impl Pieces<'_> {
    fn header(&mut self, name: &str, size: u64) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        self.queue.push_back(Piece::Bytes(header.as_bytes().to_vec()));
        Ok(())
    }

    fn pad(&mut self, size: u64) {
        let rest = usize::try_from(size.next_multiple_of(BLOCK) - size).expect("less than a block");
        self.queue.push_back(Piece::Bytes(vec![0; rest]));
    }

    fn file(&mut self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let size = bytes.len() as u64;
        self.header(name, size)?;
        self.queue.push_back(Piece::Bytes(bytes));
        self.pad(size);
        Ok(())
    }

    fn blob(&mut self, part: &Part) -> Result<()> {
        present(self.store, part)?;
        self.header(&path(&part.digest)?, part.size)?;
        let body = self.store.open(&part.digest)?;
        self.queue.push_back(Piece::Blob { body, digest: part.digest.clone(), size: part.size });
        self.pad(part.size);
        Ok(())
    }

    /// The archive as a body of known length, so that the engine can tell a broken one from a whole one.
    fn payload(self) -> Payload {
        let length = self.queue.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Blob { size, .. } => *size,
        });
        let length = Some(length.sum());
        Payload::Stream { next: next(self.queue), length }
    }
}

/// Gives the pieces in pieces.
fn next(mut queue: VecDeque<Piece>) -> Next {
    let mut at = 0;
    Box::new(move |max| {
        while let Some(piece) = queue.front_mut() {
            let bytes = match piece {
                Piece::Bytes(bytes) => {
                    let from = usize::try_from(at).expect("an offset in memory");
                    bytes[from..(from + max as usize).min(bytes.len())].to_vec()
                }
                Piece::Blob { size, .. } if at >= *size => Vec::new(),
                Piece::Blob { body, digest, size } => {
                    let most = u32::try_from(*size - at).unwrap_or(max).min(max);
                    let bytes = body.chunk(most)?;
                    if bytes.is_empty() {
                        return Err(Error::conflict(format!("{digest} ends early")));
                    }
                    bytes
                }
            };
            if bytes.is_empty() {
                queue.pop_front();
                at = 0;
                continue;
            }
            at += bytes.len() as u64;
            return Ok(bytes);
        }
        Ok(Vec::new())
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::testing::{Script, digest};

    fn image(script: &Script) -> (Descriptor, Vec<u8>) {
        let layer = vec![7; 70_000];
        let config = b"{}".to_vec();
        let part = |bytes: &[u8], kind: &str| json!({ "mediaType": kind, "digest": script.contents.put(bytes), "size": bytes.len() });
        let layers = [part(&layer, "l+zstd"), part(&layer, "l+zstd")];
        let manifest = json!({ "config": part(&config, "c"), "layers": layers }).to_string();
        let digest = script.contents.put(manifest.as_bytes());
        let size = manifest.len() as u64;
        (Descriptor { media_type: "m".into(), digest, size, annotations: Vec::new() }, layer)
    }

    const LOAD: &str = "POST /v1.41/images/load?quiet=1";

    #[test]
    fn the_archive_has_all_forms() {
        let script = Script::engine().answers(LOAD, 200, &[], r#"{"stream":"Loaded image: app:1\n"}"#);
        let (manifest, layer) = image(&script);
        load(&Engine::connect(script.edge()).unwrap(), &manifest, "team/app:1").unwrap();
        let seen = script.seen.borrow();
        let (_, sent) = seen.last().unwrap();
        let mut archive = tar::Archive::new(sent.as_slice());
        let mut files = std::collections::BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            assert!(files.insert(entry.path().unwrap().display().to_string(), bytes).is_none(), "a part is sent once");
        }
        assert_eq!(files.len(), 6);
        let blob = format!("blobs/sha256/{}", &digest(&layer)[7..]);
        assert_eq!(files[&blob], layer);
        let json = |name: &str| serde_json::from_slice::<Value>(&files[name]).unwrap();
        assert_eq!(json("manifest.json")[0]["RepoTags"], json!(["team/app:1"]));
        assert_eq!(json("manifest.json")[0]["Layers"], json!([blob, blob]));
        let entry = &json("index.json")["manifests"][0];
        assert_eq!(entry["digest"], manifest.digest.as_str());
        assert_eq!(entry["annotations"]["io.containerd.image.name"], "docker.io/team/app:1");
    }

    #[test]
    fn what_the_engine_refuses_is_told() {
        let refused = r#"{"errorDetail":{"message":"invalid tar header"},"error":"invalid tar header"}"#;
        let script = Script::engine().answers(LOAD, 200, &[], refused);
        let (manifest, layer) = image(&script);
        let engine = Engine::connect(script.edge()).unwrap();
        let error = load(&engine, &manifest, "a").unwrap_err();
        assert!(error.hint.unwrap().contains("zstd"));
        script.contents.remove(&digest(&layer));
        assert_eq!(load(&engine, &manifest, "a").unwrap_err().kind, cooperage_sdk::ErrorKind::NotFound);
        let nonsense = Descriptor { digest: script.contents.put(b"[]"), ..manifest };
        assert!(load(&engine, &nonsense, "a").unwrap_err().message.contains("no manifest"));
    }
}
