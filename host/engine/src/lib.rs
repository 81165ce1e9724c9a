//! Runs plugins: wasmtime, the host side of the contract, grants, limits, artifacts, and images moved through registry
//! plugins. Knows no flow, no command line and no terminal, and never reads the environment.

pub mod artifact;
mod bindings;
mod call;
mod compile;
mod contract;
mod convert;
pub mod credentials;
mod engine;
pub mod grants;
mod host;
pub mod http;
pub mod inspect;
mod instance;
mod limits;
mod link;
mod output;
mod outside;
mod parameters;
mod pattern;
mod plugin;
pub mod ports;
pub mod registries;
mod roles;
mod sockets;
mod stand_ins;
mod state;
#[cfg(test)]
mod testing;
pub mod trust;

pub use call::{CallContext, CallError};
pub use compile::child::{COMPILE_ARGUMENT, CompileError, compile_child};
pub use compile::outline::{NotAComponent, OutlineError};
pub use contract::ContractVersion;
pub use engine::{CompileLimits, Config, Engine, EngineError};
pub use grants::{Grants, Scopes, Ungranted};
pub use limits::{Amount, Limit, LimitError, LimitSettings, Limits, Settable, TooMuch};
pub use link::{Misfit, Roles, misfits_with};
pub use outside::{Import, Outside};
pub use plugin::{Description, LoadError, Plugin, Trust, Wasm};
pub use roles::{BuildRequest, BuiltImage, RegistryPlugin, TaskOutputs, TaskRequest};
pub use stand_ins::{Gate, StandIns};
