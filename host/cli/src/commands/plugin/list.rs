//! `coop plugin ls`: the plugins that are bundled, configured, or declared in the flow file, and how they are locked.
//! Nothing is compiled, and no registry is asked.

use std::collections::BTreeMap;
use std::path::Path;

use cooperage_engine::Description;
use serde_json::{Value, json};

use super::look::Seen;
use crate::app::{App, Session};
use crate::args::{FlowFile, Listing, OutputFormat, ProgressMode, PullMode};
use crate::commands::run::{plugins, project_of, read};
use crate::config::PluginConfig;
use crate::error::Failure;
use crate::lock::{Lock, LockFile, Locked, Mode, NAME};
use crate::output;
use crate::plugins::Declared;
use crate::progress;

/// Where a flow file lies if nothing else is said.
const DEFAULT: &str = "cooperage.yaml";

/// One line.
struct Row {
    name: String,
    /// What the user wrote after `from`, or `bundled`.
    from: String,
    /// None for plugins that no lock holds.
    lock: Option<State>,
    /// None for what is not on this machine yet.
    seen: Option<Seen>,
}

/// How a plugin of the flow file is locked.
enum State {
    Locked(Locked),
    /// The flow file says another source than when it was locked.
    Changed,
    Not,
}

pub(super) fn list(app: &App, file: &FlowFile, listing: &Listing) -> Result<(), Failure> {
    let declared = declared(app, &file.file)?;
    let mine = plugins_of(&declared);
    let lock = match &declared.project {
        Some(project) => Lock::read(&project.join(NAME))?,
        None => Lock::default(),
    };
    let session =
        app.session_with(progress::reporter(ProgressMode::Quiet), PullMode::Missing, declared, Default::default())?;
    let mut rows = Vec::new();
    for name in session.plugins.names()? {
        rows.push(row(app, &session, name, &mine, &lock)?);
    }
    if listing.output == OutputFormat::Json {
        return output::json(&rows.iter().map(document).collect::<Vec<_>>());
    }
    let rows: Vec<_> = rows.iter().map(cells).collect();
    output::table(["NAME", "VERSION", "ROLES", "FROM", "LOCK", "SUMMARY"], &rows)
}

/// What the flow file declares; a default one that is not there declares nothing.
pub(super) fn declared(app: &App, file: &Path) -> Result<Declared, Failure> {
    if file == Path::new(DEFAULT) && !file.exists() {
        return Ok(Declared::default());
    }
    let project = project_of(file)?;
    let lock = Some(LockFile::open(&project, Mode::Look)?);
    Ok(Declared { plugins: plugins(&read(app, file, &[])?), lock, project: Some(project) })
}

fn plugins_of(declared: &Declared) -> BTreeMap<String, PluginConfig> {
    declared.plugins.clone()
}

fn row(
    app: &App,
    session: &Session,
    name: String,
    declared: &BTreeMap<String, PluginConfig>,
    lock: &Lock,
) -> Result<Row, Failure> {
    let configured = declared.get(&name).or_else(|| app.config.plugins.get(&name));
    let from = configured.map_or_else(|| "bundled".to_owned(), |plugin| plugin.from.clone());
    let state = declared.get(&name).map(|config| match lock.plugins.get(&name) {
        Some(locked) if locked.from == config.from => State::Locked(locked.clone()),
        Some(_) => State::Changed,
        None => State::Not,
    });
    let seen = app.block_on(async {
        match session.plugins.at_hand(&name).await? {
            Some(artifact) => Seen::of(app, session, &name, artifact).await.map(Some),
            None => Ok(None),
        }
    })?;
    Ok(Row { name, from, lock: state, seen })
}

impl Row {
    fn description(&self) -> Option<&Description> {
        self.seen.as_ref()?.inspection.description.as_ref()
    }

    /// As the plugin says it, or as the lock has it.
    fn version(&self) -> Option<&str> {
        match (&self.lock, self.description()) {
            (_, Some(description)) => Some(&description.version),
            (Some(State::Locked(locked)), None) => Some(&locked.version),
            _ => None,
        }
    }

    fn roles(&self) -> Vec<&'static str> {
        self.seen.iter().flat_map(|seen| seen.inspection.roles.names()).collect()
    }
}

fn cells(row: &Row) -> [String; 6] {
    let lock = match &row.lock {
        Some(State::Locked(locked)) => locked.component.to_string().chars().take("sha256:".len() + 12).collect(),
        Some(State::Changed) => "other source".to_owned(),
        Some(State::Not) => "not locked".to_owned(),
        None => String::new(),
    };
    let summary = match (&row.seen, row.description()) {
        (_, Some(description)) => description.summary.clone(),
        (Some(_), None) => "(not embedded: see `coop plugin inspect`)".to_owned(),
        (None, None) => "(not on this machine yet)".to_owned(),
    };
    let version = row.version().unwrap_or_default().to_owned();
    [row.name.clone(), version, row.roles().join(", "), row.from.clone(), lock, summary]
}

fn document(row: &Row) -> Value {
    let lock = row.lock.as_ref().map(|state| match state {
        State::Locked(locked) => {
            json!({ "state": "locked", "component": locked.component, "manifest": locked.manifest })
        }
        State::Changed => json!({ "state": "other source" }),
        State::Not => json!({ "state": "not locked" }),
    });
    json!({
        "name": row.name,
        "version": row.version(),
        "roles": row.roles(),
        "from": row.from,
        "lock": lock,
        "digest": row.seen.as_ref().map(|seen| seen.inspection.digest),
        "runs": row.seen.as_ref().map(|seen| seen.inspection.runs()),
        "description": row.description(),
    })
}
