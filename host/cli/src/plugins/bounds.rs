//! What a plugin may do and use up, from what is written down of it and from the policy of the machine.

use cooperage_engine::artifact::PluginReference;
use cooperage_engine::grants::Scopes;
use cooperage_engine::{CompileLimits, LimitSettings, Limits};
use serde_json::{Map, Value};

use super::Plugins;
use crate::config::PluginConfig;
use crate::error::{Exit, Failure};

impl Plugins {
    /// What the user allows a plugin: bundled ones what they ask for, others what is written down.
    pub(crate) fn allowed(&self, reference: &str) -> Result<Scopes, Failure> {
        match (self.allowed_in_words(reference), self.named.get(reference)) {
            (None, _) => Ok(Scopes::everything()),
            (Some(_), Some(plugin)) => scopes(reference, plugin),
            (Some(_), None) => Ok(Scopes::default()),
        }
    }

    /// What one call of a plugin may use up: what is written down, as far as the policy of the host permits it.
    pub(crate) fn limits(&self, reference: &str) -> Result<Limits, Failure> {
        Ok(self.set(reference)?.apply(Limits::default(), &self.most.0))
    }

    /// What compiling a plugin may use up.
    pub(crate) fn compiling_limits(&self, reference: &str) -> Result<CompileLimits, Failure> {
        Ok(self.set(reference)?.apply(CompileLimits::default(), &self.most.0))
    }

    /// What is written down that a plugin is allowed; none if whatever it asks for is allowed without a word, as it is of
    /// bundled plugins, also of one that is declared only for the sake of its limits.
    pub(crate) fn allowed_in_words(&self, reference: &str) -> Option<Map<String, Value>> {
        let bundled = |from: &str| matches!(from.parse(), Ok(PluginReference::Bundled(_)));
        match self.named.get(reference) {
            Some(plugin) if bundled(&plugin.from) && plugin.allow.is_empty() => None,
            Some(plugin) => Some(plugin.allow.clone()),
            None => (!bundled(reference)).then(Map::new),
        }
    }

    /// The limits that are written down for a plugin; refused if they are more than the policy permits.
    fn set(&self, reference: &str) -> Result<LimitSettings, Failure> {
        let (most, policy) = &self.most;
        let map = self.named.get(reference).map(|plugin| plugin.limits.clone().into_iter().collect());
        let set = LimitSettings::parse(&map.unwrap_or_default())
            .map_err(|error| Failure::usage(format!("the limits of the plugin {reference} cannot be read: {error}")))?;
        let beyond = set.beyond(most);
        if beyond.is_empty() {
            return Ok(set);
        }
        let message = format!("the limits of the plugin {reference} are more than the policy of this host permits");
        let failure = Failure::new(Exit::Refused, message);
        Err(beyond.iter().fold(failure, |failure, one| {
            let (name, policy) = (one.name, policy.display());
            failure.cause(format!("`{name}: {}`: {policy} has `limits: {{ {name}: {} }}`", one.asked, one.most))
        }))
    }

    /// Who keeps values: not whoever has the name of another plugin, and the same one after an update.
    pub(super) fn keeper(&self, reference: &str) -> String {
        let from = self.named.get(reference).map_or(reference, |plugin| &plugin.from);
        match from.parse() {
            Ok(PluginReference::Bundled(name)) => format!("bundled {name}"),
            Ok(PluginReference::Registry(place)) => {
                format!("{reference} oci://{}/{}", place.host, place.repository)
            }
            _ => format!("{reference} {from}"),
        }
    }
}

/// What the user writes that a plugin is allowed.
pub(super) fn scopes(name: &str, config: &PluginConfig) -> Result<Scopes, Failure> {
    let map = config.allow.clone().into_iter().collect();
    Scopes::allow(&map)
        .map_err(|error| Failure::usage(format!("what the plugin {name} is allowed cannot be read: {error}")))
}
