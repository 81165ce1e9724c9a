//! `cooperage.lock`: which bytes the plugins of a flow file are, so that all who have the file run the same. It lies
//! beside the flow file and is committed with it. A plugin that is not in it yet is added when it is first used; one
//! that is in it stays what it is until `coop plugin update`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cooperage_engine::Plugin;
use cooperage_engine::artifact::PluginReference;
use cooperage_engine::trust::Signer;
use cooperage_store::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::PluginConfig;
use crate::error::{Exit, Failure};
use crate::output;
use crate::plugins::Obtained;

/// The name of the file, in the directory of the flow file.
pub(crate) const NAME: &str = "cooperage.lock";

const HEAD: &str =
    "# Which plugins the flow file beside it runs. Written by coop: commit it; `coop plugin update` changes it.\n";

/// What is locked of one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Locked {
    /// As the flow file has it: the requirement.
    pub(crate) from: String,
    /// As the plugin says it.
    pub(crate) version: String,
    /// Of the artifact in the registry or layout; files have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) manifest: Option<Digest>,
    /// Of the component.
    pub(crate) component: Digest,
    /// Who signed it, where that is what allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signer: Option<SignedBy>,
    /// Over what the user allows it.
    pub(crate) grants: Digest,
}

/// A signer without the name that one user gives a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum SignedBy {
    /// Fingerprint of the public key.
    Key(Digest),
    /// Whoever an issuer vouched for.
    Identity { subject: String, issuer: String },
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    version: u32,
    #[serde(default)]
    pub(crate) plugins: BTreeMap<String, Locked>,
}

/// What happens to what the file does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is added.
    Add,
    /// It is refused: `--locked`.
    Refuse,
    /// Nothing is written, as nothing is run.
    Look,
}

/// The lock of a flow file while plugins are loaded.
pub(crate) struct LockFile {
    project: PathBuf,
    mode: Mode,
    lock: Mutex<Lock>,
}

impl Locked {
    /// What is to be locked of a plugin that was loaded.
    pub(crate) fn of(config: &PluginConfig, obtained: &Obtained, plugin: &Plugin) -> Self {
        let artifact = &obtained.artifact;
        Self {
            from: config.from.clone(),
            version: plugin.description().version.clone(),
            manifest: artifact.manifest,
            component: artifact.digest,
            signer: obtained.signer.as_ref().map(SignedBy::from),
            grants: grants(config),
        }
    }
}

impl From<&Signer> for SignedBy {
    fn from(signer: &Signer) -> Self {
        match signer.clone() {
            Signer::Key { fingerprint, .. } => Self::Key(fingerprint),
            Signer::Identity { subject, issuer } => Self::Identity { subject, issuer },
        }
    }
}

impl std::fmt::Display for SignedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(fingerprint) => write!(f, "the key {fingerprint}"),
            Self::Identity { subject, issuer } => write!(f, "{subject} (vouched for by {issuer})"),
        }
    }
}

/// A digest over what a plugin is allowed; the order of classes and names does not count.
pub(crate) fn grants(config: &PluginConfig) -> Digest {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let map: BTreeMap<_, _> = map.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
                Value::from_iter(map)
            }
            Value::Array(list) => list.iter().map(sorted).collect(),
            other => other.clone(),
        }
    }
    Digest::of(sorted(&Value::Object(config.allow.clone())).to_string().as_bytes())
}

impl Lock {
    /// Reads a lock; one that does not exist is empty.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { version: 1, plugins: BTreeMap::new() });
            }
            Err(error) => return Err(Failure::usage(format!("reading {}: {error}", path.display()))),
        };
        let hint = "take the file from the version control, or delete it and let `coop plugin update` write it anew";
        let lock: Self = serde_saphyr::from_str(&text)
            .map_err(|error| Failure::usage(format!("{} is not right: {error}", path.display())).hint(hint))?;
        if lock.version != 1 {
            let message = format!("{} has version {}, and this coop reads version 1", path.display(), lock.version);
            return Err(Failure::usage(message).hint("use a newer coop"));
        }
        Ok(lock)
    }

    /// Puts it into place in one step, so that another process sees all of it or nothing.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(Exit::Environment, format!("the lock {} cannot be written: {error}", path.display()))
        };
        let text = serde_saphyr::to_string(self).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        output::whole(path, format!("{HEAD}{text}").as_bytes()).map_err(failed)
    }
}

impl LockFile {
    /// Opens the lock beside a flow file.
    pub(crate) fn open(project: &Path, mode: Mode) -> Result<Self, Failure> {
        Ok(Self { lock: Mutex::new(Lock::read(&project.join(NAME))?), project: project.to_owned(), mode })
    }

    /// A lock that has nothing, and of which nothing remains.
    pub(crate) fn empty(project: &Path) -> Self {
        Self { lock: Mutex::default(), project: project.to_owned(), mode: Mode::Look }
    }

    /// Where to load a plugin from: the bytes that are locked, if they are.
    pub(crate) fn reference(&self, name: &str, config: &PluginConfig) -> Result<PluginReference, Failure> {
        let reference = match config.from.parse().map_err(crate::plugins::artifact_failure)? {
            // A path in a file of the project begins there.
            PluginReference::File(path) => PluginReference::File(self.project.join(path)),
            PluginReference::Layout { directory, name } => {
                PluginReference::Layout { directory: self.project.join(directory), name }
            }
            other => other,
        };
        let missing = match self.entry(name) {
            None => format!("{NAME} does not have the plugin {name}"),
            Some(locked) if locked.from != config.from => {
                format!("{NAME} has the plugin {name} from {}, and the file from {}", locked.from, config.from)
            }
            Some(locked) => return Ok(exact(reference, &locked)),
        };
        if self.mode == Mode::Refuse { Err(self.refused(name, missing)) } else { Ok(reference) }
    }

    /// Holds what was loaded against the lock, or adds it.
    pub(crate) fn check(
        &self,
        name: &str,
        config: &PluginConfig,
        obtained: &Obtained,
        plugin: &Plugin,
    ) -> Result<(), Failure> {
        let mut found = Locked::of(config, obtained, plugin);
        let Some(locked) = self.entry(name).filter(|locked| locked.from == config.from) else {
            return self.put(name, found);
        };
        // Where no signature is asked for, nobody looked who signed.
        found.signer = found.signer.or_else(|| locked.signer.clone());
        if locked == found {
            return Ok(());
        }
        // A file of the project is built again and again.
        let is_file = matches!(config.from.parse(), Ok(PluginReference::File(_)));
        let what = match () {
            () if locked.manifest != found.manifest => {
                let shown = |digest: Option<Digest>| digest.map_or_else(|| "none".to_owned(), |one| one.to_string());
                let (locked, found) = (shown(locked.manifest), shown(found.manifest));
                format!("the plugin {name} is locked to the artifact {locked}, and {} is {found}", config.from)
            }
            () if locked.component != found.component && !is_file => format!(
                "the artifact of the plugin {name} has the component {}, and {NAME} says {}: the lock was changed by hand",
                found.component, locked.component
            ),
            () if locked.version != found.version && !is_file => format!(
                "the plugin {name} says that it is version {}, and {NAME} says {}: the lock was changed by hand",
                found.version, locked.version
            ),
            () if self.mode != Mode::Refuse => return self.put(name, found),
            () if let (Some(before), Some(now)) = (&locked.signer, &found.signer)
                && before != now =>
            {
                format!("the plugin {name} was signed by {before} when it was locked, and is signed by {now}")
            }
            () if is_file && locked.component != found.component => {
                format!(
                    "the plugin {name} is locked to the component {}, and the file is {}",
                    locked.component, found.component
                )
            }
            () => format!("the plugin {name} is allowed something else than when it was locked"),
        };
        Err(self.refused(name, what))
    }

    fn entry(&self, name: &str) -> Option<Locked> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).plugins.get(name).cloned()
    }

    fn put(&self, name: &str, found: Locked) -> Result<(), Failure> {
        if self.mode == Mode::Look {
            return Ok(());
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        lock.plugins.insert(name.to_owned(), found);
        lock.write(&self.project.join(NAME))
    }

    fn refused(&self, name: &str, message: String) -> Failure {
        Failure::new(Exit::Refused, message)
            .hint(format!("if that is what you want, run `coop plugin update {name}` and commit {NAME}"))
    }
}

/// The very artifact that is locked. A digest of the user's own comes first; that it is the same is looked at later.
fn exact(reference: PluginReference, locked: &Locked) -> PluginReference {
    match reference {
        PluginReference::Registry(mut reference) => {
            reference.digest = reference.digest.or(locked.manifest);
            PluginReference::Registry(reference)
        }
        other => other,
    }
}
