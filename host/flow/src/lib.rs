//! The flow file `cooperage.yaml`, its plan and its run; knows no plugin, image or wasm, only ports.
//!
//! Three steps, each a value made from the one before:
//!
//! ```text
//! text ──parse──► FlowFile ──plan──► Plan ──select──► Plan ──run──► FlowResult
//!          │                 │                            │
//!          └──── Report ─────┴── every mistake, with its  └─ calls a Runner, tells an Observer
//!                                place in the file
//! ```
//!
//! [`FlowFile::parse`] reads the YAML and finds every mistake that the text alone shows. [`FlowFile::plan`]
//! asks an [`ImageDependencies`] which images a step needs, makes the graph and refuses cycles.
//! [`Plan::select`] narrows it to what was asked for, and [`run`] executes it.
//!
//! The crate reads neither files nor the environment: the caller gives the text and the variables.

#![forbid(unsafe_code)]

mod align;
mod diagnostic;
mod expand;
mod expression;
mod file;
mod graph;
mod matrix;
mod outputs;
mod parameters;
mod plan;
mod references;
mod run;
mod schema;
mod select;
mod source;
mod template;
mod view;
mod yaml;

pub use diagnostic::{Code, Diagnostic, Report, Severity};
pub use expression::{Expression, Scope, StepValues};
pub use file::{Condition, Flow, FlowFile, Image, ParseOptions, Plugin, PushSettings, Registries, Retry, Step};
pub use matrix::{Instance, Matrix};
pub use outputs::KnownOutputs;
pub use parameters::{Parameters, SecretRef};
pub use plan::{Dependency, ImageDependencies, Input, NoImageDependencies, Node, Plan, Reason, StepId, StepView};
pub use references::{Reference, Use};
pub use run::{
    Cancel, Entry, Event, Expected, FaultKind, FlowResult, Forecast, Gone, Handle, Journal, NoObserver, Observer,
    Outcome, Preview, RunOptions, Runner, SkipReason, Status, StepCall, StepError, StepFault, StepForecast, StepLog,
    StepOutputs, StepResult, forecast, redact_value, run,
};
pub use schema::json_schema;
pub use select::TargetError;
pub use source::{Located, Source, Span};
