//! One rule about processes: a list for each thing that can be told of a process before it starts.

use serde_json::{Map, Value};

use super::super::{Side, list, wrong};
use super::deed::Deed;
use super::item::{Item, Kind};

/// Processes that may run. A list that is absent restricts nothing, but for secrets: a process can carry a secret away,
/// so that who asks and who allows have to name what is mounted. A policy only caps what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    lists: [Option<Vec<Item>>; 4],
    side: Side,
}

impl Rule {
    /// What a side says that does not say more.
    pub(super) fn any(side: Side) -> Self {
        Self { lists: Default::default(), side }
    }

    pub(super) fn read(map: &Map<String, Value>, side: Side) -> Result<Self, String> {
        let mut rule = Self::any(side);
        for (name, value) in map {
            let Some(kind) = Kind::of(name) else {
                let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                return Err(format!("there is no `{}`; there are {}", name.escape_debug(), names.join(", ")));
            };
            let item = |value: &Value| {
                let text = value.as_str().ok_or_else(|| format!("`{name}`: {}", wrong(value, "a text")))?;
                Item::read(kind, text)
            };
            rule.lists[kind as usize] = Some(list(value).iter().map(item).collect::<Result<_, _>>()?);
        }
        Ok(rule)
    }

    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        self.lists.iter().flatten().flatten()
    }

    /// The lists that do not allow what a process has.
    pub(super) fn lacks(&self, deed: &Deed<'_>) -> Vec<&'static str> {
        let lacks = |kind: &Kind| match &self.lists[*kind as usize] {
            Some(items) => !unmet(items, *kind, deed).is_empty(),
            None => *kind == Kind::Mounts && self.keeps_secrets() && deed.mounts_secrets(),
        };
        Kind::ALL.into_iter().filter(lacks).map(Kind::name).collect()
    }

    /// The same rule, wide enough for a process that some of its lists do not allow.
    pub(super) fn with(&self, deed: &Deed<'_>, lacks: &[&'static str]) -> Self {
        let mut wider = self.clone();
        for kind in lacks.iter().filter_map(|name| Kind::of(name)) {
            let items = wider.lists[kind as usize].get_or_insert_with(Item::harmless_mounts);
            for number in unmet(items, kind, deed) {
                let needed = Item::exactly(kind, deed, number);
                items.extend(Item::read(kind, &needed).ok().filter(|item| !items.contains(item)));
            }
        }
        wider
    }

    fn keeps_secrets(&self) -> bool {
        self.side != Side::Policy
    }

    /// Whether some process may be allowed by both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        Kind::ALL.into_iter().all(|kind| match (&self.lists[kind as usize], &other.lists[kind as usize]) {
            // Any process can do without mounts.
            (Some(_), Some(_)) if kind == Kind::Mounts => true,
            (Some(one), Some(two)) => one.iter().any(|one| two.iter().any(|two| one.overlaps(two))),
            (Some(one), None) | (None, Some(one)) => kind == Kind::Mounts || !one.is_empty(),
            (None, None) => true,
        })
    }

    pub(super) fn json(&self) -> Value {
        let mut map = Map::new();
        for kind in Kind::ALL {
            if let Some(items) = &self.lists[kind as usize] {
                let items = items.iter().map(|item| Value::String(item.text.clone())).collect();
                map.insert(kind.name().to_owned(), Value::Array(items));
            }
        }
        if map.is_empty() { Value::Bool(true) } else { Value::Object(map) }
    }
}

/// What of a process no item allows, by number: mounts have several, all else has one.
fn unmet(items: &[Item], kind: Kind, deed: &Deed<'_>) -> Vec<usize> {
    let count = if kind == Kind::Mounts { deed.mounts.len() } else { 1 };
    (0..count).filter(|number| !items.iter().any(|item| item.allows(deed, *number))).collect()
}
