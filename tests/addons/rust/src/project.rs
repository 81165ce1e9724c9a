//! `pyproject.toml`: what the project is called, and how it is started.

use std::collections::BTreeMap;

use cooperage_sdk::prelude::*;
use serde_json::Value;

/// What this builder needs to know of a project.
pub struct Project {
    pub name: String,
    pub version: String,
    /// Module and function that start it.
    start: (String, String),
}

/// Where the project's own modules are, and where they go.
pub struct Package {
    pub path: String,
    pub destination: String,
}

#[derive(Deserialize)]
struct Document {
    project: Option<Table>,
}

#[derive(Deserialize)]
struct Table {
    name: String,
    version: String,
    #[serde(default)]
    scripts: BTreeMap<String, String>,
}

impl Project {
    /// Reads the file in the root of the context.
    pub fn read(context: &Tree) -> Result<Self> {
        const FILE: &str = "/pyproject.toml";
        const LARGEST: u64 = 1 << 20;
        if context.stat(FILE, true)?.is_none() {
            return Err(
                Error::not_found("the context has no pyproject.toml").hint("build the directory of the project")
            );
        }
        let text = String::from_utf8_lossy(&context.read_file(FILE, LARGEST)?).into_owned();
        let wrong = |reason: String| Error::invalid_input(format!("pyproject.toml {reason}"));
        let document: Document = toml::from_str(&text).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let table = document.project.ok_or_else(|| wrong("has no table `project`".to_owned()))?;
        // A script with the name of the project, else the only one.
        let script = match table.scripts.get(&table.name) {
            None if table.scripts.len() == 1 => table.scripts.values().next(),
            found => found,
        };
        let start = script.and_then(|script| script.split_once(':')).ok_or_else(|| {
            let hint = format!("write for instance `{} = \"module:function\"`", table.name);
            wrong(format!("has no script {} in `project.scripts`", table.name)).hint(hint)
        })?;
        let start = (start.0.to_owned(), start.1.to_owned());
        Ok(Self { name: table.name, version: table.version, start })
    }

    /// The project's own modules: all of `src`, or the directory that is called like the project.
    pub fn package(&self, context: &Tree) -> Result<Package> {
        let is_directory = |path: &str| Ok::<_, Error>(context.stat(path, true)?.is_some());
        if is_directory("/src")? {
            return Ok(Package { path: "/src".to_owned(), destination: "/app/lib/".to_owned() });
        }
        let module = self.name.replace('-', "_");
        if is_directory(&format!("/{module}"))? {
            return Ok(Package { path: format!("/{module}"), destination: format!("/app/lib/{module}/") });
        }
        let message = format!("the project {} has neither a directory src nor {module}", self.name);
        Err(Error::not_found(message).hint("put its modules into one of them"))
    }

    /// What starts it.
    pub fn script(&self) -> String {
        let (module, function) = &self.start;
        format!("#!/usr/bin/env python3\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    }

    /// The configuration of the base with what the project adds.
    pub fn config(&self, mut base: Value) -> Value {
        let config = &mut base["config"];
        let mut variables = config["Env"].as_array().cloned().unwrap_or_default();
        variables.retain(|one| !one.as_str().is_some_and(|one| one.starts_with("PYTHONPATH=")));
        variables.push("PYTHONPATH=/app/lib".into());
        config["Env"] = variables.into();
        config["Entrypoint"] = json!([format!("/app/bin/{}", self.name)]);
        config["WorkingDir"] = "/app".into();
        config["Labels"]["org.opencontainers.image.title"] = self.name.as_str().into();
        config["Labels"]["org.opencontainers.image.version"] = self.version.as_str().into();
        base
    }
}
