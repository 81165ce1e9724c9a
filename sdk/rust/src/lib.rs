//! Everything a Cooperage plugin in Rust needs: the roles as traits, the host's interfaces as types, one error.
//!
//! A plugin is a type that implements [`Plugin`] and one or more roles, and one line that exports it:
//!
//! ```
//! use cooperage_sdk::prelude::*;
//!
//! /// What `with:` of the step takes; its JSON Schema comes from here, and the host checks it before the plugin runs.
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Parameters {
//!     /// Whom to greet.
//!     name: String,
//! }
//!
//! struct Greet;
//!
//! impl Plugin for Greet {
//!     fn describe() -> Description {
//!         Description::new("greet", env!("CARGO_PKG_VERSION"), "Greets somebody")
//!     }
//! }
//!
//! impl Task for Greet {
//!     type Parameters = Parameters;
//!
//!     fn run(request: TaskRequest<Parameters>) -> Result<Outputs> {
//!         let text = format!("Hello {}", request.parameters.name);
//!         info!("{text}");
//!         Ok(Outputs::new().value("text", text))
//!     }
//! }
//!
//! cooperage_sdk::plugin!(Greet: task);
//! # fn main() {}
//! ```
//!
//! Build it with `cargo build --release --target wasm32-wasip2` as a `cdylib`. The crates `serde` and `schemars` must
//! be dependencies of the plugin beside this one, because their derive macros name them.
//!
//! Built for another target, for instance by `cargo test`, a plugin compiles but has no host: logging and steps do
//! nothing, and every other call of the host panics. So keep what is worth a unit test free of such calls.

#[doc(hidden)]
#[allow(missing_docs, unsafe_code, unused_qualifications, clippy::all)]
pub mod bindings;
pub mod content;
mod error;
pub mod events;
#[cfg(feature = "http")]
pub mod http;
pub mod images;
pub mod layer;
pub mod names;
pub mod net;
mod parameters;
mod plugin;
mod random;
pub mod retry;
pub mod roles;
pub mod secrets;
pub mod time;
pub mod trees;

pub use bindings::imports::cooperage::plugin::types::{
    Annotations, Descriptor, Digest, Error, ErrorKind, Json, Location, Platform,
};
pub use bindings::imports::cooperage::plugin::{registries, sources, state};
pub use error::Context;
pub use plugin::{Capability, Description, Plugin};
pub use random::random;

/// What fails, fails with the contract's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What nearly every plugin uses.
pub mod prelude {
    pub use crate::error::Context;
    pub use crate::events::{Step, Unit};
    pub use crate::plugin::{Capability, Description, Plugin};
    pub use crate::roles::builder::{BuildRequest, Builder, Image};
    pub use crate::roles::registry::{Credential, Registry, Repository};
    pub use crate::roles::source::{Source, SourceRequest, Version};
    pub use crate::roles::task::{Outputs, Task, TaskRequest};
    pub use crate::trees::Tree;
    pub use crate::{Annotations, Descriptor, Digest, Error, ErrorKind, Location, Platform, Result};
    pub use crate::{debug, error, info, trace, warn};
    pub use crate::{registries, secrets};
    pub use schemars::JsonSchema;
    pub use serde::Deserialize;
    pub use serde_json::json;
}

#[doc(hidden)]
pub mod __private {
    //! What the macros name.
    pub use crate::bindings;
    pub use crate::parameters::schema;
    pub use crate::plugin::{Exported, Parameters};
}
