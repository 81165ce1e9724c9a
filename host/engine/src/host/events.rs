//! `events`: log lines and progress. Bounded in rate and volume, secrets blacked out, control characters visible.

use std::time::{Duration, Instant};

use cooperage_solve::{Level, Outcome, Redactor, Step, Unit};
use wasmtime::component::Resource;

use crate::bindings::imports::cooperage::plugin::events;
use crate::instance::State;
use crate::output::Log;

/// Counters are passed on this often; what comes in between is only remembered.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);
/// A name is one line that people read.
const LONGEST_NAME: usize = 1024;

/// A piece of work that a guest reports. Silent once the limit of steps is reached.
pub struct GuestStep {
    step: Option<Step>,
    log: Log,
    redactor: Redactor,
    outcome: Outcome,
    told: Option<Instant>,
    waiting: Option<(u64, Option<u64>, Unit)>,
}

impl GuestStep {
    fn end(mut self) {
        let rest = self.redactor.finish();
        let Some(step) = self.step.take() else { return };
        if !rest.is_empty() && self.log.spend(rest.len()) {
            step.output(&rest);
        }
        if let Some((done, total, unit)) = self.waiting {
            step.progress(done, total, unit);
        }
        step.finish(self.outcome);
    }
}

impl State {
    fn begin(&mut self, parent: Option<&Resource<GuestStep>>, name: &str) -> wasmtime::Result<Resource<GuestStep>> {
        self.used.steps = self.used.steps.saturating_add(1);
        let name = self.log.clean(crate::output::prefix(name, LONGEST_NAME));
        let step = if self.used.steps > self.limits.steps {
            if self.used.steps == self.limits.steps + 1 {
                let message = format!("no more than {} progress steps are shown", self.limits.steps);
                self.log.line(Level::Warn, &message);
            }
            None
        } else {
            match parent {
                Some(parent) => self.table.get(parent)?.step.as_ref().map(|parent| parent.child(name)),
                None => Some(self.reporter.step(self.step, name)),
            }
        };
        let redactor = Redactor::new(&self.secrets);
        let log = self.log.clone();
        self.push(GuestStep { step, log, redactor, outcome: Outcome::Done, told: None, waiting: None })
    }
}

impl events::Host for State {
    fn log(&mut self, level: events::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            events::Level::Trace => Level::Trace,
            events::Level::Debug => Level::Debug,
            events::Level::Info => Level::Info,
            events::Level::Warn => Level::Warn,
            events::Level::Error => Level::Error,
        };
        self.log.line(level, &message);
        Ok(())
    }

    fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.is_cancelled())
    }
}

impl events::HostStep for State {
    fn new(&mut self, name: String) -> wasmtime::Result<Resource<GuestStep>> {
        self.begin(None, &name)
    }

    fn child(&mut self, parent: Resource<GuestStep>, name: String) -> wasmtime::Result<Resource<GuestStep>> {
        self.begin(Some(&parent), &name)
    }

    fn progress(
        &mut self,
        this: Resource<GuestStep>,
        done: u64,
        total: Option<u64>,
        unit: events::Unit,
    ) -> wasmtime::Result<()> {
        let this = self.table.get_mut(&this)?;
        let unit = match unit {
            events::Unit::Bytes => Unit::Bytes,
            events::Unit::Items => Unit::Items,
        };
        if this.told.is_some_and(|told| told.elapsed() < PROGRESS_INTERVAL) {
            this.waiting = Some((done, total, unit));
            return Ok(());
        }
        this.told = Some(Instant::now());
        this.waiting = None;
        if let Some(step) = &this.step {
            step.progress(done, total, unit);
        }
        Ok(())
    }

    fn output(&mut self, this: Resource<GuestStep>, bytes: Vec<u8>) -> wasmtime::Result<()> {
        let this = self.table.get_mut(&this)?;
        let Some(step) = &this.step else { return Ok(()) };
        let shown = this.redactor.push(&bytes);
        if !shown.is_empty() && this.log.spend(shown.len()) {
            step.output(&shown);
        }
        Ok(())
    }

    fn cached(&mut self, this: Resource<GuestStep>) -> wasmtime::Result<()> {
        self.table.get_mut(&this)?.outcome = Outcome::Cached;
        Ok(())
    }

    fn fail(&mut self, this: Resource<GuestStep>, message: String) -> wasmtime::Result<()> {
        let message = self.log.clean(crate::output::prefix(&message, self.limits.log_line));
        self.table.get_mut(&this)?.outcome = Outcome::Failed(message);
        Ok(())
    }

    fn drop(&mut self, this: Resource<GuestStep>) -> wasmtime::Result<()> {
        self.table.delete(this)?.end();
        Ok(())
    }
}
