//! What the tests of this crate share: servers that behave and servers that do not, all on loopback.

pub(crate) mod certificates;
pub(crate) mod distribution;
pub(crate) mod registry;
pub(crate) mod server;
