//! Class `registries`: images moved through the user's routing and credentials, which the plugin never sees.

use serde_json::{Value, json};

use super::{Scope, Side, list, some_list, wrong};
use crate::pattern::{fits, narrower};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Look up a name.
    Resolve,
    /// Bring an image into the store; includes looking it up.
    Pull,
    /// Send an image; includes looking it up.
    Push,
}

impl Action {
    const ALL: [Self; 3] = [Self::Resolve, Self::Pull, Self::Push];

    /// The word in rules.
    pub fn word(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }

    fn includes(self, other: Self) -> bool {
        self == other || other == Self::Resolve
    }
}

/// `ACTION [PATTERN]`: in the pattern of references `*` stands for any characters but `/`, `**` for any.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ActionRule {
    action: Action,
    pattern: Option<String>,
}

impl ActionRule {
    fn narrower(&self, other: &Self) -> Option<Self> {
        let action = if other.action.includes(self.action) {
            self.action
        } else if self.action.includes(other.action) {
            other.action
        } else {
            return None;
        };
        let pattern = match (&self.pattern, &other.pattern) {
            (None, pattern) | (pattern, None) => pattern.clone(),
            (Some(one), Some(two)) => Some(narrower(one, two)?),
        };
        Some(Self { action, pattern })
    }

    fn text(&self) -> String {
        let word = self.action.word();
        self.pattern.as_ref().map_or_else(|| word.to_owned(), |pattern| format!("{word} {pattern}"))
    }
}

/// Actions on references.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistriesScope {
    any: bool,
    rules: Vec<ActionRule>,
}

impl RegistriesScope {
    /// Whether the action may be done on a reference as the plugin writes it.
    pub fn allows(&self, action: Action, reference: &str) -> bool {
        let allows = |rule: &ActionRule| {
            rule.action.includes(action) && rule.pattern.as_deref().is_none_or(|pattern| fits(pattern, reference))
        };
        self.any || self.rules.iter().any(allows)
    }
}

impl Scope for RegistriesScope {
    const CLASS: &'static str = "registries";

    fn parse(value: &Value, _: Side) -> Result<Self, String> {
        let expected = "`resolve`, `pull` or `push`, optionally followed by a pattern of references";
        let mut rules = Vec::new();
        for item in list(value) {
            let text = item.as_str().ok_or_else(|| wrong(item, expected))?;
            let (word, pattern) = text.split_once(' ').map_or((text, None), |(word, rest)| (word, Some(rest.trim())));
            let action = Action::ALL.into_iter().find(|action| action.word() == word);
            let pattern = pattern.filter(|pattern| !pattern.is_empty()).map(str::to_owned);
            rules.push(ActionRule { action: action.ok_or_else(|| wrong(item, expected))?, pattern });
        }
        Ok(Self { any: false, rules })
    }

    fn everything() -> Self {
        Self { any: true, rules: Vec::new() }
    }

    fn both(&self, other: &Self) -> Self {
        if self.any {
            return other.clone();
        }
        if other.any {
            return self.clone();
        }
        let pairs = self.rules.iter().flat_map(|mine| other.rules.iter().filter_map(|theirs| mine.narrower(theirs)));
        Self { any: false, rules: pairs.collect() }
    }

    fn missing(&self, granted: &Self) -> Option<Value> {
        let open = |rule: &&ActionRule| {
            !granted.any
                && !granted
                    .rules
                    .iter()
                    .any(|there| rule.narrower(there).is_some_and(|both| both.action == rule.action))
        };
        some_list(self.rules.iter().filter(open).map(|rule| json!(rule.text())).collect())
    }
}
