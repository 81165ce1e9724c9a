//! Asking again and again until the answer is the one waited for.

use std::time::Duration;

use cooperage_sdk::retry::wish;
use cooperage_sdk::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::client::Client;
use crate::edge::Answer;
use crate::faults;
use crate::outputs::Received;
use crate::parameters::Until;
use crate::patience::summary;
use crate::status::Statuses;

const EVERY: f64 = 5.0;
const AT_MOST: f64 = 600.0;
/// A far side is not to be asked faster than this.
const SHORTEST: f64 = 0.05;
/// Statuses that do not become better by waiting.
const HOPELESS: [u16; 3] = [401, 403, 407];

/// What is waited for, and how.
#[derive(Debug)]
pub struct Waiting {
    statuses: Option<Statuses>,
    value: Option<Expected>,
    every: Duration,
    at_most: Duration,
}

#[derive(Debug)]
struct Expected {
    pointer: String,
    equals: Option<Value>,
    fails_on: Vec<Value>,
}

/// What an answer means.
enum Seen {
    Done(Received),
    /// With the reason.
    NotYet(String, Option<Duration>),
}

impl Waiting {
    /// The statuses that are right, if it says so itself.
    #[must_use]
    pub fn statuses(&self) -> Option<&Statuses> {
        self.statuses.as_ref()
    }

    /// What the parameters say.
    ///
    /// # Errors
    /// `invalid-input` for what cannot be waited for.
    pub fn read(until: &Until) -> Result<Self> {
        let Until { status, pointer, equals, fails_on, every, at_most } = until;
        if status.is_none() && pointer.is_none() {
            return Err(
                Error::invalid_input("`until` does not say what to wait for").hint("give `pointer` or `status`")
            );
        }
        if pointer.is_none() && (equals.is_some() || !fails_on.is_empty()) {
            return Err(Error::invalid_input(
                "`equals` and `fails_on` are about the value at a `pointer`, but there is none",
            ));
        }
        if let Some(wrong) = pointer.as_ref().filter(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            return Err(Error::invalid_input(format!("{wrong:?} is no JSON pointer")).hint("it begins with /"));
        }
        if let Some(both) = equals.as_ref().filter(|value| fails_on.contains(value)) {
            return Err(Error::invalid_input(format!("{both} is both waited for and a failure")));
        }
        let value = pointer.as_ref().map(|pointer| Expected {
            pointer: pointer.clone(),
            equals: equals.clone(),
            fails_on: fails_on.clone(),
        });
        Ok(Self {
            statuses: status.as_ref().map(Statuses::read).transpose()?,
            value,
            every: seconds("every", every.unwrap_or(EVERY), SHORTEST)?,
            at_most: seconds("at_most", at_most.unwrap_or(AT_MOST), 0.0)?,
        })
    }
}

fn seconds(name: &str, value: f64, least: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|_| value >= least)
        .ok_or_else(|| Error::invalid_input(format!("`{name}` is {value}, but must be {least} seconds or more")))
}

/// Sends the call until its answer is the one waited for.
///
/// # Errors
/// `unavailable` if that takes too long, `conflict` for a value after which there is nothing to wait for, and those of
/// the client that do not pass.
pub fn poll(client: Client, waiting: &Waiting) -> Result<Received> {
    let clock = client.edge.clock;
    let begun = clock.elapsed();
    let mut told = String::new();
    loop {
        let (why, wish) = match look(client, waiting)? {
            Seen::Done(received) => return Ok(received),
            Seen::NotYet(why, wish) => (why, wish),
        };
        if why != told {
            cooperage_sdk::info!("waiting: {why}");
            told.clone_from(&why);
        }
        let wait = waiting.every.max(wish.unwrap_or_default());
        let passed = clock.elapsed().saturating_sub(begun);
        if passed.saturating_add(wait) > waiting.at_most {
            let within = format!("it did not come about within {} s", waiting.at_most.as_secs_f64());
            return Err(Error::unavailable(client.what())
                .because(within)
                .because(format!("last, {why}"))
                .hint("wait longer with `at_most`, or look at why it takes so long"));
        }
        clock.pause(wait)?;
    }
}

fn look(client: Client, waiting: &Waiting) -> Result<Seen> {
    let looked = client.attempt().and_then(|answer| judge(client, waiting, answer));
    match looked {
        // Whatever is waited for may not listen yet.
        Err(error) if error.kind == ErrorKind::Unavailable => Ok(Seen::NotYet(summary(&error), wish(&error))),
        looked => looked,
    }
}

fn judge(client: Client, waiting: &Waiting, answer: Answer) -> Result<Seen> {
    if !client.call.expect.has(answer.status) {
        if waiting.statuses.is_none() || HOPELESS.contains(&answer.status) {
            return Err(client.fault(answer));
        }
        let wish = answer.headers.retry_after(client.edge.clock.now());
        return Ok(Seen::NotYet(faults::line(&answer), wish));
    }
    let received = Received::read(client, answer)?;
    let Some(Expected { pointer, equals, fails_on }) = &waiting.value else { return Ok(Seen::Done(received)) };
    let document = received.json().map_err(|error| error.context(client.what()))?;
    let Some(value) = document.pointer(pointer) else {
        return Ok(Seen::NotYet(format!("there is nothing at {pointer}"), None));
    };
    let line = faults::clean(&format!("{pointer} is {value}"));
    if fails_on.contains(value) {
        let answer = faults::clean(&document.to_string());
        return Err(Error::conflict(client.what()).because(line).because(format!("the answer is {answer}")));
    }
    let done = match equals {
        Some(equals) => value == equals,
        None => !matches!(value, Value::Null | Value::Bool(false)),
    };
    Ok(if done { Seen::Done(received) } else { Seen::NotYet(line, None) })
}
