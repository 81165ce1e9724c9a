//! Waits for a rollout: tells how far it is, tells early what stands in its way, and explains its failure.

use std::time::Duration;

use cooperage_sdk::events::Step;
use cooperage_sdk::prelude::Unit;
use cooperage_sdk::{Error, ErrorKind, Result, info, warn};
use serde_json::Value;

use crate::client::Client;
use crate::duration::show;
use crate::kinds::{self, Identity};
use crate::pods;
use crate::rollout::{Progress, judge};
use crate::watch::{Follower, Target};
use crate::workload::Kind;

/// Between two looks at the pods.
const LOOK: Duration = Duration::from_secs(10);
/// Between two tries while the server is away.
const AWAY: Duration = Duration::from_secs(2);

/// A workload whose rollout is waited for.
#[derive(Debug, Clone)]
pub struct Rollout {
    /// Its kind.
    pub kind: Kind,
    /// Which one.
    pub identity: Identity,
    /// The namespace it belongs to.
    pub namespace: String,
    /// Its state after the change.
    pub object: Value,
}

impl Rollout {
    /// Waits until all pods are as they shall be, until `deadline` by the clock; gives the state then.
    ///
    /// # Errors
    /// `conflict` if the rollout fails or takes too long, with the reasons that its pods give; those of the server.
    pub fn wait(self, client: &Client, deadline: Duration, limit: Duration) -> Result<Value> {
        Step::new(format!("wait for {}", self.identity)).run(|step| self.follow(client, step, deadline, limit))
    }

    fn follow(&self, client: &Client, step: &Step, deadline: Duration, limit: Duration) -> Result<Value> {
        let clock = client.edge().clock;
        let target = Target {
            collection: kinds::collection(&self.identity.api_version, Some(&self.namespace), self.kind.plural())?,
            name: self.identity.name.clone(),
            title: self.identity.to_string(),
        };
        let mut follower = Follower::new(client, target);
        let mut object = self.object.clone();
        let mut told = String::new();
        let mut troubles = Troubles { told: Vec::new(), next: clock.elapsed() + LOOK };
        loop {
            match judge(self.kind, &object) {
                Progress::Done(text) => {
                    info!("{} is rolled out: {text}", self.identity);
                    return Ok(object);
                }
                Progress::Untold(text) => {
                    warn!("{}: {text}; there is nothing to wait for", self.identity);
                    return Ok(object);
                }
                Progress::Failed(text) => {
                    let what = format!("the rollout of {} failed", self.identity);
                    return Err(self.explain(client, &object, Error::conflict(what).because(text)));
                }
                Progress::Going { text, ready, wanted } => {
                    step.progress(ready, wanted, Unit::Items);
                    if text != told {
                        info!("{}: {text}", self.identity);
                        told = text;
                    }
                }
            }
            let now = clock.elapsed();
            if now >= deadline {
                let what = format!("the rollout of {} is not done after {}", self.identity, show(limit));
                let error =
                    Error::conflict(what).because(told).hint("wait longer with `wait`, or mend what the pods say");
                return Err(self.explain(client, &object, error));
            }
            if now >= troubles.next {
                troubles.look(client, &object, &self.namespace);
                troubles.next = clock.elapsed() + LOOK;
            }
            object = self.patiently(client, deadline, || follower.next(&object, deadline.saturating_sub(now)))?;
        }
    }

    /// A server that is away for a while does not end the wait, only the deadline does.
    fn patiently(&self, client: &Client, deadline: Duration, mut next: impl FnMut() -> Result<Value>) -> Result<Value> {
        let clock = client.edge().clock;
        loop {
            match next() {
                Err(error) if error.kind == ErrorKind::Unavailable && clock.elapsed() < deadline => {
                    warn!("waiting for {}: {}", self.identity, error.message);
                    clock.pause(AWAY)?;
                }
                result => return result.map_err(|error| error.context(format!("waiting for {} ended", self.identity))),
            }
        }
    }

    fn explain(&self, client: &Client, object: &Value, mut error: Error) -> Error {
        match pods::troubles(client, object, &self.namespace) {
            Ok(troubles) => error.context.extend(troubles),
            Err(why) => error.context.push(format!("what its pods say is not known: {}", causes(&why))),
        }
        error
    }
}

/// What pods have said already.
struct Troubles {
    told: Vec<String>,
    next: Duration,
}

impl Troubles {
    /// Tells the user what is new. Whoever may not list pods waits all the same.
    fn look(&mut self, client: &Client, object: &Value, namespace: &str) {
        for trouble in pods::troubles(client, object, namespace).unwrap_or_default() {
            if !self.told.contains(&trouble) {
                warn!("{trouble}");
                self.told.push(trouble);
            }
        }
    }
}

fn causes(error: &Error) -> String {
    std::iter::once(&error.message).chain(&error.context).map(String::as_str).collect::<Vec<_>>().join(": ")
}
