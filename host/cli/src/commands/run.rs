//! `coop run`: the steps of a flow file, planned and shown, or run.

mod journal;
pub(super) mod junit;
mod outputs;
mod reports;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cooperage_engine::LimitSettings;
use cooperage_engine::registries::{Route, Routing};
use cooperage_flow::{
    Event, FlowFile, FlowResult, Journal, Observer, Outcome, ParseOptions, Plan, RunOptions, Source, Status, StepId,
};
use cooperage_solve::{Level, Redactor, Reporter, Secrets};
use cooperage_store::Reference;

use crate::app::App;
use crate::args::{self, OutputFormat};
use crate::config::PluginConfig;
use crate::error::{Exit, Failure};
use crate::evaluation::{self, pair};
use crate::flow_steps::{FromLines, Steps};
use crate::lock::{LockFile, Mode};
use crate::output;
use crate::plugins::Declared;
use crate::progress::{self, elapsed};

use journal::Files;
use reports::{Reports, Run};

/// How often a signal is looked for.
const POLL: Duration = Duration::from_millis(50);

pub(crate) fn run(app: &App, arguments: &args::Run) -> Result<(), Failure> {
    let project = project_of(&arguments.file)?;
    let file = read(app, &arguments.file, &arguments.var)?;
    let plan = plan(&file, &project, &arguments.target)?;
    plan.check_outputs(&outputs::Bundled::new(app, &file)).map_err(|report| wrong(&report.to_string()))?;
    let reports = Reports::read(&arguments.report)?;
    let secrets = evaluation::secrets(app, &arguments.evaluation.secret)?;
    let reporter = progress::reporter(arguments.evaluation.progress).without(&secrets);
    let mode = match () {
        () if arguments.locked => Mode::Refuse,
        () if arguments.dry_run => Mode::Look,
        () => Mode::Add,
    };
    let lock = Some(LockFile::open(&project, mode)?);
    let declared = Declared { plugins: plugins(&file), lock, project: Some(project.clone()) };
    let session = app.session_with(reporter.clone(), arguments.evaluation.pull, declared, routing(&file)?)?;
    let journal = journal(app, arguments, &secrets, &reporter)?;
    let options = evaluation::options(app, &session, &arguments.evaluation, BTreeMap::new(), secrets.clone())?;
    let skip_push = file.images.iter().filter(|image| image.push.skip).map(|image| image.name.value.clone()).collect();
    let own_files = reports.files().chain([arguments.file.as_path()]);
    let plugins = session.plugins.clone();
    let steps = Arc::new(Steps::new(session, options, project, skip_push).with_own_files(own_files));
    if arguments.dry_run {
        let journal = journal.filter(|_| arguments.resume).map(|journal| journal as Arc<dyn Journal>);
        let forecast =
            app.block_on(async { Ok::<_, Failure>(cooperage_flow::forecast(&plan, steps.as_ref(), journal).await) })?;
        let redactor = Redactor::new(&secrets);
        return match arguments.output {
            OutputFormat::Json => {
                let value = serde_json::to_value(&forecast).unwrap_or_default();
                output::json(&cooperage_flow::redact_value(value, &|text| redactor.text(text)))
            }
            OutputFormat::Text => output::line(redactor.text(forecast.to_string().trim_end()).as_str()),
        };
    }
    let started = SystemTime::now();
    let jobs = arguments.jobs.unwrap_or_else(|| app.parallel() * 2).max(1);
    let result = app.block_on(async {
        let _ahead = plugins.prepare(uses(&plan));
        let cancel = cooperage_flow::Cancel::new();
        let watch = tokio::spawn(forward(app.cancel.clone(), cancel.clone()));
        let journal = journal.clone().map(|journal| journal as Arc<dyn Journal>);
        let options = RunOptions { parallelism: jobs, journal, ..RunOptions::default() };
        let observer = Arc::new(Told { reporter });
        let result = cooperage_flow::run(&plan, steps, observer, &options, &cancel).await;
        watch.abort();
        Ok::<_, Failure>(result)
    })?;
    // From here on nobody needs the values of secrets any more.
    let redactor = Redactor::new(&secrets);
    let result = result.redacted(&|text| redactor.text(text));
    let flow = arguments.file.display().to_string();
    let written = reports.write(&Run { flow: &flow, started, result: &result });
    if let Some(journal) = journal.filter(|_| result.outcome == Outcome::Succeeded) {
        journal.finish()?;
    }
    match report(&result, arguments.output) {
        Ok(()) => written,
        Err(failure) => {
            written.unwrap_or_else(|second| second.print());
            Err(failure)
        }
    }
}

/// The journal of this flow: with what an earlier run left if the user wants to go on from there, else empty.
fn journal(
    app: &App,
    arguments: &args::Run,
    secrets: &Secrets,
    reporter: &Reporter,
) -> Result<Option<Arc<Files>>, Failure> {
    if arguments.dry_run && !arguments.resume {
        return Ok(None);
    }
    let flow = arguments.file.canonicalize().unwrap_or_else(|_| arguments.file.clone());
    let journal = Files::open(app.store()?.root(), &flow, &arguments.target, Redactor::new(secrets))?;
    match &journal {
        None if arguments.resume => {
            return Err(Failure::new(Exit::Environment, "the same flow is being run by another process")
                .hint("wait until it is over, or leave out --resume"));
        }
        None => {
            let message = "the same flow is being run by another process: this run cannot be resumed";
            reporter.log(Level::Warn, message);
        }
        Some(journal) if !arguments.resume => journal.clear()?,
        Some(_) => {}
    }
    Ok(journal.map(Arc::new))
}

/// Shows what nobody else does: the steps themselves report what they do.
struct Told {
    reporter: Reporter,
}

impl Observer for Told {
    fn event(&self, step: &StepId, event: Event) {
        match event {
            Event::Resumed => self.reporter.step(None, step.to_string()).finish(cooperage_solve::Outcome::Cached),
            Event::NotKept { reason } => {
                self.reporter.log(Level::Warn, format!("{step} cannot be spared when the flow is resumed: {reason}"));
            }
            _ => {}
        }
    }
}

/// The directory whose files a flow works on: that of the flow file.
pub(super) fn project_of(file: &Path) -> Result<PathBuf, Failure> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    evaluation::directory(directory)
}

/// Reads a flow file. The variables `given` are written `NAME=VALUE` and win over those of the environment.
pub(super) fn read(app: &App, path: &Path, given: &[String]) -> Result<FlowFile, Failure> {
    read_before(app, path, given, None)
}

/// Reads a flow file that may use a plugin which is only about to be declared in it.
pub(super) fn read_before(
    app: &App,
    path: &Path,
    given: &[String],
    declared: Option<&str>,
) -> Result<FlowFile, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!("the flow file {} cannot be read: {error}", path.display()))
            .hint("name another with --file")
    })?;
    let mut variables = app.environment.variables().clone();
    for text in given {
        let (name, value) = pair(text, "variable")?;
        variables.insert(name.to_owned(), value.to_owned());
    }
    let known = bundled().into_iter().chain(app.config.plugins.keys().cloned());
    let known = known.chain(declared.map(str::to_owned)).collect();
    let options = ParseOptions { variables, plugins: Some(known), limits: LimitSettings::NAMES };
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

/// The plugins of a plan, each once, those of earlier steps first.
fn uses(plan: &Plan) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let names = plan.nodes.iter().map(|node| node.step.uses.value.clone());
    names.filter(|name| seen.insert(name.clone())).collect()
}

pub(super) fn plugins(file: &FlowFile) -> BTreeMap<String, PluginConfig> {
    let plugin = |plugin: &cooperage_flow::Plugin| {
        let from = plugin.from.value.clone();
        let config = PluginConfig { from, allow: plugin.allow.clone(), limits: plugin.limits.clone() };
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
                (Status::Succeeded, _) if step.resumed => "succeeded (before)".to_owned(),
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
