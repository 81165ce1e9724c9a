//! Does the steps of a flow: finds the plugin, hands it parameters and trees, and keeps what comes of it.

mod from_lines;
mod log;
mod order;
mod preview;
mod resume;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use cooperage_engine::{CallError, TaskRequest};
use cooperage_flow::{FaultKind, Gone, Handle, Preview, Runner, StepCall, StepError, StepOutputs};
use cooperage_solve::{Build, BuildOptions, Cancel, Context, CopyOptions, Error, ErrorKind, Origin, Selection, Tree};
use cooperage_store::{Descriptor, Digest, Reference};
use serde_json::{Map, Value, json};

use crate::app::Session;
use crate::commands::build::{assemble, record};
use crate::error::Failure;
use crate::evaluation::remote_context;
use crate::plugins::Ready;

pub(crate) use from_lines::FromLines;
use order::{Order, Place, with_own_names, wrong};

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
    /// A directory that a builder's `context` names lies in that tree, or in the project if there is none.
    fn build_options(
        &self,
        call: &StepCall,
        context: Option<&Place>,
        cancel: Cancel,
    ) -> Result<BuildOptions, StepError> {
        let main = match (input(call), context) {
            (Some(_), Some(Place::Remote(_))) => {
                let hint = "leave out `context`, or name the step under `inputs` instead of `in`".to_owned();
                let error = wrong("/context", "`context` and `in` both say which files the image is built from");
                return Err(StepError { hint: Some(hint), ..error });
            }
            (Some(tree), Some(Place::Directory(directory))) => Context::Tree(within(&tree, directory)),
            (Some(tree), None) => Context::Tree(tree),
            (None, Some(Place::Remote(request))) => remote_context(request.clone()),
            (None, Some(Place::Directory(directory))) => Context::Directory(self.project.join(directory)),
            (None, None) => Context::Directory(self.project.clone()),
        };
        let mut contexts = BTreeMap::from([(String::new(), main)]);
        contexts.extend(inputs(call).map(|(name, tree)| (name, Context::Tree(tree))));
        let reporter = log::listening(&self.options.reporter, call.log.clone());
        Ok(BuildOptions { contexts, cancel, reporter, ..self.options.clone() })
    }

    /// Does what a step says, with the plugin in the role that it means.
    async fn work(&self, call: &StepCall, cancel: Cancel) -> Result<StepOutputs, StepError> {
        let ready = self.session.plugins.load(&call.uses).await.map_err(fault)?;
        match Order::of(&ready, &call.parameters)? {
            Some(order) => self.builder(call, &ready, order, cancel).await,
            None => self.task(call, &ready, cancel).await,
        }
    }

    async fn builder(
        &self,
        call: &StepCall,
        ready: &Ready,
        order: Order,
        cancel: Cancel,
    ) -> Result<StepOutputs, StepError> {
        let started = Instant::now();
        let build = Build::new(self.build_options(call, order.context.as_ref(), cancel)?);
        let request = order.request(self.options.epoch);
        let result = match self.session.plugins.build(ready, &build, request).await {
            Ok(images) => assemble(&build, images).await.map_err(fault),
            Err(error) => Err(with_own_names(call_fault(error))),
        };
        let subject = call.id.image.as_ref().map_or_else(|| call.id.to_string(), |(name, tag)| format!("{name}:{tag}"));
        let subject = subject.parse::<Reference>().map_or(subject, |name| name.to_string());
        record(&self.options.store, &subject, &build, started, result.is_ok()).map_err(fault)?;
        let image = result?;
        self.name(call, &image)?;
        image_outputs(call, &image)
    }

    /// Gives an image the name that its step makes it for.
    fn name(&self, call: &StepCall, image: &Descriptor) -> Result<(), StepError> {
        let Some(name) = image_name(call)? else { return Ok(()) };
        self.options.store.images().tag(&name.to_string(), image).map_err(|error| fault(error.into()))
    }

    async fn task(&self, call: &StepCall, ready: &Ready, cancel: Cancel) -> Result<StepOutputs, StepError> {
        self.outputs(call, ready, &Build::new(self.build_options(call, None, cancel)?)).await
    }

    /// Whether the step would push an image that is not pushed.
    fn skips(&self, call: &StepCall) -> bool {
        call.uses == "push" && call.id.image.as_ref().is_some_and(|(name, _)| self.skip_push.contains(name))
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
        if self.skips(&call) {
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
        let result = self.work(&call, cancel).await;
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

    async fn resume(&self, call: &StepCall, outputs: &StepOutputs) -> Result<(), StepError> {
        self.resumed(call, outputs).await
    }
}

/// The name that the image of a step gets. Of several images for the values of a matrix, none is the one that the name
/// means.
fn image_name(call: &StepCall) -> Result<Option<Reference>, StepError> {
    let named = call.id.image.as_ref().filter(|_| call.id.instance.is_none());
    named.map(|(name, tag)| format!("{name}:{tag}").parse()).transpose().map_err(|error| fault(Failure::from(error)))
}

/// What a step that made an image gives.
fn image_outputs(call: &StepCall, image: &Descriptor) -> Result<StepOutputs, StepError> {
    let mut values = Map::from_iter(["digest", "image"].map(|name| (name.to_owned(), json!(image.digest))));
    if let Some(name) = image_name(call)? {
        values.insert("image".to_owned(), json!(name.familiar()));
        values.insert("reference".to_owned(), json!(format!("{}@{}", name.familiar(), image.digest)));
    }
    Ok(StepOutputs { values, tree: None })
}

/// A directory of a tree as a tree of its own.
fn within(tree: &Tree, directory: &str) -> Tree {
    let origin = Origin { name: format!("context {directory}"), ..Origin::default() };
    Tree::scratch().copy(tree, vec![directory.to_owned()], "/".to_owned(), CopyOptions::default(), origin)
}

/// The tree that `in` names.
fn input(call: &StepCall) -> Option<Tree> {
    call.input.as_ref().and_then(|handle| handle.downcast_ref::<Tree>()).cloned()
}

/// The trees that `inputs` names.
fn inputs(call: &StepCall) -> impl Iterator<Item = (String, Tree)> {
    call.inputs.iter().filter_map(|(name, handle)| Some((name.clone(), handle.downcast_ref::<Tree>()?.clone())))
}

fn call_fault(error: CallError) -> StepError {
    match error {
        CallError::Parameters { pointer, known, message } => StepError { known, ..wrong(pointer, message) },
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
