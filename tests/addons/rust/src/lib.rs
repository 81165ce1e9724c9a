//! Builds an image of a Python project: its own package, the wheels beside it and a script to start it with. No
//! Dockerfile, no process, no network.

mod project;
mod wheel;

use cooperage_sdk::images::resolve_one;
use cooperage_sdk::prelude::*;
use cooperage_sdk::trees::{CopyOptions, Origin, Selection};

use project::Project;

/// What the user sets.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// Image with a Python; without one the image has only the project.
    base: Option<String>,
    /// Directory of the context with the wheels of what the project needs.
    #[serde(default = "wheels")]
    wheels: String,
}

fn wheels() -> String {
    "wheels".to_owned()
}

struct Wheels;

impl Plugin for Wheels {
    fn describe() -> Description {
        Description::new("wheels", env!("CARGO_PKG_VERSION"), "Builds images of Python projects and their wheels")
    }
}

impl Builder for Wheels {
    type Parameters = Parameters;

    fn detect() -> Result<u8> {
        Ok(if context()?.stat("/pyproject.toml", true)?.is_some() { 60 } else { 0 })
    }

    fn build(request: BuildRequest<Parameters>) -> Result<Vec<Image>> {
        let context = context()?;
        let project = Project::read(&context)?;
        let platforms = request.platforms.iter();
        platforms.map(|platform| build(&context, &project, &request.parameters, platform)).collect()
    }
}

/// The main context, all of it.
fn context() -> Result<Tree> {
    Tree::context("", &Selection { include: Vec::new(), exclude: Vec::new() })
}

fn build(context: &Tree, project: &Project, parameters: &Parameters, platform: &Platform) -> Result<Image> {
    let base = parameters.base.as_ref().map(|name| resolve_one(name, Some(platform.clone()))).transpose()?;
    let mut tree = base.as_ref().map_or_else(Tree::scratch, Tree::image);
    let options = CopyOptions::default();
    let wheels = format!("/{}", parameters.wheels.trim_matches('/'));
    for file in wheel::find(context, &wheels)? {
        let step = Origin::new(format!("add {}", file.name()));
        let files = file.unpack(context)?;
        tree = tree.copy(&files, &["/".to_owned()], "/app/lib/", &options, &step);
    }
    let package = project.package(context)?;
    let step = Origin::new(format!("add {} {}", project.name, project.version));
    tree = tree.copy(context, &[package.path], &package.destination, &options, &step);
    let script = Origin::new(format!("write /app/bin/{}", project.name));
    tree = tree.write_file(&format!("/app/bin/{}", project.name), project.script().as_bytes(), 0o755, None, &script);

    let inherited = base.map_or_else(|| Ok(json!({})), |base| base.config_value())?;
    Ok(Image {
        tree,
        platform: platform.clone(),
        config: project.config(inherited).to_string(),
        annotations: Vec::new(),
    })
}

cooperage_sdk::plugin!(Wheels: builder);
