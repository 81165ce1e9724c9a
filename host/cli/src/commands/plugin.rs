//! `coop plugin`: what plugins there are, what they ask for, and how they travel.

mod declared;
mod edit;
mod sign;

use std::path::Path;

use cooperage_engine::Plugin as Loaded;
use cooperage_engine::artifact::{PackOptions, RegistryReference, embed_description, pack, read_description};
use serde_json::json;

use crate::app::App;
use crate::args::{Listing, OutputFormat, Plugin, ProgressMode, PullMode, SigningKey};
use crate::error::Failure;
use crate::output;
use crate::plugins::artifact_failure;

pub(crate) fn run(app: &App, command: &Plugin) -> Result<(), Failure> {
    match command {
        Plugin::Ls(listing) => list(app, listing),
        Plugin::Inspect { plugin, listing } => inspect(app, plugin, listing),
        Plugin::Add { name, from, grant, allow, file } => declared::add(app, (name, from), *grant, allow, &file.file),
        Plugin::Update { name, force, file } => declared::update(app, name, *force, &file.file),
        Plugin::Rm { name, file } => declared::remove(name, &file.file),
        Plugin::Verify { name, key, .. } if key.is_some() || name.iter().any(|name| name.contains('/')) => {
            sign::verify(app, name, key.as_ref())
        }
        Plugin::Verify { name, file, .. } => declared::verify(app, name, &file.file),
        Plugin::Save { name, output, file } => declared::save(app, name, output, &file.file),
        Plugin::Load { directory } => load(app, directory),
        Plugin::Push { file, reference, key } => push(app, file, reference, key),
        Plugin::Sign { reference, key } => sign::sign(app, reference, key),
        Plugin::Keygen { output, password_stdin } => sign::keygen(app, output, *password_stdin),
        Plugin::Pull { reference } => pull(app, reference),
    }
}

fn list(app: &App, listing: &Listing) -> Result<(), Failure> {
    let session = app.session(ProgressMode::Quiet, PullMode::Missing)?;
    let plugins = app.block_on(async {
        let mut plugins = Vec::new();
        for name in session.plugins.names()? {
            plugins.push((name.clone(), session.plugins.inspect(&name).await?));
        }
        Ok::<_, Failure>(plugins)
    })?;
    if listing.output == OutputFormat::Json {
        let all: Vec<_> = plugins.iter().map(|(name, plugin)| described(name, plugin)).collect();
        return output::json(&all);
    }
    let row = |(name, plugin): &(String, Loaded)| {
        let roles: Vec<&str> = plugin.roles().names().collect();
        let description = plugin.description();
        [name.clone(), description.version.clone(), roles.join(", "), description.summary.clone()]
    };
    let rows: Vec<_> = plugins.iter().map(row).collect();
    output::table(["NAME", "VERSION", "ROLES", "SUMMARY"], &rows)
}

fn described(name: &str, plugin: &Loaded) -> serde_json::Value {
    json!({
        "name": name,
        "digest": plugin.digest(),
        "roles": plugin.roles().names().collect::<Vec<_>>(),
        "description": plugin.description(),
        "advice": plugin.advice(),
    })
}

fn inspect(app: &App, reference: &str, listing: &Listing) -> Result<(), Failure> {
    let session = app.session(ProgressMode::Quiet, PullMode::Missing)?;
    let plugin = app.block_on(session.plugins.inspect(reference))?;
    if listing.output == OutputFormat::Json {
        return output::json(&described(reference, &plugin));
    }
    let description = plugin.description();
    output::line(&format!("name     {} {}", description.name, description.version))?;
    output::line(&format!("summary  {}", description.summary))?;
    output::line(&format!("digest   {}", plugin.digest()))?;
    output::line(&format!("roles    {}", plugin.roles().names().collect::<Vec<_>>().join(", ")))?;
    for request in &description.capabilities {
        output::line(&format!("asks     {} {}: {}", request.class, request.request, request.reason))?;
    }
    for (role, schema) in &description.parameters {
        output::line(&format!("takes    as {role}:"))?;
        print_parameters(schema)?;
    }
    plugin.advice().iter().try_for_each(|advice| output::line(&format!("note     {advice}")))
}

/// The parameters of a schema, a line each.
fn print_parameters(schema: &serde_json::Value) -> Result<(), Failure> {
    let required = schema.get("required").and_then(|names| names.as_array()).cloned().unwrap_or_default();
    let properties = schema.get("properties").and_then(|properties| properties.as_object());
    for (name, property) in properties.into_iter().flatten() {
        let needed = if required.iter().any(|other| other == name) { " (required)" } else { "" };
        let about = property.get("description").and_then(|text| text.as_str()).unwrap_or_default();
        output::line(&format!("           {name}{needed}: {}", about.replace('\n', " ")))?;
    }
    Ok(())
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
        let text = serde_json::to_string(description).map_err(|error| Failure::usage(error.to_string()))?;
        let component = match read_description(&bytes).map_err(artifact_failure)? {
            Some(_) => bytes,
            None => embed_description(&bytes, &text).map_err(artifact_failure)?,
        };
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
