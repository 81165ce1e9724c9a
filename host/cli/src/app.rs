//! Wires the crates together for one command: where things lie, who may do what, and what is opened only when needed.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use cooperage_engine::credentials::Credentials;
use cooperage_engine::http;
use cooperage_engine::registries::{PARALLEL_TRANSFERS, PullPolicy, RegistryService, Route, Routing, ServiceOptions};
use cooperage_sandbox::{Entered, enter_user_namespace};
use cooperage_solve::{Cancel, Error, ImageSource, Outcome, Reporter, Step};
use cooperage_store::{Descriptor, Platform, Reference, Store, media_types};

use crate::args::{Arguments, Command, Global, Image, ProgressMode, PullMode};
use crate::commands;
use crate::config::Config;
use crate::environment::Environment;
use crate::error::{Exit, Failure};
use crate::plugins::{Declared, Plugins};
use crate::policy::{self, MachinePolicy};
use crate::progress;

/// Address space, not memory: only what is touched is taken.
const STACK: usize = 32 << 20;

/// Runs a hidden entry of the binary, if this process was started for one.
pub(crate) fn helper_entry() -> Option<u8> {
    let code = cooperage_sandbox::helper(std::env::args_os())
        .or_else(|| cooperage_engine::compile_child(std::env::args_os()))?;
    Some(u8::try_from(code).unwrap_or(1))
}

/// Runs a command.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let app = App::new(arguments.global, needs_privileges(&arguments.command))?;
    match &arguments.command {
        Command::Build(build) => commands::build::run(&app, build),
        Command::Run(run) => commands::run::run(&app, run),
        Command::Image(command) => commands::image::run(&app, command),
        Command::Plugin(command) => commands::plugin::run(&app, command),
        Command::Registry(command) => commands::registry::run(&app, command),
        Command::Explain(explain) => commands::explain::run(&app, explain),
        Command::Config(command) => commands::config::run(&app, command),
        Command::Doctor(listing) => commands::doctor::run(listing),
        Command::Completions { shell } => crate::args::completions(*shell),
        Command::Man => crate::args::manual(),
    }
}

/// Whether a command makes or removes files that belong to the users of an image.
fn needs_privileges(command: &Command) -> bool {
    let owns = matches!(command, Command::Build(_) | Command::Run(_) | Command::Image(Image::Rm { .. }));
    owns || matches!(command, Command::Plugin(crate::args::Plugin::Test(_)))
}

/// What this process may do with files of others.
#[derive(Debug, Clone)]
pub(crate) struct Privileges {
    /// Whether files can be given to any user.
    pub(crate) owners: bool,
    /// Whether overlayfs keeps its marks in `user.` attributes, as it must in a user namespace.
    pub(crate) userxattr: bool,
    /// Why processes cannot be run, if they cannot.
    pub(crate) refused: Option<String>,
}

/// One run of the program.
pub(crate) struct App {
    pub(crate) environment: Environment,
    pub(crate) config: Config,
    pub(crate) config_path: PathBuf,
    pub(crate) policy: MachinePolicy,
    pub(crate) policy_path: PathBuf,
    pub(crate) privileges: Privileges,
    pub(crate) root: PathBuf,
    store: OnceLock<Store>,
    lease: OnceLock<std::fs::File>,
    pub(crate) cancel: Cancel,
    runtime: OnceLock<tokio::runtime::Runtime>,
    watching: OnceLock<()>,
    global: Global,
}

impl App {
    fn new(global: Global, privileged: bool) -> Result<Self, Failure> {
        let environment = Environment::read();
        let root = global.root.clone().unwrap_or_else(|| environment.default_root());
        // A user namespace must be entered while this process has a single thread.
        let privileges =
            if privileged { enter() } else { Privileges { owners: false, userxattr: false, refused: None } };
        let (path, named) = match &global.config {
            Some(path) => (path.clone(), true),
            None => (environment.config_directory().join("config.yaml"), false),
        };
        let config = Config::read(&path, named)?;
        let policy_path = environment.get("COOP_POLICY").map(PathBuf::from);
        let is_named = policy_path.is_some();
        let policy_path = policy_path.unwrap_or_else(|| PathBuf::from(policy::PATH));
        let policy = MachinePolicy::read(&policy_path, is_named)?;
        let cancel = Cancel::new().map_err(|error| Failure::new(Exit::Environment, format!("no event: {error}")))?;
        Ok(Self {
            environment,
            config,
            config_path: path,
            policy,
            policy_path,
            privileges,
            root,
            store: OnceLock::new(),
            lease: OnceLock::new(),
            cancel,
            runtime: OnceLock::new(),
            watching: OnceLock::new(),
            global,
        })
    }

    /// The store, opened and swept when first needed.
    pub(crate) fn store(&self) -> Result<&Store, Failure> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = Store::open(&self.root).map_err(|error| {
            Failure::new(Exit::Environment, error.to_string())
                .context(format!("the store at {} cannot be opened", self.root.display()))
                .hint("choose another directory with --root or COOP_ROOT")
        })?;
        Ok(self.store.get_or_init(|| store))
    }

    /// The store, with a lease that keeps others from collecting what this process makes.
    pub(crate) fn leased_store(&self) -> Result<&Store, Failure> {
        let store = self.store()?;
        if self.lease.get().is_none() {
            let lease = store.lease()?;
            self.lease.get_or_init(|| lease);
            store.sweep()?;
        }
        Ok(store)
    }

    /// Runs a future to its end; Ctrl-C asks it to stop, a second one ends the program.
    pub(crate) fn block_on<T, E: Into<Failure>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
        let runtime = self.runtime()?;
        runtime.block_on(async {
            // One watcher for all work of this process: of two, the second would take the first Ctrl-C for another one.
            self.watching.get_or_init(|| self.stop_on_signal());
            work.await.map_err(Into::into)
        })
    }

    fn runtime(&self) -> Result<&tokio::runtime::Runtime, Failure> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.parallel())
            // Trees are evaluated from the top down; each operation below takes its part of the stack.
            .thread_stack_size(STACK)
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::Environment, format!("threads cannot be started: {error}")))?;
        Ok(self.runtime.get_or_init(|| runtime))
    }

    fn stop_on_signal(&self) {
        use tokio::signal::unix::{SignalKind, signal};
        let cancel = self.cancel.clone();
        let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        let (Ok(mut interrupt), Ok(mut terminate)) = signals else { return };
        tokio::spawn(async move {
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                if cancel.is_cancelled() {
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
                }
                cancel.cancel();
            }
        });
    }

    /// How many threads are worth having.
    pub(crate) fn parallel(&self) -> usize {
        std::thread::available_parallelism().map_or(2, usize::from)
    }

    /// Plugins, registries and progress for one command.
    pub(crate) fn session(&self, progress: ProgressMode, pull: PullMode) -> Result<Session, Failure> {
        self.session_with(progress::reporter(progress), pull, Declared::default(), Routing::default())
    }

    /// The same with plugins and routes of a flow file before the user's own.
    pub(crate) fn session_with(
        &self,
        reporter: Reporter,
        pull: PullMode,
        declared: Declared,
        routing: Routing,
    ) -> Result<Session, Failure> {
        self.session_in(self.leased_store()?.clone(), reporter, pull, (declared, routing))
    }

    /// The same in a store of the caller's.
    pub(crate) fn session_in(
        &self,
        store: Store,
        reporter: Reporter,
        pull: PullMode,
        (declared, routing): (Declared, Routing),
    ) -> Result<Session, Failure> {
        let routing = self.routing(routing);
        let http = self.http(&routing)?;
        let credentials = Arc::new(self.credentials());
        let plugins =
            Arc::new(Plugins::new(self, (declared, store.clone()), http, credentials.clone(), reporter.clone())?);
        let policy = match pull {
            PullMode::Missing => PullPolicy::Missing,
            PullMode::Always => PullPolicy::Always,
            PullMode::Never => PullPolicy::Never,
        };
        let registries = RegistryService::new(ServiceOptions {
            store,
            routing,
            backends: plugins.clone(),
            credentials: Some(credentials),
            reporter: reporter.clone(),
            policy,
            parallel: PARALLEL_TRANSFERS,
        });
        plugins.connect(registries.clone());
        Ok(Session { plugins, registries, reporter })
    }

    fn routing(&self, mut routing: Routing) -> Routing {
        let routes = |table: &BTreeMap<String, crate::config::RouteConfig>| {
            let route = |(prefix, route): (&String, &crate::config::RouteConfig)| Route {
                prefix: prefix.clone(),
                location: route.location.clone(),
                plugin: route.plugin.clone(),
                ..Route::default()
            };
            table.iter().map(route).collect::<Vec<_>>()
        };
        routing.pull.extend(routes(&self.config.pull));
        routing.push.extend(routes(&self.config.push));
        // The engine's own images, unless the user routes that name elsewhere.
        let engine =
            || Route { prefix: "docker.local".to_owned(), plugin: Some("docker".to_owned()), ..Route::default() };
        if !self.config.registries.contains_key("docker.local") {
            routing.pull.push(engine());
            routing.push.push(engine());
        }
        for (host, registry) in &self.config.registries {
            let list = if registry.insecure { &mut routing.insecure } else { &mut routing.secure };
            list.push(host.clone());
            if let Some(plugin) = &registry.plugin {
                let options = registry.options.clone().into_iter().collect();
                let route = Route { prefix: host.clone(), plugin: Some(plugin.clone()), options, ..Route::default() };
                routing.pull.push(route.clone());
                routing.push.push(route);
            }
        }
        routing.insecure.extend(self.global.insecure_registry.iter().cloned());
        routing.secure.extend(self.authorities().into_iter().map(|(host, _)| host));
        routing
    }

    /// Registries that are reached by plain HTTP beside loopback ones.
    pub(crate) fn insecure_registries(&self) -> Vec<String> {
        let configured = self.config.registries.iter().filter(|(_, registry)| registry.insecure);
        configured.map(|(host, _)| host.clone()).chain(self.global.insecure_registry.iter().cloned()).collect()
    }

    /// Certificate authorities by host, from the command line and the configuration.
    fn authorities(&self) -> Vec<(String, PathBuf)> {
        let typed = self.global.registry_ca.iter().filter_map(|text| text.split_once('='));
        let typed = typed.map(|(host, file)| (host.to_owned(), PathBuf::from(file)));
        let configured =
            self.config.registries.iter().filter_map(|(host, registry)| Some((host.clone(), registry.ca.clone()?)));
        typed.chain(configured).collect()
    }

    /// An HTTP client as the user has set up this machine.
    fn http(&self, routing: &Routing) -> Result<http::Client, Failure> {
        let mut hosts = routing.certificates();
        for (host, file) in self.authorities() {
            hosts.entry(host).or_default().authorities.push(file);
        }
        let tls = http::TlsSettings {
            system_roots: Some(PathBuf::from("/etc/ssl/certs/ca-certificates.crt")),
            certificate_directories: self.environment.certificate_directories(),
            hosts,
        };
        let settings = http::Settings { tls, proxies: self.environment.proxies(), ..http::Settings::default() };
        http::Client::new(settings).map_err(|error| Failure::new(Exit::Environment, error.to_string()))
    }

    /// An HTTP client with the user's own settings.
    pub(crate) fn client(&self) -> Result<http::Client, Failure> {
        self.http(&self.routing(Routing::default()))
    }

    /// The logins that Docker and Podman share with us.
    pub(crate) fn credentials(&self) -> Credentials {
        let (config, others) = self.environment.login_files();
        Credentials::new(config, others)
    }

    /// Fetches layers of an image that lie only at a registry.
    pub(crate) fn complete(&self, image: &Descriptor, names: &[Reference]) -> Result<(), Failure> {
        let store = self.store()?;
        let mut manifests = Vec::new();
        if media_types::is_index(&image.media_type) {
            manifests.extend(store.images().index(&image.digest)?.manifests);
        } else {
            manifests.push(image.clone());
        }
        let mut missing = Vec::new();
        for manifest in &manifests {
            for layer in store.images().manifest(&manifest.digest)?.layers {
                if store.blobs().size(&layer.digest)?.is_none() {
                    missing.push((manifest.clone(), layer));
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let session = self.session(ProgressMode::Auto, PullMode::Missing)?;
        self.block_on(async {
            for (manifest, layer) in missing {
                let base = session.base_of(store, &manifest, names)?;
                session.registries.fetch_layer(&base, &layer).await.map_err(Failure::from)?;
            }
            Ok::<_, Failure>(())
        })
    }
}

/// What a command that moves or makes images works with.
pub(crate) struct Session {
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) registries: RegistryService,
    pub(crate) reporter: Reporter,
}

impl Session {
    /// Ends a step as its result says.
    pub(crate) fn end<T>(&self, step: Step, result: &Result<T, Error>) {
        step.finish(match result {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::Failed(error.to_string()),
        });
    }

    /// An image of the store as something to fetch layers of.
    fn base_of(
        &self,
        store: &Store,
        manifest: &Descriptor,
        names: &[Reference],
    ) -> Result<cooperage_solve::Base, Failure> {
        let document = store.images().manifest(&manifest.digest)?;
        let config = store.images().config(&document)?;
        let reference = names.first().map(Reference::to_string).unwrap_or_default();
        Ok(cooperage_solve::Base {
            reference,
            manifest: manifest.clone(),
            layers: document.layers,
            platform: config.platform().unwrap_or_else(Platform::host),
            config,
        })
    }
}

/// Becomes root of a user namespace, where this process is not root already.
fn enter() -> Privileges {
    let inside = || std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_whole(&map));
    match enter_user_namespace() {
        Ok(Entered::Privileged) => Privileges { owners: true, userxattr: inside(), refused: None },
        Ok(Entered::Ranges { .. }) => Privileges { owners: true, userxattr: true, refused: None },
        Ok(Entered::SingleId { hint }) => {
            tracing::debug!("{hint}");
            Privileges { owners: false, userxattr: true, refused: None }
        }
        Err(error) => Privileges { owners: false, userxattr: false, refused: Some(error.to_string()) },
    }
}

/// Whether a map of users is that of the first user namespace.
fn is_whole(map: &str) -> bool {
    map.split_whitespace().collect::<Vec<_>>() == ["0", "0", "4294967295"]
}

/// The program itself, to be started again as a helper.
pub(crate) fn own_path() -> Result<PathBuf, Failure> {
    let path = Path::new("/proc/self/exe");
    path.read_link().map_err(|error| Failure::new(Exit::Environment, format!("this program has no path: {error}")))
}
