//! What can be told of a plugin without compiling or running it: its outside, whether this host can run it, and what it
//! says of itself if that is embedded. `check` tells what its author should mend before others use it.

mod check;

use std::collections::BTreeSet;

use cooperage_store::Digest;

use crate::artifact::read_description;
use crate::compile::outline::outline;
use crate::link::{self, Misfit, Roles};
use crate::outside::Outside;
use crate::plugin::{Description, LoadError, check_description};

pub use check::{Finding, Severity, findings};

/// What a component shows of itself.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// SHA-256 of the component.
    pub digest: Digest,
    /// Bytes of the component.
    pub size: u64,
    /// Imports and exports.
    pub outside: Outside,
    /// The roles that it exports, of whatever version of the contract.
    pub roles: Roles,
    /// The versions of the contract that its imports and exports name, sorted; most plugins have one.
    pub contracts: Vec<String>,
    /// What it says of itself; none if that is not embedded, so that it would have to be run to be asked.
    pub description: Option<Description>,
    /// What keeps this host from running it; empty if nothing does. Types of functions are compared when it is loaded.
    pub misfits: Vec<Misfit>,
    /// Imports that cannot work, because no capability for them is asked for.
    pub advice: Vec<String>,
}

impl Inspection {
    /// Whether this host can run it, as far as can be told without compiling it.
    pub fn runs(&self) -> bool {
        self.misfits.is_empty()
    }

    /// The same with a description that the plugin gave when it was asked.
    #[must_use]
    pub fn described(mut self, description: Description) -> Self {
        self.advice = link::advice(&self.outside, &description.capabilities);
        self.description = Some(description);
        self
    }
}

/// Looks at a component of at most `limit` bytes, for a host that offers versions of the contract that are not released,
/// or does not. One that this host cannot run is looked at all the same.
///
/// # Errors
/// [`LoadError::Outline`] if it is no component, and [`LoadError::Link`] if it is no plugin of any version.
pub fn inspect(component: &[u8], limit: u64, unreleased: bool) -> Result<Inspection, LoadError> {
    let outside = outline(component, limit)?.outside;
    let mut misfits = link::fits(&outside, unreleased).err().unwrap_or_default();
    if !outside.exports.iter().any(|name| link::interface(name).is_some()) {
        misfits.retain(|misfit| misfit.what.starts_with("the component"));
        return Err(LoadError::Link(misfits));
    }
    let description = match embedded(component) {
        Ok(description) => description,
        Err(error) => {
            let fix = "embed it again with `coop plugin build`".to_owned();
            misfits.push(Misfit { what: error.to_string(), fix });
            None
        }
    };
    let inspection = Inspection {
        digest: Digest::of(component),
        size: component.len() as u64,
        roles: link::exported_roles(&outside),
        contracts: contracts(&outside),
        outside,
        description: None,
        misfits,
        advice: Vec::new(),
    };
    Ok(match description {
        Some(description) => inspection.described(description),
        None => inspection,
    })
}

/// The description in a component, if it has one.
fn embedded(component: &[u8]) -> Result<Option<Description>, LoadError> {
    let wrong = |error: &dyn std::fmt::Display| LoadError::Description(error.to_string());
    let Some(json) = read_description(component).map_err(|error| wrong(&error))? else { return Ok(None) };
    let description = serde_json::from_str(&json).map_err(|error| wrong(&error))?;
    check_description(&description)?;
    Ok(Some(description))
}

fn contracts(outside: &Outside) -> Vec<String> {
    let names = outside.imports.iter().map(|import| &import.name).chain(&outside.exports);
    let versions: BTreeSet<&str> = names.filter_map(|name| Some(link::interface(name)?.1)).collect();
    versions.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
