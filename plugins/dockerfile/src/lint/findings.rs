//! From warnings to what `--check` answers with.

use cooperage_sdk::roles::builder::{Finding, Severity};

use super::{Filter, RULES};
use crate::fault::Source;
use crate::parser::Warning;

/// What counts, each once and in the order of lines, with the text it is about.
pub fn findings(warnings: &[Warning], filter: &Filter<'_>, source: &Source) -> Vec<Finding> {
    let severity = if filter.fails() { Severity::Error } else { Severity::Warning };
    let finding = |warning: &Warning| {
        let place = source.place(warning.span);
        Finding {
            rule: warning.rule.to_owned(),
            severity,
            message: warning.message.clone(),
            help: RULES.iter().find(|rule| rule.name == warning.rule).map(|rule| rule.help.to_owned()),
            file: place.file,
            line: place.span.line,
            column: place.span.column,
            end_line: place.span.end_line,
            text: place.text,
        }
    };
    warnings.iter().map(finding).collect()
}
