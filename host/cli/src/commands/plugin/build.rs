//! `coop plugin build`: runs a project's own build script, and puts what the plugin says of itself into the component, so
//! that nobody has to run it to know that. Knows no language but for what its toolchain lacks.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cooperage_engine::Description;
use cooperage_engine::artifact::{embed_description, read_description};
use cooperage_store::Digest;

use super::toolchain::Language;
use crate::app::App;
use crate::args::{ProgressMode, PullMode};
use crate::error::{Exit, Failure};
use crate::output;
use crate::plugins::artifact_failure;
use crate::progress::bytes;

/// The script of a project, and what it makes.
const SCRIPT: &str = "build";
const COMPONENT: &str = "plugin.wasm";
/// The variable with the directory of the contract.
const WIT: &str = "WIT";

pub(super) fn build(app: &App, directory: &Path) -> Result<(), Failure> {
    let directory = project(directory)?;
    let component = directory.join(COMPONENT);
    run_script(app, &directory, &component)?;
    let wasm = read(&component)?;
    let session = app.session(ProgressMode::Quiet, PullMode::Missing)?;
    let plugin = app.block_on(session.plugins.check(&component.display().to_string(), &wasm))?;
    let description = plugin.description();
    let wasm = with_description(wasm, description)?;
    output::whole(&component, &wasm).map_err(|error| unwritten(&component, &error))?;
    let roles: Vec<_> = plugin.roles().names().collect();
    let size = bytes(wasm.len() as u64);
    output::line(&format!("{} {} ({}), {size}", description.name, description.version, roles.join(", ")))?;
    output::line(&format!("{} {}", component.display(), Digest::of(&wasm)))
}

/// The component with its description in it; one that is there already stays.
pub(super) fn with_description(component: Vec<u8>, description: &Description) -> Result<Vec<u8>, Failure> {
    if read_description(&component).map_err(artifact_failure)?.is_some() {
        return Ok(component);
    }
    let json = serde_json::to_string(description).map_err(|error| Failure::usage(error.to_string()))?;
    embed_description(&component, &json).map_err(artifact_failure)
}

fn project(directory: &Path) -> Result<PathBuf, Failure> {
    let hint = "`coop plugin new` makes a project; its `build` makes plugin.wasm";
    let found = directory.canonicalize().map_err(|error| {
        Failure::usage(format!("the directory {} cannot be read: {error}", directory.display())).hint(hint)
    })?;
    if !found.join(SCRIPT).is_file() {
        return Err(Failure::usage(format!("{} has no script `{SCRIPT}`", directory.display())).hint(hint));
    }
    Ok(found)
}

fn run_script(app: &App, directory: &Path, component: &Path) -> Result<(), Failure> {
    if let Some(language) = Language::of(directory) {
        let missing = language.missing(directory, app.environment.get("CC"));
        if !missing.is_empty() {
            let failure = Failure::new(Exit::Environment, "this machine lacks what the plugin is built with");
            return Err(missing.into_iter().fold(failure, Failure::cause));
        }
    }
    // What an earlier run has made must not pass for what this one makes.
    if component.exists() {
        std::fs::remove_file(component).map_err(|error| unwritten(component, &error))?;
    }
    let mut command = Command::new(directory.join(SCRIPT));
    command.current_dir(directory).stdin(Stdio::null());
    if app.environment.get(WIT).is_none()
        && let Some(wit) = contract(directory)
    {
        command.env(WIT, wit);
    }
    // Standard output is for the result.
    let output = std::io::stderr().as_fd().try_clone_to_owned();
    command.stdout(output.map_or_else(|_| Stdio::null(), Stdio::from));
    let failed = |what: String| Failure::new(Exit::Failed, format!("{}: {what}", directory.join(SCRIPT).display()));
    let status = command.status().map_err(|error| failed(format!("cannot be started: {error}")))?;
    if !status.success() {
        return Err(failed(format!("the build failed ({status})")).hint("what it said is above"));
    }
    if !component.is_file() {
        return Err(failed(format!("it made no {COMPONENT}")).hint("its last command has to put the component there"));
    }
    Ok(())
}

/// The directory of the contract in a project; of several, the newest version.
fn contract(directory: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(directory.join("wit")).ok()?;
    let named = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("cooperage-plugin-"))
    };
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(named).max()
}

fn read(component: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(component)
        .map_err(|error| Failure::usage(format!("the component {} cannot be read: {error}", component.display())))
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Environment, format!("{} cannot be written: {error}", path.display()))
}
