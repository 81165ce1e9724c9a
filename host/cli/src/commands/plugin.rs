//! `coop plugin`: what plugins there are, what they ask for, and how they travel.

mod build;
mod check;
mod declared;
mod edit;
mod holding;
mod inspect;
mod list;
mod look;
mod needs;
mod new;
mod parameters;
mod sign;
mod test;
mod toolchain;

use std::path::Path;

use cooperage_engine::artifact::{PackOptions, RegistryReference, pack};

use crate::app::App;
use crate::args::{Plugin, ProgressMode, PullMode, SigningKey};
use crate::error::Failure;
use crate::output;
use crate::plugins::artifact_failure;

pub(crate) fn run(app: &App, command: &Plugin) -> Result<(), Failure> {
    match command {
        Plugin::New { lang, role, name, directory } => new::new(lang, role, name.as_deref(), directory),
        Plugin::Build { directory } => build::build(app, directory),
        Plugin::Check { plugin, host, strict, listing } => {
            check::check(app, plugin, &check::Wanted { hosts: host, strict: *strict }, listing)
        }
        Plugin::Ls { file, listing } => list::list(app, file, listing),
        Plugin::Inspect { plugin, file, listing } => inspect::inspect(app, plugin, file, listing),
        Plugin::Add { name, from, grant, allow, file } => declared::add(app, (name, from), *grant, allow, &file.file),
        Plugin::Update { name, force, file } => declared::update(app, name, *force, &file.file),
        Plugin::Rm { name, file } => declared::remove(name, &file.file),
        Plugin::Verify { name, key, .. } if key.is_some() || name.iter().any(|name| name.contains('/')) => {
            sign::verify(app, name, key.as_ref())
        }
        Plugin::Verify { name, file, .. } => declared::verify(app, name, &file.file),
        Plugin::Save { name, output, file } => declared::save(app, name, output, &file.file),
        Plugin::Load { directory } => load(app, directory),
        Plugin::Test(options) => test::run(app, options),
        Plugin::Push { file, reference, key } => push(app, file, reference, key),
        Plugin::Sign { reference, key } => sign::sign(app, reference, key),
        Plugin::Keygen { output, password_stdin } => sign::keygen(app, output, *password_stdin),
        Plugin::Pull { reference } => pull(app, reference),
    }
}

/// The path of a component, which may be written as the `file:` reference that other commands take.
fn plain_path(file: &Path) -> &Path {
    match file.to_str().and_then(|text| text.strip_prefix("file:")) {
        Some(path) => Path::new(path.strip_prefix("//").unwrap_or(path)),
        None => file,
    }
}

/// Sends a component, after it was shown to be a plugin this host can run. Its description goes into it.
fn push(app: &App, file: &Path, reference: &str, key: &SigningKey) -> Result<(), Failure> {
    let to: RegistryReference =
        reference.strip_prefix("oci://").unwrap_or(reference).parse().map_err(artifact_failure)?;
    // A wrong password should not be found out when all is pushed.
    let key = key.key.as_deref().map(|file| sign::read(app, file, key.password_stdin)).transpose()?;
    let file = plain_path(file);
    let session = app.session(ProgressMode::Quiet, PullMode::Missing)?;
    let bytes = std::fs::read(file)
        .map_err(|error| Failure::usage(format!("the component {} cannot be read: {error}", file.display())))?;
    let digest = app.block_on(async {
        let plugin = session.plugins.check(&file.display().to_string(), &bytes).await?;
        let description = plugin.description();
        let component = build::with_description(bytes, description)?;
        let mut annotations = description.annotations.clone();
        annotations.insert("org.opencontainers.image.version".to_owned(), description.version.clone());
        annotations.insert("org.opencontainers.image.description".to_owned(), description.summary.clone());
        let epoch = app.environment.epoch().map_err(Failure::usage)?.unwrap_or(0);
        let options = PackOptions { name: description.name.clone(), epoch, target: None, annotations };
        let packed = pack(component.into(), &options).map_err(artifact_failure)?;
        session.plugins.sources().remote.push(&to, &packed).await.map_err(artifact_failure)
    })?;
    match key {
        None => output::line(&format!("oci://{to}@{digest}")),
        Some(key) => {
            let exact = RegistryReference { digest: Some(digest), ..to };
            sign::signed(app, &session, &exact, &key)
        }
    }
}

fn load(app: &App, directory: &Path) -> Result<(), Failure> {
    let session = app.session(ProgressMode::Quiet, PullMode::Missing)?;
    let restored = session.plugins.sources().restore(directory).map_err(artifact_failure)?;
    restored.iter().try_for_each(|reference| output::line(&format!("oci://{reference}")))
}

fn pull(app: &App, reference: &str) -> Result<(), Failure> {
    let session = app.session(ProgressMode::Quiet, PullMode::Missing)?;
    let artifact = app.block_on(session.plugins.fetch(reference, true))?;
    output::line(&artifact.origin)?;
    output::line(&format!("component {}", artifact.digest))
}
