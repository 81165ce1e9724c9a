//! A run as JUnit XML, in the form that Jenkins and GitLab read: a suite per flow, a case per step. It fits `junit-10.xsd`
//! of Jenkins' xunit plugin, which knows no `skipped` of the whole run.
//!
//! A step that failed at its work is a `failure`; one that could not do it (refused, unreachable, wrong parameters,
//! stopped on the way) is an `error`. A failure that does not fail the flow does not fail the report either.

use std::fmt::Write;
use std::time::Duration;

use cooperage_flow::{FaultKind, Status, StepResult};

use super::reports::{Run, rfc3339};

/// What a case has beside its name and time.
enum Verdict {
    Passed,
    Failure { kind: &'static str, message: String, details: String },
    Error { kind: &'static str, message: String, details: String },
    Skipped(String),
}

/// The whole document.
pub(in crate::commands::run) fn render(run: &Run<'_>) -> String {
    let mut suites: Vec<(String, Vec<&StepResult>)> = Vec::new();
    for step in &run.result.steps {
        let name = step.id.image.as_ref().map_or_else(|| run.flow.to_owned(), |(image, tag)| format!("{image}:{tag}"));
        match suites.iter_mut().find(|(other, _)| *other == name) {
            Some((_, steps)) => steps.push(step),
            None => suites.push((name, vec![step])),
        }
    }
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let all: Vec<&StepResult> = run.result.steps.iter().collect();
    let (counts, _) = counts(&all);
    let (name, time) = (quoted(run.flow), time(run.result.duration));
    line(&mut xml, 0, &format!("<testsuites name={name} {counts} time=\"{time}\">"));
    // The schema has times without a zone.
    let started = rfc3339(run.started).trim_end_matches('Z').to_owned();
    for (name, steps) in &suites {
        suite(&mut xml, name, steps, &started);
    }
    line(&mut xml, 0, "</testsuites>");
    xml
}

fn suite(xml: &mut String, name: &str, steps: &[&StepResult], started: &str) {
    let (counts, skipped) = counts(steps);
    let duration: Duration = steps.iter().map(|step| step.duration).sum();
    let name = quoted(name);
    let time_of_suite = time(duration);
    let head = format!("<testsuite name={name} {counts} skipped=\"{skipped}\" time=\"{time_of_suite}\"");
    line(xml, 1, &format!("{head} timestamp=\"{started}\">"));
    for step in steps {
        let id = step
            .id
            .instance
            .as_ref()
            .map_or_else(|| step.id.step.clone(), |label| format!("{} ({label})", step.id.step));
        let head = format!("<testcase name={} classname={name} time=\"{}\"", quoted(&id), time(step.duration));
        let verdict = verdict(step);
        if matches!(verdict, Verdict::Passed) && step.log.is_empty() {
            line(xml, 2, &format!("{head}/>"));
            continue;
        }
        line(xml, 2, &format!("{head}>"));
        match verdict {
            Verdict::Passed => {}
            Verdict::Skipped(message) => line(xml, 3, &format!("<skipped message={}/>", quoted(&message))),
            Verdict::Failure { kind, message, details } => problem(xml, "failure", kind, &message, &details),
            Verdict::Error { kind, message, details } => problem(xml, "error", kind, &message, &details),
        }
        if !step.log.is_empty() {
            line(xml, 3, &format!("<system-out>{}</system-out>", text(&step.log)));
        }
        line(xml, 2, "</testcase>");
    }
    line(xml, 1, "</testsuite>");
}

fn problem(xml: &mut String, element: &str, kind: &str, message: &str, details: &str) {
    let message = quoted(message);
    line(xml, 3, &format!("<{element} type=\"{kind}\" message={message}>{}</{element}>", text(details)));
}

fn verdict(step: &StepResult) -> Verdict {
    let message = step.fault.as_ref().map(|fault| fault.error.message.clone()).unwrap_or_default();
    match step.status {
        Status::Succeeded => Verdict::Passed,
        Status::Skipped => Verdict::Skipped(step.skipped.as_ref().map(ToString::to_string).unwrap_or_default()),
        Status::Failed if step.tolerated => Verdict::Skipped(format!("failed, which is tolerated: {message}")),
        Status::Cancelled if step.attempts == 0 => Verdict::Skipped(message),
        _ => {
            let kind = step.fault.as_ref().map_or(FaultKind::Failed, |fault| fault.error.kind);
            let (name, work) = match kind {
                FaultKind::Failed => ("failed", true),
                FaultKind::TimedOut => ("timed-out", true),
                FaultKind::Invalid => ("invalid", false),
                FaultKind::Refused => ("refused", false),
                FaultKind::Unavailable => ("unavailable", false),
                FaultKind::Cancelled => ("cancelled", false),
            };
            let details = details(step);
            if work {
                Verdict::Failure { kind: name, message, details }
            } else {
                Verdict::Error { kind: name, message, details }
            }
        }
    }
}

/// The place in the flow file, the causes and the hint.
fn details(step: &StepResult) -> String {
    let Some(fault) = &step.fault else { return String::new() };
    if let Some(diagnostic) = &fault.diagnostic {
        return diagnostic.render(false);
    }
    let mut lines = vec![fault.error.message.clone()];
    lines.extend(fault.error.context.iter().map(|cause| format!("because: {cause}")));
    lines.extend(fault.error.hint.iter().map(|hint| format!("help: {hint}")));
    lines.join("\n")
}

/// The counts that suites and the whole have, and how many were skipped.
fn counts(steps: &[&StepResult]) -> (String, usize) {
    let (mut failures, mut errors, mut skipped) = (0, 0, 0);
    for step in steps {
        match verdict(step) {
            Verdict::Passed => {}
            Verdict::Failure { .. } => failures += 1,
            Verdict::Error { .. } => errors += 1,
            Verdict::Skipped(_) => skipped += 1,
        }
    }
    let tests = steps.len();
    (format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\""), skipped)
}

fn time(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64())
}

fn line(xml: &mut String, depth: usize, text: &str) {
    // Writing into a string cannot fail.
    let _ = writeln!(xml, "{:width$}{text}", "", width = 2 * depth);
}

/// An attribute's value with its quotes.
pub(in crate::commands) fn quoted(value: &str) -> String {
    let escaped = text(value).replace('"', "&quot;").replace('\n', "&#10;").replace('\t', "&#9;");
    format!("\"{escaped}\"")
}

/// Text without what XML 1.0 cannot have, and without what colours a terminal.
pub(in crate::commands) fn text(value: &str) -> String {
    let plain = anstream::adapter::strip_str(value).to_string();
    let mut escaped = String::with_capacity(plain.len());
    for c in plain.replace("\r\n", "\n").chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\r' => escaped.push('\n'),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_breaks_the_document() {
        assert_eq!(text("a<b>&\"\u{1b}[31mred\u{1b}[0m\u{0}\u{8}\r\nx\ry"), "a&lt;b&gt;&amp;\"red\nx\ny");
        assert_eq!(text("\u{fffe}"), "\u{fffd}");
        assert_eq!(quoted("a\"b\n\t]]>"), "\"a&quot;b&#10;&#9;]]&gt;\"");
    }
}
