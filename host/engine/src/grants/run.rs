//! Class `run`: operations on trees that run native processes. Whether a process is safe is the sandbox's business.

use serde_json::Value;

use super::{Scope, Side, wrong};

/// Whether the plugin may describe `run` operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunScope(pub bool);

impl Scope for RunScope {
    const CLASS: &'static str = "run";

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
