//! A stand-in for an API server, and an outside for the plugin's core that reaches it over sockets.
//!
//! The stand-in checks every request against the published types of the Kubernetes API (`k8s-openapi`), keeps track of
//! who has set which field as server-side apply does, and plays rollouts step by step. What it finds wrong fails the test
//! when the server is dropped.

#![allow(dead_code)] // each test binary uses a part of it

pub mod apply;
pub mod server;
pub mod sockets;
pub mod types;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use cooperage_plugin_kubernetes::edge::Edge;
use cooperage_plugin_kubernetes::manifests::File;
use cooperage_plugin_kubernetes::parameters::Wanted;
use cooperage_plugin_kubernetes::run::{self, Outcome};
use cooperage_sdk::time::Clock;
use cooperage_sdk::{Error, Result};
use serde_json::{Value, json};
use server::Server;
use sockets::Sockets;

pub const TOKEN: &str = "token-of-a-test";
pub const PASSWORD: &str = "hunter2";

/// A clock that does not wait: pauses only count.
pub struct Time {
    start: Instant,
    pub pauses: RefCell<Vec<Duration>>,
}

impl Default for Time {
    fn default() -> Self {
        Self { start: Instant::now(), pauses: RefCell::default() }
    }
}

impl Clock for Time {
    fn pause(&self, time: Duration) -> Result<()> {
        self.pauses.borrow_mut().push(time);
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed() + self.pauses.borrow().iter().sum::<Duration>()
    }

    fn now(&self) -> u64 {
        784_111_777
    }
}

/// Secrets as a flow supplies them.
pub fn reveal(name: &str) -> Result<Vec<u8>> {
    match name {
        "TOKEN" => Ok(format!("{TOKEN}\n").into()),
        "PASSWORD" => Ok(PASSWORD.into()),
        "WRONG" => Ok(b"wrong-token".to_vec()),
        _ => Err(Error::not_found(format!("there is no secret `{name}`"))),
    }
}

/// Parameters with what every step needs.
pub fn with(server: &Server, more: Value) -> Value {
    let mut all = json!({ "server": server.url(), "token": { "secret": "TOKEN" }, "namespace": "shop" });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// Runs a step against the server.
pub fn step(server: &Server, more: Value, files: &[(&str, &str)]) -> Result<Outcome> {
    step_in(&Time::default(), server, more, files)
}

/// The same by that clock.
pub fn step_in(time: &Time, server: &Server, more: Value, files: &[(&str, &str)]) -> Result<Outcome> {
    let wanted = Wanted::new(serde_json::from_value(with(server, more)).unwrap())?;
    run::run(&wanted, &to_files(files), Edge { http: &Sockets, clock: time }, &reveal)
}

/// Writes instead of asking a server.
pub fn on_paper(parameters: Value, files: &[(&str, &str)]) -> Result<Outcome> {
    let wanted = Wanted::new(serde_json::from_value(parameters).unwrap())?;
    run::write(&wanted, &to_files(files), &reveal)
}

fn to_files(files: &[(&str, &str)]) -> Vec<File> {
    files.iter().map(|(path, text)| File { path: (*path).into(), text: (*text).into() }).collect()
}

/// The error with all that belongs to it, as the user sees it.
pub fn shown(error: &Error) -> String {
    let lines = std::iter::once(&error.message).chain(&error.context).chain(&error.hint);
    lines.map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// Fails unless a text has all of these.
#[track_caller]
pub fn says(error: &Error, texts: &[&str]) {
    let shown = shown(error);
    for text in texts {
        assert!(shown.contains(text), "{text:?} is not in:\n{shown}");
    }
    assert!(!shown.contains(TOKEN) && !shown.contains(PASSWORD), "a secret is shown:\n{shown}");
}
