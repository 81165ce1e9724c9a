//! The roles a plugin can have, each a trait.

pub mod builder;
pub mod registry;
pub mod source;
pub mod task;
