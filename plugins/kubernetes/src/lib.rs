//! Updates workloads of a Kubernetes cluster, as a step of a flow: applies manifests, makes the secret that images are
//! pulled with, sets images and waits for the rollout; or writes the manifests instead.
//!
//! This file joins all that to the contract. The rest knows neither WIT nor wasm, so its tests run natively, against a
//! stand-in for an API server that checks every request.

pub mod access;
pub mod change;
pub mod client;
pub mod duration;
pub mod edge;
pub mod faults;
mod guest;
mod input;

pub mod kinds;
pub mod kubeconfig;
pub mod manifests;
pub mod names;
pub mod owned;
pub mod parameters;
pub mod pods;
pub mod retry;
pub mod rollout;
pub mod run;
pub mod secret;
pub mod value;
pub mod wait;
pub mod watch;
pub mod workload;

use cooperage_sdk::prelude::*;
use cooperage_sdk::trees::Origin;

use manifests::File;
use parameters::{Parameters, Wanted};
use run::Outcome;

/// Longer manifests are no output, which flows keep and show.
const LARGEST_OUTPUT: usize = 1 << 20;

struct Kubernetes;

impl Plugin for Kubernetes {
    fn describe() -> Description {
        Description::new("kubernetes", env!("CARGO_PKG_VERSION"), "Updates workloads of a Kubernetes cluster")
            .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
            .asks(Capability::named("http", "to reach the API server that the flow names"))
            .asks(Capability::named("secrets", "to log in to the cluster, and to make the secret for pulling images"))
    }
}

impl Task for Kubernetes {
    type Parameters = Parameters;

    fn run(request: TaskRequest<Parameters>) -> Result<Outputs> {
        let files = match request.parameters.apply.as_slice() {
            [] => Vec::new(),
            paths => input::read(request.required_input()?, paths)?,
        };
        let input = request.inputs.into_iter().find(|(name, _)| name.is_empty()).map(|(_, tree)| tree);
        let wanted = Wanted::new(request.parameters)?;
        match &wanted.write {
            Some(directory) => on_paper(&wanted, directory, &files, input),
            None => {
                let outcome = run::run(&wanted, &files, guest::edge(), &secrets::reveal)?;
                outputs(&wanted, &outcome)
            }
        }
    }
}

/// Writes the manifests into the tree of the step, beside what its input has.
fn on_paper(wanted: &Wanted, directory: &str, files: &[File], input: Option<Tree>) -> Result<Outputs> {
    let outcome = run::write(wanted, files, &secrets::reveal)?;
    let mut tree = input.unwrap_or_else(Tree::scratch);
    for file in outcome.files()? {
        let path = format!("/{directory}/{}", file.name).replace("//", "/");
        let origin = Origin::new(format!("write {path}"));
        tree = tree.write_file(&path, file.text.as_bytes(), file.mode, None, &origin);
    }
    if wanted.parameters.pull_secret.is_some() {
        warn!("the tree of this step has the password of the registry in clear");
    }
    Ok(outputs(wanted, &outcome)?.tree(tree))
}

fn outputs(wanted: &Wanted, outcome: &Outcome) -> Result<Outputs> {
    let objects: Vec<String> = outcome.documents.iter().map(|document| document.identity.to_string()).collect();
    let mut outputs = Outputs::new()
        .value("workload", wanted.workload.as_ref().map(ToString::to_string))
        .value("generation", outcome.generation())
        .value("replicas", outcome.replicas())
        .value("previous_image", outcome.previous_image.clone())
        .value("objects", objects);
    let manifests = outcome.manifests()?;
    if manifests.len() <= LARGEST_OUTPUT {
        outputs = outputs.value("manifests", manifests);
    } else {
        warn!("the manifests are too long for an output");
    }
    Ok(outputs)
}

cooperage_sdk::plugin!(Kubernetes: task);
