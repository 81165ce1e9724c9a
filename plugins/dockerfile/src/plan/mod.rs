//! From a Dockerfile and a request to lazy trees and configurations, one image per platform; or only to what is odd
//! about the Dockerfile.

mod blind;
mod copy;
mod graph;
mod meta;
mod names;
mod notice;
mod outside;
mod remote;
mod run;
mod scope;
mod stage;
mod variables;

use std::collections::BTreeSet;

use cooperage_sdk::roles::builder::Finding;
use serde_json::Value;

use crate::backend::Backend;
use crate::fault::{Fault, Source, nearest};
use crate::instructions::{Command, Dockerfile};
use crate::lint::{self, Check, Filter};
use crate::parser::Warning;
use crate::platform::Platform;
use blind::Blind;
use graph::Graph;
pub use names::check_reference;
use outside::Outside;

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Name or number of the stage to build; none is the last.
    pub target: Option<String>,
    /// Platforms to build for, at least one.
    pub platforms: Vec<Platform>,
    /// The platform of the host.
    pub build_platform: Platform,
    /// `--build-arg`s; the last of a name counts.
    pub arguments: Vec<(String, String)>,
    /// Labels to add.
    pub labels: Vec<(String, String)>,
    /// Seconds since 1970 for everything that has a time.
    pub epoch: Option<u64>,
    /// Lines of the ignore file of the main context.
    pub ignore: Vec<String>,
    /// Names of images that take the place of stages and bases; the host knows which they are.
    pub images: Vec<String>,
    /// Go through stages that the target does not need, too.
    pub all_stages: bool,
}

impl Request {
    /// The value of a build argument.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The time of everything, in seconds since 1970.
    pub fn epoch(&self) -> u64 {
        let given = self.argument("SOURCE_DATE_EPOCH").and_then(|value| value.parse().ok());
        given.or(self.epoch).unwrap_or(0)
    }
}

/// An image to be.
#[derive(Debug, Clone)]
pub struct Image<T> {
    /// Its file system.
    pub tree: T,
    /// Its platform.
    pub platform: Platform,
    /// Its configuration without `rootfs`.
    pub config: Value,
}

/// Describes the images that a Dockerfile asks for.
pub fn convert<B: Backend>(
    dockerfile: &Dockerfile,
    source: &Source,
    request: &Request,
    backend: &mut B,
) -> Result<Vec<Image<B::Tree>>, Fault> {
    let filter = filter(dockerfile, request).map_err(|fault| source.complete(fault))?;
    let Survey { images, warnings, declared } = survey(dockerfile, source, request, backend);
    let warnings = counted(warnings, &filter);
    tell(&warnings, source, backend);
    let images = images?;
    match warnings.first() {
        Some(warning) if filter.fails() => Err(source.complete(
            Fault::invalid(format!("{} ({})", warning.message, warning.rule))
                .hint("the check options say error=true, so that a warning fails the build")
                .at(warning.span),
        )),
        _ => {
            unused_arguments(dockerfile, request, &declared, backend);
            Ok(images)
        }
    }
}

/// Looks for what is odd about a Dockerfile. Asks for no image and makes no tree.
pub fn check<B: Backend>(
    dockerfile: &Dockerfile,
    source: &Source,
    request: &Request,
    backend: &mut B,
) -> Result<Vec<Finding>, Fault> {
    let filter = filter(dockerfile, request).map_err(|fault| source.complete(fault))?;
    let Survey { images, warnings, declared } = survey(dockerfile, source, request, &mut Blind(backend));
    let warnings = counted(warnings, &filter);
    if let Err(fault) = images {
        // An error is all that the answer holds; what was found before it is told as in a build.
        tell(&warnings, source, backend);
        return Err(fault);
    }
    unused_arguments(dockerfile, request, &declared, backend);
    Ok(lint::findings(&warnings, &filter, source))
}

/// Tells the user each warning in a line.
fn tell<B: Backend>(warnings: &[Warning], source: &Source, backend: &mut B) {
    for warning in warnings {
        let place = source.place(warning.span);
        backend.warn(&format!("{}:{}: {} ({})", place.file, warning.span.line, warning.message, warning.rule));
    }
}

/// The build argument takes the place of the directive.
fn filter<'a>(dockerfile: &'a Dockerfile, request: &Request) -> Result<Filter<'a>, Fault> {
    const HINT: &str = "for instance skip=RULE,RULE;error=true";
    let check = match (request.argument("BUILDKIT_DOCKERFILE_CHECK"), &dockerfile.check) {
        (Some(value), _) => Check::read(value).map_err(|wrong| {
            Fault::invalid(format!("the build argument BUILDKIT_DOCKERFILE_CHECK: {wrong}")).hint(HINT)
        })?,
        (None, Some(word)) => {
            Check::read(&word.text).map_err(|wrong| Fault::invalid(wrong).hint(HINT).at(word.span))?
        }
        (None, None) => Check::default(),
    };
    Ok(Filter::new(check, &dockerfile.checks))
}

/// What going through a Dockerfile gives. Everything that is odd comes along even if there are no images in the end.
struct Survey<T> {
    images: Result<Vec<Image<T>>, Fault>,
    warnings: Vec<Warning>,
    declared: BTreeSet<String>,
}

fn survey<B: Backend>(dockerfile: &Dockerfile, source: &Source, request: &Request, backend: &mut B) -> Survey<B::Tree> {
    let mut outside = Outside::new(backend, &request.ignore);
    let images = images(dockerfile, source, request, &mut outside).map_err(|fault| source.complete(fault));
    let mut warnings = dockerfile.warnings.clone();
    warnings.append(&mut outside.warnings);
    Survey { images, warnings, declared: outside.declared }
}

/// The warnings that count, in the order of lines, each once whatever the number of platforms.
fn counted(mut warnings: Vec<Warning>, filter: &Filter<'_>) -> Vec<Warning> {
    let mut seen = BTreeSet::new();
    warnings.retain(|warning| filter.shows(warning));
    warnings.retain(|warning| seen.insert((warning.span.line, warning.rule, warning.message.clone())));
    warnings.sort_by_key(|warning| warning.span.line);
    warnings
}

fn images<B: Backend>(
    dockerfile: &Dockerfile,
    source: &Source,
    request: &Request,
    outside: &mut Outside<'_, B>,
) -> Result<Vec<Image<B::Tree>>, Fault> {
    let new = |platform| Graph::new(dockerfile, request, platform);
    let mut graphs = request.platforms.iter().map(new).collect::<Result<Vec<_>, _>>()?;
    for graph in &graphs {
        notice::bases(dockerfile, request, graph, &mut outside.warnings);
    }
    loop {
        // The images of all platforms are asked for at once. Another round is needed only when the
        // ONBUILD of an image refers to one more image.
        let mut wanted = Vec::new();
        for graph in &mut graphs {
            wanted.append(&mut graph.reach(outside)?);
        }
        if wanted.is_empty() {
            break;
        }
        outside.resolve(wanted, &dockerfile.stages)?;
    }
    graphs.into_iter().map(|graph| stage::build(graph, dockerfile, source, request, outside)).collect()
}

/// Arguments that need no ARG.
const PREDEFINED: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY", "SOURCE_DATE_EPOCH"];

fn unused_arguments<B: Backend>(
    dockerfile: &Dockerfile,
    request: &Request,
    triggered: &BTreeSet<String>,
    backend: &mut B,
) {
    let steps = dockerfile.globals.iter().chain(dockerfile.stages.iter().flat_map(|stage| &stage.steps));
    let declared: BTreeSet<&str> = steps
        .filter_map(|step| match &step.command {
            Command::Arg(arguments) => Some(arguments.iter().map(|argument| argument.name.text.as_str())),
            _ => None,
        })
        .flatten()
        .chain(triggered.iter().map(String::as_str))
        .collect();
    let given: BTreeSet<&str> = request.arguments.iter().map(|(name, _)| name.as_str()).collect();
    for name in given {
        let predefined = PREDEFINED.iter().any(|known| known.eq_ignore_ascii_case(name));
        let automatic = scope::is_automatic(name) || name.starts_with("BUILDKIT_");
        if declared.contains(name) || predefined || automatic {
            continue;
        }
        let hint = nearest(name, declared.iter().copied()).map(|hint| format!("; {hint}")).unwrap_or_default();
        backend.warn(&format!("the build argument {name} is used by no ARG of the Dockerfile{hint}"));
    }
}

#[cfg(test)]
mod tests;
