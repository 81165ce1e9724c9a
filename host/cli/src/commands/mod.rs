//! One file per command: arguments become a library call, and its result is printed.

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod image;
pub(crate) mod plugin;
pub(crate) mod registry;
pub(crate) mod run;
