//! What a user can set for a build with an engine.

use cooperage_sdk::secrets::Secret;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// How to build images with a Docker engine.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// Path of the Dockerfile in the context; `Dockerfile` by default.
    pub dockerfile: Option<String>,
    /// The text of a Dockerfile, instead of a file.
    pub dockerfile_inline: Option<String>,
    /// Name of the context that has the Dockerfile; the main one by default.
    pub dockerfile_context: Option<String>,
    /// Name of the stage to build; the last by default.
    pub target: Option<String>,
    /// Which builder of the engine works.
    pub builder: Wanted,
    /// Build arguments; those of the command line win.
    pub args: BTreeMap<String, String>,
    /// Labels to add to the image; those of the command line win.
    pub labels: BTreeMap<String, String>,
    /// The network of RUN: `default`, `none`, `host` or what else the engine knows.
    pub network: Option<String>,
    /// Runs every step, whatever the engine has from earlier builds.
    pub no_cache: bool,
    /// Asks registries for newer base images.
    pub pull: bool,
    /// Images whose layers may serve as a cache.
    pub cache_from: Vec<String>,
    /// Names that the image gets in the engine, too.
    pub tag: Vec<String>,
    /// Whether the image stays in the engine; it does by default.
    pub keep: Option<bool>,
    /// Credentials for the registries that base images come from.
    pub registry_auth: Vec<Login>,
    /// Secrets for `RUN --mount=type=secret`, by the id used there. Only Podman takes them without a session.
    pub secrets: BTreeMap<String, Secret>,
}

/// Which builder of the engine works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// BuildKit where it can do what is asked for, else the classic one.
    #[default]
    Auto,
    /// The classic one.
    Classic,
    /// BuildKit.
    Buildkit,
}

/// A credential for one registry.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// `HOST` or `HOST:PORT`; `docker.io` is Docker Hub.
    pub host: String,
    /// Whose.
    pub username: String,
    /// The password or token.
    pub password: Secret,
}
