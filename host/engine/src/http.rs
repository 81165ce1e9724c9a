//! HTTP for plugins: a pooled client that trusts whom the user trusts, and the hooks that let a plugin's `wasi:http`
//! reach what was granted and nothing else. Knows nothing of wasm beyond `wasi:http`, nothing of registries beyond
//! where their answers point.

pub mod address;
mod body;
mod client;
mod connect;
mod error;
mod hooks;
mod learned;
mod pool;
mod proxy;
mod rule;
mod stream;
mod tls;
mod transport;
mod upgrade;

#[cfg(test)]
mod tests;

pub use body::ResponseBody;
pub use client::{Client, Peer, SendOptions, Settings};
pub(crate) use connect::UNKNOWN_AUTHORITY;
pub use connect::{Resolver, Stream, SystemResolver, name_authority};
pub use error::Error;
pub use hooks::{Hooks, HttpGrants, Service, TlsTrouble};
pub use proxy::ProxySettings;
pub use rule::{Origin, Rule};
pub use stream::Line;
pub use tls::{HostCertificates, TlsSettings};
pub use transport::Transport;
