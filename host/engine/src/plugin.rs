//! Loads plugins: outline, compiled code, link check, description. A plugin that was loaded before on this machine is
//! mapped in and linked, without being run, read or compiled.

mod error;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use cooperage_store::Digest;
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasmtime::component::{Component, InstancePre};

use crate::bindings::registry::RegistryPluginPre;
use crate::bindings::source::SourcePluginPre;
use crate::bindings::task::TaskPluginPre;
use crate::call::CallError;
use crate::compile::child::{CompileError, in_child, precompile};
use crate::compile::outline::{OutlineError, outline};
use crate::contract::{self, BuilderCalls, ContractVersion};
use crate::engine::{CompileLimits, Engine};
use crate::grants::{Request, Scopes, Ungranted};
use crate::instance::State;
use crate::link::{self, Misfit, Roles};
use crate::outside::Outside;
use crate::parameters::Schema;
use crate::state::StateStore;

pub use error::LoadError;

/// Where a component comes from.
#[derive(Debug, Clone)]
pub enum Wasm {
    /// The bytes themselves.
    Bytes(Arc<[u8]>),
    /// Bytes whose digest is known already.
    Known {
        /// The bytes.
        bytes: Bytes,
        /// SHA-256 of them.
        digest: Digest,
    },
    /// A file whose digest is known; it is read only if it was never compiled here.
    File {
        /// The file.
        path: PathBuf,
        /// SHA-256 of what must be in it.
        digest: Digest,
    },
}

/// How much is known of whoever made a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It came with the program: compiled in this process.
    Bundled,
    /// Anybody: compiled in a child with limits.
    Stranger,
}

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Short name, as in `uses:`.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// One line.
    #[serde(default)]
    pub summary: String,
    /// JSON Schema of the parameters of each role.
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
    /// What it asks to be allowed.
    #[serde(default)]
    pub capabilities: Vec<Request>,
    /// URL schemes or reference prefixes that it serves.
    #[serde(default)]
    pub provides: Vec<String>,
    /// Licence, home page and the like.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// A loaded plugin. Cloning is cheap; calls are independent.
#[derive(Clone)]
pub struct Plugin(Arc<Inner>);

struct Inner {
    engine: Engine,
    name: String,
    digest: Digest,
    description: Description,
    advice: Vec<String>,
    contract: ContractVersion,
    roles: Roles,
    pre: Pres,
    schemas: [OnceLock<Result<Schema, String>>; 4],
}

/// The roles ready to be instantiated.
#[derive(Clone)]
pub(crate) struct Pres {
    pub builder: Option<Arc<dyn BuilderCalls>>,
    pub task: Option<TaskPluginPre<State>>,
    pub source: Option<SourcePluginPre<State>>,
    pub registry: Option<RegistryPluginPre<State>>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.0.name).field("digest", &self.0.digest).finish_non_exhaustive()
    }
}

impl Engine {
    /// Loads a plugin under the name that the user knows it by.
    ///
    /// # Errors
    /// When it is no component, cannot be compiled within the limits, does not fit this host or describes itself
    /// wrongly; each says what to do.
    pub async fn load(&self, name: &str, wasm: Wasm, trust: Trust) -> Result<Plugin, LoadError> {
        self.load_within(name, wasm, trust, &self.0.config.compile).await
    }

    /// The same with other limits for compiling it than the engine's.
    ///
    /// # Errors
    /// As of [`load`](Self::load).
    pub async fn load_within(
        &self,
        name: &str,
        wasm: Wasm,
        trust: Trust,
        limits: &CompileLimits,
    ) -> Result<Plugin, LoadError> {
        let digest = match &wasm {
            Wasm::Bytes(bytes) => Digest::of(bytes),
            Wasm::Known { digest, .. } | Wasm::File { digest, .. } => *digest,
        };
        let component = match self.0.code.load(&digest, &self.0.wasmtime) {
            Some(component) => component,
            None => self.compile(&digest, wasm, trust, limits).await?,
        };
        self.finish(name, digest, component).await
    }

    /// Loads a plugin whose component was compiled on this machine before, without its bytes; none if it was not.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub async fn load_compiled(&self, name: &str, digest: Digest) -> Result<Option<Plugin>, LoadError> {
        match self.0.code.load(&digest, &self.0.wasmtime) {
            Some(component) => self.finish(name, digest, component).await.map(Some),
            None => Ok(None),
        }
    }

    /// From compiled code to a plugin.
    async fn finish(&self, name: &str, digest: Digest, component: Component) -> Result<Plugin, LoadError> {
        let outside = Outside::of(&component.component_type(), &self.0.wasmtime);
        let (roles, contract, pre) = self.link(&component, &outside)?;
        let kept = self.0.code.description(&digest).and_then(|json| serde_json::from_slice(&json).ok());
        let description = match kept {
            Some(description) => description,
            None => {
                let description = crate::roles::describe(self, name, &pre).await?;
                self.keep(&digest, &description);
                description
            }
        };
        check_description(&description)?;
        let advice = link::advice(&outside, &description.capabilities);
        let schemas = Default::default();
        let engine = self.clone();
        let name = name.to_owned();
        Ok(Plugin(Arc::new(Inner { engine, name, digest, description, advice, contract, roles, pre, schemas })))
    }

    async fn compile(
        &self,
        digest: &Digest,
        wasm: Wasm,
        trust: Trust,
        limits: &CompileLimits,
    ) -> Result<Component, LoadError> {
        let bytes = read(wasm, limits.component).await?;
        let outline = outline(&bytes, limits.component)?;
        // What imports something of a later generation may not even compile here, with words that help nobody.
        if !link::imports(&outline.outside).is_empty() {
            link::fits(&outline.outside, self.0.config.unreleased_contract).map_err(LoadError::Link)?;
        }
        if let Some(json) = outline.description {
            let description =
                serde_json::from_slice(&json).map_err(|error| LoadError::Description(error.to_string()))?;
            check_description(&description)?;
            self.keep(digest, &description);
        }
        let compiled = match (&self.0.config.helper, trust) {
            (Some(helper), Trust::Stranger) => {
                let files = (self.0.code.temporary(), self.0.code.temporary());
                in_child(helper, &bytes, files, limits).await?
            }
            _ => {
                let engine = self.0.wasmtime.clone();
                let compiled = tokio::task::spawn_blocking(move || precompile(&engine, &bytes)).await;
                let compiled = compiled
                    .map_err(|_| CompileError::Exceeded { how: "made the compiler crash".to_owned(), setting: None })?;
                compiled?
            }
        };
        let machine = |what: &str| LoadError::Compile(CompileError::Machine(what.to_owned()));
        self.0.code.keep(digest, &compiled).map_err(|error| machine(&format!("cannot keep compiled code: {error}")))?;
        self.0.code.load(digest, &self.0.wasmtime).ok_or_else(|| machine("compiled code cannot be loaded again"))
    }

    /// A description that cannot be kept only costs time at the next load.
    fn keep(&self, digest: &Digest, description: &Description) {
        let json = serde_json::to_vec(description).unwrap_or_default();
        if let Err(error) = self.0.code.keep_description(digest, &json) {
            tracing::warn!("cannot keep the description of {digest}: {error}");
        }
    }

    fn link(&self, component: &Component, outside: &Outside) -> Result<(Roles, ContractVersion, Pres), LoadError> {
        let roles = link::fits(outside, self.0.config.unreleased_contract).map_err(LoadError::Link)?;
        // What names do not show: a function with other types than the host's or the role's.
        let wrong = |error: wasmtime::Error| {
            let fix = "build it against the released package, unchanged".to_owned();
            LoadError::Link(vec![Misfit { what: format!("{error:#}"), fix }])
        };
        let version = ContractVersion::of_exports(outside.exports.iter().map(String::as_str));
        let pre: InstancePre<State> = self.0.linker.instantiate_pre(component).map_err(wrong)?;
        let pres = Pres {
            builder: roles.builder.then(|| contract::builder(version, pre.clone())).transpose().map_err(wrong)?,
            task: roles.task.then(|| TaskPluginPre::new(pre.clone())).transpose().map_err(wrong)?,
            source: roles.source.then(|| SourcePluginPre::new(pre.clone())).transpose().map_err(wrong)?,
            registry: roles.registry.then(|| RegistryPluginPre::new(pre)).transpose().map_err(wrong)?,
        };
        Ok((roles, version, pres))
    }
}

async fn read(wasm: Wasm, limit: u64) -> Result<Bytes, LoadError> {
    let (path, expected) = match wasm {
        Wasm::Bytes(bytes) => return Ok(Bytes::from_owner(bytes)),
        Wasm::Known { bytes, .. } => return Ok(bytes),
        Wasm::File { path, digest } => (path, digest),
    };
    let wrong = |source| LoadError::Read { path: path.clone(), source };
    let size = tokio::fs::metadata(&path).await.map_err(wrong)?.len();
    if size > limit {
        return Err(OutlineError::TooLarge { size, limit }.into());
    }
    let bytes = tokio::fs::read(&path).await.map_err(wrong)?;
    let actual = Digest::of(&bytes);
    if actual != expected {
        return Err(LoadError::Digest { path, expected, actual });
    }
    Ok(bytes.into())
}

/// What a description must be to be used at all.
pub(crate) fn check_description(description: &Description) -> Result<(), LoadError> {
    let name = &description.name;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(LoadError::Description(format!("the name {name:?} is not of lower-case letters, digits and `-`")));
    }
    Scopes::requested(&description.capabilities).map_err(|error| LoadError::Description(error.to_string()))?;
    Ok(())
}

impl Plugin {
    /// The name under which the user knows it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// SHA-256 of the component.
    pub fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// What it says of itself.
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// What it can be asked to do.
    pub fn roles(&self) -> Roles {
        self.0.roles
    }

    /// The newest version of the contract that it has something of.
    pub fn contract(&self) -> ContractVersion {
        self.0.contract
    }

    /// What its author may want to know: imports that cannot work.
    pub fn advice(&self) -> &[String] {
        &self.0.advice
    }

    /// The engine that loaded it.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// What it asks for and does not get, each with the line that would grant it.
    pub fn ungranted(&self, allowed: &Scopes) -> Vec<Ungranted> {
        let policy = &self.0.engine.config().policy;
        // The requests were read when the plugin was loaded, so they can be read now.
        crate::grants::ungranted(&self.0.name, &self.0.description.capabilities, allowed, policy).unwrap_or_default()
    }

    /// What it may do, given what the user allows.
    pub fn grants(&self, allowed: &Scopes) -> crate::grants::Grants {
        let policy = &self.0.engine.config().policy;
        crate::grants::Grants::new(&self.0.description.capabilities, allowed, policy).unwrap_or_default()
    }

    /// Checks parameters against the schema of a role without running anything.
    ///
    /// # Errors
    /// [`CallError::Parameters`] with the first value that does not fit; [`CallError::Contract`] if the plugin's
    /// schema is none.
    pub fn check_parameters(&self, role: &str, parameters: &Value) -> Result<(), CallError> {
        self.schema(role)?.map_or(Ok(()), |schema| schema.check(parameters))
    }

    /// Parameters as the plugin gets them: checked, and with the defaults of the schema for what they leave out. What a
    /// call may reach is decided by the parameters as they are given, never by defaults, which are the plugin's words.
    ///
    /// # Errors
    /// As of [`check_parameters`](Self::check_parameters); [`CallError::Contract`] too if a default does not fit.
    pub fn complete_parameters(&self, role: &str, parameters: &Value) -> Result<Value, CallError> {
        let Some(schema) = self.schema(role)? else { return Ok(parameters.clone()) };
        schema.check(parameters)?;
        schema.complete(parameters).map_err(|message| self.broken(&message))
    }

    fn schema(&self, role: &str) -> Result<Option<&Schema>, CallError> {
        let Some(schema) = self.0.description.parameters.get(role) else { return Ok(None) };
        let slot = match role {
            "builder" => 0,
            "task" => 1,
            "source" => 2,
            _ => 3,
        };
        let schema = self.0.schemas[slot].get_or_init(|| Schema::new(schema));
        schema.as_ref().map(Some).map_err(|message| self.broken(message))
    }

    fn broken(&self, message: &str) -> CallError {
        CallError::Contract { plugin: self.0.name.clone(), message: message.to_owned() }
    }

    /// A value that the plugin keeps in a project from call to call.
    ///
    /// # Errors
    /// When the key is too long.
    pub fn kept(&self, project: &str, key: &str) -> Result<Option<Vec<u8>>, cooperage_solve::Error> {
        self.state(project).get(key)
    }

    /// Puts a value there as the plugin would.
    ///
    /// # Errors
    /// When it is too large, or cannot be written.
    pub fn keep(&self, project: &str, key: &str, value: &[u8]) -> Result<(), cooperage_solve::Error> {
        self.state(project).set(key, value, None)
    }

    fn state(&self, project: &str) -> StateStore {
        StateStore::new(&self.0.engine.config().state_dir, &self.0.name, project)
    }

    pub(crate) fn pres(&self) -> &Pres {
        &self.0.pre
    }
}
