//! Moves files by FTP, and keeps images on FTP servers.
//!
//! This file joins the client to the contract; the client itself knows neither WIT nor wasm, so its tests run
//! natively, against real and against hostile servers.

pub mod client;
pub mod edge;
pub mod fetch;
mod guest;
pub mod paths;
pub mod registry;
pub mod server;
pub mod source;
pub mod task;
pub mod url;

use cooperage_sdk::layer::LayerWriter;
use cooperage_sdk::prelude::*;
use cooperage_sdk::roles::registry::Arrival;
use cooperage_sdk::secrets::reveal_text;
use cooperage_sdk::time::System;

use client::Client;
use edge::Files;
use guest::{Guest, Input};
use registry::Layout;
use registry::lock::Patience;
use registry::place::Place;
use task::Outside;
use url::Url;

struct Ftp;

impl Plugin for Ftp {
    fn describe() -> Description {
        Description::new("ftp", env!("CARGO_PKG_VERSION"), "Moves files by FTP, and keeps images on FTP servers")
            .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
            .asks(Capability::new(
                "tcp",
                json!(["registry", { "from": "parameters" }]),
                "to reach the server, at the ports that it names for data",
            ))
            .asks(Capability::named("secrets", "to log in with the password that the step names"))
            .provides("ftp")
            .provides("ftps")
            .provides("ftpes")
    }
}

impl Task for Ftp {
    type Parameters = task::parameters::Parameters;

    fn run(request: TaskRequest<Self::Parameters>) -> Result<Outputs> {
        let parameters = &request.parameters;
        parameters.action()?;
        let url: Url = parameters.url.parse()?;
        let (server, retries) = parameters.access().server(&url, &reveal_text)?;
        let mut client = Client::new(&Guest, &System, &server, retries);
        let input = request.input().map(Input);
        let outside = Outside { input: input.as_ref().map(|input| input as &dyn Files), store: &Guest };
        let (done, layer) = task::run(&mut client, &outside, &url, parameters, LayerWriter::new)?;
        let mut outputs = Outputs::new().value("files", done.files).value("bytes", done.bytes).value("url", done.url);
        let counted = [("unchanged", done.unchanged.map(Into::into)), ("removed", done.removed.map(Into::into))];
        for (name, value) in counted.into_iter().chain([("entries", done.entries)]) {
            if let Some(value) = value {
                outputs = outputs.value(name, value);
            }
        }
        match layer {
            Some(layer) => Ok(outputs.tree(layer.finish()?)),
            None => Ok(outputs),
        }
    }
}

impl Source for Ftp {
    type Parameters = source::Parameters;

    fn resolve(request: &SourceRequest<Self::Parameters>) -> Result<Version> {
        let url: Url = request.url.parse()?;
        // What names its own version needs neither server nor password.
        if let Some(checksum) = request.parameters.checksum(&url)? {
            return Ok(Version::immutable(checksum));
        }
        let (server, retries) = request.parameters.access().server(&url, &reveal_text)?;
        let mut client = Client::new(&Guest, &System, &server, retries);
        source::resolve(&mut client, &url, &request.parameters)
    }

    fn fetch(request: &SourceRequest<Self::Parameters>, version: &Version) -> Result<Tree> {
        let url: Url = request.url.parse()?;
        let (server, retries) = request.parameters.access().server(&url, &reveal_text)?;
        let mut client = Client::new(&Guest, &System, &server, retries);
        let version = if version.immutable { "" } else { &version.value };
        source::fetch(&mut client, &Guest, &url, &request.parameters, version, LayerWriter::new())?.finish()
    }
}

impl Registry for Ftp {
    fn resolve(repository: &Repository, reference: &str) -> Result<Descriptor> {
        layout(repository, |layout| layout.resolve(reference))
    }

    fn get_manifest(repository: &Repository, reference: &str) -> Result<Descriptor> {
        layout(repository, |layout| layout.get_manifest(reference))
    }

    fn put_manifest(repository: &Repository, manifest: &Descriptor, tag: Option<&str>) -> Result<()> {
        layout(repository, |layout| layout.put_manifest(manifest, tag))
    }

    fn has_blob(repository: &Repository, digest: &str) -> Result<bool> {
        layout(repository, |layout| layout.has_blob(digest))
    }

    fn get_blob(repository: &Repository, blob: &Descriptor) -> Result<()> {
        layout(repository, |layout| layout.get_blob(blob))
    }

    /// Nothing is mounted: an FTP server copies no files.
    fn put_blob(repository: &Repository, blob: &Descriptor, _: &[String]) -> Result<Arrival> {
        layout(repository, |layout| layout.put_blob(blob))
    }

    fn tags(repository: &Repository) -> Result<Vec<String>> {
        layout(repository, |layout| layout.tags())
    }

    fn referrers(repository: &Repository, digest: &str) -> Result<Vec<Descriptor>> {
        layout(repository, |layout| layout.referrers(digest))
    }

    fn delete(repository: &Repository, reference: &str) -> Result<()> {
        layout(repository, |layout| layout.delete(reference))
    }

    fn login(repository: &Repository) -> Result<()> {
        let place = Place::new(repository)?;
        Client::new(&Guest, &System, &place.server, place.retries)
            .again(|session| session.command("NOOP", None))
            .map(drop)
    }
}

fn layout<T>(repository: &Repository, work: impl FnOnce(&mut Layout) -> Result<T>) -> Result<T> {
    let place = Place::new(repository)?;
    let mut client = Client::new(&Guest, &System, &place.server, place.retries);
    work(&mut Layout::new(&mut client, &Guest, &place, Patience::new(place.server.idle)))
}

cooperage_sdk::plugin!(Ftp: task, source, registry);
