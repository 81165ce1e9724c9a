//! `coop run`: the steps of a flow file, planned and shown, or run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cooperage_engine::registries::{Route, Routing};
use cooperage_flow::{FlowFile, FlowResult, NoObserver, Outcome, ParseOptions, Plan, RunOptions, Source, Status};
use cooperage_store::Reference;

use crate::app::App;
use crate::args::{self, OutputFormat};
use crate::config::PluginConfig;
use crate::error::{Exit, Failure};
use crate::evaluation::{self, pair};
use crate::flow_steps::{FromLines, Steps};
use crate::output;
use crate::progress::{self, elapsed};

/// How often a signal is looked for.
const POLL: Duration = Duration::from_millis(50);

pub(crate) fn run(app: &App, arguments: &args::Run) -> Result<(), Failure> {
    let project = project_of(&arguments.file)?;
    let file = read(app, arguments)?;
    let plan = plan(&file, &project, &arguments.target)?;
    if arguments.dry_run {
        return match arguments.output {
            OutputFormat::Json => output::json(&plan),
            OutputFormat::Text => output::line(plan.to_string().trim_end()),
        };
    }
    let reporter = progress::reporter(arguments.evaluation.progress);
    let named = plugins(&file);
    let session = app.session_with(reporter, arguments.evaluation.pull, named, routing(&file)?)?;
    let secrets = evaluation::secrets(app, &arguments.evaluation.secret)?;
    let options = evaluation::options(app, &session, &arguments.evaluation, BTreeMap::new(), secrets)?;
    let skip_push = file.images.iter().filter(|image| image.push.skip).map(|image| image.name.value.clone()).collect();
    let steps = Arc::new(Steps::new(session, options, project, skip_push));
    let jobs = arguments.jobs.unwrap_or_else(|| app.parallel() * 2).max(1);
    let result = app.block_on(async {
        let cancel = cooperage_flow::Cancel::new();
        let watch = tokio::spawn(forward(app.cancel.clone(), cancel.clone()));
        let options = RunOptions { parallelism: jobs, ..RunOptions::default() };
        let result = cooperage_flow::run(&plan, steps, Arc::new(NoObserver), &options, &cancel).await;
        watch.abort();
        Ok::<_, Failure>(result)
    })?;
    report(&result, arguments.output)
}

/// The directory whose files a flow works on: that of the flow file.
fn project_of(file: &Path) -> Result<PathBuf, Failure> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    evaluation::directory(directory)
}

fn read(app: &App, arguments: &args::Run) -> Result<FlowFile, Failure> {
    let path = &arguments.file;
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!("the flow file {} cannot be read: {error}", path.display()))
            .hint("name another with --file")
    })?;
    let mut variables = app.environment.variables().clone();
    for text in &arguments.var {
        let (name, value) = pair(text, "variable")?;
        variables.insert(name.to_owned(), value.to_owned());
    }
    let known = bundled().into_iter().chain(app.config.plugins.keys().cloned()).collect();
    let options = ParseOptions { variables, plugins: Some(known) };
    let source = Source::new(path.display().to_string(), text);
    let file = FlowFile::parse(source, &options).map_err(|report| wrong(&report.to_string()))?;
    for warning in &file.warnings {
        anstream::eprintln!("{}", warning.render(true));
    }
    Ok(file)
}

/// What `uses` may name without a word in any file; `build` is the builder of the configuration.
fn bundled() -> Vec<String> {
    let plugins = crate::bundle::NAMES.iter().map(|name| (*name).to_owned());
    plugins.chain([crate::plugins::BUILD.to_owned()]).collect()
}

fn wrong(rendered: &str) -> Failure {
    Failure::rendered(Exit::Usage, rendered.trim_end())
}

fn plan(file: &FlowFile, project: &Path, targets: &[String]) -> Result<Plan, Failure> {
    let plan = file.plan(&FromLines { project: project.to_owned() }).map_err(|report| wrong(&report.to_string()))?;
    if targets.is_empty() {
        return Ok(plan);
    }
    plan.select(targets).map_err(|error| Failure::usage(error.to_string()))
}

fn plugins(file: &FlowFile) -> BTreeMap<String, PluginConfig> {
    let plugin = |plugin: &cooperage_flow::Plugin| {
        let config = PluginConfig { from: plugin.from.value.clone(), allow: plugin.allow.clone() };
        (plugin.name.value.clone(), config)
    };
    file.plugins.iter().map(plugin).collect()
}

/// Names in the file stay as they are; these routes say where the images really lie.
fn routing(file: &FlowFile) -> Result<Routing, Failure> {
    let mut routing = Routing::default();
    for image in &file.images {
        let name: Reference = image.name.value.parse()?;
        let full = format!("{}/{}", name.host(), name.repository());
        let (user, rest) = name.repository().split_once('/').unwrap_or(("", name.repository()));
        if let Some(pull) = &file.registries.pull {
            let below = |part: &str| [pull.value.as_str(), part].join("/");
            let (prefix, location) = match user {
                "" => (full.clone(), below(rest)),
                user => (format!("{}/{user}", name.host()), below(user)),
            };
            routing.pull.push(Route { prefix, location, ..Route::default() });
        }
        let registry = image.push.registry.as_ref().or(file.registries.push.as_ref());
        let owner = image.push.override_user.as_ref().map_or(user, |owner| owner.value.as_str());
        if registry.is_some() || owner != user {
            let registry = registry.map_or(name.host(), |registry| registry.value.as_str());
            let parts = [registry, owner, rest];
            let location = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
            routing.push.push(Route { prefix: full, location, ..Route::default() });
        }
    }
    Ok(routing)
}

/// Passes Ctrl-C on to the flow, which lets its final steps run.
async fn forward(from: cooperage_solve::Cancel, to: cooperage_flow::Cancel) {
    while !from.is_cancelled() {
        tokio::time::sleep(POLL).await;
    }
    to.cancel();
}

fn report(result: &FlowResult, format: OutputFormat) -> Result<(), Failure> {
    if format == OutputFormat::Json {
        output::json(result)?;
    } else {
        let row = |step: &cooperage_flow::StepResult| {
            let status = match (step.status, step.tolerated) {
                (Status::Failed, true) => "failed (tolerated)".to_owned(),
                (status, _) => format!("{status:?}").to_lowercase(),
            };
            [step.id.to_string(), status, elapsed(step.duration)]
        };
        let rows: Vec<_> = result.steps.iter().map(row).collect();
        output::table(["STEP", "RESULT", "TIME"], &rows)?;
    }
    match result.outcome {
        Outcome::Succeeded => Ok(()),
        Outcome::Cancelled => Err(Failure::new(Exit::Interrupted, "the flow was cancelled")),
        Outcome::Failed => Err(failure(result)),
    }
}

/// The first failure in full; the table names the others.
fn failure(result: &FlowResult) -> Failure {
    use cooperage_flow::FaultKind;
    let exit = match () {
        () if result.failed_by(FaultKind::Refused) => Exit::Refused,
        () if result.failed_by(FaultKind::Invalid) => Exit::Usage,
        () if result.failed_by(FaultKind::Unavailable) => Exit::Environment,
        () => Exit::Failed,
    };
    let Some((id, fault)) = result.failures().next() else { return Failure::new(exit, "the flow failed") };
    if let Some(diagnostic) = &fault.diagnostic {
        return Failure::rendered(exit, diagnostic.render(true).trim_end());
    }
    let failure = Failure::new(exit, format!("{id}: {}", fault.error.message));
    let failure = fault.error.context.iter().fold(failure, |failure, cause| failure.cause(cause));
    match &fault.error.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
