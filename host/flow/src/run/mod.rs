//! Running a plan: when each step starts, how it ends, what comes of the flow; what a step does is the port's.

mod attempt;
mod cancel;
pub(crate) mod facts;
mod flow;
mod group;
mod journal;
mod log;
mod ports;
mod preview;
mod redact;
mod result;
mod status;

pub use cancel::Cancel;
pub use flow::run;
pub use journal::{Entry, Journal};
pub use log::StepLog;
pub use ports::{
    Event, FaultKind, Gone, Handle, NoObserver, Observer, Preview, RunOptions, Runner, StepCall, StepError, StepOutputs,
};
pub use preview::{Expected, Forecast, StepForecast, forecast};
pub use redact::redact_value;
pub use result::{FlowResult, Outcome, StepFault, StepResult};
pub use status::{SkipReason, Status};
