//! The versions of the contract side by side. A component says in its exports which version of a role it has; that is
//! looked at once, when it is loaded, and becomes a value whose calls know nothing of other versions.
//!
//! A version has its own interfaces only where something changed: the others go on under the version they had, and with
//! them the plugins that need nothing new. What the versions share is written once, in `host` and `roles`; what a version
//! has of its own is an adapter below this module, which converts and calls.

mod next;
mod v0_1_0;

use futures::future::BoxFuture;
use wasmtime::Store;
use wasmtime::component::InstancePre;

use crate::bindings::wit;
use crate::instance::State;
use crate::roles::{BuildRequest, RawDescription, RawImage};

/// A version of the package `cooperage:plugin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContractVersion {
    /// Version 0.1.0.
    V0_1_0,
    /// What is being made of it: may change from day to day, and is offered only where the user says so.
    Next,
}

impl ContractVersion {
    /// All that this host can carry, the oldest first.
    pub const ALL: [Self; 2] = [Self::V0_1_0, Self::Next];

    /// As it stands behind `@` in the names of interfaces.
    pub fn number(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::Next => "0.2.0-next",
        }
    }

    /// Whether it will never change again.
    pub fn is_released(self) -> bool {
        self != Self::Next
    }

    /// The interfaces that a component may export in just this version.
    pub fn exports(self) -> &'static [&'static str] {
        match self {
            Self::V0_1_0 => &["plugin", "builder", "task", "registry", "source"],
            Self::Next => &["builder"],
        }
    }

    /// The version that is written so, if this host knows it.
    pub fn parse(number: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.number() == number)
    }

    /// The version that defines an export, given its whole name.
    pub(crate) fn of_export(name: &str) -> Option<Self> {
        let (interface, number) = name.strip_prefix("cooperage:plugin/")?.split_once('@')?;
        Self::parse(number).filter(|version| version.exports().contains(&interface))
    }

    /// The newest version that the exports of a component belong to; what it does not change is that of the older ones.
    pub(crate) fn of_exports<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        names.filter_map(Self::of_export).max().unwrap_or(Self::V0_1_0)
    }
}

/// The role `builder` in one version of the contract, ready to be instantiated. Each call makes an instance of its own.
pub(crate) trait BuilderCalls: Send + Sync {
    /// Asks the plugin what it is.
    fn describe<'a>(&'a self, store: &'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<RawDescription>>;

    /// How well it fits the main context.
    fn detect<'a>(&'a self, store: &'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<Result<u8, wit::Error>>>;

    /// Lets it describe or name images.
    fn build<'a>(
        &'a self,
        store: &'a mut Store<State>,
        request: BuildRequest,
    ) -> BoxFuture<'a, wasmtime::Result<Result<Vec<RawImage>, wit::Error>>>;
}

/// The builder in the version that a component has it in.
///
/// # Errors
/// When the types of its functions are not those of the version.
pub(crate) fn builder(
    version: ContractVersion,
    pre: InstancePre<State>,
) -> wasmtime::Result<std::sync::Arc<dyn BuilderCalls>> {
    Ok(match version {
        ContractVersion::V0_1_0 => std::sync::Arc::new(v0_1_0::builder(pre)?),
        ContractVersion::Next => std::sync::Arc::new(next::builder(pre)?),
    })
}

#[cfg(test)]
mod tests;
