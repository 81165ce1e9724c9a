//! What whoever runs this machine demands of everybody's flows. It comes before a user's own configuration, which
//! cannot widen it.

use std::path::Path;

use cooperage_engine::trust::Policy;
use serde::Deserialize;

use crate::error::Failure;

/// Where the file is, unless `COOP_POLICY` says otherwise.
pub(crate) const PATH: &str = "/etc/cooperage/policy.yaml";

/// The file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MachinePolicy {
    /// Which plugins from registries may be used.
    pub(crate) trust: Policy,
}

impl MachinePolicy {
    /// Reads the file; one that does not exist demands nothing, unless the user named it.
    pub(crate) fn read(path: &Path, named: bool) -> Result<Self, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return Ok(Self::default()),
            Err(error) => return Err(Failure::usage(format!("reading {}: {error}", path.display()))),
        };
        serde_saphyr::from_str(&text)
            .map_err(|error| Failure::usage(format!("{} is not right: {error}", path.display())))
    }
}
