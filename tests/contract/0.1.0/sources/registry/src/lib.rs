//! A registry of the release. It keeps names and digests in the plugin's state; the bytes stay in the content store.

#![allow(missing_docs)]

wit_bindgen::generate!({
    path: "../../../../../wit/cooperage-plugin-0.1.0",
    world: "registry-plugin",
    with: { "wasi:io/poll@0.2.12": wasip2::io::poll },
    generate_all,
});

use cooperage::plugin::types::{Descriptor, Error, ErrorKind};
use cooperage::plugin::{content, state};
use exports::cooperage::plugin::plugin::{Capability, Description, Guest as Plugin};
use exports::cooperage::plugin::registry::{Guest as Registry, Repository};

struct Released;

impl Plugin for Released {
    fn describe() -> Description {
        let capability = Capability { class: "state".into(), request: "true".into(), reason: "to keep names".into() };
        Description {
            name: "released-registry".into(),
            version: "0.1.0".into(),
            summary: "Keeps names".into(),
            parameters: Vec::new(),
            capabilities: vec![capability],
            provides: vec!["released.example".into()],
            annotations: Vec::new(),
        }
    }
}

impl Registry for Released {
    fn resolve(at: Repository, reference: String) -> Result<Descriptor, Error> {
        let digest = match read(&format!("tag/{}/{reference}", at.name))? {
            Some(digest) => digest,
            None => reference,
        };
        let kind = read(&format!("manifest/{digest}"))?.ok_or_else(|| not_found(&digest))?;
        let size = content::stat(&digest)?.ok_or_else(|| not_found(&digest))?;
        Ok(Descriptor { media_type: kind, digest, size, annotations: Vec::new() })
    }

    fn get_manifest(at: Repository, reference: String) -> Result<Descriptor, Error> {
        Self::resolve(at, reference)
    }

    fn put_manifest(at: Repository, manifest: Descriptor, tag: Option<String>) -> Result<(), Error> {
        see(&manifest)?;
        write(&format!("manifest/{}", manifest.digest), &manifest.media_type)?;
        let Some(tag) = tag else { return Ok(()) };
        write(&format!("tag/{}/{tag}", at.name), &manifest.digest)?;
        let mut tags = Self::tags(at.clone())?;
        tags.push(tag);
        tags.sort();
        tags.dedup();
        write(&format!("tags/{}", at.name), &tags.join(" "))
    }

    fn has_blob(_: Repository, digest: String) -> Result<bool, Error> {
        Ok(read(&format!("blob/{digest}"))?.is_some())
    }

    fn get_blob(_: Repository, blob: Descriptor) -> Result<(), Error> {
        see(&blob)
    }

    fn put_blob(at: Repository, blob: Descriptor, mount_from: Vec<String>) -> Result<String, Error> {
        if Self::has_blob(at, blob.digest.clone())? {
            return Ok("exists".into());
        }
        see(&blob)?;
        write(&format!("blob/{}", blob.digest), "yes")?;
        Ok(if mount_from.is_empty() { "uploaded" } else { "mounted" }.into())
    }

    fn tags(at: Repository) -> Result<Vec<String>, Error> {
        let tags = read(&format!("tags/{}", at.name))?.unwrap_or_default();
        Ok(tags.split_whitespace().map(str::to_owned).collect())
    }

    fn referrers(at: Repository, digest: String) -> Result<Vec<Descriptor>, Error> {
        // The tag that clients use where a registry has no list of referrers.
        match Self::resolve(at, digest.replace(':', "-")) {
            Ok(descriptor) => Ok(vec![descriptor]),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn delete(at: Repository, reference: String) -> Result<(), Error> {
        let tags: Vec<String> = Self::tags(at.clone())?.into_iter().filter(|tag| *tag != reference).collect();
        write(&format!("tags/{}", at.name), &tags.join(" "))?;
        // An empty value removes the key.
        write(&format!("tag/{}/{reference}", at.name), "")
    }

    fn login(at: Repository) -> Result<(), Error> {
        match at.credential {
            Some(credential) if credential.username == "cooper" && credential.password == "stave" => Ok(()),
            _ => Err(error(ErrorKind::Unauthenticated, "who are you")),
        }
    }
}

/// Reads a blob through, as one that sends it would.
fn see(blob: &Descriptor) -> Result<(), Error> {
    let reader = content::open(&blob.digest)?;
    let mut seen = 0;
    loop {
        let bytes = reader.read(1 << 16)?;
        if bytes.is_empty() {
            break;
        }
        seen += bytes.len() as u64;
    }
    if seen == blob.size { Ok(()) } else { Err(error(ErrorKind::Conflict, "not as many bytes as it should have")) }
}

fn read(key: &str) -> Result<Option<String>, Error> {
    Ok(state::get(key)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn write(key: &str, value: &str) -> Result<(), Error> {
    state::set(key, value.as_bytes(), None)
}

fn not_found(what: &str) -> Error {
    error(ErrorKind::NotFound, &format!("there is no {what}"))
}

fn error(kind: ErrorKind, message: &str) -> Error {
    Error { kind, message: message.into(), context: Vec::new(), hint: None, location: None, retry_after: None }
}

export!(Released);
