//! One instance of a plugin: what its store holds and the limits that bound it. One store per call, thrown away after.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use cooperage_solve::{Build, ErrorKind, Reporter, Secrets, StepId};
use serde_json::Value;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::filesystem::FsPerms;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::bindings::wit;
use crate::call::{CallContext, raising};
use crate::engine::{Engine, TICK};
use crate::grants::{Access, Grants, Named, allow_line};
use crate::http::{Hooks, HttpGrants, Service, TlsTrouble};
use crate::limits::{Limit, LimitHit, Limits, doubled};
use crate::output::{Lines, Log};
use crate::ports::Registries;
use crate::sockets::Sockets;
use crate::stand_ins::StandIns;
use crate::state::StateStore;

/// What the host functions of one call work with.
pub(crate) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    /// Checks requests by HTTP, and those that switch to another protocol.
    pub hooks: Hooks,
    pub table: ResourceTable,
    pub sockets: Sockets,
    /// Where TCP may go.
    pub tcp: Vec<crate::grants::TcpRule>,
    client: crate::http::Client,
    /// Where TLS was first begun with a host: that place's trust is meant for all of its connections.
    pub tls_ports: std::collections::HashMap<String, u16>,
    pub limits: Limits,
    pub memory: MemoryLimiter,
    pub plugin: Arc<str>,
    pub grants: Grants,
    pub named: Named,
    pub secrets: Secrets,
    pub store: Option<cooperage_store::Store>,
    pub build: Option<Build>,
    pub registries: Option<Arc<dyn Registries>>,
    pub kept: StateStore,
    pub reporter: Reporter,
    pub step: Option<StepId>,
    pub log: Log,
    pub cancelled: Arc<AtomicBool>,
    pub stand_ins: StandIns,
    pub used: Used,
    ticks: u64,
}

/// What the call has used up of limits that only the host counts.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub steps: u32,
    pub writers: usize,
    pub archives: usize,
    pub connections: usize,
    pub blob_bytes: u64,
    pub operations: u32,
    pub operation_bytes: u64,
}

/// What differs from call to call beyond the context.
pub(crate) struct Setup<'a> {
    pub plugin: Arc<str>,
    /// Parameters of the step, for grants that follow from them.
    pub parameters: &'a Value,
    /// The registry of the call: `host[:port]`, and whether it is reached without TLS.
    pub registry: Option<(String, bool)>,
    /// What the call finds out about TLS with the registry.
    pub tls_trouble: Arc<OnceLock<TlsTrouble>>,
    pub log: Log,
    pub output: [Lines; 2],
    pub cancelled: Arc<AtomicBool>,
}

/// A store for one call.
pub(crate) fn store(engine: &Engine, context: &CallContext, setup: Setup<'_>) -> wasmtime::Result<Store<State>> {
    let config = &engine.0.config;
    let limits = context.limits.clone().unwrap_or_else(|| config.limits.clone());
    let named = Named::in_parameters(setup.parameters);
    let scopes = context.grants.scopes();
    let registry = setup.registry.as_ref().map(|(host, _)| host.as_str());
    let tcp = scopes.tcp.rules(&named, registry);
    // Where something stands in for the network, only connections of the contract lead to it.
    let open = if config.http.settings().transport.is_none() { tcp.clone() } else { Vec::new() };
    let sockets = Sockets::new(setup.plugin.clone(), open, setup.log.clone());
    let hooks = Hooks::new(config.http.clone(), http_grants(engine, context, &setup, &named));
    let wasi = wasi((context, &config.stand_ins), &setup, &sockets, &limits)?;
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(limits.http_fields);
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits.handles);
    let state = State {
        wasi,
        http,
        hooks,
        table,
        sockets,
        tcp,
        client: config.http.clone(),
        tls_ports: std::collections::HashMap::new(),
        memory: MemoryLimiter::new(&limits),
        plugin: setup.plugin.clone(),
        grants: context.grants.clone(),
        named,
        secrets: context.secrets.clone(),
        store: context.store.clone(),
        build: context.build.clone(),
        registries: context.registries.clone(),
        kept: StateStore::new(&config.state_dir, context.keeper.as_deref().unwrap_or(&setup.plugin), &context.project),
        reporter: context.reporter.clone(),
        step: context.step,
        log: setup.log,
        cancelled: setup.cancelled,
        stand_ins: config.stand_ins.clone(),
        used: Used::default(),
        ticks: 0,
        limits,
    };
    let mut store = Store::new(&engine.0.wasmtime, state);
    bound(&mut store);
    Ok(store)
}

fn bound(store: &mut Store<State>) {
    let (host_call, handles) = (store.data().limits.host_call, store.data().limits.handles);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(host_call);
    // A guest's own resources count here too; those of the host reach the table's limit first.
    store.set_max_component_handles(handles * 2);
    store.set_epoch_deadline(1);
    // Ticks pass while the guest waits for the host, but this is called at most once for a wait, so that what it
    // counts is time in the guest. The yield lets timeouts and cancellation act on a guest that computes.
    store.epoch_deadline_callback(|mut context| {
        let state = context.data_mut();
        state.ticks += 1;
        if TICK * u32::try_from(state.ticks).unwrap_or(u32::MAX) > state.limits.cpu {
            let message = format!("it computes for more than {:?}", state.limits.cpu);
            return Err(LimitHit::error(Limit::Cpu, message));
        }
        Ok(UpdateDeadline::Yield(1))
    });
}

fn wasi(
    (context, stand_ins): (&CallContext, &StandIns),
    setup: &Setup<'_>,
    sockets: &Sockets,
    limits: &Limits,
) -> wasmtime::Result<WasiCtx> {
    let mut wasi = WasiCtxBuilder::new();
    let [stdout, stderr] = setup.output.clone();
    wasi.stdout(stdout).stderr(stderr).max_random_size(limits.random);
    sockets.configure(&mut wasi);
    stand_ins.configure(&mut wasi);
    let mut mounts = context.grants.scopes().fs.mounts().peekable();
    if mounts.peek().is_some() {
        // Ten times faster on many small files; such a call has a thread of its own (`call`). Must come first: a
        // directory remembers it.
        wasi.allow_blocking_current_thread(true);
    }
    for mount in mounts {
        let permissions = match mount.access {
            Access::Read => FsPerms::ReadOnly,
            Access::Write => FsPerms::ReadWrite,
        };
        if let Some(path) = &mount.path {
            wasi.preopened_dir(path, &mount.mount, permissions).map_err(|error| {
                error.context(format!("{}: cannot open the directory granted as {}", path.display(), mount.mount))
            })?;
        }
    }
    Ok(wasi.build())
}

fn http_grants(engine: &Engine, context: &CallContext, setup: &Setup<'_>, named: &Named) -> HttpGrants {
    let scopes = context.grants.scopes();
    let service = |request: &crate::grants::ServiceRequest| {
        let socket = engine.0.config.services.get(&request.name)?.clone();
        Some(Service { authority: format!("{}.local", request.name), socket, requests: request.patterns() })
    };
    HttpGrants {
        plugin: setup.plugin.to_string(),
        rules: scopes.http.rules(named),
        services: scopes.service.services().iter().filter_map(service).collect(),
        registry: setup.registry.clone().filter(|_| scopes.http.registry()),
        redirects: scopes.http.redirects(),
        tls_trouble: setup.tls_trouble.clone(),
        cap: scopes.http.cap(named).map(|cap| (cap, scopes.restricted("http").unwrap_or_default())),
    }
}

impl State {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
            || self.build.as_ref().is_some_and(|build| build.options().cancel.is_cancelled())
    }

    /// The client whose look-up and trust all connections share.
    pub(crate) fn client(&self) -> &crate::http::Client {
        &self.client
    }

    /// The error of a host function that gives no more of something.
    pub(crate) fn used_up(&self, setting: &str, message: String) -> cooperage_solve::Error {
        let error = cooperage_solve::Error::new(ErrorKind::Limit, message);
        match doubled(&self.limits, setting) {
            Some(raise) => error.hint(raising(&self.plugin, &raise)),
            None => error,
        }
    }

    /// The error of a call that needs a grant which is missing.
    pub(crate) fn denied(&self, what: &str, class: &str, value: &Value) -> cooperage_solve::Error {
        let line = allow_line(&self.plugin, class, value);
        let policy = self.grants.scopes().restricted(class);
        let policy = policy.map_or_else(String::new, |policy| {
            format!("; the policy of this host has a say, too, and its word comes first: {policy}")
        });
        cooperage_solve::Error::new(ErrorKind::Denied, format!("plugin `{}` may not {what}", self.plugin))
            .hint(format!("if the plugin asks for it, allow it with `{line}`{policy}"))
    }

    /// The store, for functions that work with content.
    pub(crate) fn store(&self) -> Result<cooperage_store::Store, cooperage_solve::Error> {
        self.stand_ins.pass("content")?;
        self.store
            .clone()
            .ok_or_else(|| cooperage_solve::Error::new(ErrorKind::Unsupported, "this call has no content store"))
    }

    /// The build, for functions that make sense only in one.
    pub(crate) fn build(&self) -> Result<Build, cooperage_solve::Error> {
        let message = "there is no build in this call, so there are no trees and images";
        self.build.clone().ok_or_else(|| cooperage_solve::Error::new(ErrorKind::Unsupported, message))
    }
}

/// The result of a host function that can fail for the guest.
pub(crate) type Answer<T> = wasmtime::Result<Result<T, wit::Error>>;

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// Bounds linear memories together, tables one by one. A guest whose growth is refused gets to hear it, and may go on
/// with less; that it was refused is remembered, because what follows is most often an abort.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    limit: usize,
    used: usize,
    table_elements: usize,
    instances: usize,
    refused: Option<String>,
    refused_table: bool,
}

impl MemoryLimiter {
    fn new(limits: &Limits) -> Self {
        Self {
            limit: limits.memory,
            used: 0,
            table_elements: limits.table_elements,
            instances: limits.instances,
            refused: None,
            refused_table: false,
        }
    }

    /// Whether it was a table that could not grow.
    pub(crate) fn refused_table(&self) -> bool {
        self.refused_table
    }

    /// What was refused, if anything.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let after = self.used.saturating_sub(current).saturating_add(desired);
        if after > self.limit {
            self.refused_table = false;
            self.refused =
                Some(format!("it wants {} MiB of memory and may have {}", after.div_ceil(1 << 20), self.limit >> 20));
            return Ok(false);
        }
        self.used = after;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.table_elements;
        if !fits {
            self.refused_table = true;
            self.refused = Some(format!("it wants a table of {desired} elements and may have {}", self.table_elements));
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.instances
    }

    fn memories(&self) -> usize {
        self.instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_count_together() {
        let mut limiter = MemoryLimiter::new(&Limits { memory: 10 << 20, ..Limits::default() });
        assert!(limiter.memory_growing(0, 6 << 20, None).unwrap());
        assert!(!limiter.memory_growing(0, 5 << 20, None).unwrap());
        assert_eq!(limiter.refused(), Some("it wants 11 MiB of memory and may have 10"));
        assert!(limiter.memory_growing(6 << 20, 10 << 20, None).unwrap());
        assert!(!limiter.memory_growing(usize::MAX, usize::MAX, None).unwrap());
    }

    /// Tables grow by elements, which no guest written in Rust does by itself: a module of its own, under the limiter.
    #[test]
    fn tables_grow_no_further_than_allowed() {
        let engine = wasmtime::Engine::default();
        let module = "(module (table (export \"t\") 1 funcref)
            (func (export \"grow\") (param i32) (result i32) (table.grow (ref.null func) (local.get 0))))";
        let module = wasmtime::Module::new(&engine, wat::parse_str(module).unwrap()).unwrap();
        let limits = Limits { table_elements: 1000, ..Limits::default() };
        let mut store = Store::new(&engine, MemoryLimiter::new(&limits));
        store.limiter(|limiter| limiter);
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let grow = instance.get_typed_func::<i32, i32>(&mut store, "grow").unwrap();
        assert_eq!(grow.call(&mut store, 900).unwrap(), 1);
        for more in [100, i32::MAX] {
            assert_eq!(grow.call(&mut store, more).unwrap(), -1, "{more}");
        }
        assert!(store.data().refused_table(), "{:?}", store.data().refused());
    }
}
