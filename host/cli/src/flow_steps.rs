//! Does the steps of a flow: finds the plugin, hands it parameters and trees, and keeps what comes of it.

mod log;
mod preview;
mod resume;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use cooperage_engine::{BuildRequest, CallError, TaskRequest};
use cooperage_flow::{
    FaultKind, Gone, Handle, ImageDependencies, Preview, Runner, StepCall, StepError, StepOutputs, StepView,
};
use cooperage_solve::{Build, BuildOptions, Cancel, Context, Error, ErrorKind, Selection, Tree};
use cooperage_store::{Digest, Platform, Reference};
use serde_json::{Map, Value, json};

use crate::app::Session;
use crate::commands::build::{assemble, record};
use crate::error::Failure;
use crate::evaluation::remote_context;
use crate::plugins::Ready;
use crate::sources::is_url;

/// What `with` of a builder says to the host itself; everything else goes to the plugin.
const HOST_PARAMETERS: [&str; 4] = ["context", "build_args", "labels", "platforms"];

/// Runs steps with real plugins.
pub(crate) struct Steps {
    session: Session,
    options: BuildOptions,
    project: PathBuf,
    /// Images that are never pushed.
    skip_push: BTreeSet<String>,
    /// Files of the project that no step is done again for, as lines of an ignore file.
    own_files: Vec<String>,
    /// The state of the project, looked at once: a step that saw it change meanwhile is done again.
    project_state: tokio::sync::OnceCell<Option<Digest>>,
}

impl Steps {
    pub(crate) fn new(session: Session, options: BuildOptions, project: PathBuf, skip_push: BTreeSet<String>) -> Self {
        Self {
            session,
            options,
            project,
            skip_push,
            own_files: Vec::new(),
            project_state: tokio::sync::OnceCell::new(),
        }
    }

    /// The same with files of the project that no step is done again for.
    pub(crate) fn with_own_files<'a>(mut self, files: impl Iterator<Item = &'a Path>) -> Self {
        let project = &self.project;
        let below = files.filter_map(|file| {
            let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let whole = directory.canonicalize().ok()?.join(file.file_name()?);
            Some(format!("/{}", whole.strip_prefix(project).ok()?.display()))
        });
        self.own_files = below.collect();
        self
    }

    /// Each step has a build of its own: the tree of `in` is its main context, those of `inputs` are named ones.
    fn build_options(&self, call: &StepCall, context: Option<&str>, cancel: Cancel) -> BuildOptions {
        let main = match (input(call), context) {
            (Some(tree), _) => Context::Tree(tree),
            (None, Some(url)) if is_url(url) => remote_context(url),
            (None, Some(directory)) => Context::Directory(self.project.join(directory)),
            (None, None) => Context::Directory(self.project.clone()),
        };
        let mut contexts = BTreeMap::from([(String::new(), main)]);
        contexts.extend(inputs(call).map(|(name, tree)| (name, Context::Tree(tree))));
        let reporter = log::listening(&self.options.reporter, call.log.clone());
        BuildOptions { contexts, cancel, reporter, ..self.options.clone() }
    }

    async fn builder(&self, call: &StepCall, ready: &Ready, cancel: Cancel) -> Result<StepOutputs, StepError> {
        let started = Instant::now();
        let build = Build::new(self.build_options(call, context(call), cancel));
        let request = request(&self.options, call)?;
        let result = match self.session.plugins.build(ready, &build, request).await {
            Ok(images) => assemble(&build, images).await.map_err(fault),
            Err(error) => Err(call_fault(error)),
        };
        let subject = call.id.image.as_ref().map_or_else(|| call.id.to_string(), |(name, tag)| format!("{name}:{tag}"));
        let subject = subject.parse::<Reference>().map_or(subject, |name| name.to_string());
        record(&self.options.store, &subject, &build, started, result.is_ok()).map_err(fault)?;
        let image = result?;
        let mut values = Map::new();
        values.insert("digest".to_owned(), json!(image.digest));
        values.insert("image".to_owned(), json!(image.digest));
        // Of several images for the values of a matrix, none is the one that the name means.
        if let Some((name, tag)) = call.id.image.as_ref().filter(|_| call.id.instance.is_none()) {
            let name: Reference = format!("{name}:{tag}").parse().map_err(|error| fault(Failure::from(error)))?;
            self.options.store.images().tag(&name.to_string(), &image).map_err(|error| fault(error.into()))?;
            values.insert("image".to_owned(), json!(name.familiar()));
            values.insert("reference".to_owned(), json!(format!("{}@{}", name.familiar(), image.digest)));
        }
        Ok(StepOutputs { values, tree: None })
    }

    async fn task(&self, call: &StepCall, ready: &Ready, cancel: Cancel) -> Result<StepOutputs, StepError> {
        self.outputs(call, ready, &Build::new(self.build_options(call, None, cancel))).await
    }

    /// What a task makes in a build.
    async fn outputs(&self, call: &StepCall, ready: &Ready, build: &Build) -> Result<StepOutputs, StepError> {
        // Without `in` a task gets the project itself, as the main context.
        let tree = Tree::context("", Selection::default());
        let inputs = std::iter::once((String::new(), tree)).chain(inputs(call)).collect();
        let request = TaskRequest { parameters: call.parameters.clone(), inputs };
        let outputs = self.session.plugins.task(ready, build, request).await.map_err(call_fault)?;
        let tree = match outputs.tree {
            // A step is done when its tree is there, not when it is described.
            Some(tree) => Some(Arc::new(build.freeze(&tree).await.map_err(error_fault)?) as Handle),
            None => None,
        };
        Ok(StepOutputs { values: outputs.values.into_iter().collect(), tree })
    }
}

#[async_trait]
impl Runner for Steps {
    async fn run(&self, call: StepCall) -> Result<StepOutputs, StepError> {
        if call.uses == "push" && call.id.image.as_ref().is_some_and(|(name, _)| self.skip_push.contains(name)) {
            return Ok(StepOutputs { values: Map::from_iter([("skipped".to_owned(), json!(true))]), tree: None });
        }
        let step = self.session.reporter.step(None, call.id.to_string());
        let cancel = Cancel::new().map_err(|error| StepError::new(FaultKind::Unavailable, error.to_string()))?;
        let watch = tokio::spawn({
            let (flow, step) = (call.cancel.clone(), cancel.clone());
            async move {
                flow.cancelled().await;
                step.cancel();
            }
        });
        let result = match self.session.plugins.load(&call.uses).await.map_err(fault) {
            Ok(ready) if builds(&ready, &call.parameters) => self.builder(&call, &ready, cancel).await,
            Ok(ready) => self.task(&call, &ready, cancel).await,
            Err(error) => Err(error),
        };
        watch.abort();
        step.finish(match &result {
            Ok(_) => cooperage_solve::Outcome::Done,
            Err(error) if error.kind == FaultKind::Cancelled => cooperage_solve::Outcome::Cancelled,
            Err(error) => cooperage_solve::Outcome::Failed(error.message.clone()),
        });
        result
    }

    async fn preview(&self, call: &StepCall) -> Preview {
        self.preview_of(call).await
    }

    async fn fingerprint(&self, call: &StepCall) -> Option<String> {
        self.fingerprint_of(call).await
    }

    async fn save(&self, call: &StepCall, outputs: &StepOutputs) -> Option<Value> {
        self.saved(call, outputs).await
    }

    async fn restore(&self, _: &StepCall, saved: &Value) -> Result<Option<Handle>, Gone> {
        self.restored(saved)
    }
}

/// What a step asks of a builder.
fn request(options: &BuildOptions, call: &StepCall) -> Result<BuildRequest, StepError> {
    let (host, parameters) = split(&call.parameters);
    Ok(BuildRequest {
        arguments: pairs(host.get("build_args")),
        labels: pairs(host.get("labels")),
        platforms: platforms(host.get("platforms"))?,
        epoch: options.epoch.and_then(|epoch| u64::try_from(epoch).ok()),
        ..BuildRequest::new(parameters, Platform::host())
    })
}

/// Whether a step is for the builder of a plugin. One that has tasks too is meant as what its parameters fit.
fn builds(ready: &Ready, parameters: &Value) -> bool {
    let (roles, fits) =
        (ready.plugin.roles(), |role: &str, parameters| ready.plugin.check_parameters(role, parameters));
    let task = roles.task && fits("task", parameters).is_ok() && fits("builder", &split(parameters).1).is_err();
    roles.builder && !task
}

/// The tree that `in` names.
fn input(call: &StepCall) -> Option<Tree> {
    call.input.as_ref().and_then(|handle| handle.downcast_ref::<Tree>()).cloned()
}

/// The trees that `inputs` names.
fn inputs(call: &StepCall) -> impl Iterator<Item = (String, Tree)> {
    call.inputs.iter().filter_map(|(name, handle)| Some((name.clone(), handle.downcast_ref::<Tree>()?.clone())))
}

/// The directory or URL that a builder's parameters name as its main context.
fn context(call: &StepCall) -> Option<&str> {
    call.parameters.get("context").and_then(Value::as_str)
}

/// Parts what is meant for the host from what is meant for the plugin.
fn split(parameters: &Value) -> (Map<String, Value>, Value) {
    let (mut host, mut plugin) = (Map::new(), Map::new());
    for (name, value) in parameters.as_object().into_iter().flatten() {
        let into = if HOST_PARAMETERS.contains(&name.as_str()) { &mut host } else { &mut plugin };
        into.insert(name.clone(), value.clone());
    }
    (host, Value::Object(plugin))
}

/// A map of texts, numbers and truth values as pairs of texts.
fn pairs(value: Option<&Value>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let map = value.and_then(Value::as_object);
    map.into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
}

fn platforms(value: Option<&Value>) -> Result<Vec<Platform>, StepError> {
    let Some(value) = value else { return Ok(vec![Platform::host()]) };
    let texts: Vec<&str> = match value {
        Value::String(text) => text.split(',').map(str::trim).collect(),
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let wrong = |message: String| StepError {
        pointer: Some("/platforms".to_owned()),
        ..StepError::new(FaultKind::Invalid, message)
    };
    if texts.is_empty() {
        return Err(wrong("expected platforms such as linux/amd64".to_owned()));
    }
    texts.into_iter().map(|text| text.parse().map_err(|error| wrong(format!("{error}")))).collect()
}

fn call_fault(error: CallError) -> StepError {
    match error {
        CallError::Parameters { pointer, message } => {
            StepError { pointer: Some(pointer), ..StepError::new(FaultKind::Invalid, message) }
        }
        other => error_fault(other.into()),
    }
}

fn fault(failure: Failure) -> StepError {
    error_fault(failure.into_error())
}

fn error_fault(error: Error) -> StepError {
    let kind = match error.kind {
        ErrorKind::Denied => FaultKind::Refused,
        ErrorKind::InvalidInput | ErrorKind::NotFound if error.exit_code.is_none() => FaultKind::Invalid,
        ErrorKind::Unavailable | ErrorKind::Unauthenticated => FaultKind::Unavailable,
        ErrorKind::Cancelled => FaultKind::Cancelled,
        _ => FaultKind::Failed,
    };
    let mut context = error.context;
    if let Some(at) = &error.location {
        context.push(format!("{}:{}: {}", at.file, at.line, at.text.lines().next().unwrap_or_default()));
    }
    StepError {
        // A process that failed may succeed when tried again; a wrong file will not.
        retryable: kind == FaultKind::Unavailable || error.exit_code.is_some(),
        retry_after: error.retry_after,
        context,
        hint: error.hint,
        ..StepError::new(kind, error.message)
    }
}

/// Knows from the FROM lines of Dockerfiles which images of the file a step builds on.
pub(crate) struct FromLines {
    pub(crate) project: PathBuf,
}

impl ImageDependencies for FromLines {
    fn image_dependencies(&self, step: &StepView<'_>) -> Vec<String> {
        let text = |name: &str| step.with.get(name).and_then(Value::as_str);
        if !["dockerfile", "docker", crate::plugins::BUILD].contains(&step.uses) {
            // A task that runs something names its image; an expression in it makes an edge of its own.
            return text("image")
                .filter(|image| step.uses == "script" && !image.contains("${{"))
                .map(str::to_owned)
                .into_iter()
                .collect();
        }
        if step.input.is_some() {
            return Vec::new();
        }
        let inline = text("dockerfile_inline").map(str::to_owned);
        let path = self.project.join(text("context").unwrap_or(".")).join(text("dockerfile").unwrap_or("Dockerfile"));
        // A file that cannot be read is the step's own fault to tell.
        let content = inline.or_else(|| std::fs::read_to_string(path).ok()).unwrap_or_default();
        content.lines().filter_map(image_of).collect()
    }
}

/// The image of a FROM line or of `--from=`; names with variables cannot be known before the build.
fn image_of(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let name = if first.eq_ignore_ascii_case("FROM") {
        words.find(|word| !word.starts_with("--"))?
    } else if first.eq_ignore_ascii_case("COPY") {
        words.find_map(|word| word.strip_prefix("--from="))?
    } else {
        return None;
    };
    (!name.contains('$')).then(|| name.trim_matches(['"', '\'']).to_owned())
}
