//! Builds and keeps images with a Docker engine, or with Podman, which answers to the same API.
//!
//! This file joins the client to the contract. The client knows neither WIT nor wasm, so its tests run natively, against
//! real engines and against hostile ones.

pub mod archive;
pub mod build;
mod builder;
mod context;
pub mod credentials;
pub mod edge;
pub mod engine;
pub mod engine_store;
pub mod faults;
mod files;
mod guest;
pub mod image;
mod known;
pub mod lines;
pub mod load;
pub mod names;
pub mod session;
pub mod task;
#[cfg(test)]
mod testing;
mod work;

use cooperage_sdk::prelude::*;
use cooperage_sdk::roles::registry::Arrival;
use cooperage_sdk::secrets::reveal_text;

use credentials::Credential;
use engine::Engine;
use engine_store::Kept;

/// All that is asked of an engine: it can build, and handle images; it cannot start containers of the user's.
const REQUESTS: [&str; 13] = [
    "GET /_ping",
    "GET /version",
    "POST /v*/build",
    "UPGRADE /v*/session",
    "POST /v*/auth",
    "GET /v*/images/json",
    "GET /v*/images/**/json",
    "GET /v*/images/**/get",
    "POST /v*/images/create",
    "POST /v*/images/load",
    "POST /v*/images/**/tag",
    "POST /v*/images/**/push",
    "DELETE /v*/images/**",
];

struct Docker;

impl Plugin for Docker {
    fn describe() -> Description {
        let service = json!({ "name": "docker", "requests": REQUESTS });
        Description::new("docker", env!("CARGO_PKG_VERSION"), "Builds and keeps images with a Docker engine or Podman")
            .asks(Capability::new(
                "service",
                service,
                "to build with the engine, and to give images to it and take them from it",
            ))
            .asks(Capability::named(
                "secrets",
                "for registries that the engine logs in to, and for RUN --mount=type=secret",
            ))
            .asks(Capability::state("to know an image of the engine again without taking it out"))
            .provides("docker.local")
            .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
    }
}

impl Builder for Docker {
    type Parameters = build::parameters::Parameters;

    fn build(request: BuildRequest<Self::Parameters>) -> Result<Vec<Image>> {
        builder::build(&request)
    }
}

impl Task for Docker {
    type Parameters = task::Parameters;

    fn run(request: TaskRequest<Self::Parameters>) -> Result<Outputs> {
        let task::Parameters { login, build, tag, push } = &request.parameters;
        request.parameters.check()?;
        let engine = Engine::connect(guest::edge())?;
        for one in login {
            let auth = Credential::new(&one.host, &one.username, reveal_text(&one.password.secret)?);
            task::login(&engine, &one.host, &auth)?;
            info!("{} accepts the credential of {}", one.host, one.username);
        }
        let mut outputs = Outputs::new();
        if let Some(parameters) = build {
            let order =
                work::Order { parameters, arguments: &[], labels: &[], epoch: None, no_cache: parameters.no_cache };
            let own = Platform {
                os: engine.traits().os.clone(),
                architecture: engine.traits().architecture.clone(),
                variant: None,
            };
            outputs = outputs.value("id", work::Work::prepare(&engine, order)?.run(&own, &[])?);
        }
        if let Some(tag) = tag {
            task::tag(&engine, &tag.image, &tag.name)?;
            outputs = outputs.value("name", tag.name.clone());
        }
        if let Some(push) = push {
            let to = push.to.as_ref().unwrap_or(&push.image);
            let auth = match &push.auth {
                Some(auth) => {
                    let password = reveal_text(&auth.password.secret)?;
                    Credential::new(&names::registry(names::split(to)?.0), &auth.username, password)
                }
                None => Credential::default(),
            };
            if *to != push.image {
                task::tag(&engine, &push.image, to)?;
            }
            let pushed = task::push(&engine, to, &auth)?;
            let repository = names::split(to)?.0;
            let reference =
                pushed.digest.as_ref().map_or_else(|| pushed.name.clone(), |digest| format!("{repository}@{digest}"));
            info!("{} is {}", pushed.name, pushed.digest.as_deref().unwrap_or("pushed"));
            outputs = outputs.value("reference", reference).value("digest", pushed.digest);
        }
        Ok(outputs)
    }
}

impl Registry for Docker {
    fn resolve(repository: &Repository, reference: &str) -> Result<Descriptor> {
        kept(repository)?.manifest(reference)
    }

    fn get_manifest(repository: &Repository, reference: &str) -> Result<Descriptor> {
        kept(repository)?.manifest(reference)
    }

    fn put_manifest(repository: &Repository, manifest: &Descriptor, tag: Option<&str>) -> Result<()> {
        kept(repository)?.put_manifest(manifest, tag)
    }

    fn get_blob(repository: &Repository, blob: &Descriptor) -> Result<()> {
        kept(repository)?.blob(&blob.digest)
    }

    fn put_blob(_: &Repository, blob: &Descriptor, _: &[String]) -> Result<Arrival> {
        engine_store::put_blob(guest::edge().store, &blob.digest)
    }

    fn tags(repository: &Repository) -> Result<Vec<String>> {
        kept(repository)?.tags()
    }

    fn delete(repository: &Repository, reference: &str) -> Result<()> {
        kept(repository)?.delete(reference)
    }

    fn login(repository: &Repository) -> Result<()> {
        Engine::connect(guest::edge())?;
        engine_store::login(repository.credential.is_some())
    }
}

fn kept(repository: &Repository) -> Result<Kept<'static>> {
    let name = names::of_repository(repository)?;
    Ok(Kept::new(Engine::connect(guest::edge())?, name))
}

cooperage_sdk::plugin!(Docker: builder, task, registry);
