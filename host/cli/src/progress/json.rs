//! One JSON object per event and line, on standard error, for programs.

use std::io::Write;
use std::time::Instant;

use cooperage_solve::{Event, Observer, Outcome, Unit};
use serde_json::{Value, json};

use super::text::{harmless_json, level};

/// Writes objects with the seconds since the start.
pub(super) struct Json {
    started: Instant,
}

impl Json {
    pub(super) fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Observer for Json {
    fn event(&self, event: Event) {
        let mut value = object(event);
        value["time"] = json!(self.started.elapsed().as_secs_f64());
        let mut line = harmless_json(&value.to_string());
        line.push('\n');
        // Whoever closed standard error does not want to read it.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

fn object(event: Event) -> Value {
    match event {
        Event::Started { step, parent, name } => {
            json!({ "event": "started", "step": step.0, "parent": parent.map(|parent| parent.0), "name": name })
        }
        Event::Progress { step, done, total, unit } => {
            let unit = if unit == Unit::Bytes { "bytes" } else { "items" };
            json!({ "event": "progress", "step": step.0, "done": done, "total": total, "unit": unit })
        }
        Event::Output { step, bytes } => {
            json!({ "event": "output", "step": step.0, "text": String::from_utf8_lossy(&bytes) })
        }
        Event::Log { step, level: how, message } => {
            json!({ "event": "log", "step": step.map(|step| step.0), "level": level(how), "message": message })
        }
        Event::Finished { step, outcome } => {
            let (word, message) = match outcome {
                Outcome::Done => ("done", None),
                Outcome::Cached => ("cached", None),
                Outcome::Failed(message) => ("failed", Some(message)),
                Outcome::Cancelled => ("cancelled", None),
            };
            json!({ "event": "finished", "step": step.0, "outcome": word, "message": message })
        }
    }
}
