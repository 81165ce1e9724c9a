//! Images from and to registries: the user's routing table, the logins, what the store knows already, and the
//! registry plugins that speak the protocols. Retries are the plugins' business: nothing here is tried twice.

mod backend;
mod fetch;
mod push;
mod resolve;
mod route;
mod service;
mod site;

#[cfg(test)]
mod tests;

pub use backend::{Backends, BlobOutcome, RegistryBackend, Repository};
pub use route::{DEFAULT_PLUGIN, Destination, Route, Routing};
pub use service::{PARALLEL_TRANSFERS, PullPolicy, RegistryService, ServiceOptions};
