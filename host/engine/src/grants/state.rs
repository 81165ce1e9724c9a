//! Class `state`: the plugin keeps small values from call to call, apart from those of other plugins and projects.

use serde_json::Value;

use super::{Scope, Side, wrong};

/// Whether the plugin may keep values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateScope(pub bool);

impl Scope for StateScope {
    const CLASS: &'static str = "state";

    fn parse(value: &Value, _: Side) -> Result<Self, String> {
        value.as_bool().map(Self).ok_or_else(|| wrong(value, "true or false"))
    }

    fn everything() -> Self {
        Self(true)
    }

    fn both(&self, other: &Self) -> Self {
        Self(self.0 && other.0)
    }

    fn missing(&self, granted: &Self) -> Option<Value> {
        (self.0 && !granted.0).then_some(Value::Bool(true))
    }
}
