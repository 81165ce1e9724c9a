//! Class `sources`: files behind URLs, which source plugins bring with grants of their own.

use serde_json::{Value, json};

use super::{Named, Scope, Side, is_from_parameters, list, some_list, wrong};
use crate::pattern::{fits, narrower, overlap};

/// Patterns of URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourcesScope {
    any: bool,
    patterns: Vec<String>,
    from_parameters: bool,
    /// What the host's policy permits; none if it restricts nothing.
    cap: Option<Box<Self>>,
}

impl SourcesScope {
    pub(super) fn named_by_user() -> Self {
        Self { from_parameters: true, ..Self::default() }
    }

    /// Whether a URL may be reached, as the plugin writes it, in a call whose parameters name `named`.
    pub fn allows(&self, url: &str, named: &Named) -> bool {
        let wanted = self.any
            || self.patterns.iter().any(|pattern| fits(pattern, url))
            || (self.from_parameters && named.leads_to(url));
        wanted && self.cap.as_deref().is_none_or(|cap| cap.allows(url, named))
    }
}

impl Scope for SourcesScope {
    const CLASS: &'static str = "sources";

    fn parse(value: &Value, side: Side) -> Result<Self, String> {
        let expected = "a pattern of URLs such as `https://host.example/**` or {\"from\":\"parameters\"}";
        let mut scope = Self { from_parameters: side == Side::Allow, ..Self::default() };
        for item in list(value) {
            match item.as_str() {
                // `*` fits no URL: they all have slashes.
                Some("*") => return Err("`*` stops at slashes; `**` is every URL".to_owned()),
                Some(text) if !text.is_empty() => scope.patterns.push(text.to_owned()),
                None if is_from_parameters(item) => scope.from_parameters = true,
                _ => return Err(wrong(item, expected)),
            }
        }
        Ok(scope)
    }

    fn everything() -> Self {
        Self { any: true, patterns: Vec::new(), from_parameters: true, cap: None }
    }

    fn both(&self, other: &Self) -> Self {
        let from_parameters = self.from_parameters && other.from_parameters;
        if self.any {
            return Self { from_parameters, ..other.clone() };
        }
        if other.any {
            return Self { from_parameters, ..self.clone() };
        }
        let pairs = self.patterns.iter().flat_map(|mine| other.patterns.iter().map(move |theirs| (mine, theirs)));
        let mut patterns: Vec<String> = pairs.filter_map(|(mine, theirs)| narrower(mine, theirs)).collect();
        patterns.dedup();
        Self { any: false, patterns, from_parameters, cap: None }
    }

    fn capped(&self, policy: &Self) -> Self {
        if policy.any {
            return self.clone();
        }
        let mut capped = self.clone();
        capped.patterns.retain(|pattern| policy.patterns.iter().any(|permitted| overlap(pattern, permitted)));
        Self { cap: Some(Box::new(policy.clone())), ..capped }
    }

    fn missing(&self, granted: &Self) -> Option<Value> {
        let open = |pattern: &&String| {
            !granted.any && !granted.patterns.iter().any(|there| narrower(pattern, there).is_some())
        };
        let mut items: Vec<Value> = self.patterns.iter().filter(open).map(|pattern| json!(pattern)).collect();
        if self.from_parameters && !granted.from_parameters {
            items.push(json!({ "from": "parameters" }));
        }
        some_list(items)
    }
}
