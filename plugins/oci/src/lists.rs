//! Lists that come in pages: tags and referrers. How many pages there are, and where, is for the registry to say; this
//! keeps it within bounds.

use std::collections::HashSet;

use cooperage_sdk::http::Url;
use cooperage_sdk::names;
use cooperage_sdk::{Descriptor, Error, ErrorKind, Result};
use serde_json::Value;

use crate::client::{Client, Request};
use crate::edge::Answer;
use crate::{link, manifests};

const MOST_PAGES: usize = 1000;
const LARGEST_PAGE: usize = 8 << 20;
const MOST_ITEMS: usize = 200_000;

/// The tags of the repository, sorted.
///
/// # Errors
/// `not-found` if there is no such repository.
pub fn tags(client: &Client) -> Result<Vec<String>> {
    let what = format!("cannot list the tags of {}", client.name());
    let mut tags = Vec::new();
    let first = client.url("tags/list")?;
    pages(client, first, &what, |page| {
        let listed = page["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
        tags.extend(listed.iter().filter_map(Value::as_str).filter(|tag| names::is_tag(tag)).map(str::to_owned));
        tags.len()
    })?;
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

/// Manifests that refer to this one as their subject. What an index has beside a descriptor's own fields, its
/// `artifactType`, is among the annotations under that name.
///
/// # Errors
/// Those of the registry.
pub fn referrers(client: &Client, digest: &str) -> Result<Vec<Descriptor>> {
    names::check_digest(digest)?;
    let what = format!("cannot list the referrers of {digest} in {}", client.name());
    let mut found = Vec::new();
    let first = client.url(&format!("referrers/{digest}"))?;
    match pages(client, first, &what, |page| {
        found.extend(descriptors(page));
        found.len()
    }) {
        Ok(()) => return Ok(found),
        // Older registries have no such list; then clients keep it under a tag.
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::InvalidInput) => {}
        Err(error) => return Err(error),
    }
    match manifests::get(client, &manifests::referrers_tag(digest)) {
        Ok(index) => {
            let bytes = client.edge().store.read(&index.digest, manifests::LARGEST)?;
            Ok(descriptors(&serde_json::from_slice(&bytes)?))
        }
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Calls `take` with each page; it gives the number of items so far.
fn pages(client: &Client, first: Url, what: &str, mut take: impl FnMut(&Value) -> usize) -> Result<()> {
    let mut seen = HashSet::new();
    let mut next = Some(first);
    while let Some(url) = next {
        if seen.len() >= MOST_PAGES || !seen.insert(url.to_string()) {
            return Err(Error::conflict(what).because("its pages do not end"));
        }
        let request =
            Request::new("GET", url.clone()).header("accept", format!("{}, application/json", manifests::OCI_INDEX));
        let mut answer = client.send(&request)?;
        if answer.status != 200 {
            return Err(client.fault(what, answer));
        }
        let (bytes, more) = answer.read(LARGEST_PAGE)?;
        if more {
            return Err(Error::limit(what).because(format!("a page has more than {LARGEST_PAGE} bytes")));
        }
        let page = serde_json::from_slice(&bytes)
            .map_err(|error| Error::unsupported(what).because(format!("a page is no JSON: {error}")))?;
        if take(&page) > MOST_ITEMS {
            return Err(Error::limit(what).because(format!("there are more than {MOST_ITEMS}")));
        }
        next = next_page(&url, &answer).map_err(|error| error.context(what))?;
    }
    Ok(())
}

fn next_page(url: &Url, answer: &Answer) -> Result<Option<Url>> {
    let Some(target) = link::next(answer.headers.all("link")) else { return Ok(None) };
    let next = url.join(target)?;
    // Registries behind a proxy may not know their own scheme; their host they know.
    if next.authority() != url.authority() {
        return Err(Error::denied(format!("the next page is at {}, another host", next.authority())));
    }
    url.join(&next.path_and_query()).map(Some)
}

fn descriptors(index: &Value) -> Vec<Descriptor> {
    let listed = index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default();
    listed.iter().filter_map(descriptor).collect()
}

fn descriptor(entry: &Value) -> Option<Descriptor> {
    let media_type = entry["mediaType"].as_str().filter(|media_type| names::is_media_type(media_type))?;
    let digest = entry["digest"].as_str().filter(|digest| names::is_digest(digest))?;
    let size = entry["size"].as_u64()?;
    let mut annotations: Vec<(String, String)> = Vec::new();
    if let Some(map) = entry["annotations"].as_object() {
        annotations.extend(map.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))));
    }
    if let Some(kind) = entry["artifactType"].as_str() {
        annotations.push(("artifactType".to_owned(), kind.to_owned()));
    }
    Some(Descriptor { media_type: media_type.to_owned(), digest: digest.to_owned(), size, annotations })
}
