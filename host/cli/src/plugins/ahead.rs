//! Plugins before they are called: those of a flow are fetched and compiled while its earlier steps do their work, one
//! after another, since compiling one keeps all cores busy; and whoever compiles a large one is shown.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cooperage_solve::{Outcome, Step};

use super::Plugins;

/// What is smaller compiles in about a second on two cores.
const WORTH_SHOWING: usize = 2 << 20;

/// Who loads a plugin at the moment, by name: others wait for it rather than do the same.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    pub(super) fn of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default().clone()
    }
}

/// Stops what is done ahead, once nobody will need it any more.
pub(crate) struct Ahead(tokio::task::JoinHandle<()>);

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Plugins {
    /// Begins to load plugins, in this order. What is wrong with one is said when a step needs it: the step may never
    /// be reached.
    pub(crate) fn prepare(self: &Arc<Self>, names: Vec<String>) -> Ahead {
        let plugins = self.clone();
        Ahead(tokio::spawn(async move {
            for name in names {
                if let Err(failure) = plugins.load(&name).await {
                    tracing::debug!("the plugin {name} is not ready ahead of its step: {}", failure.into_error());
                }
            }
        }))
    }

    /// The step under which a component of `size` bytes is compiled, if that takes long enough to be seen.
    pub(super) fn compiling(&self, name: &str, size: usize) -> Option<Compiling> {
        (size >= WORTH_SHOWING).then(|| {
            let megabytes = size.div_ceil(1_000_000);
            Compiling(self.reporter.step(None, format!("compile {name} ({megabytes} MB)")))
        })
    }
}

/// A compilation that the user sees.
pub(super) struct Compiling(Step);

impl Compiling {
    pub(super) fn end<T, E: std::fmt::Display>(self, result: &Result<T, E>) {
        self.0.finish(match result {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::Failed(error.to_string()),
        });
    }
}
