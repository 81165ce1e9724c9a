//! Runs a script in an image, as a step of a flow: the step's input is copied to the working directory, further inputs
//! are mounted, and what is in the working directory afterwards is the step's tree.

mod parameters;
mod plan;

use cooperage_sdk::images;
use cooperage_sdk::prelude::*;
use cooperage_sdk::trees::{CopyOptions, Mount, Origin};

use parameters::Parameters;
use plan::{Plan, Wanted};

/// An output is a value of a flow, not a file to keep.
const LARGEST_OUTPUT: u64 = 1 << 20;

struct Script;

impl Plugin for Script {
    fn describe() -> Description {
        let processes = json!({ "mounts": ["bind", "cache", "secret", "tmpfs"] });
        Description::new("script", env!("CARGO_PKG_VERSION"), "Runs a script in an image")
            .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
            .asks(Capability::new(
                "run",
                processes,
                "to run the script that the flow has, with the secrets that it names",
            ))
    }
}

impl Task for Script {
    type Parameters = Parameters;

    fn run(request: TaskRequest<Parameters>) -> Result<Outputs> {
        let named = request.inputs.iter().map(|(name, _)| name.clone()).filter(|name| !name.is_empty()).collect();
        let wanted = Wanted::new(&request.parameters, named)?;
        let base = images::resolve_one(&request.parameters.image, None)?;
        let plan = Plan::new(wanted, &base.config_value()?);

        let mut tree = Tree::image(&base);
        if let Some(owner) = &plan.owner {
            // A directory that is made for the process alone would be root's.
            tree =
                tree.make_directory(&plan.workdir, 0o755, Some(owner), &Origin::new(format!("make {}", plan.workdir)));
        }
        if let Some(input) = request.input() {
            let origin = Origin::new(format!("copy input to {}", plan.workdir));
            let options = CopyOptions { owner: plan.owner.clone(), ..CopyOptions::default() };
            tree = tree.copy(input, &["/".to_owned()], &format!("{}/", plan.workdir), &options, &origin);
        }
        let mounts: Vec<Mount> = plan.mounts.iter().map(|mount| to_mount(mount, &request)).collect();
        let done = tree.run(&plan.process, &mounts, &Origin::new(&plan.name));

        let mut outputs = Outputs::new();
        for (name, path) in &plan.outputs {
            let bytes = done.read_file(path, LARGEST_OUTPUT).map_err(|error| output_fault(error, name, path))?;
            let text = String::from_utf8(bytes)
                .map_err(|_| Error::invalid_input(format!("output {name}: {path} is not text in UTF-8")))?;
            outputs = outputs.value(name, plan::trimmed(&text));
        }
        let origin = Origin::new(format!("take {}", plan.result));
        let contents = [plan::literal(&plan.result)];
        let result = Tree::scratch().copy(&done, &contents, "/", &CopyOptions::default(), &origin);
        Ok(outputs.tree(result))
    }
}

/// What the script did wrong is shown as it is; that a file is missing is explained.
fn output_fault(error: Error, name: &str, path: &str) -> Error {
    if error.kind == ErrorKind::NotFound {
        return error
            .context(format!("output {name}: the script has left no file {path}"))
            .hint("let the script write it, or take the output out of `outputs`");
    }
    error
}

fn to_mount<'a>(mount: &plan::Mount, request: &'a TaskRequest<Parameters>) -> Mount<'a> {
    let mut made = match &mount.kind {
        plan::Kind::Cache { identity } => Mount::cache(&mount.target, identity),
        plan::Kind::Secret { name } => Mount::secret(&mount.target, name),
        plan::Kind::Tmpfs => Mount::tmpfs(&mount.target),
        plan::Kind::Input { name } => match request.named_input(name) {
            Some(tree) => Mount::bind(&mount.target, tree, ""),
            // The plan has an input only for a tree that is there.
            None => Mount::tmpfs(&mount.target),
        },
    };
    made.read_only = mount.read_only;
    mount.options.iter().fold(made, |made, (name, value)| made.option(*name, value))
}

cooperage_sdk::plugin!(Script: task);
