//! What whoever runs this machine demands of everybody's flows. It comes before a user's own configuration, which
//! cannot widen it.

use std::collections::BTreeMap;
use std::path::Path;

use cooperage_engine::trust::Policy;
use cooperage_engine::{LimitSettings, Scopes};
use serde::Deserialize;
use serde_json::Value;

use crate::config::yaml;
use crate::error::Failure;

/// Where the file is, unless `COOP_POLICY` says otherwise.
pub(crate) const PATH: &str = "/etc/cooperage/policy.yaml";

/// The file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MachinePolicy {
    /// Which plugins from registries may be used.
    pub(crate) trust: Policy,
    /// The most that plugins may be granted, by class, also those that come with the program.
    pub(crate) allow: BTreeMap<String, Value>,
    /// What holds for the classes that `allow` does not name.
    pub(crate) default: Unnamed,
    /// The most that the limits of a plugin may be.
    pub(crate) limits: BTreeMap<String, Value>,
}

/// What holds for a class that the policy does not name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unnamed {
    /// Whatever the flow file allows.
    #[default]
    Allow,
    /// Nothing.
    Refuse,
}

impl MachinePolicy {
    /// Reads the file; one that does not exist demands nothing, unless the user named it.
    pub(crate) fn read(path: &Path, named: bool) -> Result<Self, Failure> {
        yaml(path, named)
    }

    /// What plugins may be granted at most.
    pub(crate) fn scopes(&self, path: &Path) -> Result<Scopes, Failure> {
        if self.allow.is_empty() && self.default == Unnamed::Allow {
            return Ok(Scopes::everything());
        }
        Scopes::policy(&self.allow, self.default == Unnamed::Refuse, &path.display().to_string())
            .map_err(|error| Failure::usage(format!("`allow` in {} is not right: {error}", path.display())))
    }

    /// What the limits of plugins may be at most.
    pub(crate) fn most(&self, path: &Path) -> Result<LimitSettings, Failure> {
        LimitSettings::parse(&self.limits)
            .map_err(|error| Failure::usage(format!("`limits` in {} is not right: {error}", path.display())))
    }
}
