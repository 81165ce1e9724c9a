//! Class `sources`: files behind URLs, which source plugins bring with grants of their own.

use serde_json::{Value, json};

use super::{Scope, Side, list, some_list, wrong};
use crate::pattern::{fits, narrower};

/// Patterns of URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourcesScope {
    any: bool,
    patterns: Vec<String>,
}

impl SourcesScope {
    /// Whether a URL may be reached, as the plugin writes it.
    pub fn allows(&self, url: &str) -> bool {
        self.any || self.patterns.iter().any(|pattern| fits(pattern, url))
    }
}

impl Scope for SourcesScope {
    const CLASS: &'static str = "sources";

    fn parse(value: &Value, _: Side) -> Result<Self, String> {
        let pattern = |item: &Value| {
            let text = item.as_str().filter(|text| !text.is_empty());
            text.map(str::to_owned).ok_or_else(|| wrong(item, "a pattern of URLs such as `https://host.example/**`"))
        };
        Ok(Self { any: false, patterns: list(value).iter().map(pattern).collect::<Result<_, _>>()? })
    }

    fn everything() -> Self {
        Self { any: true, patterns: Vec::new() }
    }

    fn both(&self, other: &Self) -> Self {
        if self.any {
            return other.clone();
        }
        if other.any {
            return self.clone();
        }
        let pairs = self.patterns.iter().flat_map(|mine| other.patterns.iter().map(move |theirs| (mine, theirs)));
        let mut patterns: Vec<String> = pairs.filter_map(|(mine, theirs)| narrower(mine, theirs)).collect();
        patterns.dedup();
        Self { any: false, patterns }
    }

    fn missing(&self, granted: &Self) -> Option<Value> {
        let open = |pattern: &&String| {
            !granted.any && !granted.patterns.iter().any(|there| narrower(pattern, there).is_some())
        };
        some_list(self.patterns.iter().filter(open).map(|pattern| json!(pattern)).collect())
    }
}
