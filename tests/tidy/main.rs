//! Rules of the repository that no compiler keeps, checked over the files that git knows. Each rule says what to do.

#![allow(missing_docs, reason = "tests are read, not called")]

mod contract;
mod crates;
mod files;
mod prose;
mod repository;
