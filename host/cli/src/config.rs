//! The user's configuration: registries, routes and settings that no command line should repeat.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cooperage_engine::trust::Policy;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::Failure;

/// `config.yaml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Registries by `host` or `host:port`.
    pub(crate) registries: BTreeMap<String, RegistryConfig>,
    /// Where names are pulled from, by the beginning of the name.
    pub(crate) pull: BTreeMap<String, RouteConfig>,
    /// Where names are pushed to, by the beginning of the name.
    pub(crate) push: BTreeMap<String, RouteConfig>,
    /// Plugins beside the bundled ones, by the name that `uses` and `--builder` know.
    pub(crate) plugins: BTreeMap<String, PluginConfig>,
    /// The source plugin for URLs, by `SCHEME` or `SCHEME:*SUFFIX`; before what the bundled plugins serve.
    pub(crate) sources: BTreeMap<String, String>,
    /// Which plugins from registries may be used, beside what the policy of the machine says.
    pub(crate) trust: Policy,
    /// Unix sockets of this machine that plugins may be granted, by name.
    pub(crate) services: BTreeMap<String, PathBuf>,
    /// The builder of `coop build` and of `uses: build`; the bundled `dockerfile` if none is named.
    pub(crate) builder: Option<String>,
    /// Runs plugins of a version of the contract that is not released and may change.
    #[serde(rename = "unreleased-contract")]
    pub(crate) unreleased_contract: bool,
}

/// How one registry is reached.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RegistryConfig {
    /// Without TLS.
    pub(crate) insecure: bool,
    /// A certificate authority, as a PEM file.
    pub(crate) ca: Option<PathBuf>,
    /// The registry plugin; the bundled `oci` if none is named.
    pub(crate) plugin: Option<String>,
    /// Settings for that plugin.
    pub(crate) options: BTreeMap<String, String>,
}

/// Where names with some beginning really are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteConfig {
    /// `host[:port][/path]` that takes the place of the beginning.
    pub(crate) location: String,
    /// The registry plugin.
    #[serde(default)]
    pub(crate) plugin: Option<String>,
}

/// A plugin and what it is allowed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PluginConfig {
    /// Where it comes from.
    pub(crate) from: String,
    /// Grants by class.
    #[serde(default)]
    pub(crate) allow: serde_json::Map<String, serde_json::Value>,
    /// What one call may use up, by the name of the limit.
    #[serde(default)]
    pub(crate) limits: serde_json::Map<String, serde_json::Value>,
}

impl Config {
    /// The builder that counts where none is named.
    pub(crate) fn builder(&self) -> &str {
        self.builder.as_deref().unwrap_or("dockerfile")
    }

    /// Reads a file; a missing one is empty unless the user named it.
    pub(crate) fn read(path: &Path, named: bool) -> Result<Self, Failure> {
        yaml(path, named)
    }
}

/// Reads a YAML file; one that does not exist says nothing, unless the user named it.
pub(crate) fn yaml<T: DeserializeOwned + Default>(path: &Path, named: bool) -> Result<T, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return Ok(T::default()),
        Err(error) => return Err(Failure::usage(format!("reading {}: {error}", path.display()))),
    };
    serde_saphyr::from_str(&text).map_err(|error| Failure::usage(format!("{} is not right: {error}", path.display())))
}
