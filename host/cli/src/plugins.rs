//! The plugins of one command: finds, compiles and grants them when they are first called.

mod ahead;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use cooperage_engine::artifact::{Artifact, Bundle, PluginReference, Remote, Sources};
use cooperage_engine::credentials::Credentials;
use cooperage_engine::grants::Scopes;
use cooperage_engine::registries::{Backends, RegistryBackend, RegistryService};
use cooperage_engine::trust::{Policies, Policy};
use cooperage_engine::{
    BuildRequest, BuiltImage, CallContext, CallError, CompileLimits, Config, Engine, LimitSettings, Limits, LoadError,
    Plugin, RegistryPlugin, StandIns, TaskOutputs, TaskRequest, Trust, Wasm, http,
};
use cooperage_solve::{
    Build, Cancel, Error, ErrorKind, Reporter, SourceProvider, SourceRequest, SourceVersion, Step, Tree,
};
use cooperage_store::Store;

use crate::app::{App, own_path};
use crate::bundle;
use crate::config::PluginConfig;
use crate::error::{Exit, Failure};
use crate::lock::LockFile;
use crate::sources;

mod bounds;
mod failures;
mod obtain;

pub(crate) use failures::{artifact_failure, call_failure, load_failure};
pub(crate) use obtain::Obtained;

const BUNDLE: Bundle = Bundle { index: bundle::INDEX.as_bytes(), blobs: bundle::BLOBS };

/// In `uses`: whichever builder the user has chosen.
pub(crate) const BUILD: &str = "build";

/// A plugin and what it may do here.
#[derive(Clone)]
pub(crate) struct Ready {
    pub(crate) plugin: Plugin,
    context: CallContext,
}

/// The plugins that a flow file declares.
#[derive(Default)]
pub(crate) struct Declared {
    pub(crate) plugins: BTreeMap<String, PluginConfig>,
    /// What says which bytes they are.
    pub(crate) lock: Option<LockFile>,
    /// The directory of the flow file; without one it is the current directory.
    pub(crate) project: Option<PathBuf>,
}

/// All plugins within reach.
pub(crate) struct Plugins {
    engine: OnceLock<Engine>,
    config: Config,
    sources: Sources,
    /// What says whose plugins may be used, and the files that say it.
    trust: [(Policy, PathBuf); 2],
    policies: OnceLock<Policies>,
    /// The most that limits may be, and the file that says so.
    most: (LimitSettings, PathBuf),
    /// Plugins that the user named, in a flow file or the configuration.
    named: BTreeMap<String, PluginConfig>,
    /// Names that only the configuration has: it is the user's own, so that no lock holds them.
    unlocked: BTreeSet<String>,
    /// The lock of the flow file.
    lock: Option<LockFile>,
    ready: Mutex<HashMap<String, Ready>>,
    /// Those that did not compile, and why: trying again would take as long and end the same.
    unfit: Mutex<HashMap<String, Failure>>,
    turns: ahead::Turns,
    registries: OnceLock<RegistryService>,
    store: Store,
    reporter: Reporter,
    cancel: Cancel,
    project: String,
    /// What `build` stands for.
    builder: String,
    /// Source plugins that the user chose, by what they serve.
    serving: BTreeMap<String, String>,
}

/// Unix sockets by name. Docker's is where its own client looks for it.
fn services(app: &App) -> BTreeMap<String, PathBuf> {
    let docker = app.environment.get("DOCKER_HOST").and_then(|host| host.strip_prefix("unix://"));
    let docker = ("docker".to_owned(), PathBuf::from(docker.unwrap_or("/var/run/docker.sock")));
    std::iter::once(docker).chain(app.config.services.clone()).collect()
}

impl Plugins {
    /// Opens nothing yet. What is declared comes before the user's own configuration.
    pub(crate) fn new(
        app: &App,
        (declared, store): (Declared, Store),
        http: http::Client,
        credentials: Arc<Credentials>,
        reporter: Reporter,
    ) -> Result<Self, Failure> {
        let Declared { plugins: mut named, lock, project } = declared;
        let project = project.or_else(|| std::env::current_dir().ok()).unwrap_or_else(|| app.root.clone());
        let mut unlocked = BTreeSet::new();
        for (name, plugin) in &app.config.plugins {
            named.entry(name.clone()).or_insert_with(|| {
                unlocked.insert(name.clone());
                plugin.clone()
            });
        }
        let cache = app.environment.cache_directory();
        let most = app.policy.most(&app.policy_path)?;
        let config = Config {
            cache_dir: cache.join("compiled"),
            state_dir: cache.join("state"),
            helper: Some(own_path()?),
            limits: LimitSettings::default().apply(Limits::default(), &most),
            compile: LimitSettings::default().apply(CompileLimits::default(), &most),
            services: services(app),
            policy: app.policy.scopes(&app.policy_path)?,
            unreleased_contract: app.config.unreleased_contract,
            http: http.clone(),
            stand_ins: StandIns::default(),
        };
        let sources = Sources {
            bundle: Some(BUNDLE),
            cache: cache.join("plugins"),
            remote: Remote::new(http, Some(credentials), app.insecure_registries()),
            base: PathBuf::from("."),
            largest: cooperage_engine::artifact::LARGEST_COMPONENT,
        };
        Ok(Self {
            engine: OnceLock::new(),
            config,
            sources,
            trust: obtain::trust(app),
            policies: OnceLock::new(),
            most: (most, app.policy_path.clone()),
            named,
            unlocked,
            lock,
            ready: Mutex::default(),
            unfit: Mutex::default(),
            turns: ahead::Turns::default(),
            registries: OnceLock::new(),
            store,
            reporter,
            cancel: app.cancel.clone(),
            project: project.display().to_string(),
            builder: app.config.builder().to_owned(),
            serving: app.config.sources.clone(),
        })
    }

    /// Tells plugins who moves images for them; the mover itself needs plugins.
    pub(crate) fn connect(&self, registries: RegistryService) {
        // Set once, right after both were made.
        let _ = self.registries.set(registries);
    }

    fn engine(&self) -> Result<&Engine, Failure> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine =
            Engine::new(self.config.clone()).map_err(|error| Failure::new(Exit::Environment, error.to_string()))?;
        Ok(self.engine.get_or_init(|| engine))
    }

    /// Names that need no download: bundled and configured ones.
    pub(crate) fn names(&self) -> Result<Vec<String>, Failure> {
        let mut names = BUNDLE.names().map_err(artifact_failure)?;
        names.extend(self.named.keys().cloned());
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Where plugins come from.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The lock that holds for a plugin of the flow file, and what that says of the plugin.
    fn locked(&self, reference: &str) -> Option<(&LockFile, PluginConfig)> {
        let lock = self.lock.as_ref()?;
        let config = match self.named.get(reference) {
            Some(_) if self.unlocked.contains(reference) => return None,
            Some(config) => config.clone(),
            None => PluginConfig { from: reference.to_owned(), ..PluginConfig::default() },
        };
        let bundled = matches!(config.from.parse(), Ok(PluginReference::Bundled(_)));
        (!bundled).then_some((lock, config))
    }

    /// Loads a plugin without asking what it may do.
    pub(crate) async fn inspect(&self, reference: &str) -> Result<Plugin, Failure> {
        let obtained = self.obtain(reference, false).await?;
        self.compiled(reference, &obtained).await
    }

    /// Loads a component that may be, and holds it against the lock.
    pub(crate) async fn compiled(&self, reference: &str, obtained: &Obtained) -> Result<Plugin, Failure> {
        let artifact = &obtained.artifact;
        let bundled =
            !self.named.contains_key(reference) && matches!(reference.parse(), Ok(PluginReference::Bundled(_)));
        let trust = if bundled { Trust::Bundled } else { Trust::Stranger };
        let at_hand = self.engine()?.load_compiled(reference, artifact.digest).await;
        let plugin = match at_hand.map_err(|error| load_failure(reference, error))? {
            Some(plugin) => plugin,
            None => self.compile(reference, artifact, trust).await?,
        };
        if let Some((lock, config)) = self.locked(reference) {
            lock.check(reference, &config, obtained, &plugin)?;
        }
        Ok(plugin)
    }

    /// Loads a component that was not compiled on this machine before.
    async fn compile(&self, reference: &str, artifact: &Artifact, trust: Trust) -> Result<Plugin, Failure> {
        let unfit = || self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = unfit().get(reference) {
            return Err(failure.clone());
        }
        let bytes = self.component(artifact).await?;
        let limits = self.compiling_limits(reference)?;
        let compiling = self.compiling(reference, bytes.len());
        let wasm = Wasm::Known { bytes, digest: artifact.digest };
        let loaded = self.engine()?.load_within(reference, wasm, trust, &limits).await;
        if let Some(compiling) = compiling {
            compiling.end(&loaded);
        }
        loaded.map_err(|error| {
            let failure = match error.raising(reference, &limits) {
                Some(hint) => load_failure(reference, error).hint(hint),
                None => load_failure(reference, error),
            };
            unfit().insert(reference.to_owned(), failure.clone());
            failure
        })
    }

    /// Loads bytes that are not a plugin of this user yet.
    pub(crate) async fn check(&self, name: &str, bytes: &[u8]) -> Result<Plugin, Failure> {
        self.try_load(name, bytes).await?.map_err(|error| load_failure(name, error))
    }

    /// The same for callers that have their own words for what is wrong with the bytes.
    pub(crate) async fn try_load(&self, name: &str, bytes: &[u8]) -> Result<Result<Plugin, LoadError>, Failure> {
        let limits = self.compiling_limits(name)?;
        Ok(self.engine()?.load_within(name, Wasm::Bytes(bytes.into()), Trust::Stranger, &limits).await)
    }

    /// A plugin ready to be called: refused if it asks for more than it was granted.
    pub(crate) async fn load(&self, reference: &str) -> Result<Ready, Failure> {
        let reference = if reference == BUILD { &self.builder } else { reference };
        let known = |ready: &HashMap<String, Ready>| ready.get(reference).cloned();
        if let Some(ready) = known(&self.ready.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(ready);
        }
        let turn = self.turns.of(reference);
        let _turn = turn.lock().await;
        if let Some(ready) = known(&self.ready.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(ready);
        }
        let plugin = self.inspect(reference).await?;
        let allowed = self.allowed(reference)?;
        all_granted(reference, &plugin, &allowed)?;
        let mut context = CallContext::new(self.store.clone());
        context.reporter = self.reporter.clone();
        context.grants = plugin.grants(&allowed);
        context.limits = Some(self.limits(reference)?);
        context.keeper = Some(self.keeper(reference));
        context.project.clone_from(&self.project);
        context.cancel = Some(self.cancel.clone());
        if let Some(registries) = self.registries.get() {
            context.registries = Some(Arc::new(registries.clone()));
        }
        let ready = Ready { plugin, context };
        let mut all = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(all.entry(reference.to_owned()).or_insert(ready).clone())
    }

    /// Lets a builder describe images.
    pub(crate) async fn build(
        &self,
        builder: &Ready,
        build: &Build,
        request: BuildRequest,
    ) -> Result<Vec<BuiltImage>, CallError> {
        let context = builder.in_build(build);
        builder.plugin.build(&context, request).await
    }

    /// Lets a task do its work.
    pub(crate) async fn task(
        &self,
        task: &Ready,
        build: &Build,
        request: TaskRequest,
    ) -> Result<TaskOutputs, CallError> {
        task.plugin.run_task(&task.in_build(build), request).await
    }
}

/// Refuses a plugin that asks for more than it is allowed, with the lines that would allow it.
pub(crate) fn check_grants(name: &str, plugin: &Plugin, config: &PluginConfig) -> Result<(), Failure> {
    all_granted(name, plugin, &bounds::scopes(name, config)?)
}

fn all_granted(name: &str, plugin: &Plugin, allowed: &Scopes) -> Result<(), Failure> {
    let ungranted = plugin.ungranted(allowed);
    if ungranted.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(Exit::Refused, format!("the plugin {name} asks for what it was not granted"));
    Err(ungranted.iter().fold(failure, |failure, one| failure.cause(one.to_string())))
}

impl Plugins {
    /// The plugin that serves a URL.
    async fn source(&self, request: &SourceRequest) -> Result<Ready, Error> {
        if let Some(plugin) = sources::known(&self.serving, &request.url) {
            return self.load(plugin).await.map_err(Failure::into_error);
        }
        for name in self.named.keys() {
            let ready = self.load(name).await.map_err(Failure::into_error)?;
            let claims = ready.plugin.description().provides.iter().map(|claim| (claim.as_str(), name.as_str()));
            if ready.plugin.roles().source && sources::responsible(claims, &request.url).is_some() {
                return Ok(ready);
            }
        }
        let scheme = request.url.split("://").next().unwrap_or_default();
        let message = format!("no plugin serves {}", request.shown());
        Err(Error::new(ErrorKind::Unsupported, message)
            .hint(format!("name one in config.yaml: `sources: {{ {scheme}: PLUGIN }}`")))
    }
}

#[async_trait]
impl SourceProvider for Plugins {
    async fn resolve(&self, build: &Build, request: &SourceRequest) -> Result<SourceVersion, Error> {
        let ready = self.source(request).await?;
        Ok(ready.plugin.resolve_source(&ready.in_build(build), request).await?)
    }

    async fn fetch(
        &self,
        build: &Build,
        request: &SourceRequest,
        version: &SourceVersion,
        step: &Step,
    ) -> Result<Tree, Error> {
        let ready = self.source(request).await?;
        let context = CallContext { reporter: step.reporter().clone(), step: Some(step.id()), ..ready.in_build(build) };
        Ok(ready.plugin.fetch_source(&context, request, version).await?)
    }
}

impl Ready {
    fn in_build(&self, build: &Build) -> CallContext {
        let options = build.options();
        CallContext {
            build: Some(build.clone()),
            secrets: options.secrets.clone(),
            reporter: options.reporter.clone(),
            cancel: Some(options.cancel.clone()),
            ..self.context.clone()
        }
    }
}

#[async_trait]
impl Backends for Plugins {
    async fn backend(&self, plugin: &str) -> Result<Arc<dyn RegistryBackend>, Error> {
        let ready = self.load(plugin).await.map_err(Failure::into_error)?;
        Ok(Arc::new(RegistryPlugin::new(ready.plugin, ready.context)?))
    }
}
