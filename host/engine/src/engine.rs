//! The engine: wasmtime as this project configures it, the linker with everything a plugin may import, and the clock
//! that interrupts guests. Knows no plugin.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::Linker;

use crate::grants::Scopes;
use crate::instance::State;
use crate::limits::Limits;

/// How often a computing guest is interrupted, to yield and to be counted.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// How an engine is set up.
#[derive(Clone)]
pub struct Config {
    /// Where compiled code and descriptions are kept; made with mode 0700. Whoever can write there runs native code
    /// as this user, so it must not be shared.
    pub cache_dir: PathBuf,
    /// Where plugins' small values are kept; made with mode 0700.
    pub state_dir: PathBuf,
    /// The program that compiles plugins of strangers when it is started with `__compile`; it calls
    /// [`crate::compile_child`] first thing in `main`. Without it they are compiled in this process.
    pub helper: Option<PathBuf>,
    /// Limits of calls that bring none of their own.
    pub limits: Limits,
    /// Bounds of compilation.
    pub compile: CompileLimits,
    /// Unix sockets of the services that a `service` grant can name.
    pub services: BTreeMap<String, PathBuf>,
    /// What this host permits at all.
    pub policy: Scopes,
    /// Whether plugins of a version of the contract that is not released are run.
    pub unreleased_contract: bool,
    /// Sends what plugins ask for by HTTP.
    pub http: crate::http::Client,
    /// What is not real.
    pub stand_ins: crate::StandIns,
}

/// What compiling one component may use up.
#[derive(Debug, Clone)]
pub struct CompileLimits {
    /// Largest component in bytes.
    pub component: u64,
    /// Address space of the compiling process in bytes.
    pub memory: u64,
    /// Time of all its threads together.
    pub cpu: Duration,
    /// Time that passes.
    pub time: Duration,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { component: 64 << 20, memory: 8 << 30, cpu: Duration::from_secs(600), time: Duration::from_secs(600) }
    }
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// wasmtime does not work on this machine.
    #[error("cannot set up the WebAssembly engine: {0}")]
    Wasmtime(String),
    /// A directory cannot be made or is open to others.
    #[error("{path}: {reason}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Loads and runs plugins. Clones share everything.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub wasmtime: wasmtime::Engine,
    pub linker: Linker<State>,
    pub config: Config,
    pub code: crate::compile::CodeCache,
}

impl Engine {
    /// Sets everything up; takes about a millisecond.
    ///
    /// # Errors
    /// When wasmtime refuses this machine or the directories cannot be made.
    pub fn new(config: Config) -> Result<Self, EngineError> {
        let wrong = |error: wasmtime::Error| EngineError::Wasmtime(format!("{error:#}"));
        let wasmtime = wasmtime::Engine::new(&settings()).map_err(wrong)?;
        let linker = linker(&wasmtime).map_err(wrong)?;
        let code = crate::compile::CodeCache::open(&config.cache_dir, &wasmtime)?;
        crate::compile::private_directory(&config.state_dir)?;
        tick(wasmtime.weak()).map_err(|error| EngineError::Wasmtime(format!("cannot start a thread: {error}")))?;
        Ok(Self(Arc::new(Inner { wasmtime, linker, config, code })))
    }

    /// How it was set up.
    pub fn config(&self) -> &Config {
        &self.0.config
    }
}

/// The settings of every engine, also of the one that only compiles: code made under other settings is refused.
pub(crate) fn settings() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config
        .epoch_interruption(true)
        // Nothing here uses WASI 0.3, and calls are two to five times cheaper without it.
        .concurrency_support(false)
        .strategy(wasmtime::Strategy::Cranelift)
        // The compiler that made the component has optimised it; to do it again costs a fifth of the first use.
        .cranelift_opt_level(wasmtime::OptLevel::None)
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Enable)
        .max_wasm_stack(512 * 1024)
        .async_stack_size(2 * 1024 * 1024)
        .wasm_component_model(true);
    config
}

/// Everything that any plugin may import. What is not granted is linked too and answers `denied`, because a guest's
/// standard library imports more than the guest ever calls.
fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    crate::sockets::add_to_linker(&mut linker)?;
    crate::host::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Ends when the last engine, component and store are gone.
fn tick(engine: wasmtime::EngineWeak) -> std::io::Result<()> {
    let ticker = std::thread::Builder::new().name("coop-epochs".to_owned());
    ticker.spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    })?;
    Ok(())
}
