//! The component: the planner's backend on the host's trees, and the plugin's roles. Decides nothing itself.

use std::collections::BTreeMap;
use std::rc::Rc;

use cooperage_sdk::prelude::*;
use cooperage_sdk::trees::{CopyOptions, Mount, Network, Origin, Process, Selection};
use cooperage_sdk::{images, warn};

use crate::backend::{Backend, MountOperation, Operation, Origin as PlanOrigin, RunOperation, Source, Wanted};
use crate::fault::{Fault, Kind, Place, Span};
use crate::platform::Platform as PlanPlatform;
use crate::recipe::{self, Parameters};
use crate::{instructions, plan};

/// The plugin.
struct Dockerfile;

impl Plugin for Dockerfile {
    fn describe() -> Description {
        let processes = json!({ "mounts": ["bind", "cache", "secret", "tmpfs"] });
        Description::new("dockerfile", env!("CARGO_PKG_VERSION"), "Builds images from Dockerfiles")
            .asks(Capability::new("run", processes, "RUN instructions run processes in the image, some with secrets"))
            .asks(Capability::sources(["**"], "ADD instructions fetch the URLs they name"))
            .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
    }
}

impl Builder for Dockerfile {
    type Parameters = Parameters;

    fn detect() -> Result<u8> {
        recipe::detect(&mut Host::default()).map_err(to_error)
    }

    fn build(request: BuildRequest<Parameters>) -> Result<Vec<Image>> {
        build(request).map_err(to_error)
    }
}

cooperage_sdk::plugin!(Dockerfile: builder);

fn build(request: BuildRequest<Parameters>) -> Result<Vec<Image>, Fault> {
    let images = request.named_images().map(str::to_owned).collect();
    let check = request.wants_check();
    let parameters = request.parameters;
    let all_stages = check && parameters.target.is_none();
    let mut host = Host::default();
    let recipe = recipe::load(&parameters, &mut host)?;
    let dockerfile = instructions::read(&recipe.text).map_err(|fault| recipe.source.complete(fault))?;
    // As with BuildKit, an ARG of this name has the value wherever it came from.
    let epoch = request.epoch.map(|epoch| ("SOURCE_DATE_EPOCH".to_owned(), epoch.to_string()));
    let target = plan::Request {
        target: parameters.target,
        platforms: request.platforms.iter().map(from_platform).collect(),
        build_platform: from_platform(&request.build_platform),
        // The last of a name counts, so what the user says now wins over what a file says.
        arguments: epoch.into_iter().chain(parameters.args).chain(request.arguments).collect(),
        labels: parameters.labels.into_iter().chain(request.labels).collect(),
        epoch: request.epoch,
        ignore: recipe.ignore,
        images,
        // Who builds one stage checks what that stage needs.
        all_stages,
    };
    if check {
        let findings = plan::check(&dockerfile, &recipe.source, &target, &mut host)?;
        return Ok(vec![Image::findings(request.build_platform, &findings)]);
    }
    let planned = plan::convert(&dockerfile, &recipe.source, &target, &mut host)?;
    let image = |image: plan::Image<Rc<Tree>>| {
        let shared = |_| Fault::new(Kind::Internal, "two images share one handle of a tree");
        Ok(Image {
            tree: Rc::try_unwrap(image.tree).map_err(shared)?,
            platform: to_platform(image.platform),
            config: image.config.to_string(),
            annotations: Vec::new(),
        })
    };
    planned.into_iter().map(image).collect()
}

/// The host, through the contract.
#[derive(Default)]
struct Host {
    bases: BTreeMap<Wanted, images::Base>,
}

impl Backend for Host {
    type Tree = Rc<Tree>;

    fn resolve(&mut self, wanted: &[Wanted]) -> Vec<Result<serde_json::Value, Fault>> {
        let requests: Vec<images::Request> = wanted
            .iter()
            .map(|wanted| images::Request {
                reference: wanted.reference.clone(),
                platform: Some(to_platform(wanted.platform.clone())),
            })
            .collect();
        let mut configs = Vec::with_capacity(wanted.len());
        for (wanted, answer) in wanted.iter().zip(images::resolve(&requests)) {
            configs.push(answer.map_err(from_error).and_then(|base| {
                let config = base.config_value().map_err(from_error)?;
                self.bases.insert(wanted.clone(), base);
                Ok(config)
            }));
        }
        configs
    }

    fn source(&mut self, source: Source<'_>) -> Result<Rc<Tree>, Fault> {
        match source {
            Source::Scratch => Ok(Rc::new(Tree::scratch())),
            Source::Image(wanted) => match self.bases.get(wanted) {
                Some(base) => Ok(Rc::new(Tree::image(base))),
                None => Err(Fault::new(Kind::Internal, format!("{} was not resolved", wanted.reference))),
            },
            Source::Context { name, exclude, include } => {
                let selection = Selection { include: include.to_vec(), exclude: exclude.to_vec() };
                Tree::context(name, &selection).map(Rc::new).map_err(from_error)
            }
            Source::Url { url, parameters, origin } => {
                let origin = to_origin(origin);
                Tree::fetch(url, &parameters.to_string(), &origin).map(Rc::new).map_err(from_error)
            }
        }
    }

    fn apply(&mut self, onto: &Rc<Tree>, operation: Operation<Rc<Tree>>, origin: &PlanOrigin) -> Rc<Tree> {
        let origin = to_origin(origin);
        Rc::new(match operation {
            Operation::Copy(copy) => {
                let options = CopyOptions {
                    owner: copy.owner,
                    mode: copy.mode,
                    exclude: copy.exclude,
                    parents: copy.parents,
                    link: copy.link,
                    unpack: copy.unpack,
                    options: Vec::new(),
                };
                onto.copy(&copy.source, &copy.paths, &copy.destination, &options, &origin)
            }
            Operation::Run(run) => run_in(onto, run, &origin),
            Operation::MakeDirectory { path, mode, owner } => {
                onto.make_directory(&path, mode, owner.as_deref(), &origin)
            }
            Operation::WriteFile { path, bytes, mode } => onto.write_file(&path, &bytes, mode, None, &origin),
        })
    }

    fn read(&mut self, tree: &Rc<Tree>, path: &str, max: u64) -> Result<Option<Vec<u8>>, Fault> {
        // Where a tree comes from may be what is not found; that is another thing than a file that it lacks.
        match tree.stat(path, true).map_err(from_error)? {
            Some(_) => tree.read_file(path, max).map(Some).map_err(from_error),
            None => Ok(None),
        }
    }

    fn warn(&mut self, message: &str) {
        warn!("{message}");
    }
}

fn run_in(tree: &Tree, run: RunOperation<Rc<Tree>>, origin: &Origin) -> Tree {
    let process = Process {
        args: run.args,
        env: run.env,
        cwd: run.cwd,
        user: run.user,
        network: match run.network {
            instructions::Network::Default => Network::Default,
            instructions::Network::None => Network::None,
            instructions::Network::Host => Network::Host,
        },
        stdin: Vec::new(),
        options: Vec::new(),
    };
    let mounts: Vec<Mount<'_>> = run.mounts.iter().map(to_mount).collect();
    tree.run(&process, &mounts, origin)
}

fn to_mount(mount: &MountOperation<Rc<Tree>>) -> Mount<'_> {
    Mount {
        kind: mount.kind.to_owned(),
        target: mount.target.clone(),
        source: mount.source.as_deref(),
        path: mount.path.clone(),
        identity: mount.identity.clone(),
        read_only: mount.read_only,
        options: mount.options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
    }
}

fn to_origin(origin: &PlanOrigin) -> Origin {
    Origin {
        name: origin.name.clone(),
        created_by: origin.created_by.clone(),
        location: origin.place.clone().map(to_location),
    }
}

fn to_location(place: Place) -> Location {
    let Place { file, span, text } = place;
    Location { file, line: span.line, column: span.column, end_line: span.end_line, text }
}

fn to_error(fault: Fault) -> Error {
    let mut error = Error::new(to_kind(fault.kind), fault.message);
    error.context = fault.context;
    error.hint = fault.hint;
    error.location = fault.place.map(|place| to_location(*place));
    error.retry_after = fault.retry_after;
    error
}

fn from_error(error: Error) -> Fault {
    let mut fault = Fault::new(from_kind(error.kind), error.message);
    fault.context = error.context;
    fault.hint = error.hint;
    fault.place = error.location.map(|location| {
        let span = Span { line: location.line, column: location.column, end_line: location.end_line };
        Box::new(Place { file: location.file, span, text: location.text })
    });
    fault.retry_after = error.retry_after;
    fault
}

fn to_kind(kind: Kind) -> ErrorKind {
    match kind {
        Kind::InvalidInput => ErrorKind::InvalidInput,
        Kind::NotFound => ErrorKind::NotFound,
        Kind::Denied => ErrorKind::Denied,
        Kind::Unauthenticated => ErrorKind::Unauthenticated,
        Kind::Conflict => ErrorKind::Conflict,
        Kind::Unavailable => ErrorKind::Unavailable,
        Kind::Cancelled => ErrorKind::Cancelled,
        Kind::Unsupported => ErrorKind::Unsupported,
        Kind::Limit => ErrorKind::Limit,
        Kind::Internal => ErrorKind::Internal,
    }
}

fn from_kind(kind: ErrorKind) -> Kind {
    match kind {
        ErrorKind::InvalidInput => Kind::InvalidInput,
        ErrorKind::NotFound => Kind::NotFound,
        ErrorKind::Denied => Kind::Denied,
        ErrorKind::Unauthenticated => Kind::Unauthenticated,
        ErrorKind::Conflict => Kind::Conflict,
        ErrorKind::Unavailable => Kind::Unavailable,
        ErrorKind::Cancelled => Kind::Cancelled,
        ErrorKind::Unsupported => Kind::Unsupported,
        ErrorKind::Limit => Kind::Limit,
        ErrorKind::Internal => Kind::Internal,
    }
}

fn to_platform(platform: PlanPlatform) -> Platform {
    Platform { os: platform.os, architecture: platform.architecture, variant: platform.variant }
}

fn from_platform(platform: &Platform) -> PlanPlatform {
    PlanPlatform::new(&platform.os, &platform.architecture, platform.variant.as_deref())
}
