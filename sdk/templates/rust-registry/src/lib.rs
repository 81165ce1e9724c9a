//! Takes images from OCI image layouts on a web server: the repository `team/app` is the directory
//! `https://HOST/ROOT/team/app` with `index.json` and `blobs`. Nothing can be pushed there.

use cooperage_sdk::content::{self, Writer};
use cooperage_sdk::http::{Request, Response};
use cooperage_sdk::prelude::*;
use cooperage_sdk::roles::registry::Arrival;

/// The annotation with the tag of an image in `index.json`.
const TAG: &str = "org.opencontainers.image.ref.name";

/// Bytes of the largest index or manifest; the distribution specification has the same limit.
const LARGEST: usize = 4 << 20;

struct Layouts;

impl Plugin for Layouts {
    fn describe() -> Description {
        Description::new("my-plugin", env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_DESCRIPTION"))
            .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
            // The server that the user routes an image to, and no other.
            .asks(Capability::http(["registry"], "to read the layouts on the server"))
    }
}

impl Registry for Layouts {
    fn resolve(repository: &Repository, reference: &str) -> Result<Descriptor> {
        if reference.starts_with("sha256:") { manifest(repository, reference) } else { tagged(repository, reference) }
    }

    fn get_manifest(repository: &Repository, reference: &str) -> Result<Descriptor> {
        let found = Self::resolve(repository, reference)?;
        Self::get_blob(repository, &found)?;
        Ok(found)
    }

    fn get_blob(repository: &Repository, blob: &Descriptor) -> Result<()> {
        if content::stat(&blob.digest)?.is_some() {
            return Ok(());
        }
        let writer = Writer::new();
        get(repository, &path(&blob.digest))?.copy_to(&writer)?;
        // The host hashes while it writes, and refuses what has another digest.
        Writer::commit(writer, &blob.media_type, Some(&blob.digest))?;
        Ok(())
    }

    fn tags(repository: &Repository) -> Result<Vec<String>> {
        let mut tags: Vec<String> = index(repository)?.manifests.into_iter().filter_map(Entry::tag).collect();
        tags.sort();
        Ok(tags)
    }

    fn put_blob(repository: &Repository, _: &Descriptor, _: &[String]) -> Result<Arrival> {
        Err(read_only(repository))
    }

    fn put_manifest(repository: &Repository, _: &Descriptor, _: Option<&str>) -> Result<()> {
        Err(read_only(repository))
    }
}

/// What `index.json` says.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

/// An image of the layout.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Entry {
    fn tag(mut self) -> Option<String> {
        self.annotations.remove(TAG)
    }
}

fn index(repository: &Repository) -> Result<Index> {
    let bytes = get(repository, "index.json")?.bytes(LARGEST)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::conflict(format!("index.json of {} is no image index", repository.name)).because(error.to_string())
    })
}

fn tagged(repository: &Repository, tag: &str) -> Result<Descriptor> {
    let found =
        index(repository)?.manifests.into_iter().find(|entry| entry.annotations.get(TAG).is_some_and(|t| t == tag));
    let Some(Entry { media_type, digest, size, .. }) = found else {
        return Err(Error::not_found(format!("{} has no tag {tag}", repository.name)));
    };
    Ok(Descriptor { media_type, digest, size, annotations: Vec::new() })
}

/// What a digest stands for. Manifests of single platforms are not in `index.json`, so it is looked at itself.
fn manifest(repository: &Repository, digest: &str) -> Result<Descriptor> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: String,
    }

    let bytes = get(repository, &path(digest))?.bytes(LARGEST)?;
    let typed: Typed = serde_json::from_slice(&bytes)
        .map_err(|error| Error::conflict(format!("{digest} is no manifest")).because(error.to_string()))?;
    let (size, digest) = (bytes.len() as u64, digest.to_owned());
    Ok(Descriptor { media_type: typed.media_type, digest, size, annotations: Vec::new() })
}

/// Where a layout has a blob.
fn path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// Reads a file of the layout of a repository.
fn get(repository: &Repository, path: &str) -> Result<Response> {
    let scheme = if repository.plain_http { "http" } else { "https" };
    let root = repository.options.iter().find(|(name, _)| name == "root");
    let root = root.map_or(String::new(), |(_, root)| format!("{}/", root.trim_matches('/')));
    let url = format!("{scheme}://{}/{root}{}/{path}", repository.host, repository.name);
    let response = Request::get(&url)?.send()?;
    let fault = match response.status {
        200 => return Ok(response),
        404 | 410 => {
            Error::not_found(format!("there is no {url}")).hint("the option `root` says where the layouts are")
        }
        401 => Error::unauthenticated(format!("{url} needs credentials, which this plugin does not send")),
        403 => Error::denied(format!("the server refuses {url}")),
        status => Error::unavailable(format!("the server answers {status} to {url}")),
    };
    Err(fault)
}

fn read_only(repository: &Repository) -> Error {
    Error::unsupported(format!("nothing can be pushed to {}", repository.host))
        .hint("copy an image layout to the server: `coop build -o type=oci-dir,dest=DIR`")
}

cooperage_sdk::plugin!(Layouts: registry);
