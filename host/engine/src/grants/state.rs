//! Class `state`: the plugin keeps small values from call to call, apart from those of other plugins and projects, and
//! no more of them than the least that a side says.

use serde_json::{Value, json};

use super::{Scope, Side, list, wrong};
use crate::limits::{Amount, size};

/// What a plugin may keep in one project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of all values together.
    pub bytes: u64,
    /// Values.
    pub entries: u64,
}

impl Quota {
    /// What `true` means to plugins and users.
    pub const DEFAULT: Self = Self { bytes: 16 << 20, entries: 256 };
    const NOTHING: Self = Self { bytes: 0, entries: 0 };
    const MOST: Self = Self { bytes: u64::MAX, entries: u64::MAX };

    fn larger(self, other: Self) -> Self {
        Self { bytes: self.bytes.max(other.bytes), entries: self.entries.max(other.entries) }
    }

    fn is_nothing(self) -> bool {
        self.bytes == 0 || self.entries == 0
    }

    fn json(self) -> Value {
        if self == Self::DEFAULT || self == Self::MOST {
            return json!(true);
        }
        json!({ "quota": Amount::Size(self.bytes).to_string(), "entries": self.entries })
    }
}

/// Whether the plugin may keep values, and how many: what each side says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateScope {
    /// Empty if nothing is restricted.
    said: Vec<(Side, Quota)>,
}

impl Default for StateScope {
    /// Nothing at all.
    fn default() -> Self {
        Self { said: vec![(Side::Allow, Quota::NOTHING)] }
    }
}

impl StateScope {
    /// The least that a side says; none if nothing may be kept.
    pub fn quota(&self) -> Option<Quota> {
        let least = self.said.iter().fold(Quota::MOST, |least, (_, said)| Quota {
            bytes: least.bytes.min(said.bytes),
            entries: least.entries.min(said.entries),
        });
        (!least.is_nothing()).then_some(least)
    }

    /// The sides that would have to say more, so that a plugin may keep more.
    pub(crate) fn tightest(&self, of: impl Fn(&Quota) -> u64) -> Vec<Side> {
        let least = self.said.iter().map(|(_, said)| of(said)).min();
        self.said.iter().filter(|(_, said)| Some(of(said)) == least).map(|(side, _)| *side).collect()
    }
}

impl Scope for StateScope {
    const CLASS: &'static str = "state";

    fn parse(value: &Value, side: Side) -> Result<Self, String> {
        let open = if side == Side::Policy { Quota::MOST } else { Quota::DEFAULT };
        let mut all = Quota::NOTHING;
        for item in list(value) {
            let one = match item {
                Value::Bool(true) => open,
                Value::Bool(false) => Quota::NOTHING,
                Value::Object(map) => quota(map, open)?,
                other => return Err(wrong(other, "true, false or { quota: SIZE, entries: NUMBER }")),
            };
            all = all.larger(one);
        }
        Ok(Self { said: vec![(side, all)] })
    }

    fn everything() -> Self {
        Self { said: Vec::new() }
    }

    fn both(&self, other: &Self) -> Self {
        Self { said: self.said.iter().chain(&other.said).copied().collect() }
    }

    fn missing(&self, granted: &Self) -> Option<Value> {
        let asked = self.quota()?;
        granted.quota().is_none().then(|| asked.json())
    }
}

fn quota(map: &serde_json::Map<String, Value>, open: Quota) -> Result<Quota, String> {
    let mut quota = open;
    for (name, value) in map {
        match name.as_str() {
            "quota" => quota.bytes = size(value).ok_or_else(|| wrong(value, "a size such as `1MiB`"))?,
            "entries" => quota.entries = value.as_u64().ok_or_else(|| wrong(value, "a number of values"))?,
            other => return Err(format!("there is no `{}`; there are quota and entries", other.escape_debug())),
        }
    }
    Ok(quota)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_that_a_side_says_holds() {
        let sized = |bytes: u64, entries: u64| Some(Quota { bytes, entries });
        for (asked, allow, policy, expected) in [
            (json!(true), json!(true), json!(true), Some(Quota::DEFAULT)),
            (json!({ "quota": "1MiB" }), json!(true), json!(true), sized(1 << 20, 256)),
            (json!({ "quota": "1GiB" }), json!(true), json!(true), Some(Quota::DEFAULT)),
            (json!({ "quota": "1GiB" }), json!({ "quota": "32MiB" }), json!(true), sized(32 << 20, 256)),
            (json!({ "quota": "1GiB" }), json!({ "quota": "32MiB" }), json!({ "quota": 5 }), sized(5, 256)),
            (json!({ "entries": 1000 }), json!({ "entries": 2000 }), json!({ "quota": "1MiB" }), sized(1 << 20, 1000)),
            (json!([{ "entries": 2 }, { "entries": 3 }]), json!(true), json!(true), sized(16 << 20, 3)),
            (json!(true), json!({ "entries": 0 }), json!(true), None),
            (json!(true), json!(false), json!(true), None),
            (json!(true), json!(true), json!(false), None),
        ] {
            let read = |value: &Value, side| StateScope::parse(value, side).unwrap();
            let asked_for = read(&asked, Side::Request);
            let granted = asked_for.both(&read(&allow, Side::Allow)).capped(&read(&policy, Side::Policy));
            assert_eq!(granted.quota(), expected, "{asked} {allow} {policy}");
            assert_eq!(asked_for.missing(&granted).is_some(), expected.is_none(), "{asked} {allow} {policy}");
        }
        assert_eq!((StateScope::default().quota(), StateScope::everything().quota()), (None, Some(Quota::MOST)));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (value, expected) in [
            (json!("yes"), "true, false or { quota"),
            (json!({ "quota": "much" }), "a size such as `1MiB`"),
            (json!({ "quota": "99999999999TiB" }), "a size such as"),
            (json!({ "quota": -1 }), "a size such as"),
            (json!({ "entries": "2" }), "a number of values"),
            (json!({ "entries\u{0}": 2 }), r"there is no `entries\0`"),
        ] {
            let message = StateScope::parse(&value, Side::Allow).unwrap_err();
            assert!(message.contains(expected), "{value}: {message}");
        }
    }
}
