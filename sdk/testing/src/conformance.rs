//! What the contract demands of every plugin: cases per role that need to know nothing of it, and checks that are made of
//! the author's own cases, which know what to feed it.

mod registry;

use std::path::Path;

use crate::case::Role;
use crate::fault::{Failure, Fault, Kind, Place};
use crate::harness::{Harness, HarnessError, Report, machine};
use crate::read::{CaseFolder, Malformed, parse_case};

/// The cases by role: the role, the name, the text.
const CASES: [(&str, &str, &str); 4] = [
    ("task", "unknown-parameter", include_str!("../conformance/task/unknown-parameter.yaml")),
    ("builder", "unknown-parameter", include_str!("../conformance/builder/unknown-parameter.yaml")),
    ("builder", "detect-nothing", include_str!("../conformance/builder/detect-nothing.yaml")),
    ("source", "unknown-parameter", include_str!("../conformance/source/unknown-parameter.yaml")),
];

/// Errors of the host that a plugin has to pass on with their kind; a call that is cancelled ends as that.
const PASSED_ON: [(Place, Kind, &str); 9] = [
    (Place::Images, Kind::Unavailable, "unavailable"),
    (Place::Sources, Kind::Unavailable, "unavailable"),
    (Place::Registries, Kind::Unavailable, "unavailable"),
    (Place::Secrets, Kind::Denied, "denied"),
    (Place::Http, Kind::Cancelled, "cancelled"),
    (Place::Images, Kind::Cancelled, "cancelled"),
    (Place::Sources, Kind::Cancelled, "cancelled"),
    (Place::Registries, Kind::Cancelled, "cancelled"),
    (Place::Run, Kind::Cancelled, "cancelled"),
];

impl Harness {
    /// Holds the plugin against the contract. `cases` are the author's; those that expect an error are passed over.
    ///
    /// # Errors
    /// As for [`Harness::run`].
    pub async fn conform(&self, cases: &[CaseFolder]) -> Result<Vec<Report>, HarnessError> {
        let root = tempfile::tempdir().map_err(machine)?;
        let first = self.describe(root.path(), "2001-01-01T00:00:00Z", 1).await?;
        let second = self.describe(root.path(), "2031-01-01T00:00:00Z", 2).await?;
        let same = first.description() == second.description();
        let mut reports = vec![Report::of(
            "describes itself the same at any time",
            match same {
                true => Vec::new(),
                false => vec![format!("one time {:?}\nanother {:?}", first.description(), second.description())],
            },
        )];
        let roles: Vec<&str> = first.roles().names().collect();
        for (role, name, text) in CASES.iter().filter(|(role, ..)| roles.contains(role)) {
            let scheme = first
                .description()
                .provides
                .first()
                .map_or("https", |claim| claim.split(':').next().unwrap_or("https"));
            let folder = embedded(root.path(), (role, name, text), scheme)?;
            reports.push(Report { name: format!("{role}: {name}"), ..self.run(&folder).await? });
        }
        for folder in cases.iter().filter(|folder| folder.case.expect.error.is_none()) {
            self.vary(folder, &mut reports).await?;
            for variation in registry::variations(folder) {
                let report = self.run(&variation.folder).await?;
                let failures = variation.judge(&report.actual);
                let name = format!("{}: {}", folder.name(), variation.name);
                reports.push(Report { log: report.log, ..Report::of(&name, failures) });
            }
        }
        Ok(reports)
    }

    /// What must hold of a case that succeeds.
    async fn vary(&self, folder: &CaseFolder, reports: &mut Vec<Report>) -> Result<(), HarnessError> {
        let (first, again) = (self.run(folder).await?, self.run(folder).await?);
        let same = crate::compare::differences(&first.actual, &again.actual, "again");
        let mut failures = first.failures;
        failures.extend(same);
        reports.push(Report { failures, ..Report::of(&format!("{}: the same again", folder.name()), Vec::new()) });
        for (at, kind, word) in PASSED_ON {
            let mut faulty = folder.clone();
            faulty.case.faults = vec![Fault { at, nth: None, error: Failure::Kind(kind) }];
            let report = self.run(&faulty).await?;
            // A case that never gets there says nothing about it.
            if report.failures.iter().any(|failure| failure.contains("was never reached")) {
                continue;
            }
            let actual = report.actual.pointer("/error/kind").and_then(|kind| kind.as_str()).unwrap_or("none");
            let overstayed = report.failures.iter().filter(|failure| failure.contains("goes on after"));
            let failures = match actual == word {
                true => overstayed.cloned().collect(),
                false => vec![format!("the host's error {word} at {at:?} becomes {actual}")],
            };
            let name = format!("{}: passes {word} at {at:?} on", folder.name());
            reports.push(Report { log: report.log, ..Report::of(&name, failures) });
        }
        Ok(())
    }
}

/// A case of ours as a folder.
fn embedded(root: &Path, (role, name, text): (&str, &str, &str), scheme: &str) -> Result<CaseFolder, HarnessError> {
    let path = root.join(role).join(name);
    std::fs::create_dir_all(path.join("empty")).map_err(machine)?;
    let case = parse_case(text).map_err(|(_, _, message)| Malformed::whole(&path, message))?;
    let mut folder = CaseFolder { path, case, recording: Default::default() };
    if folder.case.role == Some(Role::Source) {
        folder.case.url = Some(format!("{scheme}://conformance.invalid/file"));
    }
    Ok(folder)
}
