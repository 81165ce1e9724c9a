//! Brings files out of git repositories over HTTP, as a step of a flow and behind URLs.
//!
//! This file joins the client to the contract; the client itself knows neither WIT nor wasm, so its tests run natively.

pub mod checkout;
pub mod clone;
pub mod edge;
pub mod faults;
pub mod fetch;
mod guest;
pub mod id;
pub mod login;
pub mod modules;
pub mod object;
pub mod pack;
pub mod packet;
pub mod parameters;
pub mod place;
pub mod refs;
pub mod server;

use cooperage_sdk::layer::LayerWriter;
use cooperage_sdk::prelude::*;
use cooperage_sdk::secrets::reveal_text;

use clone::{Resolved, Wanted};
use guest::Guest;
use login::Login;
use parameters::{SECRETS_OF_A_BUILD, SourceParameters, TaskParameters, header_of_a_build};
use refs::{Ref, Reference};

struct Git;

impl Plugin for Git {
    fn describe() -> Description {
        Description::new("git", env!("CARGO_PKG_VERSION"), "Brings files out of git repositories over HTTP")
            .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
            .asks(Capability::named(
                "http",
                "to fetch the repository that the step or the URL names, and submodules from hosts that the step names",
            ))
            .asks(Capability::named("secrets", "to log in with the credentials that the step names"))
            .asks(Capability::secrets(
                SECRETS_OF_A_BUILD,
                "to log in where a URL of a build leads to a private repository",
            ))
            .provides("git+http")
            .provides("git+https")
            .provides("http:*.git")
            .provides("https:*.git")
    }
}

impl Task for Git {
    type Parameters = TaskParameters;

    fn run(request: TaskRequest<TaskParameters>) -> Result<Outputs> {
        let parameters = request.parameters;
        let wanted = parameters.wanted()?;
        let login = Login::known(&wanted.url, parameters.header(reveal_text)?)?;
        let resolved = clone::resolve(&Guest, &login, &wanted)?;
        let mut layer = LayerWriter::new();
        let cloned = clone::clone(&Guest, &login, &wanted, resolved, &mut layer)?;
        Ok(Outputs::new()
            .value("commit", cloned.commit.to_string())
            .value("short", cloned.commit.short())
            .value("ref", cloned.name)
            .value("time", cloned.time)
            .value("tree_id", cloned.tree.to_string())
            .tree(layer.finish()?))
    }
}

impl Source for Git {
    type Parameters = SourceParameters;

    fn resolve(request: &SourceRequest<SourceParameters>) -> Result<Version> {
        let wanted = request.parameters.wanted(&request.url)?;
        let found = clone::resolve(&Guest, &login_of_a_build(&wanted), &wanted)?.found;
        let version = match wanted.reference {
            Reference::Commit(id) => Version::immutable(id.to_string()),
            _ => Version::new(found.commit.to_string()),
        };
        Ok(version.annotation("commit", found.commit.to_string()).annotation("ref", found.name))
    }

    fn fetch(request: &SourceRequest<SourceParameters>, version: &Version) -> Result<Tree> {
        let wanted = request.parameters.wanted(&request.url)?;
        let id = version.value.parse()?;
        let resolved = Resolved::from(Ref { name: version.value.clone(), id, commit: id });
        let mut layer = LayerWriter::new();
        clone::clone(&Guest, &login_of_a_build(&wanted), &wanted, resolved, &mut layer).map_err(|error| {
            let gone = error.kind == ErrorKind::NotFound;
            if gone { Error { kind: ErrorKind::Conflict, ..error } } else { error }
        })?;
        layer.finish()
    }
}

fn login_of_a_build(wanted: &Wanted) -> Login<'_> {
    Login::on_demand(&wanted.url, || header_of_a_build(guest::reveal_if_there))
}

cooperage_sdk::plugin!(Git: task, source);
