//! The first-party plugins inside this binary, as the OCI layout that build.rs made.

include!(concat!(env!("OUT_DIR"), "/bundle.rs"));
