//! The roles of a plugin as functions in plain types: each call gets a fresh instance. One file per role.

mod builder;
mod describe;
mod registry;
mod source;
mod task;

pub(crate) use builder::Raw as RawImage;
pub use builder::{BuildRequest, BuiltImage};
pub(crate) use describe::{Raw as RawDescription, describe, raw_description};
pub use registry::RegistryPlugin;
pub use task::{TaskOutputs, TaskRequest};
