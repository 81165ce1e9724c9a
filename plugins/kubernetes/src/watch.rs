//! What becomes of one object: by a watch where the server gives one, by reading it again and again where not.

use std::time::Duration;

use cooperage_sdk::{Error, ErrorKind, Result, debug};
use serde::Deserialize;
use serde_json::Value;

use crate::client::Client;
use crate::edge::Answer;
use crate::faults::Status;
use crate::value;

/// Between two readings.
const INTERVAL: Duration = Duration::from_secs(2);
/// After this time a watch begins anew, so that there is time for other things.
const WATCH: Duration = Duration::from_secs(10);
/// How much longer a watch may take than it was asked to.
const SLACK: Duration = Duration::from_secs(10);
/// A server that ends watches sooner than this is not asked again at once.
const SHORTEST: Duration = Duration::from_secs(1);
/// No object is larger.
const LONGEST_LINE: usize = 16 << 20;

/// Which object.
#[derive(Debug, Clone)]
pub struct Target {
    /// The path of its kind in its namespace.
    pub collection: String,
    /// Its name.
    pub name: String,
    /// What it is called in messages.
    pub title: String,
}

/// Follows one object.
pub struct Follower<'c, 'a> {
    client: &'c Client<'a>,
    target: Target,
    may_watch: bool,
    events: Option<Events>,
}

/// The events of a watch that is under way.
struct Events {
    answer: Answer,
    buffer: Vec<u8>,
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    #[serde(default)]
    object: Value,
}

impl<'c, 'a> Follower<'c, 'a> {
    /// Begins to follow.
    #[must_use]
    pub fn new(client: &'c Client<'a>, target: Target) -> Self {
        Self { client, target, may_watch: true, events: None }
    }

    /// The object as it is now.
    ///
    /// # Errors
    /// `not-found`, and those of the server.
    pub fn read(&self) -> Result<Value> {
        self.client.glance(&format!("{}/{}", self.target.collection, self.target.name), &self.target.title)
    }

    /// Waits until it may have changed, for at most `left`, and gives what it is then.
    ///
    /// # Errors
    /// `not-found` when it is gone, `unavailable` while the server is away, `cancelled`.
    pub fn next(&mut self, last: &Value, left: Duration) -> Result<Value> {
        let clock = self.client.edge().clock;
        if !self.may_watch {
            clock.pause(INTERVAL.min(left))?;
            return self.read();
        }
        let began = clock.elapsed();
        match self.event(last, left) {
            Ok(Some(object)) => return Ok(object),
            Ok(None) => {}
            Err(error) if error.kind == ErrorKind::Unavailable => debug!("the watch ended: {}", error.message),
            Err(error) => return Err(error),
        }
        self.events = None;
        // What was missed between two watches is read.
        if clock.elapsed().saturating_sub(began) < SHORTEST {
            clock.pause(SHORTEST.min(left))?;
        }
        self.read()
    }

    /// The next state that the watch tells of; none when it ends.
    fn event(&mut self, last: &Value, left: Duration) -> Result<Option<Value>> {
        if self.events.is_none() {
            self.events = self.open(last, left)?;
        }
        let Some(events) = &mut self.events else { return Ok(None) };
        let clock = self.client.edge().clock;
        let until = clock.elapsed() + WATCH.min(left) + SLACK;
        let Some(event) = events.next(|| clock.elapsed() < until)? else { return Ok(None) };
        match event.r#type.as_str() {
            "ADDED" | "MODIFIED" => Ok(Some(event.object)),
            "DELETED" => Err(Error::not_found(format!("{} was deleted meanwhile", self.target.title))),
            "ERROR" => {
                let status = Status::deserialize(&event.object).unwrap_or_default();
                debug!("the watch ended: {}", status.line());
                Ok(None)
            }
            // Bookmarks and what is not known.
            _ => Ok(Some(last.clone())),
        }
    }

    fn open(&mut self, last: &Value, left: Duration) -> Result<Option<Events>> {
        let selector = format!("metadata.name={}", self.target.name);
        let version = value::text(last, "/metadata/resourceVersion").unwrap_or("0");
        let parameters = [("fieldSelector", selector.as_str()), ("resourceVersion", version)];
        let answer = self.client.watch(&self.target.collection, &parameters, WATCH.min(left))?;
        match answer.status {
            200 => Ok(Some(Events { answer, buffer: Vec::new() })),
            // Too old, too many, out of order: another one may do.
            410 | 429 | 500..=599 => Ok(None),
            status => {
                debug!("no watch, the server answers {status}: reading instead");
                self.may_watch = false;
                Ok(None)
            }
        }
    }
}

impl Events {
    /// The next event; none at the end, or when there is no more time.
    fn next(&mut self, may_go_on: impl Fn() -> bool) -> Result<Option<Event>> {
        while may_go_on() {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let event = serde_json::from_slice(&line);
                return event.map(Some).map_err(|_| Error::unavailable("an event of the watch cannot be read"));
            }
            if self.buffer.len() > LONGEST_LINE {
                return Err(Error::unavailable("an event of the watch is too large"));
            }
            let chunk = self.answer.body.chunk(64 << 10)?;
            if chunk.is_empty() {
                return Ok(None);
            }
            self.buffer.extend_from_slice(&chunk);
        }
        Ok(None)
    }
}
