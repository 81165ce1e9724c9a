//! `# check=skip=A,B;error=true;experimental=C`: which findings count, and how much.

use super::RULES;
use crate::fault::Span;
use crate::parser::Warning;

/// What to do about findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Check {
    skip: Vec<String>,
    skip_all: bool,
    experimental: Vec<String>,
    experimental_all: bool,
    /// Whether a finding makes the build fail.
    pub error: bool,
}

impl Check {
    /// Reads options between `;`.
    ///
    /// # Errors
    /// What is wrong with an option, for the user.
    pub fn read(value: &str) -> Result<Self, String> {
        let mut check = Self::default();
        if value.trim().is_empty() {
            return Ok(check);
        }
        for part in value.split(';') {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("invalid check option {part:?}"))?;
            match name.trim() {
                "skip" => (check.skip_all, check.skip) = rules(value),
                "experimental" => (check.experimental_all, check.experimental) = rules(value),
                "error" => {
                    check.error = match value.trim() {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        other => return Err(format!("the check option error is true or false, not {other:?}")),
                    };
                }
                other => return Err(format!("invalid check option {other:?}")),
            }
        }
        Ok(check)
    }

    fn skips(&self, rule: &str) -> bool {
        self.skip_all || names(&self.skip, rule)
    }

    fn tries(&self, rule: &str) -> bool {
        self.experimental_all || names(&self.experimental, rule)
    }
}

fn rules(value: &str) -> (bool, Vec<String>) {
    let rules: Vec<String> = value.split(',').map(|rule| rule.trim().to_owned()).collect();
    (names(&rules, "all"), rules)
}

fn names(rules: &[String], rule: &str) -> bool {
    rules.iter().any(|name| name.eq_ignore_ascii_case(rule))
}

/// What counts in a whole Dockerfile: one choice for all of it, and some for single instructions.
#[derive(Debug, Clone)]
pub struct Filter<'a> {
    check: Check,
    single: &'a [(Span, Check)],
}

impl<'a> Filter<'a> {
    /// Both together.
    pub fn new(check: Check, single: &'a [(Span, Check)]) -> Self {
        Self { check, single }
    }

    /// Whether a finding makes the build fail.
    pub fn fails(&self) -> bool {
        self.check.error
    }

    /// Whether a finding counts.
    pub fn shows(&self, warning: &Warning) -> bool {
        let line = warning.span.line;
        let above = self.single.iter().filter(|(span, _)| (span.line..=span.end_line).contains(&line));
        let mut checks = above.map(|(_, check)| check).chain([&self.check]);
        match RULES.iter().any(|rule| rule.experimental && rule.name == warning.rule) {
            true => checks.any(|check| check.tries(warning.rule)),
            false => !checks.any(|check| check.skips(warning.rule)),
        }
    }
}
