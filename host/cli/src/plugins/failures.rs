//! What plugins fail with, as failures of the command: each kind has its exit code.

use cooperage_engine::{CallError, LoadError, http};
use cooperage_solve::Error;

use crate::error::{Exit, Failure};

/// A failure of a plugin call as the command's failure; refusals, crashes and limits keep their own words.
pub(crate) fn call_failure(error: CallError) -> Failure {
    match error {
        CallError::Role { .. } => {
            Failure::usage(error.to_string()).hint("`coop plugin ls` lists plugins and what they can do")
        }
        other => Error::from(other).into(),
    }
}

/// A failure around artifacts: wrong names are usage, wrong content is refused, registries are the environment.
pub(crate) fn artifact_failure(error: cooperage_engine::artifact::Error) -> Failure {
    use cooperage_engine::artifact::Error as Artifact;
    let exit = match &error {
        Artifact::Reference { .. }
        | Artifact::NotFound(_)
        | Artifact::NotAComponent { .. }
        | Artifact::Invalid { .. } => Exit::Usage,
        Artifact::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Exit::Usage,
        Artifact::Digest { .. } | Artifact::TooLarge { .. } => Exit::Refused,
        _ => Exit::Environment,
    };
    let failure = Failure::new(exit, error.to_string());
    match &error {
        Artifact::Untrusted { registry, .. } => failure.hint(http::name_authority(registry)),
        _ => failure,
    }
}

pub(crate) fn load_failure(name: &str, error: LoadError) -> Failure {
    // What does not fit is a line each.
    let failure = Failure::usage(format!("the plugin {name} cannot be loaded"));
    error.to_string().lines().fold(failure, |failure, line| failure.cause(line.trim()))
}
