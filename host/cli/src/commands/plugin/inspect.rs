//! `coop plugin inspect`: everything that can be known of a plugin before it is used.

use std::collections::BTreeMap;

use cooperage_engine::trust::Decision;
use cooperage_engine::{Description, Limits};
use serde_json::{Value, json};

use super::holding::Holding;
use super::list::declared;
use super::look::{Seen, look};
use super::{needs, parameters};
use crate::app::{App, Session};
use crate::args::{FlowFile, Listing, OutputFormat, ProgressMode, PullMode};
use crate::error::Failure;
use crate::output;
use crate::plugins::Declared;
use crate::progress::{self, bytes};

pub(super) fn inspect(app: &App, reference: &str, file: &FlowFile, listing: &Listing) -> Result<(), Failure> {
    // A reference is the same in all flow files.
    let is_name = !reference.contains([':', '/']);
    let declared = if is_name { declared(app, &file.file)? } else { Declared::default() };
    let reporter = progress::reporter(ProgressMode::Quiet);
    let session = app.session_with(reporter, PullMode::Missing, declared, Default::default())?;
    let seen = look(app, &session, reference)?;
    let signer = signer(app, &session, &seen);
    let holding = Holding::of(app, &session, &seen)?;
    match listing.output {
        OutputFormat::Json => output::json(&document(&seen, &signer, &holding)),
        OutputFormat::Text => show(&seen, &signer, &holding),
    }
}

/// Whom the policies trust for it, or why nobody; none for what is at hand already, and where it cannot be found out.
fn signer(app: &App, session: &Session, seen: &Seen) -> Option<String> {
    match app.block_on(session.plugins.judged(&seen.reference, &seen.artifact)) {
        Ok(Decision::Allowed { signer }) => Some(signer?.to_string()),
        Ok(Decision::Refused(refusal)) => Some(format!("nobody who is trusted: {}", refusal.found)),
        Err(_) => None,
    }
}

/// The whole of it for programs. Sizes are bytes, times are seconds.
fn document(seen: &Seen, signer: &Option<String>, holding: &Holding) -> Value {
    let Seen { inspection, artifact, .. } = seen;
    let import = |import: &cooperage_engine::Import| json!({ "name": import.name, "functions": import.functions, "needs": needs::of(&import.name) });
    json!({
        "name": seen.reference,
        "origin": artifact.origin,
        "digest": inspection.digest,
        "manifest": artifact.manifest,
        "signer": signer,
        "size": inspection.size,
        "annotations": artifact.annotations,
        "roles": inspection.roles.names().collect::<Vec<_>>(),
        "contract": inspection.contracts,
        "runs": inspection.runs(),
        "misfits": inspection.misfits.iter().map(|m| json!({ "what": m.what, "fix": m.fix })).collect::<Vec<_>>(),
        "description": inspection.description,
        "embedded": seen.embedded,
        "advice": inspection.advice,
        "imports": inspection.outside.imports.iter().map(import).collect::<Vec<_>>(),
        "exports": inspection.outside.exports,
        "limits": holding.limits_document(),
        "holds": holding.document(),
    })
}

fn show(seen: &Seen, signer: &Option<String>, holding: &Holding) -> Result<(), Failure> {
    let Seen { inspection, artifact, .. } = seen;
    let description = inspection.description.as_ref();
    if let Some(Description { name, version, summary, .. }) = description {
        field("name", &format!("{name} {version}"))?;
        field("summary", summary)?;
    }
    field("from", &artifact.origin)?;
    field("component", &format!("{} ({})", inspection.digest, bytes(inspection.size)))?;
    if let Some(manifest) = &artifact.manifest {
        field("manifest", &manifest.to_string())?;
    }
    if let Some(signer) = signer {
        field("signer", signer)?;
    }
    field("roles", &inspection.roles.names().collect::<Vec<_>>().join(", "))?;
    let contracts: Vec<_> = inspection.contracts.iter().map(|version| format!("cooperage:plugin@{version}")).collect();
    field("contract", &contracts.join(", "))?;
    field("runs here", if inspection.runs() { "yes" } else { "no" })?;
    for misfit in &inspection.misfits {
        field("", &misfit.to_string())?;
    }
    if let Some(description) = description {
        asks(description)?;
        holding.grant_lines().iter().try_for_each(|line| field("grants", line))?;
        annotations(&description.annotations)?;
    }
    show_imports(seen)?;
    let Limits { memory, time, cpu, .. } = Limits::default();
    let (time, cpu) = (humantime::format_duration(time), humantime::format_duration(cpu));
    field("limits", &format!("{} of memory, {time} per call, of which {cpu} computing", bytes(memory as u64)))?;
    holding.limit_lines().iter().try_for_each(|line| field("but", line))?;
    for (role, schema) in description.into_iter().flat_map(|description| &description.parameters) {
        field("takes", &format!("as {role}:"))?;
        parameters::show(schema)?;
    }
    inspection.advice.iter().try_for_each(|advice| field("note", advice))
}

/// A line of the listing.
fn field(name: &str, value: &str) -> Result<(), Failure> {
    output::line(format!("{name:<10} {value}").trim_end())
}

fn asks(description: &Description) -> Result<(), Failure> {
    if description.capabilities.is_empty() {
        return field("asks", "for nothing");
    }
    let asked = description.capabilities.iter();
    asked.map(|one| format!("{} {}: {}", one.class, one.request, one.reason)).try_for_each(|text| field("asks", &text))
}

fn annotations(annotations: &BTreeMap<String, String>) -> Result<(), Failure> {
    annotations.iter().try_for_each(|(name, value)| field("says", &format!("{name}: {value}")))
}

/// A line per package, and one per interface that needs a grant to be of use.
fn show_imports(seen: &Seen) -> Result<(), Failure> {
    let mut packages: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for import in &seen.inspection.outside.imports {
        let (package, interface) = needs::package(&import.name);
        packages.entry(package).or_default().push(interface);
    }
    for (package, interfaces) in packages {
        field("imports", format!("{package}: {}", interfaces.join(", ")).trim_end_matches([':', ' ']))?;
    }
    let mut grants: Vec<_> = seen.inspection.outside.imports.iter().filter_map(|i| needs::of(&i.name)).collect();
    grants.sort_unstable();
    grants.dedup();
    grants.into_iter().try_for_each(|need| field("", need))?;
    seen.inspection.outside.exports.iter().try_for_each(|name| field("exports", name))
}
