//! Passes on what is reported while a step of a flow is done, and keeps what it says for the report of the run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cooperage_flow::StepLog;
use cooperage_solve::{Event, Level, Observer, Reporter, Step};

/// A reporter for one step of a flow: everything goes on to `outer`, and what is said goes to `log` too.
pub(super) fn listening(outer: &Reporter, log: StepLog) -> Reporter {
    Reporter::new(Arc::new(Listener { outer: outer.clone(), log, steps: Mutex::default() }))
}

struct Listener {
    outer: Reporter,
    log: StepLog,
    /// Steps as `outer` numbers them, by our numbers.
    steps: Mutex<HashMap<u64, Step>>,
}

impl Observer for Listener {
    fn event(&self, event: Event) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let id = |steps: &HashMap<u64, Step>, number: u64| steps.get(&number).map(Step::id);
        match event {
            Event::Started { step, parent, name } => {
                let parent = parent.and_then(|parent| id(&steps, parent.0));
                steps.insert(step.0, self.outer.step(parent, name));
            }
            Event::Progress { step, done, total, unit } => {
                if let Some(step) = id(&steps, step.0) {
                    self.outer.event(Event::Progress { step, done, total, unit });
                }
            }
            Event::Output { step, bytes } => {
                self.log.write(&bytes);
                if let Some(step) = id(&steps, step.0) {
                    self.outer.event(Event::Output { step, bytes });
                }
            }
            Event::Log { step, level, message } => {
                if level >= Level::Info {
                    self.log.line(&message);
                }
                let step = step.and_then(|step| id(&steps, step.0));
                self.outer.event(Event::Log { step, level, message });
            }
            Event::Finished { step, outcome } => {
                if let Some(step) = steps.remove(&step.0) {
                    step.finish(outcome);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cooperage_solve::{Outcome, StepId};

    use super::*;

    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);

    impl Observer for Seen {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(match event {
                Event::Started { step, parent, name } => format!("{} {parent:?} {name}", step.0),
                Event::Output { step, .. } => format!("{} output", step.0),
                Event::Finished { step, outcome } => format!("{} {outcome:?}", step.0),
                _ => "other".to_owned(),
            });
        }
    }

    #[test]
    fn numbers_do_not_meet_and_words_are_kept() {
        let seen = Arc::new(Seen::default());
        let outer = Reporter::new(seen.clone());
        let first = outer.step(None, "outer");
        let log = StepLog::default();
        let inner = listening(&outer, log.clone());
        let (one, two) = (inner.step(None, "one"), inner.step(Some(StepId(1)), "two"));
        two.output(b"said");
        two.finish(Outcome::Failed("why".to_owned()));
        drop(one);
        inner.log(Level::Info, "also said");
        inner.log(Level::Debug, "not for reports");
        first.finish(Outcome::Done);
        let expected = [
            "1 None outer",
            "2 None one",
            "3 Some(StepId(2)) two",
            "3 output",
            "3 Failed(\"why\")",
            "2 Cancelled",
            "other",
            "other",
            "1 Done",
        ];
        assert_eq!(*seen.0.lock().unwrap(), expected);
        assert_eq!(log.text(), "said\nalso said\n");
    }
}
