//! `coop explain`: why each step of a build was cached or not, and what changed since the time before.

use cooperage_solve::{BuildRecord, CacheResult, Change, StepRecord};
use cooperage_store::{BuildEntry, Store};
use serde::Serialize;

use crate::app::App;
use crate::args::{Explain, OutputFormat};
use crate::error::{Exit, Failure};
use crate::output;
use crate::progress::elapsed;

/// A step with what changed in it.
#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    step: StepRecord,
    /// What changed since the last build; none if the step is new, or none was built before.
    changes: Option<Vec<Change>>,
}

pub(crate) fn run(app: &App, arguments: &Explain) -> Result<(), Failure> {
    let store = app.store()?;
    let entry = find(store, arguments.target.as_deref())?;
    let record = parse(&entry)?;
    let before = store.images().builds(Some(&entry.subject), 200)?.into_iter().find(|other| other.id < entry.id);
    let before = before.map(|entry| parse(&entry)).transpose()?;
    let steps: Vec<Explained> = record
        .steps
        .into_iter()
        .map(|step| {
            let earlier = before.as_ref().and_then(|before| same_step(before, &step));
            let changes = earlier.map(|earlier| step.changes_since(earlier));
            Explained { step, changes }
        })
        .collect();
    if arguments.listing.output == OutputFormat::Json {
        return output::json(&steps);
    }
    output::line(&format!("build {} of {}", entry.id, entry.subject))?;
    for explained in &steps {
        print(explained, before.is_some())?;
    }
    Ok(())
}

fn find(store: &Store, target: Option<&str>) -> Result<BuildEntry, Failure> {
    let none = |what: String| Failure::usage(what).hint("every `coop build` and `coop run` is recorded");
    let Some(target) = target else {
        let last = store.images().builds(None, 1)?.into_iter().next();
        return last.ok_or_else(|| none("nothing was built yet".to_owned()));
    };
    if let Ok(number) = target.parse() {
        return store.images().build(number)?.ok_or_else(|| none(format!("there is no build {number}")));
    }
    let name: cooperage_store::Reference = target.parse()?;
    let entry = store.images().builds(Some(&name.to_string()), 1)?.into_iter().next();
    entry.ok_or_else(|| none(format!("{} was not built here", name.familiar())))
}

fn parse(entry: &BuildEntry) -> Result<BuildRecord, Failure> {
    serde_json::from_str(&entry.body)
        .map_err(|error| Failure::new(Exit::Failed, format!("the record of build {} is damaged: {error}", entry.id)))
}

/// The step of the same name, or the one at the same place in the same file.
fn same_step<'a>(before: &'a BuildRecord, step: &StepRecord) -> Option<&'a StepRecord> {
    let by_name = before.steps.iter().find(|other| other.name == step.name);
    by_name.or_else(|| {
        let place = |step: &StepRecord| step.location.as_ref().map(|at| (at.file.clone(), at.line));
        before.steps.iter().find(|other| place(other).is_some() && place(other) == place(step))
    })
}

fn print(explained: &Explained, compared: bool) -> Result<(), Failure> {
    let step = &explained.step;
    let word = match step.result {
        CacheResult::Hit => "cached",
        CacheResult::ContentHit => "cached (what it uses had not changed)",
        CacheResult::Miss => "done",
        CacheResult::Failed => "failed",
    };
    let time = elapsed(std::time::Duration::from_millis(step.milliseconds));
    output::line(&format!("{}\n    {word}, {time}", step.name))?;
    if step.result == CacheResult::Hit {
        return Ok(());
    }
    match &explained.changes {
        None if compared => output::line("    new since the last build"),
        None => output::line("    the first build of this name"),
        Some(changes) if changes.is_empty() => {
            output::line("    nothing changed: the cache was not used, or its result was gone")
        }
        Some(changes) => changes.iter().try_for_each(|change| output::line(&format!("    {}", describe(change)))),
    }
}

/// Digests say little: a changed base means that an earlier step changed.
fn describe(change: &Change) -> String {
    let value = |value: &Option<String>| value.as_deref().map_or("(none)".to_owned(), shorten);
    match change.part.as_str() {
        "base" => "the tree it starts from changed: see the steps before".to_owned(),
        "source" => "the tree it copies from changed: see the steps of that stage".to_owned(),
        "files" => "the files it copies changed".to_owned(),
        part => format!("{part}: {} -> {}", value(&change.before), value(&change.now)),
    }
}

fn shorten(text: &str) -> String {
    const LONGEST: usize = 100;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let short: String = text.chars().take(LONGEST).collect();
    format!("{short}…")
}
