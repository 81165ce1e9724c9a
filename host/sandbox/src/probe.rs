//! What this machine allows, each item with what to install or change; changes nothing.

/// What this machine allows.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order in which they should be shown.
    pub items: Vec<Item>,
}

/// One ability of the machine.
#[derive(Debug, Clone)]
pub struct Item {
    /// Short name, such as `overlayfs`.
    pub name: String,
    /// Whether it is there.
    pub ok: bool,
    /// What was found, such as a version.
    pub detail: String,
    /// What to install or change when it is missing; empty when it is there.
    pub hint: String,
}

/// Looks at this machine.
pub fn probe() -> Report {
    Report::default()
}
