//! `# check=skip=A,B;error=true`: which warnings count, and how much.

/// What to do about warnings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Check {
    skip: Vec<String>,
    skip_all: bool,
    /// Whether a warning makes the build fail.
    pub error: bool,
}

impl Check {
    /// Reads the value of the directive; what it does not know it ignores.
    pub fn read(value: Option<&str>) -> Self {
        let mut check = Self::default();
        for (name, value) in value.unwrap_or_default().split(';').filter_map(|part| part.split_once('=')) {
            match name.trim() {
                "skip" => {
                    check.skip = value.split(',').map(|rule| rule.trim().to_owned()).collect();
                    check.skip_all = check.skip.iter().any(|rule| rule.eq_ignore_ascii_case("all"));
                }
                "error" => check.error = value.trim() == "true",
                _ => {}
            }
        }
        check
    }

    /// Whether warnings of this rule are shown.
    pub fn shows(&self, rule: &str) -> bool {
        !self.skip_all && !self.skip.iter().any(|skipped| skipped.eq_ignore_ascii_case(rule))
    }
}
