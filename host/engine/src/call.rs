//! One call of a plugin from beginning to end: a fresh store, the call, its supervision, and what became of it. A
//! guest's error, a trap and a limit are three different things, and the caller is told which.

mod error;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cooperage_solve::{Build, Cancel, Level, Reporter, Secrets, StepId};
use futures::FutureExt;
use futures::future::{AbortHandle, BoxFuture, abortable};
use serde_json::Value;
use wasmtime::component::ResourceTableError;
use wasmtime::{Store, Trap, WasmBacktrace};

use crate::bindings::wit;
use crate::convert::error_from_wit;
use crate::engine::Engine;
use crate::grants::Grants;
use crate::http::TlsTrouble;
use crate::instance::{Setup, State};
use crate::limits::{Limit, LimitHit, Limits, doubled};
use crate::output::{Lines, Log};
use crate::ports::Registries;

pub use error::CallError;
pub(crate) use error::raising;

/// How often a flag that nobody announces is looked at.
const CANCEL_POLL: Duration = Duration::from_millis(20);
/// Frames of a backtrace that are kept.
const FRAMES: usize = 40;

/// What a call works with. Cloning is cheap.
#[derive(Clone)]
pub struct CallContext {
    /// Where content lies; without it `content` is `unsupported`.
    pub store: Option<cooperage_store::Store>,
    /// The build that trees and images belong to; without one they are `unsupported`.
    pub build: Option<Build>,
    /// Is told what happens.
    pub reporter: Reporter,
    /// The step that what the plugin reports is part of.
    pub step: Option<StepId>,
    /// What the plugin may do.
    pub grants: Grants,
    /// The user's secrets: those granted can be read, all of them are blacked out.
    pub secrets: Secrets,
    /// Moves images; without it `registries` is `unsupported`.
    pub registries: Option<Arc<dyn Registries>>,
    /// Keeps the plugin's small values apart from those of other projects.
    pub project: String,
    /// Who keeps values with `state`, if that is not told by the name that the user gave the plugin: two plugins may be
    /// called the same.
    pub keeper: Option<String>,
    /// Stops the call.
    pub cancel: Option<Cancel>,
    /// Limits of this call; none are the engine's.
    pub limits: Option<Limits>,
    /// Instead of the limits' time.
    pub timeout: Option<Duration>,
}

impl CallContext {
    /// A context that grants nothing and reports to nobody.
    pub fn new(store: cooperage_store::Store) -> Self {
        Self { store: Some(store), ..Self::bare() }
    }

    /// A context with nothing at all.
    pub(crate) fn bare() -> Self {
        Self {
            store: None,
            build: None,
            reporter: Reporter::silent(),
            step: None,
            grants: Grants::none(),
            secrets: Secrets::default(),
            registries: None,
            project: String::new(),
            keeper: None,
            cancel: None,
            limits: None,
            timeout: None,
        }
    }
}

/// What a role's function does with the store; the outer error is a trap.
pub(crate) type Body<R> =
    Box<dyn for<'a> FnOnce(&'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<Result<R, wit::Error>>> + Send>;

/// What is special about a call.
#[derive(Default)]
pub(crate) struct Special {
    pub parameters: Value,
    pub registry: Option<(String, bool)>,
    /// What the call finds out about TLS with the registry.
    pub tls_trouble: Arc<OnceLock<TlsTrouble>>,
    /// Values beyond the context's secrets that must not be seen.
    pub sensitive: Vec<String>,
}

/// Makes a store, runs `body` in it and watches over it.
pub(crate) async fn call<R: Send + 'static>(
    (engine, name): (&Engine, &str),
    context: &CallContext,
    special: Special,
    body: Body<R>,
) -> Result<R, CallError> {
    let name: Arc<str> = name.into();
    let limits = context.limits.as_ref().unwrap_or(&engine.config().limits);
    let log = Log::new(context.reporter.clone(), context.step, &all_secrets(context, &special.sensitive), limits);
    let output = [Lines::new(log.clone(), Level::Info, false), Lines::new(log.clone(), Level::Warn, true)];
    let cancelled = Arc::new(AtomicBool::new(false));
    let setup = Setup {
        plugin: name.clone(),
        parameters: &special.parameters,
        registry: special.registry,
        tls_trouble: special.tls_trouble,
        log: log.clone(),
        output: output.clone(),
        cancelled: cancelled.clone(),
    };
    let store = crate::instance::store(engine, context, setup)
        .map_err(|error| CallError::Internal { plugin: name.to_string(), message: format!("{error:#}") })?;
    let watch = Watch {
        plugin: name.clone(),
        time: context.timeout.unwrap_or(limits.time),
        grace: limits.grace,
        cancel: context.cancel.clone().or_else(|| context.build.as_ref().map(|build| build.options().cancel.clone())),
        cancelled,
    };
    let own_thread = context.grants.scopes().fs.mounts().next().is_some();
    let result = watch.over(run(name, store, log.clone(), output.clone(), body), own_thread).await;
    output.iter().for_each(Lines::flush);
    log.finish();
    result
}

fn all_secrets(context: &CallContext, sensitive: &[String]) -> Secrets {
    if sensitive.is_empty() {
        return context.secrets.clone();
    }
    let named = context.secrets.names().filter_map(|name| Some((name.to_owned(), context.secrets.get(name)?.to_vec())));
    let more = sensitive.iter().enumerate().map(|(n, value)| (format!("\0{n}"), value.clone().into_bytes()));
    Secrets::new(named.chain(more).collect())
}

async fn run<R>(
    plugin: Arc<str>,
    mut store: Store<State>,
    log: Log,
    output: [Lines; 2],
    body: Body<R>,
) -> Result<R, CallError> {
    // A panic in a host function must not take the caller down; the store is thrown away either way.
    let result = AssertUnwindSafe(body(&mut store)).catch_unwind().await;
    output.iter().for_each(Lines::flush);
    match result {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(error))) if error.kind == wit::ErrorKind::Cancelled && store.data().is_cancelled() => {
            Err(CallError::Cancelled)
        }
        Ok(Ok(Err(error))) => Err(CallError::Failed(Box::new(error_from_wit(error)))),
        Ok(Err(trap)) => Err(sort(&plugin, &trap, store.data(), &log)),
        Err(_) => {
            Err(CallError::Internal { plugin: plugin.to_string(), message: "a host function panicked".to_owned() })
        }
    }
}

/// Tells a limit from a crash.
fn sort(plugin: &str, error: &wasmtime::Error, state: &State, log: &Log) -> CallError {
    if let Some(hit) = error.downcast_ref::<LimitHit>() {
        return limit(plugin, &state.limits, hit.limit, hit.message.clone());
    }
    if let Some(refused) = state.memory.refused() {
        return memory_limit(plugin, state, refused);
    }
    if matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full)) {
        return limit(
            plugin,
            &state.limits,
            Limit::Handles,
            format!("it holds more than {} resources at a time", state.limits.handles),
        );
    }
    let text = format!("{error:#}");
    // These two errors of wasmtime have no public type; a test in tests/adversarial.rs keeps the words.
    if text.contains("fuel allocated for hostcalls") {
        return limit(
            plugin,
            &state.limits,
            Limit::HostCall,
            format!("it hands over more than {} bytes in one call", state.limits.host_call),
        );
    }
    if text.contains("too many live component") || text.contains("component handles") {
        return limit(
            plugin,
            &state.limits,
            Limit::Handles,
            format!("it holds more than {} handles at a time", state.limits.handles * 2),
        );
    }
    if matches!(error.downcast_ref::<Trap>(), Some(Trap::StackOverflow)) {
        return limit(plugin, &state.limits, Limit::Stack, "its calls are nested too deep".to_owned());
    }
    crash(plugin, error, log)
}

fn limit(plugin: &str, limits: &Limits, limit: Limit, message: String) -> CallError {
    let raise = limit.setting().and_then(|name| doubled(limits, name));
    CallError::Limit { plugin: plugin.to_owned(), limit, message, raise }
}

/// Memory and tables are one limit to a caller, and two settings.
fn memory_limit(plugin: &str, state: &State, refused: &str) -> CallError {
    let setting = if state.memory.refused_table() { "table_elements" } else { "memory" };
    let raise = doubled(&state.limits, setting);
    CallError::Limit { plugin: plugin.to_owned(), limit: Limit::Memory, message: refused.to_owned(), raise }
}

fn crash(plugin: &str, error: &wasmtime::Error, log: &Log) -> CallError {
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::to_string).unwrap_or_default();
    let backtrace =
        backtrace.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("error while"));
    let message = panic_message(&log.tail()).unwrap_or_else(|| match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    });
    CallError::Trap {
        plugin: plugin.to_owned(),
        message: log.clean(&message),
        backtrace: backtrace.take(FRAMES).map(str::to_owned).collect(),
    }
}

/// Rust's standard library writes `thread '...' panicked at FILE:LINE:COLUMN:` and then the message.
fn panic_message(tail: &[String]) -> Option<String> {
    let at = tail.iter().rposition(|line| line.contains("panicked at "))?;
    let (_, place) = tail[at].split_once("panicked at ")?;
    let what = tail.get(at + 1).map_or("", String::as_str);
    Some(format!("{what} ({})", place.trim_end_matches(':')))
}

/// Watches over a call: time, cancellation, and the end of whoever waits for it.
struct Watch {
    plugin: Arc<str>,
    time: Duration,
    grace: Duration,
    cancel: Option<Cancel>,
    cancelled: Arc<AtomicBool>,
}

enum Stop {
    Time,
    Cancel,
}

impl Watch {
    /// Runs a call on a task of its own, so that several calls of one waiter run in parallel, or on a thread of its
    /// own if it may block.
    async fn over<R: Send + 'static>(
        self,
        call: impl Future<Output = Result<R, CallError>> + Send + 'static,
        own_thread: bool,
    ) -> Result<R, CallError> {
        let (call, abort) = abortable(call);
        let _abort_with_us = AbortOnDrop(abort.clone());
        let mut task = if own_thread {
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || runtime.block_on(call))
        } else {
            tokio::spawn(call)
        };
        let stop = tokio::select! {
            biased;
            ended = &mut task => return self.ended(ended),
            stop = self.stop() => stop,
        };
        self.cancelled.store(true, Ordering::Relaxed);
        match tokio::time::timeout(self.grace, &mut task).await {
            Ok(ended) => match (self.ended(ended), stop) {
                (Err(CallError::Cancelled), Stop::Time) => Err(self.too_long()),
                (result, _) => result,
            },
            Err(_) => {
                abort.abort();
                // What was running is dropped before anybody goes on, so that nothing works behind a call's back.
                let _ = task.await;
                match stop {
                    Stop::Time => Err(self.too_long()),
                    Stop::Cancel => Err(CallError::Cancelled),
                }
            }
        }
    }

    async fn stop(&self) -> Stop {
        let deadline = tokio::time::sleep(self.time);
        tokio::pin!(deadline);
        let Some(cancel) = &self.cancel else {
            deadline.await;
            return Stop::Time;
        };
        loop {
            if cancel.is_cancelled() {
                return Stop::Cancel;
            }
            tokio::select! {
                () = &mut deadline => return Stop::Time,
                () = tokio::time::sleep(CANCEL_POLL) => {}
            }
        }
    }

    fn too_long(&self) -> CallError {
        let limits = Limits { time: self.time, ..Limits::default() };
        limit(&self.plugin, &limits, Limit::Time, format!("it takes longer than {:?}", self.time))
    }

    fn ended<R>(
        &self,
        ended: Result<Result<Result<R, CallError>, futures::future::Aborted>, tokio::task::JoinError>,
    ) -> Result<R, CallError> {
        match ended {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(CallError::Cancelled),
            Err(error) => Err(CallError::Internal { plugin: self.plugin.to_string(), message: error.to_string() }),
        }
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
