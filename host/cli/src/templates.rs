//! The templates of plugins inside this binary, with the contract and the SDK, as build.rs found them.

include!(concat!(env!("OUT_DIR"), "/templates.rs"));
