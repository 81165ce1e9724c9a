//! `coop build --check`: what a builder finds odd about what it builds from, for people and for programs. Builds
//! nothing, and knows no rule: the findings come from the builder.

mod sarif;

use cooperage_engine::BuiltImage;
use cooperage_solve::{Location, Redactor, Secrets};
use serde::{Deserialize, Serialize};

use crate::args::CheckFormat;
use crate::error::{Exit, Failure, Level, picture};
use crate::output;

/// The option that asks a builder for findings.
pub(crate) const OPTION: (&str, &str) = ("check", "true");
/// Where it puts them.
const ANNOTATION: &str = "cooperage.findings";

/// One of them, as the builder says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Finding {
    rule: String,
    severity: Severity,
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    file: String,
    line: u32,
    #[serde(default)]
    column: u32,
    end_line: u32,
    #[serde(default)]
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Error,
    Warning,
    Note,
}

/// Prints the findings; a failure says how many there are.
pub(crate) fn report(
    format: CheckFormat,
    builder: &str,
    images: &[BuiltImage],
    secrets: &Secrets,
) -> Result<(), Failure> {
    let findings = read(builder, images, secrets)?;
    match format {
        CheckFormat::Text => text(&findings)?,
        CheckFormat::Json => output::json(&findings)?,
        CheckFormat::Sarif => output::json(&sarif::log(&findings))?,
    }
    match findings.len() {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Failed, "the check has 1 finding")),
        count => Err(Failure::new(Exit::Failed, format!("the check has {count} findings"))),
    }
}

fn read(builder: &str, images: &[BuiltImage], secrets: &Secrets) -> Result<Vec<Finding>, Failure> {
    let mut answers = images.iter().filter_map(|image| image.annotations.get(ANNOTATION)).peekable();
    if answers.peek().is_none() {
        return Err(Failure::usage(format!("the builder {builder} has no checks"))
            .hint("leave --check out, or choose a builder that has some, such as dockerfile"));
    }
    let redactor = Redactor::new(secrets);
    let mut findings = Vec::new();
    for answer in answers {
        let read: Vec<Finding> = serde_json::from_str(answer).map_err(|error| {
            Failure::new(Exit::Failed, format!("the findings of the builder {builder} cannot be read: {error}"))
        })?;
        findings.extend(read.into_iter().map(|finding| without_secrets(finding, &redactor)));
    }
    Ok(findings)
}

/// What a builder quotes may be anything that it was given.
fn without_secrets(finding: Finding, redactor: &Redactor) -> Finding {
    Finding {
        rule: redactor.text(&finding.rule),
        message: redactor.text(&finding.message),
        help: finding.help.map(|help| redactor.text(&help)),
        file: redactor.text(&finding.file),
        text: redactor.text(&finding.text),
        ..finding
    }
}

fn text(findings: &[Finding]) -> Result<(), Failure> {
    if findings.is_empty() {
        return output::line("no findings");
    }
    let one = |finding: &Finding| {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let Finding { file, line, column, end_line, text, .. } = finding.clone();
        let location = Location { file, line, column, end_line, text };
        let message = format!("{} ({})", finding.message, finding.rule);
        picture(level, &message, Some(&location), &[], finding.help.as_deref())
    };
    let shown: Vec<String> = findings.iter().map(one).collect();
    output::styled(&format!("{}\n", shown.join("\n\n")))
}

#[cfg(test)]
mod tests;
