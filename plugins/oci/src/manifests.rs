//! Manifests and indexes: resolve, fetch, send, delete (OCI distribution 1.1, "Pull", "Push", "Content Management").

use std::rc::Rc;

use cooperage_sdk::names;
use cooperage_sdk::{Context, Descriptor, Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::client::{Client, Request};
use crate::edge::{Answer, Payload};

/// What registries accept, and so the most that is read.
pub const LARGEST: u64 = 4 << 20;

const ACCEPT: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];
/// An OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_OLD: &str = "application/vnd.docker.distribution.manifest.v1";

/// What a tag or digest stands for.
///
/// # Errors
/// `not-found` if nothing; `conflict` if the registry contradicts itself.
pub fn resolve(client: &Client, reference: &str) -> Result<Descriptor> {
    names::check_reference(reference)?;
    let what = format!("cannot resolve {}", display(client, reference));
    let answer = client.send(&request(client, "HEAD", reference)?)?;
    match answer.status {
        200 => {}
        // A HEAD has no body to say why, and some registries know no HEAD.
        400 | 403 | 404 | 405 => return get(client, reference).map_err(|error| same(error, &what)),
        _ => return Err(client.fault(&what, answer)),
    }
    let digest = digest(&answer, reference)?;
    let size = answer.headers.content_length().filter(|size| *size > 0);
    match (digest, media_type(&answer), size) {
        (Some(digest), Some(media_type), Some(size)) => {
            check_size(size).context(what)?;
            Ok(Descriptor { media_type, digest, size, annotations: Vec::new() })
        }
        // Not all registries say all of it.
        _ => get(client, reference).map_err(|error| same(error, &what)),
    }
}

/// The message of `get` gives way to that of the call that the user made.
fn same(mut error: Error, what: &str) -> Error {
    if error.message.starts_with("cannot fetch ") {
        what.clone_into(&mut error.message);
    }
    error
}

/// Brings a manifest or index into the store.
///
/// # Errors
/// `not-found` if it is not there, `conflict` if it has another digest, `limit` if it is too large.
pub fn get(client: &Client, reference: &str) -> Result<Descriptor> {
    names::check_reference(reference)?;
    let what = format!("cannot fetch {}", display(client, reference));
    let mut tries = 0;
    loop {
        tries += 1;
        let answer = client.send(&request(client, "GET", reference)?).context(&what)?;
        if answer.status != 200 {
            return Err(client.fault(&what, answer));
        }
        match receive(client, answer, reference) {
            // The head was there, so the registry is: what broke was this one connection.
            Err(error) if error.kind == ErrorKind::Unavailable && tries < 3 => {}
            result => return result.context(&what),
        }
    }
}

fn receive(client: &Client, mut answer: Answer, reference: &str) -> Result<Descriptor> {
    let expected = digest(&answer, reference)?;
    let announced = answer.headers.content_length();
    check_size(announced.unwrap_or(0))?;
    let (bytes, more) = answer.read(LARGEST as usize)?;
    check_size(bytes.len() as u64 + u64::from(more))?;
    if announced.is_some_and(|announced| announced != bytes.len() as u64) {
        return Err(Error::unavailable("the manifest has another length than announced"));
    }
    let media_type = match media_type(&answer) {
        Some(media_type) => media_type,
        None => guess_media_type(&bytes)?,
    };
    let mut sink = client.edge().store.sink();
    sink.write(&bytes)?;
    sink.commit(&media_type, expected.as_deref())
}

/// Sends a manifest or index of the store.
///
/// # Errors
/// Those of the registry; `conflict` if it takes it for something else.
pub fn put(client: &Client, manifest: &Descriptor, tag: Option<&str>) -> Result<()> {
    names::check_digest(&manifest.digest)?;
    let reference = tag.unwrap_or(&manifest.digest);
    names::check_reference(reference)?;
    let what = format!("cannot push {}", display(client, reference));
    let bytes = client.edge().store.read(&manifest.digest, LARGEST).context(&what)?;
    if bytes.len() as u64 != manifest.size {
        return Err(Error::conflict(what).because(format!(
            "it has {} bytes instead of {}",
            bytes.len(),
            manifest.size
        )));
    }
    let subject = subject(&bytes);
    let answer = send(client, reference, &manifest.media_type, bytes.clone(), &what)?;
    if let Some(stored) = answer.headers.get("docker-content-digest")
        && names::is_digest(stored)
        && stored != manifest.digest
    {
        let differs = format!("{} stored {stored} instead of {}", client.repository().host, manifest.digest);
        return Err(Error::conflict(what).because(differs));
    }
    match subject {
        // Registries that know referrers say so here; for the others the client keeps the list.
        Some(subject) if answer.headers.get("oci-subject").is_none() => {
            list_referrer(client, &subject, manifest, &bytes).context(what)
        }
        _ => Ok(()),
    }
}

fn send(client: &Client, reference: &str, media_type: &str, bytes: Vec<u8>, what: &str) -> Result<Answer> {
    let request = Request::new("PUT", client.url(&format!("manifests/{reference}"))?)
        .header("content-type", media_type)
        .payload(Payload::Bytes(Rc::from(bytes)));
    let answer = client.send(&request)?;
    if answer.is_success() { Ok(answer) } else { Err(client.fault(what, answer)) }
}

/// The tag under which referrers are listed where the registry has no list of its own.
#[must_use]
pub fn referrers_tag(digest: &str) -> String {
    digest.replacen(':', "-", 1)
}

fn subject(manifest: &[u8]) -> Option<String> {
    let manifest: Value = serde_json::from_slice(manifest).ok()?;
    manifest["subject"]["digest"].as_str().filter(|digest| names::is_digest(digest)).map(str::to_owned)
}

/// Adds a manifest to the list of its subject ("Pushing Manifests with Subject").
fn list_referrer(client: &Client, subject: &str, manifest: &Descriptor, bytes: &[u8]) -> Result<()> {
    let tag = referrers_tag(subject);
    let mut index = match get(client, &tag) {
        Ok(index) => {
            let bytes = client.edge().store.read(&index.digest, LARGEST)?;
            serde_json::from_slice(&bytes).unwrap_or(Value::Null)
        }
        Err(error) if error.kind == ErrorKind::NotFound => Value::Null,
        Err(error) => return Err(error),
    };
    if !index["manifests"].is_array() {
        index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    }
    let listed = index["manifests"].as_array_mut().expect("made an array above");
    if listed.iter().any(|entry| entry["digest"] == manifest.digest.as_str()) {
        return Ok(());
    }
    let body: Value = serde_json::from_slice(bytes)?;
    let kind = [&body["artifactType"], &body["config"]["mediaType"]].into_iter().find_map(Value::as_str);
    let mut entry = json!({ "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size });
    if let Some(kind) = kind {
        entry["artifactType"] = kind.into();
    }
    if body["annotations"].is_object() {
        entry["annotations"] = body["annotations"].clone();
    }
    listed.push(entry);
    let bytes = serde_json::to_vec(&index)?;
    check_size(bytes.len() as u64)?;
    send(client, &tag, OCI_INDEX, bytes, "cannot list the referrer").map(drop)
}

/// Deletes a tag or a manifest.
///
/// # Errors
/// `not-found`; `unsupported` if the registry deletes nothing, or no tags.
pub fn delete(client: &Client, reference: &str) -> Result<()> {
    names::check_reference(reference)?;
    let request = Request::new("DELETE", client.url(&format!("manifests/{reference}"))?);
    let answer = client.send(&request)?;
    if answer.is_success() {
        return Ok(());
    }
    let what = format!("cannot delete {}", display(client, reference));
    let refuses_tag = names::is_tag(reference) && matches!(answer.status, 400 | 405);
    let mut error = client.fault(&what, answer);
    if refuses_tag {
        error.kind = ErrorKind::Unsupported;
        error = error.hint("this registry deletes by digest only, and with it all tags of the same manifest");
    }
    Err(error)
}

fn request(client: &Client, method: &'static str, reference: &str) -> Result<Request> {
    let url = client.url(&format!("manifests/{reference}"))?;
    Ok(Request::new(method, url).header("accept", ACCEPT.join(", ")))
}

/// The digest asked for, or the one that the registry names; they must agree.
fn digest(answer: &Answer, reference: &str) -> Result<Option<String>> {
    let named = answer.headers.get("docker-content-digest").filter(|digest| names::is_digest(digest));
    if !names::is_digest(reference) {
        return Ok(named.map(str::to_owned));
    }
    match named {
        Some(named) if named != reference => {
            Err(Error::conflict(format!("{} answers {named} for {reference}", answer.url.authority())))
        }
        _ => Ok(Some(reference.to_owned())),
    }
}

/// The media type, if the registry names one that is more than JSON or text.
fn media_type(answer: &Answer) -> Option<String> {
    let field = answer.headers.get("content-type")?;
    let media_type = field.split(';').next().unwrap_or_default().trim();
    let telling = names::is_media_type(media_type) && media_type.starts_with("application/vnd.");
    telling.then(|| media_type.to_owned())
}

fn guess_media_type(bytes: &[u8]) -> Result<String> {
    let body: Value =
        serde_json::from_slice(bytes).map_err(|error| Error::conflict(format!("the manifest is no JSON: {error}")))?;
    let media_type = match body["mediaType"].as_str() {
        Some(named) if names::is_media_type(named) => named,
        _ if body["manifests"].is_array() => OCI_INDEX,
        _ if body["config"].is_object() => OCI_MANIFEST,
        _ if body["schemaVersion"] == 1 => DOCKER_OLD,
        _ => return Err(Error::conflict("what the registry has is neither manifest nor index")),
    };
    if media_type.starts_with(DOCKER_OLD) {
        return Err(Error::unsupported("the image is in Docker's old format (schema 1)")
            .hint("pull and push it again with a newer client to convert it"));
    }
    Ok(media_type.to_owned())
}

fn check_size(size: u64) -> Result<()> {
    if size <= LARGEST { Ok(()) } else { Err(Error::limit(format!("a manifest of more than {LARGEST} bytes"))) }
}

fn display(client: &Client, reference: &str) -> String {
    let separator = if names::is_digest(reference) { '@' } else { ':' };
    format!("{}{separator}{reference}", client.name())
}
