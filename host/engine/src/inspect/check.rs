//! What an author should know of a plugin before others use it: what no host of a version can run, what users will
//! miss, what nobody can find out without running it. Judges what is there, and runs nothing.

use serde_json::Value;

use super::Inspection;
use crate::grants::Scopes;
use crate::link;
use crate::parameters::Schema;
use crate::plugin::Description;

/// The annotation with the licence, as an SPDX expression.
const LICENCE: &str = "org.opencontainers.image.licenses";
/// What is above this is worth a word: every user downloads and compiles it.
const LARGE: u64 = 64 << 20;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody's host refuses the plugin, or the plugin does not do what it says.
    Error,
    /// It works, and could be better.
    Warning,
    /// Good to know, and perhaps just what the language brings with it.
    Note,
}

impl Severity {
    /// In lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Something to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and where.
    pub what: String,
    /// What to do.
    pub fix: String,
}

impl Finding {
    /// Something that has to be mended.
    pub fn error(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Error, what: what.into(), fix: fix.into() }
    }

    /// Something that could be better.
    pub fn warning(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, what: what.into(), fix: fix.into() }
    }

    /// Something to know.
    pub fn note(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Note, what: what.into(), fix: fix.into() }
    }
}

/// All that is to be said of a plugin, errors first. `embedded` says whether the description was in the component, or
/// was asked for.
pub fn findings(inspection: &Inspection, embedded: bool) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    found.extend(inspection.misfits.iter().map(|misfit| Finding::error(&misfit.what, &misfit.fix)));
    if let Some(description) = &inspection.description {
        identity(description, &mut found);
        capabilities(description, &mut found);
        parameters(description, inspection.roles, &mut found);
        provides(description, inspection.roles, &mut found);
    }
    found.extend(
        inspection.advice.iter().map(|advice| {
            Finding::note(advice, "ask for the capability in the description, if the plugin is to use it")
        }),
    );
    if !embedded {
        let what = "the description is not embedded: every host has to compile and run the plugin to know it";
        found.push(Finding::warning(what, "embed it with `coop plugin build`; `coop plugin push` does so too"));
    }
    if inspection.size > LARGE {
        let what = format!("the component has {} MiB", inspection.size >> 20);
        found.push(Finding::note(what, "strip it of debug information; every user downloads and compiles it"));
    }
    found.sort_by_key(|finding| finding.severity);
    found
}

fn identity(description: &Description, found: &mut Vec<Finding>) {
    if let Err(error) = semver::Version::parse(&description.version) {
        let what = format!("the version {:?} is no semantic version: {error}", description.version);
        found.push(Finding::error(
            what,
            "write MAJOR.MINOR.PATCH, for instance 1.0.0; `coop plugin update` compares it",
        ));
    }
    if description.summary.trim().is_empty() {
        found.push(Finding::warning("there is no summary", "say in one line what the plugin does"));
    }
    if !description.annotations.contains_key(LICENCE) {
        let fix = format!("add the annotation {LICENCE} with an SPDX expression, for instance Apache-2.0");
        found.push(Finding::warning("the licence is not said", fix));
    }
}

fn capabilities(description: &Description, found: &mut Vec<Finding>) {
    if let Err(error) = Scopes::requested(&description.capabilities) {
        found.push(Finding::error(format!("what it asks for cannot be read: {error}"), "see wit/README.md"));
    }
    for asked in description.capabilities.iter().filter(|asked| asked.reason.trim().is_empty()) {
        let what = format!("the capability {} {} has no reason", asked.class, asked.request);
        found.push(Finding::error(what, "say what it is for: users decide by it"));
    }
}

fn parameters(description: &Description, roles: link::Roles, found: &mut Vec<Finding>) {
    for (role, schema) in &description.parameters {
        if !roles.names().any(|name| name == role) {
            let what = format!("there are parameters of the role {role}, which is not exported");
            found.push(Finding::error(what, "export the role, or leave its parameters out"));
        }
        if let Err(error) = Schema::new(schema) {
            found
                .push(Finding::error(format!("as {role}, {error}"), "give a JSON Schema that needs no other document"));
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            if property.get("description").and_then(Value::as_str).is_none_or(|text| text.trim().is_empty()) {
                let what = format!("as {role}, the parameter {name} has no description");
                found.push(Finding::warning(what, "say what it means: `coop plugin inspect` shows it to users"));
            }
        }
    }
}

fn provides(description: &Description, roles: link::Roles, found: &mut Vec<Finding>) {
    if !description.provides.is_empty() && !roles.source && !roles.registry {
        let what = format!("it provides {}, and is no source and no registry", description.provides.join(", "));
        found.push(Finding::error(what, "export the role, or leave `provides` empty"));
    }
    if description.provides.is_empty() && roles.source {
        let what = "it is a source and provides no URL scheme";
        found.push(Finding::warning(what, "name the schemes in `provides`; else users have to write `sources:`"));
    }
}
