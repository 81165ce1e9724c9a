//! `coop build`: one image, from a context through a builder plugin to names, files and a registry.

mod results;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cooperage_engine::ports::Registries;
use cooperage_engine::{BuildRequest, BuiltImage};
use cooperage_solve::{Build, Context, CopyOptions, Image, Origin, Outcome, Redactor, Secrets, Tree};
use cooperage_store::{BuildEntry, Descriptor, Platform, Reference, Store};
use serde_json::{Map, Value, json};

use crate::app::{App, Session};
use crate::args::{self, ProgressMode};
use crate::commands::check;
use crate::error::{Exit, Failure};
use crate::evaluation::{self, context, pair};
use crate::exports::{self, Output, Wanted};
use crate::named_images::{self, NamedImages};
use crate::output;
use crate::plugins::call_failure;
use crate::progress;

/// The named context that holds a Dockerfile from outside of the main one.
const FILE_CONTEXT: &str = "dockerfile";

pub(crate) fn run(app: &App, arguments: &args::Build) -> Result<(), Failure> {
    let started = Instant::now();
    let request = Request::resolve(app, arguments)?;
    let mode = if arguments.quiet { ProgressMode::Quiet } else { arguments.evaluation.progress };
    let reporter = progress::reporter(mode).without(&request.secrets);
    let session = app.session_with(reporter, arguments.evaluation.pull, Default::default(), Default::default())?;
    let contexts = request.contexts.clone();
    let mut options = evaluation::options(app, &session, &arguments.evaluation, contexts, request.secrets.clone())?;
    let (names, others) = (request.images.clone(), options.images);
    options.images = Arc::new(NamedImages { names, others });
    if let Some(compression) = &request.compression {
        options.compression = evaluation::compression(compression)?;
    }
    let build = Build::new(options);
    if let Some(format) = arguments.check {
        let described = app.block_on(describe(&session, &build, &request, Some(check::OPTION)))?;
        return check::report(format, &request.builder, &described, &request.secrets);
    }
    let result = app.block_on(make(&session, &build, &request));
    record(app.store()?, &request.subject(), &build, started, result.is_ok())?;
    let image = result?;
    let mut pushed = Vec::new();
    if let Some(image) = &image {
        for name in &request.names {
            app.store()?.images().tag(&name.to_string(), image)?;
        }
        for to in &request.outputs {
            exports::export(app, image, &request.names, to)?;
        }
        pushed = push(app, &session, &request.pushed)?;
        results::write(app.store()?, arguments, &request, image, &pushed)?;
    }
    if request.outputs.iter().any(|to| to.path() == Some(Path::new("-"))) {
        // Standard output is the result.
        return Ok(());
    }
    match &image {
        Some(image) if arguments.quiet => output::line(&image.digest.to_string()),
        None if arguments.quiet => Ok(()),
        image => results::tell(&request, image.as_ref(), &pushed),
    }
}

/// The command line with every file and name resolved.
struct Request {
    contexts: BTreeMap<String, Context>,
    /// Images in the place of contexts.
    images: named_images::Names,
    parameters: Value,
    builder: String,
    platforms: Vec<Platform>,
    arguments: Vec<(String, String)>,
    labels: Vec<(String, String)>,
    names: Vec<Reference>,
    /// Those of them that are pushed.
    pushed: Vec<Reference>,
    outputs: Vec<Output>,
    /// Whether an image is wanted, and not just its files.
    image: bool,
    /// Whether it gets one layer.
    squash: bool,
    /// What outputs say of compression.
    compression: Option<String>,
    secrets: Secrets,
    epoch: Option<u64>,
    /// What is built, for people.
    place: String,
}

impl Request {
    fn resolve(app: &App, arguments: &args::Build) -> Result<Self, Failure> {
        let main = context(&arguments.context)?;
        let root = match &main {
            Context::Directory(root) => Some(root.clone()),
            Context::Tree(_) => None,
        };
        let mut contexts = BTreeMap::from([(String::new(), main)]);
        let mut images = named_images::Names::new();
        for text in &arguments.build_context {
            let (name, place) = pair(text, "build context")?;
            match named_images::reference(app.leased_store()?, place)? {
                Some(reference) => drop(images.insert(name.to_owned(), reference)),
                None => drop(contexts.insert(name.to_owned(), context(place)?)),
            }
        }
        let mut parameters = Map::new();
        if let Some(file) = &arguments.file {
            locate(file, root.as_deref(), &mut contexts, &mut parameters)?;
        }
        if let Some(target) = &arguments.target {
            parameters.insert("target".to_owned(), json!(target));
        }
        for text in &arguments.set {
            let (name, value) = pair(text, "parameter")?;
            parameters.insert(name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| json!(value)));
        }
        let wanted: Vec<Wanted> =
            arguments.output.iter().map(|text| Wanted::of_build(text)).collect::<Result<_, _>>()?;
        let (names, pushed) = naming(names(&arguments.tag)?, arguments.push, &wanted)?;
        let compression = one_compression(&wanted)?;
        let outputs: Vec<Output> = wanted.into_iter().map(|wanted| wanted.output).collect();
        let documents = arguments.iidfile.is_some() || arguments.metadata_file.is_some();
        let image = outputs.is_empty() || outputs.iter().any(Output::is_image) || !names.is_empty() || documents;
        let pairs = |texts: &[String], what: &str| -> Result<Vec<(String, String)>, Failure> {
            texts.iter().map(|text| pair(text, what).map(|(a, b)| (a.to_owned(), b.to_owned()))).collect()
        };
        Ok(Self {
            contexts,
            images,
            parameters: Value::Object(parameters),
            platforms: platforms(&arguments.platform)?,
            builder: arguments.builder.clone().unwrap_or_else(|| app.config.builder().to_owned()),
            arguments: build_arguments(app, &arguments.build_arg),
            labels: pairs(&arguments.label, "label")?,
            names,
            pushed,
            outputs,
            image,
            squash: arguments.squash,
            compression,
            secrets: evaluation::secrets(app, &arguments.evaluation.secret)?,
            epoch: app.environment.epoch().map_err(Failure::usage)?,
            place: root.map_or_else(|| arguments.context.clone(), |root| root.display().to_string()),
        })
    }

    /// Builds with the same subject are compared by `explain`.
    fn subject(&self) -> String {
        self.names.first().map_or_else(|| self.place.clone(), Reference::to_string)
    }
}

fn names(texts: &[String]) -> Result<Vec<Reference>, Failure> {
    let parse = |text: &String| -> Result<Reference, Failure> {
        let name: Reference = text.parse()?;
        match name.digest() {
            Some(_) => Err(Failure::usage(format!("{text} has a digest; a new name has only a tag"))),
            None => Ok(name),
        }
    };
    texts.iter().map(parse).collect()
}

/// All names that the image gets, and those under which it is pushed.
fn naming(tags: Vec<Reference>, push: bool, wanted: &[Wanted]) -> Result<(Vec<Reference>, Vec<Reference>), Failure> {
    let (mut all, mut pushed) = (tags.clone(), Vec::new());
    let mut pushes = push;
    pushed.extend(tags.iter().filter(|_| push).cloned());
    for output in wanted {
        let Output::Image { names, push } = &output.output else { continue };
        let own = if names.is_empty() { &tags } else { names };
        all.extend(own.iter().cloned());
        pushed.extend(own.iter().filter(|_| *push).cloned());
        pushes |= push;
    }
    if pushes && pushed.is_empty() {
        return Err(Failure::usage("--push needs a name").hint("add --tag REGISTRY/NAME:TAG"));
    }
    for names in [&mut all, &mut pushed] {
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.to_string()));
    }
    Ok((all, pushed))
}

/// The layers of a build are made once.
fn one_compression(wanted: &[Wanted]) -> Result<Option<String>, Failure> {
    let mut all = wanted.iter().filter_map(|wanted| wanted.compression.as_ref());
    let Some(first) = all.next() else { return Ok(None) };
    match all.find(|other| *other != first) {
        Some(other) => Err(Failure::usage(format!("one output wants {first} layers and another {other}"))
            .hint("build twice: what was built comes from the cache")),
        None => Ok(Some(first.clone())),
    }
}

fn platforms(texts: &[String]) -> Result<Vec<Platform>, Failure> {
    if texts.is_empty() {
        return Ok(vec![Platform::host()]);
    }
    texts.iter().map(|text| Ok(text.parse()?)).collect()
}

/// A name without a value takes it from the environment; one that is not set there is left out, as Docker does.
fn build_arguments(app: &App, texts: &[String]) -> Vec<(String, String)> {
    let resolve = |text: &String| match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => app.environment.variables().get(text).map(|value| (text.clone(), value.clone())),
    };
    texts.iter().filter_map(resolve).collect()
}

/// Tells the builder where its file is: inside the context, in another directory, or standard input.
fn locate(
    file: &Path,
    root: Option<&Path>,
    contexts: &mut BTreeMap<String, Context>,
    parameters: &mut Map<String, Value>,
) -> Result<(), Failure> {
    if file == Path::new("-") {
        let text = std::io::read_to_string(std::io::stdin())
            .map_err(|error| Failure::usage(format!("the file from standard input is not text: {error}")))?;
        parameters.insert("dockerfile_inline".to_owned(), json!(text));
        return Ok(());
    }
    let Some(root) = root else {
        // What a URL brings is not here yet; the builder looks there.
        parameters.insert("dockerfile".to_owned(), json!(file));
        return Ok(());
    };
    // As docker build has it: relative to where one stands, or else to the context.
    let path = file.canonicalize().or_else(|first| root.join(file).canonicalize().map_err(|_| first));
    let path =
        path.map_err(|error| Failure::usage(format!("the file {} cannot be opened: {error}", file.display())))?;
    if let Ok(inside) = path.strip_prefix(root) {
        parameters.insert("dockerfile".to_owned(), json!(inside));
        return Ok(());
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Failure::usage(format!("{} is not a file", file.display())));
    };
    contexts.insert(FILE_CONTEXT.to_owned(), Context::Directory(directory.to_owned()));
    parameters.insert("dockerfile_context".to_owned(), json!(FILE_CONTEXT));
    parameters.insert("dockerfile".to_owned(), json!(name.to_string_lossy()));
    Ok(())
}

/// None if only the files are wanted.
async fn make(session: &Session, build: &Build, request: &Request) -> Result<Option<Descriptor>, Failure> {
    let mut images = describe(session, build, request, None).await?;
    if request.squash {
        images = images.into_iter().map(squashed).collect();
    }
    let files: Vec<Image> = images.iter().cloned().map(Image::from).collect();
    let image = if request.image { Some(assemble(build, images).await?) } else { None };
    for output in &request.outputs {
        let Some(path) = output.path().filter(|_| !output.is_image()) else { continue };
        let step = session.reporter.step(None, format!("write {}", path.display()));
        let result = write_files(build, &files, output).await;
        step.finish(match &result {
            Ok(()) => Outcome::Done,
            Err(failure) => Outcome::Failed(failure.clone().into_error().to_string()),
        });
        result?;
    }
    Ok(image)
}

/// What the builder answers, before anything of it is evaluated.
async fn describe(
    session: &Session,
    build: &Build,
    request: &Request,
    option: Option<(&str, &str)>,
) -> Result<Vec<BuiltImage>, Failure> {
    let named = request.images.keys().map(|name| ("named-image", name.as_str()));
    let options = named.chain(option).map(|(name, value)| (name.to_owned(), value.to_owned()));
    let builder = session.plugins.load(&request.builder).await?;
    let described = session.plugins.build(
        &builder,
        build,
        BuildRequest {
            parameters: request.parameters.clone(),
            platforms: request.platforms.clone(),
            build_platform: Platform::host(),
            arguments: request.arguments.clone(),
            labels: request.labels.clone(),
            epoch: request.epoch,
            options: options.collect(),
        },
    );
    described.await.map_err(call_failure)
}

/// The same files in one layer.
fn squashed(image: BuiltImage) -> BuiltImage {
    let origin =
        Origin { name: "squash".to_owned(), created_by: "coop build --squash".to_owned(), ..Origin::default() };
    let mut config = image.config;
    config["history"] = json!([{ "created": config["created"], "created_by": origin.created_by }]);
    let all = vec!["/".to_owned()];
    let tree = Tree::scratch().copy(&image.tree, all, "/".to_owned(), CopyOptions::default(), origin);
    BuiltImage { tree, config, existing: None, ..image }
}

async fn write_files(build: &Build, images: &[Image], output: &Output) -> Result<(), Failure> {
    match output {
        Output::Local(directory) => Ok(build.put(images, directory.clone()).await?),
        Output::Tar(path) => {
            let (archive, path) = (build.archive(images).await?, path.clone());
            let written = tokio::task::spawn_blocking(move || exports::write(archive, &path));
            written.await.unwrap_or_else(|_| Err(Failure::new(Exit::Failed, "a worker thread panicked")))
        }
        _ => Ok(()),
    }
}

/// Evaluates what a builder described; several images become an index.
pub(crate) async fn assemble(build: &Build, images: Vec<BuiltImage>) -> Result<Descriptor, Failure> {
    let one = |image: BuiltImage| async move {
        if let Some(base) = &image.existing {
            // It stays what it is, digest and all; its layers come when somebody needs them.
            return Ok(Descriptor { platform: Some(image.platform), ..base.manifest.clone() });
        }
        build.image(image.into()).await
    };
    let mut manifests = futures::future::try_join_all(images.into_iter().map(one)).await?;
    match manifests.len() {
        0 => Err(Failure::new(Exit::Failed, "the builder described no image")),
        1 => Ok(Descriptor { platform: None, ..manifests.remove(0) }),
        _ => Ok(build.index(manifests).await?),
    }
}

fn push(app: &App, session: &Session, names: &[Reference]) -> Result<Vec<String>, Failure> {
    app.block_on(async {
        let mut pushed = Vec::new();
        for name in names {
            let step = session.reporter.step(None, format!("push {}", name.familiar()));
            let result = session.registries.push(&name.to_string(), &name.to_string(), &step).await;
            session.end(step, &result);
            pushed.push(format!("{}@{}", name.familiar(), result?.digest));
        }
        Ok::<_, Failure>(pushed)
    })
}

/// Keeps the record of a build for `explain`.
pub(crate) fn record(store: &Store, subject: &str, build: &Build, started: Instant, ok: bool) -> Result<(), Failure> {
    let body = serde_json::to_string(&build.record())
        .map_err(|error| Failure::new(Exit::Failed, format!("the record of the build: {error}")))?;
    let body = Redactor::new(&build.options().secrets).text(&body);
    let elapsed = started.elapsed();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let milliseconds = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    store.images().add_build(&BuildEntry {
        id: 0,
        subject: subject.to_owned(),
        started: milliseconds(now.saturating_sub(elapsed)),
        milliseconds: milliseconds(elapsed),
        succeeded: ok,
        body,
    })?;
    Ok(())
}
