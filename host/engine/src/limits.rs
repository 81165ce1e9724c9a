//! What one plugin call may use up. Every limit is on by default; wasmtime's own defaults are mostly "none".

mod settings;

use std::time::Duration;

pub use settings::{Amount, LimitError, LimitSettings, Settable, TooMuch};
pub(crate) use settings::{doubled, size};

/// Limits of one call. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of all instances of the component together.
    pub memory: usize,
    /// Elements of each table.
    pub table_elements: usize,
    /// Core instances, tables and memories, each.
    pub instances: usize,
    /// Time until the call is asked to stop; after [`Limits::grace`] more it is stopped.
    pub time: Duration,
    /// Time of computing in the guest, without its waits for the host.
    pub cpu: Duration,
    /// What a cancelled call gets to end by itself.
    pub grace: Duration,
    /// Data in one call from the guest to the host.
    pub host_call: usize,
    /// Host resources (trees, steps, readers, requests, streams) held at a time.
    pub handles: usize,
    /// Random bytes in one call.
    pub random: u64,
    /// Fields of one HTTP message.
    pub http_fields: usize,
    /// Log lines per second, after a first burst of as many.
    pub log_lines: u32,
    /// Log lines and step output together.
    pub log_bytes: u64,
    /// Longest log line; the rest of the line is cut off.
    pub log_line: usize,
    /// Progress steps.
    pub steps: u32,
    /// Bytes written to the content store.
    pub blob_bytes: u64,
    /// Writers open at a time.
    pub writers: usize,
    /// Archives that are being made at a time, each by a thread of its own.
    pub archives: usize,
    /// Connections open at a time.
    pub connections: usize,
    /// Largest file that `read-file` gives.
    pub read_file: u64,
    /// Operations on trees.
    pub operations: u32,
    /// How many of them change one tree, one after the other, as the instructions of a stage do. Each keeps the list of
    /// the layers below it.
    pub tree_length: u32,
    /// How many trees lie inside one another, each a source or a mount of the next.
    pub tree_depth: u32,
    /// Bytes that those operations hold: file contents, names, arguments.
    pub operation_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            memory: 512 * MIB,
            table_elements: 1_000_000,
            instances: 200,
            time: Duration::from_secs(3600),
            cpu: Duration::from_secs(600),
            grace: Duration::from_secs(2),
            host_call: 8 * MIB,
            handles: 10_000,
            random: MIB as u64,
            http_fields: 64 * 1024,
            log_lines: 1_000,
            log_bytes: 64 * MIB as u64,
            log_line: 8 * 1024,
            steps: 10_000,
            blob_bytes: 64 * 1024 * MIB as u64,
            writers: 32,
            archives: 16,
            connections: 64,
            read_file: 64 * MIB as u64,
            operations: 100_000,
            tree_length: 2_000,
            tree_depth: 1_000,
            operation_bytes: 256 * MIB as u64,
        }
    }
}

/// Which limit a call ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::memory`], [`Limits::table_elements`] or [`Limits::instances`].
    Memory,
    /// [`Limits::time`].
    Time,
    /// [`Limits::cpu`].
    Cpu,
    /// The stack of the guest.
    Stack,
    /// [`Limits::host_call`].
    HostCall,
    /// [`Limits::handles`].
    Handles,
    /// [`Limits::steps`].
    Steps,
    /// [`Limits::operations`], [`Limits::tree_length`], [`Limits::tree_depth`] or [`Limits::operation_bytes`].
    Operations,
}

impl Limit {
    /// The name among [`LimitSettings::NAMES`] that raises it; the stack cannot be raised.
    pub fn setting(self) -> Option<&'static str> {
        match self {
            Self::Memory => Some("memory"),
            Self::Time => Some("time"),
            Self::Cpu => Some("cpu"),
            Self::HostCall => Some("host_call"),
            Self::Handles => Some("handles"),
            Self::Steps => Some("steps"),
            Self::Operations => Some("operations"),
            Self::Stack => None,
        }
    }
}

/// A host function stops the guest because it asks for too much; never seen outside this crate.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct LimitHit {
    pub limit: Limit,
    pub message: String,
}

impl LimitHit {
    pub(crate) fn error(limit: Limit, message: impl Into<String>) -> wasmtime::Error {
        wasmtime::Error::new(Self { limit, message: message.into() })
    }
}
