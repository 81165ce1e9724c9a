//! `coop image`: the images of the local store.

use cooperage_engine::ports::Registries;
use cooperage_store::{Descriptor, Platform, Policy, Reference, Store, media_types};
use serde_json::json;

use crate::app::App;
use crate::args::{Image, Listing, OutputFormat, PullMode};
use crate::error::Failure;
use crate::exports::{Output, export};
use crate::output;
use crate::progress::bytes;

pub(crate) fn run(app: &App, command: &Image) -> Result<(), Failure> {
    match command {
        Image::Ls(listing) => list(app.store()?, listing),
        Image::Inspect { image, listing } => inspect(app.store()?, image, listing),
        Image::Export { image, output } => {
            let (descriptor, names) = find(app.store()?, image)?;
            export(app, &descriptor, &names, &Output::of_export(output)?)
        }
        Image::Tag { image, name } => tag(app.store()?, image, name),
        Image::Push { image, destination, progress } => {
            let to = destination.as_deref().unwrap_or(image);
            let session = app.session(*progress, PullMode::Missing)?;
            let descriptor = app.block_on(async {
                let step = session.reporter.step(None, format!("push {to}"));
                let result = session.registries.push(image, to, &step).await;
                session.end(step, &result);
                result
            })?;
            output::line(&format!("{to}@{}", descriptor.digest))
        }
        Image::Pull { image, platform, progress } => pull(app, image, platform.as_deref(), *progress),
        Image::Rm { image, cache } => remove(app.store()?, image, *cache),
    }
}

/// An image by name or by the digest of its manifest.
pub(crate) fn find(store: &Store, image: &str) -> Result<(Descriptor, Vec<Reference>), Failure> {
    let missing = || {
        Failure::usage(format!("there is no image {image} in the store"))
            .hint("`coop image ls` lists them, `coop image pull` brings one from a registry")
    };
    if image.starts_with("sha256:") {
        let digest = image.parse().map_err(|error| Failure::usage(format!("{error}")))?;
        let known = store.images().list()?.into_iter().find(|record| record.manifest.digest == digest);
        if let Some(record) = known {
            return Ok((record.manifest, vec![record.name.parse()?]));
        }
        let size = store.blobs().size(&digest)?.ok_or_else(missing)?;
        let text = store.blobs().read(&digest, cooperage_store::images::MAX_DOCUMENT)?;
        let document: serde_json::Value = serde_json::from_slice(&text).map_err(|_| missing())?;
        let media_type = document.get("mediaType").and_then(|kind| kind.as_str()).ok_or_else(missing)?;
        return Ok((Descriptor::new(media_type, digest, size), Vec::new()));
    }
    let name: Reference = image.parse()?;
    let record = store.images().get(&name.tagged().to_string())?.ok_or_else(missing)?;
    Ok((record.manifest, vec![name.tagged()]))
}

fn list(store: &Store, listing: &Listing) -> Result<(), Failure> {
    let images = store.images().list()?;
    if listing.output == OutputFormat::Json {
        return output::json(&images);
    }
    let mut rows = Vec::new();
    for image in images {
        let name: Reference = image.name.parse()?;
        let size = size_of(store, &image.manifest).map_or("?".to_owned(), bytes);
        let short: String = image.manifest.digest.hex().chars().take(12).collect();
        rows.push([name.familiar(), short, size]);
    }
    output::table(["NAME", "DIGEST", "SIZE"], &rows)
}

/// Bytes of all layers, compressed; none if a document is missing.
fn size_of(store: &Store, image: &Descriptor) -> Option<u64> {
    if media_types::is_index(&image.media_type) {
        let index = store.images().index(&image.digest).ok()?;
        return index.manifests.iter().map(|manifest| size_of(store, manifest)).sum();
    }
    let manifest = store.images().manifest(&image.digest).ok()?;
    Some(manifest.config.size + manifest.layers.iter().map(|layer| layer.size).sum::<u64>())
}

fn inspect(store: &Store, image: &str, listing: &Listing) -> Result<(), Failure> {
    let (descriptor, names) = find(store, image)?;
    let names: Vec<String> = names.iter().map(Reference::to_string).collect();
    let mut shown = json!({ "names": names, "descriptor": descriptor });
    if media_types::is_index(&descriptor.media_type) {
        shown["index"] = json!(store.images().index(&descriptor.digest)?);
    } else {
        let manifest = store.images().manifest(&descriptor.digest)?;
        shown["config"] = json!(store.images().config(&manifest)?);
        shown["manifest"] = json!(manifest);
    }
    if listing.output == OutputFormat::Json {
        return output::json(&shown);
    }
    output::line(&format!("name      {}", names.join(", ")))?;
    output::line(&format!("digest    {}", descriptor.digest))?;
    let Some(config) = shown.get("config") else {
        return output::line("index     see --output json");
    };
    let platform = cooperage_store::ImageConfig::new(config.clone()).platform();
    output::line(&format!("platform  {}", platform.map_or("?".to_owned(), |platform| platform.to_string())))?;
    for (label, pointer) in [
        ("created", "/created"),
        ("entry", "/config/Entrypoint"),
        ("command", "/config/Cmd"),
        ("user", "/config/User"),
        ("directory", "/config/WorkingDir"),
        ("env", "/config/Env"),
    ] {
        if let Some(value) = config.pointer(pointer).filter(|value| !value.is_null() && *value != "") {
            output::line(&format!("{label:9} {value}"))?;
        }
    }
    let layers = shown.pointer("/manifest/layers").and_then(|layers| layers.as_array()).cloned().unwrap_or_default();
    for layer in layers {
        let size = layer.get("size").and_then(serde_json::Value::as_u64).map_or("?".to_owned(), bytes);
        let digest = layer.get("digest").and_then(|digest| digest.as_str()).unwrap_or("?").to_owned();
        output::line(&format!("layer     {digest} {size}"))?;
    }
    Ok(())
}

fn tag(store: &Store, image: &str, name: &str) -> Result<(), Failure> {
    let name: Reference = name.parse()?;
    if name.digest().is_some() {
        return Err(Failure::usage(format!("{name} has a digest; a new name has only a tag")));
    }
    let (descriptor, _) = find(store, image)?;
    Ok(store.images().tag(&name.to_string(), &descriptor)?)
}

fn pull(app: &App, image: &str, platform: Option<&str>, progress: crate::args::ProgressMode) -> Result<(), Failure> {
    let platform: Option<Platform> = platform.map(str::parse).transpose()?;
    let session = app.session(progress, PullMode::Always)?;
    let descriptor = app.block_on(async {
        let step = session.reporter.step(None, format!("pull {image}"));
        let result = session.registries.pull(image, platform.as_ref(), &step).await;
        session.end(step, &result);
        result
    })?;
    let name: Reference = image.parse()?;
    if name.digest().is_none() {
        app.store()?.images().tag(&name.to_string(), &descriptor)?;
    }
    output::line(&format!("{}@{}", name.familiar(), descriptor.digest))
}

fn remove(store: &Store, images: &[String], cache: bool) -> Result<(), Failure> {
    for image in images {
        let name: Reference = image.parse()?;
        if !store.images().remove(&name.tagged().to_string())? {
            return Err(Failure::usage(format!("there is no image {} in the store", name.familiar()))
                .hint("`coop image ls` lists them"));
        }
    }
    let policy = if cache { Policy { cache, grace: std::time::Duration::ZERO } } else { Policy::default() };
    let collected = store.collect(policy)?;
    output::line(&format!(
        "freed {} in {} blobs and {} layers",
        bytes(collected.bytes),
        collected.blobs,
        collected.layers
    ))
}
