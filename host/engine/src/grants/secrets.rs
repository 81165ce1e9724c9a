//! Class `secrets`: which of the user's secrets the plugin may read, by name.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Named, Scope, Side, is_from_parameters, list, some_list, wrong};

/// Names of secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretsScope {
    any: bool,
    names: BTreeSet<String>,
    from_parameters: bool,
    /// What the host's policy permits; none if it restricts nothing.
    cap: Option<Box<Self>>,
}

impl SecretsScope {
    pub(super) fn named_by_user() -> Self {
        Self { from_parameters: true, ..Self::default() }
    }

    /// Whether the secret may be revealed in a call whose parameters name `named`.
    pub fn allows(&self, name: &str, named: &Named) -> bool {
        let wanted = self.any || self.names.contains(name) || (self.from_parameters && named.secrets.contains(name));
        wanted && self.cap.as_deref().is_none_or(|cap| cap.allows(name, named))
    }
}

impl Scope for SecretsScope {
    const CLASS: &'static str = "secrets";

    fn parse(value: &Value, side: Side) -> Result<Self, String> {
        let mut scope = Self { from_parameters: side == Side::Allow, ..Self::default() };
        for item in list(value) {
            match item.as_str() {
                Some(name) if !name.is_empty() && !name.contains('*') => drop(scope.names.insert(name.to_owned())),
                None if is_from_parameters(item) => scope.from_parameters = true,
                _ => return Err(wrong(item, "the name of a secret or {\"from\":\"parameters\"}")),
            }
        }
        Ok(scope)
    }

    fn everything() -> Self {
        Self { any: true, names: BTreeSet::new(), from_parameters: true, cap: None }
    }

    fn both(&self, other: &Self) -> Self {
        let names = self.names.union(&other.names);
        let in_both =
            |name: &&String| (self.any || self.names.contains(*name)) && (other.any || other.names.contains(*name));
        Self {
            any: self.any && other.any,
            names: names.filter(in_both).cloned().collect(),
            from_parameters: self.from_parameters && other.from_parameters,
            cap: self.cap.clone(),
        }
    }

    fn capped(&self, policy: &Self) -> Self {
        if policy.any {
            return self.clone();
        }
        let mut capped = self.clone();
        capped.names.retain(|name| policy.names.contains(name));
        Self { cap: Some(Box::new(policy.clone())), ..capped }
    }

    fn missing(&self, granted: &Self) -> Option<Value> {
        let mut items: Vec<Value> = self
            .names
            .iter()
            .filter(|name| !granted.any && !granted.names.contains(*name))
            .map(|name| json!(name))
            .collect();
        if self.from_parameters && !granted.from_parameters {
            items.push(json!({ "from": "parameters" }));
        }
        some_list(items)
    }
}
