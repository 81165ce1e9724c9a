//! Turns the options of builds and flows into what the solver works with. Opens files, runs nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cooperage_sandbox::{Config, Isolation, Limits, Sandbox};
use cooperage_solve::{BuildOptions, CacheMode, Context, Network, Origin, Processes, Secrets, SourceRequest, Tree};
use cooperage_store::Platform;
use cooperage_store::layer::Compression;

use crate::app::{App, Session, own_path};
use crate::args::{Evaluation, IsolationMode, NetworkMode};
use crate::error::{Exit, Failure};
use crate::sources::is_url;

/// Everything about an evaluation that does not depend on what is built.
pub(crate) fn options(
    app: &App,
    session: &Session,
    evaluation: &Evaluation,
    contexts: BTreeMap<String, Context>,
    secrets: Secrets,
) -> Result<BuildOptions, Failure> {
    let epoch = app.environment.epoch().map_err(Failure::usage)?;
    Ok(BuildOptions {
        store: app.leased_store()?.clone(),
        sandbox: sandbox(app, evaluation.isolation),
        userxattr: app.privileges.userxattr,
        privileged: app.privileges.owners,
        images: Arc::new(session.registries.clone()),
        sources: session.plugins.clone(),
        contexts,
        secrets,
        network: match evaluation.network {
            NetworkMode::Host => Network::Host,
            NetworkMode::None => Network::None,
        },
        limits: limits(evaluation)?,
        platform: Platform::host(),
        compression: compression(&evaluation.compression)?,
        epoch: epoch.and_then(|epoch| i64::try_from(epoch).ok()),
        cache: if evaluation.no_cache { CacheMode::Ignore } else { CacheMode::Use },
        parallel: app.parallel(),
        reporter: session.reporter.clone(),
        cancel: app.cancel.clone(),
    })
}

/// Processes need a sandbox; without one the reason is kept for the step that wants to run.
pub(crate) fn sandbox(app: &App, isolation: IsolationMode) -> Result<Arc<dyn Processes>, String> {
    if let Some(why) = &app.privileges.refused {
        return Err(why.clone());
    }
    let isolation = match isolation {
        IsolationMode::Auto => Isolation::Auto,
        IsolationMode::Oci => Isolation::Oci,
        IsolationMode::Native => Isolation::Native,
    };
    let helper = own_path().map_err(|_| "this program cannot find itself".to_owned())?;
    let sandbox = Sandbox::new(Config { isolation, helper, runtime: None });
    sandbox.map(|sandbox| Arc::new(sandbox) as _).map_err(|error| error.to_string())
}

fn limits(evaluation: &Evaluation) -> Result<Limits, Failure> {
    let memory = evaluation.memory.as_deref().map(size).transpose()?;
    let timeout = evaluation.timeout.as_deref().map(duration).transpose()?;
    Ok(Limits { memory, cpus: evaluation.cpus, pids: evaluation.pids, timeout })
}

/// Bytes with an optional unit: `1048576`, `512k`, `512m`, `2g`, in powers of 1,024 as Docker has it.
fn size(text: &str) -> Result<u64, Failure> {
    let wrong = || Failure::usage(format!("{text:?} is not a size")).hint("for example 512m or 2g");
    let lower = text.trim().to_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    if !number.is_finite() || number <= 0.0 {
        return Err(wrong());
    }
    Ok((number * factor as f64) as u64)
}

/// Seconds with an optional unit: `90`, `90s`, `10m`, `1h`.
fn duration(text: &str) -> Result<Duration, Failure> {
    let wrong = || Failure::usage(format!("{text:?} is not a duration")).hint("for example 90s or 10m");
    let digits = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text.trim()[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * factor).map_err(|_| wrong())
}

/// `gzip`, `gzip:6`, `zstd`, `zstd:3`, `none`.
pub(crate) fn compression(text: &str) -> Result<Compression, Failure> {
    let wrong = || {
        Failure::usage(format!("{text:?} is not a compression"))
            .hint("use none, gzip, gzip:1 to gzip:9, zstd, or zstd:1 to zstd:19")
    };
    let (kind, level) = match text.split_once(':') {
        Some((kind, level)) => (kind, Some(level.parse::<u32>().map_err(|_| wrong())?)),
        None => (text, None),
    };
    match (kind, level) {
        ("none", None) => Ok(Compression::None),
        ("gzip", None) => Ok(Compression::default()),
        ("gzip", Some(level @ 1..=9)) => Ok(Compression::Gzip { level }),
        ("zstd", None) => Ok(Compression::Zstd { level: 3 }),
        ("zstd", Some(level @ 1..=19)) => Ok(Compression::Zstd { level: level as i32 }),
        _ => Err(wrong()),
    }
}

/// Secrets as `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`.
pub(crate) fn secrets(app: &App, specs: &[String]) -> Result<Secrets, Failure> {
    let mut values = BTreeMap::new();
    for spec in specs {
        let (mut id, mut file, mut variable) = (None, None, None);
        for part in spec.split(',') {
            match part.split_once('=') {
                Some(("id", value)) => id = Some(value),
                Some(("src" | "source", value)) => file = Some(value),
                Some(("env", value)) => variable = Some(value),
                Some(("type", "file" | "env")) => {}
                _ => {
                    return Err(Failure::usage(format!("secret {spec:?}: {part:?} is not understood"))
                        .hint("write --secret id=NAME,src=FILE or --secret id=NAME,env=VARIABLE"));
                }
            }
        }
        let id = id.ok_or_else(|| Failure::usage(format!("secret {spec:?} has no id=NAME")))?;
        let value = match (file, variable) {
            (Some(file), _) => std::fs::read(file)
                .map_err(|error| Failure::usage(format!("the secret {id:?} cannot be read from {file}: {error}")))?,
            (None, variable) => {
                let name = variable.unwrap_or(id);
                let value = app.environment.get(name);
                value.map(|value| value.as_bytes().to_vec()).ok_or_else(|| {
                    Failure::usage(format!("the secret {id:?} is to come from the variable {name}, which is not set"))
                })?
            }
        };
        values.insert(id.to_owned(), value);
    }
    Ok(Secrets::new(values))
}

/// A build context: a directory, or a URL that a source plugin serves.
pub(crate) fn context(text: &str) -> Result<Context, Failure> {
    if is_url(text) {
        return Ok(remote_context(SourceRequest::new(text)));
    }
    directory(Path::new(text)).map(Context::Directory)
}

/// What a URL brings as a build context.
pub(crate) fn remote_context(request: SourceRequest) -> Context {
    let origin = Origin { name: format!("context {}", request.shown()), ..Origin::default() };
    Context::Tree(Tree::source(request, origin))
}

/// A build context that must be a directory.
pub(crate) fn directory(path: &Path) -> Result<PathBuf, Failure> {
    let resolved = path.canonicalize().map_err(|error| {
        Failure::new(Exit::Usage, format!("the build context {} cannot be opened: {error}", path.display()))
    })?;
    if !resolved.is_dir() {
        return Err(Failure::usage(format!("the build context {} is not a directory", path.display()))
            .hint("to name the Dockerfile, use --file"));
    }
    Ok(resolved)
}

/// `NAME=VALUE`.
pub(crate) fn pair<'a>(text: &'a str, what: &str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| Failure::usage(format!("{what} {text:?} is not of the form NAME=VALUE")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read() {
        assert_eq!((size("512m").unwrap(), size("1.5g").unwrap(), size("7").unwrap()), (512 << 20, 3 << 29, 7));
        assert_eq!(duration("1.5m").unwrap(), Duration::from_secs(90));
        assert!(size("-1").is_err() && size("many").is_err() && duration("soon").is_err());
    }

    #[test]
    fn compressions_are_read() {
        assert_eq!(compression("zstd:7").unwrap(), Compression::Zstd { level: 7 });
        assert_eq!(compression("gzip:6").unwrap(), Compression::Gzip { level: 6 });
        assert!(compression("gzip:0").is_err() && compression("lz4").is_err());
    }
}
