//! Runs one case: sets the world of the case up, has the call done, and judges what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cooperage_engine::grants::Scopes;
use cooperage_engine::http::{Client, Settings as HttpSettings, Transport};
use cooperage_engine::{CallContext, CompileLimits, Config, Engine, Gate, Limits, Plugin, StandIns, Trust, Wasm};
use cooperage_solve::{Build, BuildOptions, CacheMode, Cancel, Error, Network, Reporter, Secrets, SourceProvider};
use cooperage_store::layers::Compression;
use cooperage_store::{Platform, Store};
use serde_json::Value;

use crate::case::Runs;
use crate::edges::{Commands, Images, Pushes, SourceTrees};
use crate::exchange::Script;
use crate::fault::Faults;
use crate::observe::Heard;
use crate::outcome::{self, Seen};
use crate::problems::Problems;
use crate::read::{CaseFolder, Malformed};
use crate::reads::{Reader, Reads};
use crate::recording::{Outside, Recording};
use crate::surroundings::{Edge, allowed, contexts, named, overstayed, services, time};
use crate::veil::Veil;

/// The time that plugins see if a case says nothing.
const CLOCK: &str = "2026-01-01T00:00:00Z";
/// What values are kept under.
pub(crate) const PROJECT: &str = "case";

/// What runs processes for cases that want them run; none with the reason.
pub type Processes = Result<Arc<dyn cooperage_solve::Processes>, String>;

/// How cases are run.
#[derive(Clone)]
pub struct Settings {
    /// Where compiled code is kept from run to run; a temporary directory if none.
    pub cache: Option<PathBuf>,
    /// The program that compiles components in a child, as [`Config::helper`]; without it this process does.
    pub helper: Option<PathBuf>,
    /// For cases with `run: real`.
    pub processes: Processes,
    /// As in [`BuildOptions`].
    pub userxattr: bool,
    /// As in [`BuildOptions`].
    pub privileged: bool,
    /// As in [`Config`].
    pub unreleased_contract: bool,
    /// Secrets instead of those that cases make up, for recording.
    pub secrets: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache: None,
            helper: None,
            processes: Err("this harness was given no sandbox".to_owned()),
            userxattr: true,
            privileged: false,
            unreleased_contract: false,
            secrets: BTreeMap::new(),
        }
    }
}

/// Why no case can be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// The engine, the store or the directories cannot be set up.
    #[error("cannot set up the world of a case: {0}")]
    Machine(String),
    /// The component is no plugin that this host can run.
    #[error("the plugin cannot be loaded: {0}")]
    Load(#[from] cooperage_engine::LoadError),
    /// A case is malformed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// What came of a case.
#[derive(Debug, Clone)]
pub struct Report {
    /// The folder's name.
    pub name: String,
    /// What is not as expected; empty if the case passed.
    pub failures: Vec<String>,
    /// What was logged and printed.
    pub log: String,
    /// What happened, in the form of `expect`.
    pub actual: Value,
    /// How long it took.
    pub duration: Duration,
}

impl Report {
    /// A report of something that is no call.
    pub(crate) fn of(name: &str, failures: Vec<String>) -> Self {
        let (name, log) = (name.to_owned(), String::new());
        Self { name, failures, log, actual: Value::Null, duration: Duration::ZERO }
    }

    /// Whether everything was as expected.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// One component, and how its cases are run.
pub struct Harness {
    name: String,
    component: Arc<[u8]>,
    settings: Settings,
    root: tempfile::TempDir,
}

/// Everything that a call of a case works with.
pub(crate) struct World {
    pub(crate) plugin: Plugin,
    pub(crate) context: CallContext,
    pub(crate) build: Build,
    pub(crate) store: Store,
    /// None while it is recorded.
    pub(crate) script: Option<Arc<Script>>,
    pub(crate) reads: Arc<Reads>,
    /// The files that the case expects something of.
    pub(crate) named: BTreeSet<String>,
    pub(crate) pushes: Arc<Pushes>,
    pub(crate) commands: Arc<Commands>,
}

impl Harness {
    /// A harness for a component under the name that messages are to have.
    ///
    /// # Errors
    /// When there is no temporary directory.
    pub fn new(name: &str, component: Arc<[u8]>, settings: Settings) -> Result<Self, HarnessError> {
        let root = tempfile::tempdir().map_err(|error| HarnessError::Machine(error.to_string()))?;
        Ok(Self { name: name.to_owned(), component, settings, root })
    }

    /// Runs a case.
    ///
    /// # Errors
    /// When the case says what cannot be, or the world cannot be set up; all else is in the report.
    pub async fn run(&self, folder: &CaseFolder) -> Result<Report, HarnessError> {
        let mut folder = folder.clone();
        folder.recording.add_to(&mut folder.case);
        self.run_in(&folder, None).await
    }

    /// Runs a case with the real world around it, and writes what that said as its `recording.yaml`. What the case itself
    /// has is not asked of anybody.
    ///
    /// # Errors
    /// As for [`Harness::run`].
    pub async fn record(&self, folder: &CaseFolder, outside: Outside) -> Result<Report, HarnessError> {
        self.run_in(folder, Some(outside)).await
    }

    async fn run_in(&self, folder: &CaseFolder, outside: Option<Outside>) -> Result<Report, HarnessError> {
        let started = Instant::now();
        let directory = tempfile::tempdir_in(self.root.path()).map_err(machine)?;
        let (faults, problems) = (Faults::new(&folder.case.faults), Problems::default());
        let heard = Arc::new(Heard::default());
        let mut folder = folder.clone();
        folder.case.secrets.extend(self.settings.secrets.clone());
        let folder = &folder;
        let edge = self.edge(folder, &faults, &problems, outside)?;
        let reads = Arc::new(Reads::new(problems.clone()));
        let around =
            Around { root: directory.path(), faults: &faults, problems: &problems, heard: &heard, reads: &reads };
        let world = self.world(folder, &around, &edge).await?;
        let result = crate::perform::perform(&world, folder).await?;
        let seen = Seen { result, log: heard.text() };
        let actual = outcome::actual(&world, &folder.case, &seen);
        if let Some(script) = &world.script {
            script.hang_up().await;
        }
        let mut failures = problems.take();
        failures.extend(outcome::judge(&folder.case.expect, &actual, &seen.log));
        failures.extend(world.script.iter().flat_map(|script| script.unused()));
        if let Edge::Network(recording) = &edge {
            reads.read_for(Reader::Report);
            recording.write(&folder.path, &reads).map_err(machine)?;
        }
        failures.extend(faults.unmet());
        failures.extend(overstayed(faults.since_cancelled(), &folder.case));
        Ok(Report { name: folder.name(), failures, log: seen.log, actual, duration: started.elapsed() })
    }

    /// What answers requests.
    fn edge(
        &self,
        folder: &CaseFolder,
        faults: &Faults,
        problems: &Problems,
        outside: Option<Outside>,
    ) -> Result<Edge, HarnessError> {
        let case = &folder.case;
        let login = case.registry.iter().filter_map(|registry| registry.login.as_ref()?.split_once(':'));
        let login = login.map(|(_, password)| ("login", password));
        let named = case.secrets.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let veil = Veil::new(named.chain(login));
        if let Some(outside) = outside {
            return Ok(Edge::Network(Arc::new(Recording::new(outside, veil))));
        }
        let script = Script::new(&case.http, &folder.path, veil, (faults.clone(), problems.clone(), &case.tcp));
        Ok(Edge::Script(Arc::new(script.map_err(|message| Malformed::whole(&folder.path, message))?)))
    }

    async fn world(
        &self,
        folder: &CaseFolder,
        around @ &Around { root, faults, heard, reads, .. }: &Around<'_>,
        edge: &Edge,
    ) -> Result<World, HarnessError> {
        let case = &folder.case;
        let malformed = |message: String| Malformed::whole(&folder.path, message);
        let plugin = self.load(folder, root, faults, edge.transport()).await?;
        let recording = edge.recording();
        let commands = Arc::new(self.commands(folder, around, recording.clone()).map_err(malformed)?);
        let store = match &recording {
            Some(recording) => recording.outside.store.clone(),
            None => Store::open(&root.join("store")).map_err(machine)?,
        };
        store.layers().watched_by(reads.clone());
        let cancel = Cancel::new().map_err(machine)?;
        faults.cancel_by(cancel.clone());
        let contexts = contexts(folder)?;
        let reporter = Reporter::new(heard.clone());
        let secrets = case.secrets.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes()));
        let options = BuildOptions {
            store: store.clone(),
            sandbox: Ok(commands.clone()),
            userxattr: self.settings.userxattr,
            privileged: self.settings.privileged,
            images: Arc::new(Images::none(faults.clone())),
            sources: Arc::new(cooperage_solve::NoSources),
            contexts,
            secrets: Secrets::new(secrets.collect()),
            network: if recording.is_some() { Network::Host } else { Network::None },
            limits: cooperage_solve::Limits::default(),
            platform: Platform::host(),
            compression: Compression::None,
            epoch: None,
            cache: CacheMode::Use,
            parallel: 2,
            reporter: Reporter::silent(),
            cancel,
        };
        let known = (&*folder.path, &**reads, recording.clone());
        let images = Images::make(&Build::new(options.clone()), &case.images, faults.clone(), known).await;
        let images = Arc::new(images.map_err(|error| malformed(format!("its images cannot be made: {error}")))?);
        let sources = SourceTrees {
            sources: case.sources.clone(),
            folder: folder.path.clone(),
            faults: faults.clone(),
            reads: reads.clone(),
            recording: recording.clone(),
        };
        let sources: Arc<dyn SourceProvider> = Arc::new(sources);
        let build = Build::new(BuildOptions { images: images.clone(), sources, reporter: reporter.clone(), ..options });
        let pushes = Arc::new(Pushes::new(images, store.clone(), case.registries.clone(), recording));
        let context = CallContext {
            build: Some(build.clone()),
            grants: plugin.grants(&allowed(case).map_err(malformed)?),
            secrets: build.options().secrets.clone(),
            registries: Some(pushes.clone()),
            project: PROJECT.to_owned(),
            reporter,
            ..CallContext::new(store.clone())
        };
        for (key, value) in &case.state {
            plugin.keep(PROJECT, key, value.as_bytes()).map_err(|error| malformed(error.to_string()))?;
        }
        Ok(World {
            plugin,
            context,
            build,
            store,
            script: edge.script(),
            reads: reads.clone(),
            named: named(&case.expect),
            pushes,
            commands,
        })
    }

    /// The plugin asked anew what it is, at a time and with a seed.
    pub(crate) async fn describe(&self, root: &Path, clock: &str, seed: u64) -> Result<Plugin, HarnessError> {
        let time = time(clock).map_err(HarnessError::Machine)?;
        let cache_dir = root.join(format!("asked-{seed}"));
        let (faults, problems) = (Faults::new(&[]), Problems::default());
        let script = Script::new(&[], root, Veil::default(), (faults.clone(), problems, &[]));
        let transport: Arc<dyn Transport> = Arc::new(script.map_err(HarnessError::Machine)?);
        let stand_ins = StandIns { time: Some(time), seed: Some(seed), gate: None };
        self.load_in(self.config(cache_dir, root, transport, stand_ins)?).await
    }

    fn config(
        &self,
        cache_dir: PathBuf,
        root: &Path,
        transport: Arc<dyn Transport>,
        stand_ins: StandIns,
    ) -> Result<Config, HarnessError> {
        let http = HttpSettings { transport: Some(transport), ..HttpSettings::default() };
        Ok(Config {
            cache_dir,
            state_dir: root.join("state"),
            helper: self.settings.helper.clone(),
            limits: Limits::default(),
            compile: CompileLimits::default(),
            services: BTreeMap::new(),
            policy: Scopes::everything(),
            http: Client::new(http).map_err(machine)?,
            stand_ins,
            unreleased_contract: self.settings.unreleased_contract,
        })
    }

    async fn load(
        &self,
        folder: &CaseFolder,
        root: &Path,
        faults: &Faults,
        transport: Arc<dyn Transport>,
    ) -> Result<Plugin, HarnessError> {
        let time = time(folder.case.clock.as_deref().unwrap_or(CLOCK));
        let time = time.map_err(|message| Malformed::whole(&folder.path, message))?;
        let cache_dir = self.settings.cache.clone().unwrap_or_else(|| self.root.path().join("compiled"));
        let gate: Option<Arc<dyn Gate>> = Some(Arc::new(faults.clone()));
        let stand_ins = StandIns { time: Some(time), seed: Some(folder.case.random), gate };
        let mut config = self.config(cache_dir, root, transport, stand_ins)?;
        let plugin = self.load_in(config.clone()).await?;
        let services = services(&plugin);
        if services.is_empty() {
            return Ok(plugin);
        }
        // A service needs a socket to be granted; what is asked of it is an exchange like others.
        config.services = services.into_iter().map(|name| (name, root.join("socket"))).collect();
        self.load_in(config).await
    }

    async fn load_in(&self, config: Config) -> Result<Plugin, HarnessError> {
        let engine = Engine::new(config).map_err(machine)?;
        let trust = if self.settings.helper.is_some() { Trust::Stranger } else { Trust::Bundled };
        Ok(engine.load(&self.name, Wasm::Bytes(self.component.clone()), trust).await?)
    }

    fn commands(
        &self,
        folder: &CaseFolder,
        around: &Around<'_>,
        recording: Option<Arc<Recording>>,
    ) -> Result<Commands, String> {
        let (real, runs) = match &folder.case.run {
            Runs::List(runs) => (None, runs.clone()),
            Runs::Word(_) => {
                let real = self.settings.processes.clone();
                (Some(real.map_err(|why| format!("`run: real` is not possible here: {why}"))?), Vec::new())
            }
        };
        Ok(Commands {
            real,
            runs,
            done: Default::default(),
            recording: recording.map(|recording| (recording, self.settings.processes.clone())),
            reads: around.reads.clone(),
            folder: folder.path.clone(),
            faults: around.faults.clone(),
            problems: around.problems.clone(),
            log: Default::default(),
        })
    }
}

/// What there is beside the case while it runs.
struct Around<'a> {
    root: &'a Path,
    faults: &'a Faults,
    problems: &'a Problems,
    heard: &'a Arc<Heard>,
    reads: &'a Arc<Reads>,
}

pub(crate) fn machine(error: impl std::fmt::Display) -> HarnessError {
    HarnessError::Machine(error.to_string())
}

impl From<Error> for HarnessError {
    fn from(error: Error) -> Self {
        Self::Machine(error.to_string())
    }
}
