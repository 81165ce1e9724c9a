//! Class `run`: operations on trees that run native processes, by base image, command line, network and mounts. Whether a
//! process is safe is the sandbox's business; what a process does that may start, nobody sees.

mod deed;
mod item;
mod rule;

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Scope, Side, list, wrong};
use rule::Rule;

pub(crate) use deed::Deed;

/// The processes that one side lets run: what one of its rules allows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Words {
    /// None where nobody has said anything.
    side: Option<Side>,
    rules: Arc<[Rule]>,
}

/// The processes that a plugin may describe. The lists of all sides are kept and asked one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunScope {
    /// Empty if nothing is restricted.
    sides: Vec<Words>,
}

impl Default for RunScope {
    /// Nothing at all.
    fn default() -> Self {
        Self::of(None, Vec::new())
    }
}

/// Why a process may not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Who has not said yes.
    pub side: Side,
    /// What is not allowed of the process, for `may not ...`.
    pub what: String,
    /// The field that refuses; none if no process at all may run.
    pub field: Option<&'static str>,
    /// What that side would have to write.
    pub needed: Value,
}

impl RunScope {
    fn of(side: Option<Side>, rules: Vec<Rule>) -> Self {
        Self { sides: vec![Words { side, rules: rules.into() }] }
    }

    /// Whether no process may run at all.
    pub fn is_empty(&self) -> bool {
        self.sides.iter().any(|words| words.rules.is_empty())
    }

    /// The first side that does not let a process run; none if all do.
    pub(crate) fn refusal(&self, deed: &Deed<'_>) -> Option<Refusal> {
        let words = self.sides.iter().find(|words| !words.rules.iter().any(|rule| rule.lacks(deed).is_empty()))?;
        let side = words.side.unwrap_or(Side::Allow);
        // The rule that is nearest to allowing it says what is missing.
        let nearest = words.rules.iter().min_by_key(|rule| rule.lacks(deed).len());
        let Some(rule) = nearest else {
            return Some(Refusal { side, what: "run processes".to_owned(), field: None, needed: json!(true) });
        };
        let lacks = rule.lacks(deed);
        let field = *lacks.first()?;
        let wider = rule.with(deed, &lacks);
        let rules = words.rules.iter().map(|other| if other == rule { wider.json() } else { other.json() });
        let mut rules: Vec<Value> = rules.collect();
        let needed = if rules.len() == 1 { rules.remove(0) } else { Value::Array(rules) };
        Some(Refusal { side, what: deed.shown(field), field: Some(field), needed })
    }
}

impl Scope for RunScope {
    const CLASS: &'static str = "run";

    fn parse(value: &Value, side: Side) -> Result<Self, String> {
        let mut rules = Vec::new();
        for item in list(value) {
            match item {
                Value::Bool(yes) => rules.extend(yes.then(|| Rule::any(side))),
                Value::Object(map) => rules.push(Rule::read(map, side)?),
                other => return Err(wrong(other, "true, false or { images, commands, network, mounts }")),
            }
        }
        item::bounded(rules.iter().flat_map(Rule::items), side)?;
        Ok(Self::of(Some(side), rules))
    }

    fn everything() -> Self {
        Self { sides: Vec::new() }
    }

    fn both(&self, other: &Self) -> Self {
        Self { sides: self.sides.iter().chain(&other.sides).cloned().collect() }
    }

    fn missing(&self, granted: &Self) -> Option<Value> {
        let rules = self.sides.iter().flat_map(|words| words.rules.iter());
        // What lists have in common is seen when a process is to run; here it is enough that there may be something.
        let open = |rule: &&Rule| !granted.sides.iter().all(|words| words.rules.iter().any(|said| said.overlaps(rule)));
        let mut open: Vec<Value> = rules.filter(open).map(Rule::json).collect();
        if open.len() > 1 { Some(Value::Array(open)) } else { open.pop() }
    }
}

#[cfg(test)]
mod tests;
