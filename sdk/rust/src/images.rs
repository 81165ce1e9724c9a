//! Images that exist already, pinned by digest.

use crate::{Error, Platform, Result};

pub use crate::bindings::imports::cooperage::plugin::images::{Base, Request, resolve};

/// Resolves one image; without a platform, that of the build. Several are faster with [`resolve`].
///
/// # Errors
/// Those of the registry, for instance `not-found`.
pub fn resolve_one(reference: &str, platform: Option<Platform>) -> Result<Base> {
    let request = Request { reference: reference.to_owned(), platform };
    resolve(&[request]).pop().unwrap_or_else(|| Err(Error::internal("the host resolved nothing")))
}

impl Base {
    /// The OCI image configuration as a JSON value.
    ///
    /// # Errors
    /// `internal` if the host gave no JSON.
    pub fn config_value(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.config())
            .map_err(|error| Error::internal(format!("the configuration of {} is no JSON: {error}", self.reference())))
    }
}
