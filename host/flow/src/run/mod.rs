//! Running a plan: when each step starts, how it ends, what comes of the flow; what a step does is the port's.

mod attempt;
mod cancel;
mod flow;
mod ports;
mod result;
mod status;

pub use cancel::Cancel;
pub use flow::run;
pub use ports::{Event, FaultKind, Handle, NoObserver, Observer, RunOptions, Runner, StepCall, StepError, StepOutputs};
pub use result::{FlowResult, Outcome, StepFault, StepResult};
pub use status::{SkipReason, Status};
