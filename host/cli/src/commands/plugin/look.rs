//! Looks at a plugin, wherever it lies, without running it if its description is embedded. A plugin that this host
//! cannot run is looked at all the same.

use cooperage_engine::artifact::{Artifact, Bytes, LARGEST_COMPONENT};
use cooperage_engine::inspect::{Inspection, inspect};
use cooperage_engine::{LoadError, Plugin};

use crate::app::{App, Session};
use crate::error::Failure;
use crate::plugins::load_failure;

/// A plugin as it was found.
pub(super) struct Seen {
    /// As the user wrote it.
    pub(super) reference: String,
    pub(super) artifact: Artifact,
    pub(super) component: Bytes,
    pub(super) inspection: Inspection,
    /// Whether the description was in the component; else the plugin was asked for it, or could not be.
    pub(super) embedded: bool,
}

impl Seen {
    /// Fetches and looks. Nothing is compiled.
    pub(super) async fn fetch(app: &App, session: &Session, reference: &str) -> Result<Self, Failure> {
        let artifact = session.plugins.fetch(reference, false).await?;
        Self::of(app, session, reference, artifact).await
    }

    /// Looks at what is at hand.
    pub(super) async fn of(app: &App, session: &Session, reference: &str, artifact: Artifact) -> Result<Self, Failure> {
        let component = session.plugins.component(&artifact).await?;
        let seen = inspect(&component, LARGEST_COMPONENT, app.config.unreleased_contract);
        let inspection = seen.map_err(|error| load_failure(reference, error))?;
        let embedded = inspection.description.is_some();
        Ok(Self { reference: reference.to_owned(), artifact, component, inspection, embedded })
    }
}

/// Looks at a plugin; one without an embedded description is compiled and asked for it.
pub(super) fn look(app: &App, session: &Session, reference: &str) -> Result<Seen, Failure> {
    app.block_on(async {
        let mut seen = Seen::fetch(app, session, reference).await?;
        if !seen.embedded && seen.inspection.runs() {
            anstream::eprintln!("{reference} is compiled and asked what it is: its description is not embedded");
            // Nothing is compiled, let alone run, that the policies do not let in.
            session.plugins.obtain(reference, false).await?;
            seen.inspection = match session.plugins.try_load(reference, &seen.component).await? {
                Ok(plugin) => asked(seen.inspection, &plugin),
                Err(LoadError::Link(misfits)) => Inspection { misfits, ..seen.inspection },
                Err(error) => return Err(load_failure(reference, error)),
            };
        }
        Ok(seen)
    })
}

fn asked(inspection: Inspection, plugin: &Plugin) -> Inspection {
    inspection.described(plugin.description().clone())
}
