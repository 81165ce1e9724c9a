//! What the step does, from parameters and manifests to outputs: against a server, or on paper. It knows the outside only
//! as `edge` has it.

use cooperage_sdk::{Error, Result, info, warn};
use serde_json::Value;

use crate::access::Access;
use crate::change::{Change, template};
use crate::client::{Applied, Client};
use crate::edge::Edge;
use crate::kinds::{self, Identity, Kinds};
use crate::manifests::{self, Document, File};
use crate::owned;
use crate::parameters::{Wanted, WorkloadName};
use crate::retry;
use crate::rollout;
use crate::secret;
use crate::value;
use crate::wait::Rollout;
use crate::workload::{Container, Kind};

/// Tries to change an object that others change at the same time.
const TRIES: usize = 10;

/// What came of it.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// The state of the workload, if the step names one and a server was asked.
    pub workload: Option<Value>,
    /// The image that it had before.
    pub previous_image: Option<String>,
    /// What was applied, or written, in order.
    pub documents: Vec<Document>,
}

/// Gives the values of secrets.
pub type Reveal<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>>;

/// Does it.
///
/// # Errors
/// Whatever goes wrong, for the user to read.
pub fn run(wanted: &Wanted, files: &[File], edge: Edge, reveal: Reveal) -> Result<Outcome> {
    let access = Access::new(&wanted.parameters, reveal)?;
    // All that can be found wrong without the server is found before it is asked to change anything.
    let Prepared { documents, meant, .. } = prepare(wanted, files, Some(&access.namespace), reveal)?;
    let parameters = &wanted.parameters;
    let client =
        Client::new(edge, &access, &parameters.field_manager).force(parameters.force).dry_run(parameters.dry_run);
    let mut deed = Deed {
        wanted,
        client: &client,
        kinds: Kinds::new(&client),
        rollouts: Vec::new(),
        meant: None,
        outcome: Outcome::default(),
    };
    for (at, document) in documents.into_iter().enumerate() {
        deed.apply(document, meant == Some(at))?;
    }
    deed.update()?;
    deed.wait()
}

/// Makes the documents without asking a server.
///
/// # Errors
/// `invalid-input` if only a server could tell what is meant.
pub fn write(wanted: &Wanted, files: &[File], reveal: Reveal) -> Result<Outcome> {
    let namespace = wanted.parameters.namespace.as_deref();
    let Prepared { mut documents, meant, image } = prepare(wanted, files, namespace, reveal)?;
    if let Some(WorkloadName { kind, name }) =
        wanted.workload.as_ref().filter(|_| wanted.changes_pods() && meant.is_none())
    {
        documents.push(patch(wanted, *kind, name)?);
    }
    for document in &mut documents {
        // Without a name for it, whoever applies the manifests decides.
        let Some(namespace) = namespace.filter(|_| document.identity.namespace.is_none()) else { continue };
        match document.identity.is_cluster_wide() {
            Some(false) => document.belong_to(namespace)?,
            Some(true) => {}
            None => warn!("{} gets no namespace: only a server knows whether it can have one", document.title()),
        }
    }
    Ok(Outcome { workload: None, previous_image: image, documents })
}

/// Documents that are ready to be applied.
struct Prepared {
    documents: Vec<Document>,
    /// Which of them is the workload of the step. It has the change in it.
    meant: Option<usize>,
    /// The image that it had in its manifest.
    image: Option<String>,
}

/// The manifests with the change in the one that is meant, and the secret that its pods may need: behind the namespaces
/// that the manifests begin with.
fn prepare(wanted: &Wanted, files: &[File], namespace: Option<&str>, reveal: Reveal) -> Result<Prepared> {
    let mut documents = manifests::read(files)?;
    let mut meant = the_meant(wanted, &documents)?;
    let mut image = None;
    if let Some(at) = meant {
        image = change(wanted, &mut documents[at])?;
    }
    let parameters = &wanted.parameters;
    if let Some(pull_secret) = &parameters.pull_secret {
        let beside = meant.and_then(|at| documents[at].identity.namespace.clone());
        let mut secret = Document::made(secret::object(pull_secret, parameters.image.as_deref(), reveal)?)?;
        if let Some(namespace) = beside.as_deref().or(namespace) {
            secret.belong_to(namespace)?;
        }
        let at = documents.iter().position(|document| document.identity.kind != "Namespace").unwrap_or(documents.len());
        documents.insert(at, secret);
        meant = meant.map(|before| if before >= at { before + 1 } else { before });
    }
    Ok(Prepared { documents, meant, image })
}

/// The least that says what shall change; it is for a server that has the rest.
fn patch(wanted: &Wanted, kind: Kind, name: &str) -> Result<Document> {
    let change = Change::new(wanted);
    let container = match &wanted.parameters.container {
        Some(container) => Some(Container { list: "containers", name: container.clone(), image: None }),
        None if change.needs_container() => {
            return Err(Error::invalid_input(format!(
                "without a server nobody knows the containers of {}/{name}",
                kind.word()
            ))
            .hint("name the container with `container`, or give the whole manifest with `apply`"));
        }
        None => None,
    };
    let mut object =
        serde_json::json!({ "apiVersion": kind.api_version(), "kind": kind.name(), "metadata": { "name": name } });
    change.make(&mut object, kind, container.as_ref())?;
    Document::made(object)
}

/// Which document is the workload of the step.
///
/// # Errors
/// `invalid-input` if several are: the change would go into one of them without a word.
fn the_meant(wanted: &Wanted, documents: &[Document]) -> Result<Option<usize>> {
    let all: Vec<usize> = (0..documents.len()).filter(|at| is_meant(wanted, &documents[*at])).collect();
    if let [_, _, ..] = all[..] {
        let place = |at: &usize| {
            let document = &documents[*at];
            let namespace = document.identity.namespace.as_ref().map(|name| format!(" in {name}"));
            format!("{}{}", document.title(), namespace.unwrap_or_default())
        };
        let error = Error::invalid_input("several manifests are the workload of the step");
        let error = all.iter().map(place).fold(error, Error::because);
        return Err(error.hint("say which one with `namespace`, or apply the others in a step of their own"));
    }
    Ok(all.first().copied())
}

/// Whether a document is the workload of the step. Who names no namespace means the one that the manifest names.
fn is_meant(wanted: &Wanted, document: &Document) -> bool {
    let Some(WorkloadName { kind, name }) = &wanted.workload else { return false };
    let (own, asked) = (document.identity.namespace.as_ref(), wanted.parameters.namespace.as_ref());
    let here = own.is_none_or(|own| asked.is_none_or(|asked| own == asked));
    Kind::of(&document.object) == Some(*kind) && document.identity.name == *name && here
}

/// Makes the change on a manifest; gives the image that it had.
fn change(wanted: &Wanted, document: &mut Document) -> Result<Option<String>> {
    let Some(workload) = &wanted.workload else { return Ok(None) };
    let title = document.title();
    let container = choose(wanted, &document.object, workload.kind).map_err(|error| in_workload(error, &title))?;
    Change::new(wanted)
        .make(&mut document.object, workload.kind, container.as_ref())
        .map_err(|error| in_workload(error, &title))?;
    Ok(container.and_then(|container| container.image))
}

fn in_workload(error: Error, title: &str) -> Error {
    error.context(format!("{title} cannot be changed"))
}

/// The container that is meant, if it matters which one.
fn choose(wanted: &Wanted, object: &Value, kind: Kind) -> Result<Option<Container>> {
    let (name, image) = (wanted.parameters.container.as_deref(), wanted.parameters.image.as_deref());
    if !Change::new(wanted).needs_container() && name.is_none() {
        return Ok(None);
    }
    Container::find(template(object, kind), name, image).map(Some)
}

/// The image of a workload, as far as it is clear of which container.
fn image_in(wanted: &Wanted, object: &Value, kind: Kind) -> Option<String> {
    let (name, image) = (wanted.parameters.container.as_deref(), wanted.parameters.image.as_deref());
    Container::find(template(object, kind), name, image).ok()?.image
}

/// A step under way.
struct Deed<'d, 'a> {
    wanted: &'d Wanted,
    client: &'d Client<'a>,
    kinds: Kinds<'d, 'a>,
    rollouts: Vec<Rollout>,
    /// Which of them is the workload of the step.
    meant: Option<usize>,
    outcome: Outcome,
}

impl Deed<'_, '_> {
    /// Applies a manifest, which may be the one that the step means.
    fn apply(&mut self, mut document: Document, is_meant: bool) -> Result<()> {
        let title = document.title();
        let (path, namespace) =
            self.kinds.locate(&document.identity).map_err(|error| error.context(format!("cannot apply {title}")))?;
        if let Some(namespace) = &namespace {
            document.belong_to(namespace)?;
        }
        if is_meant {
            self.outcome.previous_image = self.image_of(&path, &title)?;
        }
        let object = self.apply_persistently(&path, &document, &title)?;
        info!("applied {}{}", document.identity, namespace.as_ref().map(|n| format!(" in {n}")).unwrap_or_default());
        if document.identity.kind == "CustomResourceDefinition" {
            self.kinds.made_one();
        }
        if let (Some(kind), Some(namespace)) = (Kind::of(&document.object), namespace) {
            if is_meant {
                self.meant = Some(self.rollouts.len());
            }
            self.rollouts.push(Rollout { kind, identity: document.identity.clone(), namespace, object });
        }
        self.outcome.documents.push(document);
        Ok(())
    }

    /// Again and again while others change the object, unless the manifest is for one state of it only.
    fn apply_persistently(&self, path: &str, document: &Document, title: &str) -> Result<Value> {
        let is_pinned = value::text(&document.object, "/metadata/resourceVersion").is_some();
        let mut attempt = 1;
        loop {
            match self.client.apply(path, &document.object, title)? {
                Applied::Done(object) => return Ok(object),
                Applied::Stale(refusal) if is_pinned || attempt == TRIES => {
                    let error = self.client.refused(&refusal, &format!("cannot apply {title}"));
                    let hint = "the manifest is for one state of the object: take `metadata.resourceVersion` out";
                    return Err(if is_pinned { error.hint(hint) } else { error });
                }
                Applied::Stale(_) => self.client.edge().clock.pause(retry::backoff(1))?,
            }
            attempt += 1;
        }
    }

    /// The image that the workload has now; none if there is no workload yet.
    fn image_of(&self, path: &str, title: &str) -> Result<Option<String>> {
        let Some(workload) = &self.wanted.workload else { return Ok(None) };
        let Some(live) = self.client.look(path, title)? else { return Ok(None) };
        Ok(image_in(self.wanted, &live, workload.kind))
    }

    /// Changes the workload of the step, unless it was among the manifests.
    fn update(&mut self) -> Result<()> {
        let Some(WorkloadName { kind, name }) = self.wanted.workload.clone().filter(|_| self.meant.is_none()) else {
            return Ok(());
        };
        let namespace = self.client.namespace().to_owned();
        let identity = Identity::of_workload(kind, &namespace, &name);
        let path = kinds::workload(kind, &namespace, &name)?;
        let title = format!("{identity} in {namespace}");
        let object = if self.wanted.changes_pods() {
            self.change(&path, &title, kind)?
        } else {
            let live = self.client.get(&path, &title)?;
            self.outcome.previous_image = image_in(self.wanted, &live, kind);
            live
        };
        self.meant = Some(self.rollouts.len());
        self.rollouts.push(Rollout { kind, identity, namespace, object });
        Ok(())
    }

    /// Reads, changes and applies, and again if somebody else was faster.
    fn change(&mut self, path: &str, title: &str, kind: Kind) -> Result<Value> {
        let mut attempt = 1;
        loop {
            let live = self.client.get(path, title)?;
            let container = choose(self.wanted, &live, kind).map_err(|error| in_workload(error, title))?;
            let image = image_in(self.wanted, &live, kind);
            // After an apply whose answer was lost, its own image is the one that is read.
            if attempt == 1 || image != self.wanted.parameters.image {
                self.outcome.previous_image = image;
            }
            let mut object = owned::of(&live, self.client.manager());
            let change = Change::new(self.wanted);
            change.check_env(&live, &object, kind, container.as_ref()).map_err(|error| in_workload(error, title))?;
            change.make(&mut object, kind, container.as_ref())?;
            let document = Document::made(object)?;
            // What others of the same name set in the meantime would be taken away otherwise.
            let mut pinned = document.object.clone();
            pinned["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
            match self.client.apply(path, &pinned, title)? {
                Applied::Done(now) => {
                    self.tell(title, self.outcome.previous_image.as_deref());
                    self.outcome.documents.push(document);
                    return Ok(now);
                }
                Applied::Stale(refusal) if attempt == TRIES => {
                    return Err(self.client.refused(&refusal, &format!("cannot apply {title}")));
                }
                Applied::Stale(_) => self.client.edge().clock.pause(retry::backoff(1))?,
            }
            attempt += 1;
        }
    }

    fn tell(&self, title: &str, before: Option<&str>) {
        match (self.wanted.parameters.image.as_deref(), before) {
            (Some(image), Some(before)) if image == before => info!("{title} has the image {image} already"),
            (Some(image), Some(before)) => info!("{title}: image {image} instead of {before}"),
            (Some(image), None) => info!("{title}: image {image}"),
            (None, _) => info!("{title} is changed"),
        }
    }

    /// Waits for all that was changed, and gives the outcome.
    fn wait(mut self) -> Result<Outcome> {
        let (limit, clock) = (self.wanted.wait, self.client.edge().clock);
        let waits = !limit.is_zero() && !self.wanted.parameters.dry_run;
        let deadline = clock.elapsed() + limit;
        for (at, rollout) in std::mem::take(&mut self.rollouts).into_iter().enumerate() {
            let object = if waits && rollout.kind.rolls_out() {
                // A step that fails has no outputs: whoever wants to go back learns it here.
                let before = self.outcome.previous_image.as_ref().filter(|_| self.meant == Some(at));
                rollout.wait(self.client, deadline, limit).map_err(|error| match before {
                    Some(image) => error.because(format!("the image before the step was {image}")),
                    None => error,
                })?
            } else {
                rollout.object
            };
            if self.meant == Some(at) {
                self.outcome.workload = Some(object);
            }
        }
        Ok(self.outcome)
    }
}

impl Outcome {
    /// The generation of the workload.
    #[must_use]
    pub fn generation(&self) -> Option<i64> {
        self.workload.as_ref()?["metadata"]["generation"].as_i64()
    }

    /// How many pods it has.
    #[must_use]
    pub fn replicas(&self) -> Option<i64> {
        let object = self.workload.as_ref()?;
        rollout::replicas(Kind::of(object)?, object)
    }

    /// What was applied or written as YAML, without secrets: outputs of steps are shown and kept.
    ///
    /// # Errors
    /// `internal` if it cannot be written.
    pub fn manifests(&self) -> Result<String> {
        manifests::to_stream(self.documents.iter().filter(|document| !document.is_secret()))
    }

    /// The documents as files.
    ///
    /// # Errors
    /// `internal` if one cannot be written.
    pub fn files(&self) -> Result<Vec<Written>> {
        let digits = self.documents.len().to_string().len().max(2);
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '-' };
        let file = |(at, document): (usize, &Document)| {
            let Identity { kind, name, .. } = &document.identity;
            let name: String = format!("{}-{name}", kind.to_ascii_lowercase()).chars().map(plain).collect();
            Ok(Written {
                name: format!("{:0digits$}-{name}.yaml", at + 1),
                text: manifests::to_yaml(&document.object)?,
                mode: if document.is_secret() { 0o600 } else { 0o644 },
            })
        };
        self.documents.iter().enumerate().map(file).collect()
    }
}

/// A document as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its name, which begins with its number.
    pub name: String,
    /// One YAML document.
    pub text: String,
    /// Permission bits.
    pub mode: u32,
}
