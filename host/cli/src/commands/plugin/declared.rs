//! The plugins that a flow file declares, and their lock: `add`, `update`, `rm`, `verify` and `save`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;

use cooperage_engine::Plugin;
use cooperage_engine::artifact::PluginReference;
use serde_json::{Map, Value};

use super::edit;
use crate::app::App;
use crate::args::{ProgressMode, PullMode};
use crate::commands::run::{plugins, project_of, read, read_before};
use crate::config::PluginConfig;
use crate::error::{Exit, Failure};
use crate::evaluation::pair;
use crate::lock::{Lock, LockFile, Locked, Mode, NAME};
use crate::output;
use crate::plugins::{Declared, Obtained, artifact_failure};
use crate::progress;

/// Declares a plugin, after it was shown that this host can run it and that it is allowed what it asks for.
pub(super) fn add(
    app: &App,
    (name, from): (&str, &str),
    grant: bool,
    allow: &[String],
    file: &Path,
) -> Result<(), Failure> {
    if plugins(&read_before(app, file, &[], Some(name))?).contains_key(name) {
        let message = format!("{} declares a plugin {name} already", file.display());
        return Err(Failure::usage(message).hint(format!("`coop plugin update {name}` looks for a newer one")));
    }
    let mut config = PluginConfig { from: from.to_owned(), allow: allowed(allow)?, ..PluginConfig::default() };
    let (obtained, plugin) = load(app, file, name, &config, None)?;
    if grant {
        let asked = plugin.description().capabilities.iter();
        config.allow = asked.map(|request| (request.class.clone(), request.request.clone())).collect();
    }
    crate::plugins::check_grants(name, &plugin, &config)?;
    let value = format!("{{ from: {}, allow: {} }}", Value::from(from), Value::from(config.allow.clone()));
    let text = text_of(file)?;
    let by_hand = || {
        Failure::usage(format!("the plugins of {} are written in a form that is not added to", file.display()))
            .hint(format!("add to `plugins`: `{name}: {value}`, then run `coop plugin update {name}`"))
    };
    replace(file, &edit::add(&text, name, &value).ok_or_else(by_hand)?)?;
    let declared = read(app, file, &[]).is_ok_and(|flow| plugins(&flow).get(name).is_some_and(|now| now.from == from));
    if !declared {
        replace(file, &text)?;
        return Err(by_hand());
    }
    let locked = Locked::of(&config, &obtained, &plugin);
    let line = format!("{name} {}", shown(&locked));
    change(file, |lock| drop(lock.plugins.insert(name.to_owned(), locked)))?;
    output::line(&line)
}

/// Asks again what the tags stand for. Everything is looked at before anything is written.
pub(super) fn update(app: &App, names: &[String], force: bool, file: &Path) -> Result<(), Failure> {
    let old = Lock::read(&project_of(file)?.join(NAME))?;
    let mut found = BTreeMap::new();
    for (name, config) in chosen(app, names, file)? {
        let (obtained, plugin) = load(app, file, &name, &config, None)?;
        crate::plugins::check_grants(&name, &plugin, &config)?;
        let new = Locked::of(&config, &obtained, &plugin);
        if let Some(old) = old.plugins.get(&name).filter(|old| !force && old.from == new.from) {
            may_follow(&name, old, &new)?;
        }
        found.insert(name, new);
    }
    for (name, new) in &found {
        output::line(&match old.plugins.get(name) {
            Some(old) if old == new => format!("{name} {} is up to date", new.version),
            Some(old) => format!("{name} {} -> {}", old.version, shown(new)),
            None => format!("{name} {}", shown(new)),
        })?;
    }
    change(file, |lock| lock.plugins.extend(found))
}

/// What is locked, for people.
fn shown(locked: &Locked) -> String {
    let signer = locked.signer.as_ref().map_or_else(String::new, |signer| format!(", signed by {signer}"));
    format!("{} {}{signer}", locked.version, locked.component)
}

/// Whether what a tag stands for now may take the place of what it stood for.
fn may_follow(name: &str, old: &Locked, new: &Locked) -> Result<(), Failure> {
    // A file of the project is built again and again under the same version.
    if old.component == new.component || matches!(new.from.parse(), Ok(PluginReference::File(_))) {
        return Ok(());
    }
    let other_signer = old.signer.as_ref().zip(new.signer.as_ref()).filter(|(old, new)| old != new);
    let message = match compare(&new.version, &old.version) {
        Ordering::Greater => match other_signer {
            None => return Ok(()),
            Some((before, now)) => format!(
                "version {} of the plugin {name} is signed by {now}, and version {}, which is locked, by {before}",
                new.version, old.version
            ),
        },
        Ordering::Less => format!(
            "{} now stands for version {} of the plugin {name}, and {} is locked: an old version was put in its place",
            new.from, new.version, old.version
        ),
        Ordering::Equal => format!(
            "{} now stands for another component that calls itself version {} of the plugin {name}: {} instead of {}",
            new.from, new.version, new.component, old.component
        ),
    };
    Err(Failure::new(Exit::Refused, message).hint("ask whoever publishes it; if it is meant to be so, say --force"))
}

/// Compares versions by their numbers; a pre-release (`1.0-rc1`) comes before its release.
fn compare(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| {
        let text = text.split('+').next().unwrap_or_default().to_owned();
        let (release, before) =
            text.split_once('-').map_or((text.as_str(), None), |(release, pre)| (release, Some(pre)));
        let numbers = release.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u64>>();
        let length = numbers.iter().rposition(|number| *number > 0).map_or(0, |last| last + 1);
        (numbers[..length].to_vec(), before.is_none(), before.unwrap_or_default().to_owned())
    };
    parts(a).cmp(&parts(b))
}

/// Takes a plugin out of the file and the lock.
pub(super) fn remove(name: &str, file: &Path) -> Result<(), Failure> {
    let changed = edit::remove(&text_of(file)?, name).ok_or_else(|| {
        Failure::usage(format!("{} has no plugin {name} in a form that can be taken out", file.display()))
            .hint("see `plugins` in the file")
    })?;
    replace(file, &changed)?;
    change(file, |lock| drop(lock.plugins.remove(name)))
}

/// Holds every plugin against the lock. All are told; the first failure is the command's.
pub(super) fn verify(app: &App, names: &[String], file: &Path) -> Result<(), Failure> {
    let (mut rows, mut failed) = (Vec::new(), None);
    let lock = Lock::read(&project_of(file)?.join(NAME))?;
    for (name, config) in chosen(app, names, file)? {
        let result = load(app, file, &name, &config, Some(Mode::Refuse));
        let version = lock.plugins.get(&name).map_or_else(String::new, |locked| locked.version.clone());
        let signer = result.as_ref().ok().and_then(|(obtained, _)| Some(obtained.signer.as_ref()?.to_string()));
        let said = if result.is_ok() { "right" } else { "refused" };
        rows.push([name, version, said.to_owned(), signer.unwrap_or_else(|| "-".to_owned())]);
        failed = failed.or(result.err());
    }
    output::table(["NAME", "VERSION", "RESULT", "SIGNER"], &rows)?;
    failed.map_or(Ok(()), Err)
}

/// Writes what is locked, or else what the tags stand for, into a layout.
pub(super) fn save(app: &App, names: &[String], output: &Path, file: &Path) -> Result<(), Failure> {
    let lock = LockFile::open(&project_of(file)?, Mode::Look)?;
    let session = app.session(ProgressMode::Quiet, PullMode::Missing)?;
    let mut saved = 0;
    for (name, config) in chosen(app, names, file)? {
        let PluginReference::Registry(reference) = lock.reference(&name, &config)? else { continue };
        let saving = async { session.plugins.sources().save(&reference, output).await.map_err(artifact_failure) };
        let digest = app.block_on(saving)?;
        output::line(&format!("{name} {digest}"))?;
        saved += 1;
    }
    if saved == 0 {
        let message = format!("{} declares no plugin from a registry among these", file.display());
        return Err(Failure::usage(message).hint("files and layouts are copied as they are"));
    }
    Ok(())
}

/// The plugins that are meant, which are not the bundled ones: those are part of the program.
fn chosen(app: &App, names: &[String], file: &Path) -> Result<BTreeMap<String, PluginConfig>, Failure> {
    let mut all = plugins(&read(app, file, &[])?);
    all.retain(|_, config| !matches!(config.from.parse(), Ok(PluginReference::Bundled(_))));
    if let Some(name) = names.iter().find(|name| !all.contains_key(*name)) {
        let known = all.into_keys().collect::<Vec<_>>().join(", ");
        return Err(Failure::usage(format!("{} declares no plugin {name}", file.display()))
            .hint(if known.is_empty() { "it declares none".to_owned() } else { format!("it declares: {known}") }));
    }
    all.retain(|name, _| names.is_empty() || names.contains(name));
    Ok(all)
}

fn allowed(texts: &[String]) -> Result<Map<String, Value>, Failure> {
    let grant = |text: &String| {
        let (class, value) = pair(text, "grant")?;
        Ok((class.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))))
    };
    texts.iter().map(grant).collect()
}

/// Loads a plugin: what is locked if a lock is to be kept to, else what its reference stands for at this moment.
fn load(
    app: &App,
    file: &Path,
    name: &str,
    config: &PluginConfig,
    mode: Option<Mode>,
) -> Result<(Obtained, Plugin), Failure> {
    let project = project_of(file)?;
    let lock = match mode {
        Some(mode) => LockFile::open(&project, mode)?,
        // An empty one knows where files of the project begin.
        None => LockFile::empty(&project),
    };
    let plugins = BTreeMap::from([(name.to_owned(), config.clone())]);
    let declared = Declared { plugins, lock: Some(lock), project: Some(project) };
    let reporter = progress::reporter(ProgressMode::Quiet);
    let session = app.session_with(reporter, PullMode::Missing, declared, Default::default())?;
    app.block_on(async {
        let obtained = session.plugins.obtain(name, mode.is_none()).await?;
        let plugin = session.plugins.compiled(name, &obtained).await?;
        Ok::<_, Failure>((obtained, plugin))
    })
}

fn change(file: &Path, change: impl FnOnce(&mut Lock)) -> Result<(), Failure> {
    let path = project_of(file)?.join(NAME);
    let mut lock = Lock::read(&path)?;
    let before = lock.clone();
    change(&mut lock);
    if lock == before { Ok(()) } else { lock.write(&path) }
}

fn text_of(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("the flow file {} cannot be read: {error}", file.display())))
}

fn replace(file: &Path, text: &str) -> Result<(), Failure> {
    output::whole(file, text.as_bytes())
        .map_err(|error| Failure::new(Exit::Environment, format!("{} cannot be written: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (a, b, expected) in [
            ("1.2.3", "1.2.3", Ordering::Equal),
            ("1.10", "1.9", Ordering::Greater),
            ("1.0", "1", Ordering::Equal),
            ("1.0-rc1", "1.0", Ordering::Less),
            ("1.0-rc1", "0.9", Ordering::Greater),
            ("1.0+build", "1.0", Ordering::Equal),
        ] {
            assert_eq!(compare(a, b), expected, "{a} {b}");
            assert_eq!(compare(b, a), expected.reverse(), "{b} {a}");
        }
    }
}
