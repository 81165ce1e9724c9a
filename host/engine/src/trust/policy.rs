//! Whose plugins are wanted: rules in a file of the user. Says what must be signed by whom; `decision` compares.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Error, NamedKey, PublicKey, Signer};
use crate::artifact::RegistryReference;
use crate::pattern::fits;

/// Which plugins from registries may be used.
///
/// The first rule that fits a plugin decides. A plugin that no rule fits must be signed by one of `keys`, or be pinned
/// by digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// Public keys, by the names that rules call them.
    #[serde(default)]
    pub keys: BTreeMap<String, KeySource>,
    /// Sigstore's `trusted_root.json`, needed for rules with `identities`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_root: Option<PathBuf>,
    /// The rules, the first that fits decides.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// A public key and whether it is still used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeySource {
    /// A file with the key in PEM, such as `cosign.pub`. Either this or `pem`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The key in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<String>,
    /// The key was replaced: its signatures no longer count.
    #[serde(default)]
    pub retired: bool,
}

/// What plugins of some names must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// Host and repository, such as `registry.example/acme/**`; `*` stands for anything but `/`, `**` for anything.
    #[serde(rename = "match")]
    pub pattern: String,
    /// What is wanted.
    pub require: Requirement,
}

/// What a rule wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    /// A signature by any of these keys, even if the plugin is pinned by digest.
    Keys(Vec<String>),
    /// A keyless signature by any of these identities, even if the plugin is pinned by digest.
    Identities(Vec<Identity>),
    /// A digest that the user wrote; no signature.
    Digest,
    /// Nothing: whoever can push there is trusted.
    Nothing,
    /// A plugin that is not wanted, whatever it has.
    Refuse,
}

/// Who may have signed without a key pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Identity {
    /// URL of the OpenID issuer, exactly, such as `https://token.actions.githubusercontent.com`.
    pub issuer: String,
    /// E-mail address or URI; `*` stands for anything but `/`, `**` for anything.
    pub subject: String,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A rule names a key that is not listed.
    #[error("the rule for {pattern} names the key {key}, which `keys` does not list")]
    NoSuchKey {
        /// Pattern of the rule.
        pattern: String,
        /// The key.
        key: String,
    },
    /// A rule can never be met.
    #[error("the rule for {pattern} {reason}")]
    Rule {
        /// Pattern of the rule.
        pattern: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A key has not exactly one of `file` and `pem`.
    #[error("the key {0} needs either `file` or `pem`")]
    KeySource(String),
    /// The file of a key cannot be read.
    #[error("the key {name}: {path}: {source}")]
    File {
        /// Name of the key.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The trust root cannot be read.
    #[error("the trust root {path}: {reason}")]
    TrustRoot {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A key is none.
    #[error("the key {name}: {source}")]
    Key {
        /// Name of the key.
        name: String,
        /// What is wrong with it.
        source: Error,
    },
}

impl Policy {
    /// The policy that wants a signature by one key, in PEM, for every plugin.
    pub fn of_key(name: &str, pem: String) -> Self {
        let source = KeySource { file: None, pem: Some(pem), retired: false };
        let require = Requirement::Keys(vec![name.to_owned()]);
        Self {
            keys: [(name.to_owned(), source)].into(),
            trusted_root: None,
            rules: vec![Rule { pattern: "**".to_owned(), require }],
        }
    }

    /// Finds mistakes that would otherwise show as refusals.
    ///
    /// # Errors
    /// When a rule names an unknown key, lists nobody, or wants identities without a trust root.
    pub fn check(&self) -> Result<(), PolicyError> {
        for rule in &self.rules {
            let pattern = || rule.pattern.clone();
            let wrong = |reason| Err(PolicyError::Rule { pattern: pattern(), reason });
            if rule.pattern.contains("://") || rule.pattern.contains('@') {
                return wrong("has more than a host and a repository: write no scheme, tag or digest");
            }
            match &rule.require {
                Requirement::Keys(keys) => {
                    if let Some(key) = keys.iter().find(|key| !self.keys.contains_key(*key)) {
                        return Err(PolicyError::NoSuchKey { pattern: pattern(), key: key.clone() });
                    }
                    if keys.iter().all(|key| self.keys[key].retired) {
                        return wrong("names no key that is still used");
                    }
                }
                Requirement::Identities(identities) if identities.is_empty() => return wrong("names nobody"),
                Requirement::Identities(_) if self.trusted_root.is_none() => {
                    return wrong("wants identities, which need `trusted-root`");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The keys, ready to verify with; `read` gives the bytes of a file.
    ///
    /// # Errors
    /// When a key cannot be read; says which.
    pub fn named_keys(
        &self,
        mut read: impl FnMut(&Path) -> std::io::Result<Vec<u8>>,
    ) -> Result<Vec<NamedKey>, PolicyError> {
        let mut keys = Vec::new();
        for (name, source) in &self.keys {
            let text = match (&source.pem, &source.file) {
                (Some(pem), None) => pem.clone(),
                (None, Some(path)) => {
                    let wrong = |source| PolicyError::File { name: name.clone(), path: path.clone(), source };
                    String::from_utf8_lossy(&read(path).map_err(wrong)?).into_owned()
                }
                _ => return Err(PolicyError::KeySource(name.clone())),
            };
            let key = PublicKey::from_pem(&text).map_err(|source| PolicyError::Key { name: name.clone(), source })?;
            keys.push(NamedKey { name: name.clone(), key, retired: source.retired });
        }
        Ok(keys)
    }

    /// The rule for a plugin, if one fits.
    pub fn rule(&self, reference: &RegistryReference) -> Option<&Rule> {
        let name = format!("{}/{}", reference.host, reference.repository);
        self.rules.iter().find(|rule| fits(&rule.pattern, &name))
    }

    /// Whether a key is listed under this name and still used.
    pub(super) fn uses(&self, name: &str) -> bool {
        self.keys.get(name).is_some_and(|key| !key.retired)
    }
}

impl Identity {
    /// Verifies that a signer is this one.
    ///
    /// # Errors
    /// [`Error::WrongIdentity`] with both.
    pub fn check(&self, signer: &Signer) -> Result<(), Error> {
        match signer {
            Signer::Identity { subject, issuer } if *issuer == self.issuer && fits(&self.subject, subject) => Ok(()),
            other => Err(Error::WrongIdentity { found: other.to_string(), wanted: self.to_string() }),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (vouched for by {})", self.subject, self.issuer)
    }
}
