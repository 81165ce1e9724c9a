//! One line per event, each with the number of its step, for logs and pipes.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use cooperage_solve::{Event, Level, Observer, Outcome, StepId};

use super::text::{Lines, elapsed, harmless, level};

/// Writes lines to standard error.
pub(super) struct Plain(Mutex<State>);

#[derive(Default)]
struct State {
    steps: HashMap<StepId, Shown>,
    next: usize,
}

/// Parts of parts, such as the transfer within the push of a blob, only show when they fail or say something.
const DEEPEST: usize = 1;

struct Shown {
    number: usize,
    depth: usize,
    name: String,
    started: Instant,
    lines: Lines,
    /// Whether the name was printed; steps that end cached at once take a single line.
    announced: bool,
}

impl Plain {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }
}

impl Observer for Plain {
    fn event(&self, event: Event) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        state.handle(event, &mut out);
        if !out.is_empty() {
            // Whoever closed standard error does not want to read it.
            let _ = std::io::stderr().lock().write_all(out.as_bytes());
        }
    }
}

impl State {
    fn handle(&mut self, event: Event, out: &mut String) {
        match event {
            Event::Started { step, name, parent } => {
                self.next += 1;
                let parent = parent.and_then(|parent| self.steps.get(&parent));
                let shown = Shown {
                    number: self.next,
                    depth: parent.map_or(0, |parent| parent.depth + 1),
                    name: harmless(&name),
                    started: Instant::now(),
                    lines: Lines::default(),
                    announced: false,
                };
                self.steps.insert(step, shown);
            }
            Event::Progress { .. } => {}
            Event::Output { step, bytes } => {
                if let Some(shown) = self.steps.get_mut(&step) {
                    shown.announce(out);
                    for line in shown.lines.push(&bytes) {
                        out.push_str(&format!("#{} {line}\n", shown.number));
                    }
                }
            }
            Event::Log { level: how, .. } if how < Level::Info => {}
            Event::Log { step, level: how, message } => {
                let number = step.and_then(|step| self.steps.get_mut(&step)).map(|shown| {
                    shown.announce(out);
                    format!("#{} ", shown.number)
                });
                let word = if how == Level::Info { String::new() } else { format!("{}: ", level(how)) };
                out.push_str(&format!("{}{word}{}\n", number.unwrap_or_default(), harmless(&message)));
            }
            Event::Finished { step, outcome } => {
                if let Some(mut shown) = self.steps.remove(&step) {
                    shown.finish(&outcome, out);
                }
            }
        }
    }
}

impl Shown {
    fn announce(&mut self, out: &mut String) {
        if !self.announced {
            self.announced = true;
            out.push_str(&format!("#{} {}\n", self.number, self.name));
        }
    }

    fn finish(&mut self, outcome: &Outcome, out: &mut String) {
        let Self { number, name, .. } = self;
        if let Some(line) = self.lines.finish() {
            out.push_str(&format!("#{number} {line}\n"));
        }
        let time = elapsed(self.started.elapsed());
        let line = match (outcome, self.announced) {
            (Outcome::Done | Outcome::Cached, false) if self.depth > DEEPEST => return,
            (Outcome::Cached, _) => format!("#{number} CACHED {name}\n"),
            (Outcome::Done, false) => format!("#{number} {name} ({time})\n"),
            (Outcome::Done, true) => format!("#{number} DONE {time}\n"),
            (Outcome::Failed(message), _) => format!("#{number} FAILED {name}: {}\n", harmless(message)),
            (Outcome::Cancelled, _) => format!("#{number} CANCELLED {name}\n"),
        };
        out.push_str(&line);
    }
}
