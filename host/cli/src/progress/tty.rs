//! A live view on a terminal: finished steps scroll away, running ones stay with time, counter and last output.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cooperage_solve::{Event, Level, Observer, Outcome, StepId};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::text::{Lines, counter, elapsed, harmless, level};

/// How many lines of output a failed step shows.
const TAIL: usize = 20;
/// Running steps redraw their clock this often.
const TICK: Duration = Duration::from_millis(100);

/// Draws on standard error.
pub(super) struct Tty {
    screen: MultiProgress,
    steps: Mutex<HashMap<StepId, Shown>>,
}

/// Parts of parts have no line of their own; their counters show in the line of the part.
const DEEPEST: usize = 1;

struct Shown {
    bar: ProgressBar,
    depth: usize,
    name: String,
    started: Instant,
    lines: Lines,
    tail: Vec<String>,
}

impl Tty {
    pub(super) fn new() -> Self {
        Self { screen: MultiProgress::new(), steps: Mutex::default() }
    }

    fn start(&self, name: &str, parent: Option<&Shown>) -> Shown {
        let depth = parent.map_or(0, |parent| parent.depth + 1);
        if let (Some(parent), true) = (parent, depth > DEEPEST) {
            return Shown { bar: parent.bar.clone(), depth, ..Shown::of(name) };
        }
        let bar = self.screen.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template(" {spinner} {prefix} {elapsed:.dim} {wide_msg:.dim}") {
            bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        }
        let name = harmless(name);
        bar.set_prefix(name.clone());
        bar.enable_steady_tick(TICK);
        Shown { bar, depth, ..Shown::of(&name) }
    }

    fn say(&self, line: &str) {
        // A terminal that is gone needs no lines.
        let _ = self.screen.println(line);
    }

    fn end(&self, mut shown: Shown, outcome: &Outcome) {
        shown.tail.extend(shown.lines.finish());
        if shown.depth > DEEPEST {
            return;
        }
        shown.bar.finish_and_clear();
        self.screen.remove(&shown.bar);
        let time = elapsed(shown.started.elapsed());
        let name = &shown.name;
        match outcome {
            Outcome::Done => self.say(&format!(" \u{1b}[32m✔\u{1b}[0m {name} \u{1b}[2m{time}\u{1b}[0m")),
            Outcome::Cached => self.say(&format!(" \u{1b}[36m✔\u{1b}[0m {name} \u{1b}[2mcached\u{1b}[0m")),
            Outcome::Cancelled => self.say(&format!(" \u{1b}[33m◼\u{1b}[0m {name} \u{1b}[2mcancelled\u{1b}[0m")),
            Outcome::Failed(_) => {
                self.say(&format!(" \u{1b}[31m✘\u{1b}[0m {name} \u{1b}[2m{time}\u{1b}[0m"));
                let from = shown.tail.len().saturating_sub(TAIL);
                for line in &shown.tail[from..] {
                    self.say(&format!("   \u{1b}[2m│\u{1b}[0m {line}"));
                }
            }
        }
    }
}

impl Shown {
    fn of(name: &str) -> Self {
        let bar = ProgressBar::hidden();
        Self { bar, depth: 0, name: harmless(name), started: Instant::now(), lines: Lines::default(), tail: Vec::new() }
    }
}

impl Observer for Tty {
    fn event(&self, event: Event) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { step, name, parent } => {
                let shown = self.start(&name, parent.and_then(|parent| steps.get(&parent)));
                steps.insert(step, shown);
            }
            Event::Progress { step, done, total, unit } => {
                if let Some(shown) = steps.get(&step) {
                    shown.bar.set_message(counter(done, total, unit));
                }
            }
            Event::Output { step, bytes } => {
                if let Some(shown) = steps.get_mut(&step) {
                    let lines = shown.lines.push(&bytes);
                    if let Some(last) = lines.last() {
                        shown.bar.set_message(last.clone());
                    }
                    shown.tail.extend(lines);
                    let surplus = shown.tail.len().saturating_sub(TAIL);
                    shown.tail.drain(..surplus);
                }
            }
            Event::Log { level: how, .. } if how < Level::Info => {}
            Event::Log { level: how, message, .. } => {
                let word = if how == Level::Info { String::new() } else { format!("{}: ", level(how)) };
                self.say(&format!("   {word}{}", harmless(&message)));
            }
            Event::Finished { step, outcome } => {
                if let Some(shown) = steps.remove(&step) {
                    self.end(shown, &outcome);
                }
            }
        }
    }
}
