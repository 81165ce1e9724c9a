//! What stands in for images, sources, registries and processes, as a case has them.

mod images;
mod pushes;
mod runs;
mod sources;

pub(crate) use images::Images;
pub(crate) use pushes::Pushes;
pub(crate) use runs::Commands;
pub(crate) use sources::{SourceTrees, context_name};
