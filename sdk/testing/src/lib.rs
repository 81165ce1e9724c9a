//! Tests plugins by cases: a folder says what a plugin is asked and what is to come of it. The component runs in the
//! real engine, with its linker, limits, grants and checks of parameters; what lies beyond the engine (HTTP, images,
//! sources, registries, processes, time, chance) is what the case says. Nothing reaches the network, and nothing here
//! knows the command line. `README.md` has the reference of `case.yaml`.

mod accept;
pub mod case;
mod compare;
mod conformance;
mod edges;
mod exchange;
mod fault;
mod harness;
mod listing;
mod observe;
mod outcome;
mod overheard;
mod perform;
mod problems;
mod read;
mod reads;
mod record;
mod recording;
mod surroundings;
mod tcp;
mod veil;

pub use accept::accept;
pub use harness::{Harness, HarnessError, Processes, Report, Settings};
pub use read::{CaseFolder, Malformed, find};
pub use recording::Outside;

/// The JSON Schema of `case.yaml`.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(case::Case).to_value()
}
