//! What a build did, step by step: enough to explain every hit and miss later. Holds no secret and no output.

use cooperage_store::Digest;
use serde::{Deserialize, Serialize};

use crate::Location;
use crate::key::Part;

/// How the result of a step came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheResult {
    /// Found by what the step is defined by; its inputs were not looked at.
    Hit,
    /// The definition had changed, but what the step really uses had not.
    ContentHit,
    /// It had to be done.
    Miss,
    /// It failed.
    Failed,
}

/// One operation of a build.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepRecord {
    /// Name as the user saw it.
    pub name: String,
    /// Where the user asked for it.
    pub location: Option<Location>,
    /// Digest over the parts.
    pub key: Digest,
    /// What the step depends on.
    pub parts: Vec<Part>,
    /// How its result came about.
    pub result: CacheResult,
    /// Milliseconds it took, cached or not.
    pub milliseconds: u64,
}

/// One build.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BuildRecord {
    /// Its operations in the order in which they were first needed.
    pub steps: Vec<StepRecord>,
}

/// What changed in a step since the last time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Name of the part.
    pub part: String,
    /// Its value then; none if the part is new.
    pub before: Option<String>,
    /// Its value now; none if the part is gone.
    pub now: Option<String>,
}

impl StepRecord {
    /// The parts that differ from those of `before`.
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let find = |parts: &[Part], name: &str| parts.iter().find(|p| p.name == name).map(|p| p.value.clone());
        let mut changes = Vec::new();
        for part in &self.parts {
            let old = find(&before.parts, &part.name);
            if old.as_deref() != Some(&part.value) {
                changes.push(Change { part: part.name.clone(), before: old, now: Some(part.value.clone()) });
            }
        }
        for part in &before.parts {
            if find(&self.parts, &part.name).is_none() {
                changes.push(Change { part: part.name.clone(), before: Some(part.value.clone()), now: None });
            }
        }
        changes
    }
}
