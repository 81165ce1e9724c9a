//! The Dockerfile builder: reads a Dockerfile and describes the images it asks for as lazy trees.
//!
//! Everything but the thin layer at the edge is plain Rust without WIT, so it is tested natively.

pub mod backend;
mod component;
pub mod config;
pub mod fault;
pub mod glob;
pub mod gotext;
pub mod instructions;
pub mod lint;
pub mod parser;
pub mod paths;
pub mod plan;
pub mod platform;
pub mod recipe;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod wild;
pub mod words;
