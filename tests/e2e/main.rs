//! The real binary `coop` against real registries and tools that we did not write. Of our crates it uses only digests.
//!
//! Each test has a store, a home and a registry of its own and leaves nothing behind. A test that lacks a tool or a
//! right says so and passes over; with the variable `CI` set that is a failure.

#![allow(missing_docs, reason = "tests are read, not called")]

mod addon;
mod author;
mod build;
mod cache;
mod chain;
mod check;
mod contract;
mod death;
mod docker;
mod dockerfile;
mod docs;
mod errors;
mod flow;
mod ftp;
mod git;
mod http;
mod kubernetes;
mod limits;
mod lock;
mod outputs;
mod plugin;
mod plugin_cases;
mod recordings;
mod registry;
mod rootless;
mod support;
mod trust;
