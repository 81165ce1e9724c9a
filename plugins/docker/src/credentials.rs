//! Credentials of registries as engines take them: in the header of a request, for one registry or for several. They are
//! never part of a URL, a log line or an error.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::names;

/// Who asks a registry; empty is nobody in particular.
#[derive(Clone, Default, Serialize)]
pub struct Credential {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    password: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    serveraddress: String,
}

/// Credentials by registry.
#[derive(Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Credentials(BTreeMap<String, Credential>);

impl Credential {
    /// The credential of a registry.
    #[must_use]
    pub fn new(host: &str, username: &str, password: String) -> Self {
        Self { username: username.to_owned(), password, serveraddress: names::credential_host(host) }
    }
}

impl Credentials {
    /// Adds one; it takes the place of an earlier one for the same registry.
    pub fn add(&mut self, credential: Credential) {
        self.0.insert(credential.serveraddress.clone(), credential);
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// User name and password for a host that BuildKit asks about, which names Docker Hub by its address.
    #[must_use]
    pub fn of_host(&self, host: &str) -> Option<(String, String)> {
        let host = if host == "registry-1.docker.io" { "docker.io" } else { host };
        let one = self.0.get(&names::credential_host(host))?;
        Some((one.username.clone(), one.password.clone()))
    }

    /// The one for the registry that the name of an image leads to.
    #[must_use]
    pub fn of_image(&self, name: &str) -> Credential {
        self.0.get(&names::registry(name)).cloned().unwrap_or_default()
    }
}
