//! Calls HTTP APIs, and moves files by HTTP: as a step of a flow, and as a source of files behind URLs.
//!
//! This file joins the core to the contract; the core itself knows neither WIT nor wasm, so its tests run natively,
//! against real and against hostile servers.

pub mod client;
pub mod download;
pub mod edge;
pub mod faults;
mod guest;
pub mod outputs;
pub mod parameters;
pub mod patience;
pub mod payload;
pub mod plan;
pub mod poll;
pub mod range;
pub mod save;
pub mod source;
pub mod status;
pub mod task;
pub mod url;
pub mod value;

use std::rc::Rc;

use cooperage_sdk::prelude::*;
use cooperage_sdk::trees::{CopyOptions, Origin};

use guest::Guest;
use parameters::Parameters;

struct Http;

impl Plugin for Http {
    fn describe() -> Description {
        Description::new("http", env!("CARGO_PKG_VERSION"), "Calls HTTP APIs, and moves files by HTTP")
            .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
            .asks(Capability::new(
                "http",
                json!(["redirects", { "from": "parameters" }]),
                "to reach the URLs that the flow names, and to follow them where they lead",
            ))
            .asks(Capability::named("secrets", "to log in with the secrets that the flow names"))
            .asks(Capability::registries(["pull"], "to send an image that the flow names as an archive"))
            .provides("http")
            .provides("https")
    }
}

impl Task for Http {
    type Parameters = Parameters;

    fn run(request: TaskRequest<Parameters>) -> Result<Outputs> {
        let TaskRequest { parameters, inputs } = request;
        let input = inputs.into_iter().find(|(name, _)| name.is_empty()).map(|(_, tree)| Rc::new(tree));
        let guest = Guest::new(input.clone());
        let done = task::perform(guest.edge(), &parameters)?;
        let add = |outputs: Outputs, (name, value): (String, serde_json::Value)| outputs.value(name, value);
        let outputs = done.values.into_iter().fold(Outputs::new(), add);
        let Some(path) = done.path else { return Ok(outputs) };
        let made = guest.made()?;
        Ok(outputs.tree(match input.filter(|_| parameters.keep_input == Some(true)) {
            Some(input) => beside(&input, &made, &path),
            None => made,
        }))
    }
}

/// The files of the input and the new one.
fn beside(input: &Tree, made: &Tree, path: &str) -> Tree {
    let origin = Origin::new(format!("add {path}"));
    input.copy(made, &["/".to_owned()], "/", &CopyOptions::default(), &origin)
}

impl Source for Http {
    type Parameters = source::Parameters;

    fn resolve(request: &SourceRequest<source::Parameters>) -> Result<Version> {
        source::resolve(Guest::new(None).edge(), &request.url, &request.parameters)
    }

    fn fetch(request: &SourceRequest<source::Parameters>, version: &Version) -> Result<Tree> {
        let guest = Guest::new(None);
        source::fetch(guest.edge(), &request.url, &request.parameters, version)?;
        guest.made()
    }
}

cooperage_sdk::plugin!(Http: task, source);
