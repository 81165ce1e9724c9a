//! What the solver asks of others: images from registries, and somebody to tell what happens.

use std::sync::Arc;

use async_trait::async_trait;
use cooperage_sandbox::{Cancel, Exit, Sandbox, Spec};
use cooperage_store::{Descriptor, Platform};

use crate::{Base, Build, Error, Redactor, Secrets, Tree};

/// Where images come from. The implementation knows routing, credentials and registry plugins.
#[async_trait]
pub trait ImageSource: Send + Sync {
    /// Pins a name as a user writes it, for a platform. Moves the manifest and the configuration, no layer.
    async fn resolve(&self, reference: &str, platform: &Platform) -> Result<Base, Error>;

    /// Brings a layer of `base` into the blob store, unless it is there.
    async fn fetch_layer(&self, base: &Base, layer: &Descriptor) -> Result<(), Error>;
}

/// What is wanted of a source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceRequest {
    /// The URL as the user wrote it.
    pub url: String,
    /// Parameters of the source plugin, a JSON object as text.
    pub parameters: String,
}

impl SourceRequest {
    /// A request without parameters.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), parameters: "{}".to_owned() }
    }

    /// The URL for people: without a password.
    pub fn shown(&self) -> String {
        let Some((scheme, rest)) = self.url.split_once("://") else { return self.url.clone() };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        match rest[..end].rsplit_once('@') {
            Some((user, host)) if user.contains(':') => {
                let user = user.split(':').next().unwrap_or_default();
                format!("{scheme}://{user}:***@{host}{}", &rest[end..])
            }
            _ => self.url.clone(),
        }
    }
}

/// What a URL stands for at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceVersion {
    /// Equal values for equal requests mean equal files; empty if nobody can tell.
    pub value: String,
    /// Whether the request itself names this version and no other.
    pub immutable: bool,
    /// What else is known of it.
    pub annotations: Vec<(String, String)>,
}

/// Where files behind URLs come from. The implementation knows which plugin serves which URL.
#[async_trait]
pub trait SourceProvider: Send + Sync {
    /// Finds out what a URL stands for.
    async fn resolve(&self, build: &Build, request: &SourceRequest) -> Result<SourceVersion, Error>;

    /// Brings the files of a version; what is reported becomes part of `step`.
    async fn fetch(
        &self,
        build: &Build,
        request: &SourceRequest,
        version: &SourceVersion,
        step: &Step,
    ) -> Result<Tree, Error>;
}

/// Serves no URL.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSources;

#[async_trait]
impl SourceProvider for NoSources {
    async fn resolve(&self, _: &Build, request: &SourceRequest) -> Result<SourceVersion, Error> {
        let message = format!("there is no source for {}", request.shown());
        Err(Error::new(crate::ErrorKind::Unsupported, message))
    }

    async fn fetch(&self, _: &Build, request: &SourceRequest, _: &SourceVersion, _: &Step) -> Result<Tree, Error> {
        let message = format!("there is no source for {}", request.shown());
        Err(Error::new(crate::ErrorKind::Unsupported, message))
    }
}

/// What runs the processes of a build: the sandbox of this machine, or what stands in for it.
pub trait Processes: Send + Sync {
    /// Runs one process to its end and blocks this thread meanwhile. What it changes is in the upper directory of the
    /// root afterwards; `output` gets what it says, as it comes.
    ///
    /// # Errors
    /// When it could not be run at all; its own failure is an [`Exit`].
    fn run(
        &self,
        spec: &Spec,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Exit, cooperage_sandbox::Error>;
}

impl Processes for Sandbox {
    fn run(
        &self,
        spec: &Spec,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Exit, cooperage_sandbox::Error> {
        Self::run(self, spec, output, cancel)
    }
}

/// Number of a step within one build, given by the solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub u64);

/// How a step ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// The result was there.
    Cached,
    /// It failed, with a message for the user.
    Failed(String),
    /// It was stopped.
    Cancelled,
}

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Anything else.
    Items,
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every detail.
    Trace,
    /// For finding defects.
    Debug,
    /// For every user.
    Info,
    /// Probably not what the user wants.
    Warn,
    /// Why the work fails.
    Error,
}

/// Something that happened. Steps of the solver, of plugins and of transfers share one numbering.
#[derive(Debug, Clone)]
pub enum Event {
    /// A step began; `parent` is the step it is part of.
    Started {
        /// Its number.
        step: StepId,
        /// The step it is part of.
        parent: Option<StepId>,
        /// What the user sees.
        name: String,
    },
    /// A counter of a step moved; both numbers are absolute.
    Progress {
        /// The step.
        step: StepId,
        /// So far.
        done: u64,
        /// Of how many.
        total: Option<u64>,
        /// What is counted.
        unit: Unit,
    },
    /// Output of a process or a far side, as it came.
    Output {
        /// The step.
        step: StepId,
        /// Bytes with terminal escapes as they were; who prints them makes them harmless.
        bytes: Vec<u8>,
    },
    /// A line for the user.
    Log {
        /// The step, if in one.
        step: Option<StepId>,
        /// How much it matters.
        level: Level,
        /// One line.
        message: String,
    },
    /// A step ended.
    Finished {
        /// The step.
        step: StepId,
        /// How.
        outcome: Outcome,
    },
}

/// Is told what happens. Called from many threads; must return at once.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// Gives out step numbers and passes events on.
#[derive(Clone)]
pub struct Reporter {
    observer: Arc<dyn Observer>,
    next: Arc<std::sync::atomic::AtomicU64>,
}

impl Reporter {
    /// Reports to `observer`.
    pub fn new(observer: Arc<dyn Observer>) -> Self {
        Self { observer, next: Arc::new(std::sync::atomic::AtomicU64::new(1)) }
    }

    /// Reports to nobody.
    pub fn silent() -> Self {
        struct Nobody;
        impl Observer for Nobody {
            fn event(&self, _: Event) {}
        }
        Self::new(Arc::new(Nobody))
    }

    /// The same, with the values of secrets blacked out of names and messages. Output goes through a [`Redactor`] where it
    /// comes from, since a value may be cut in two there.
    pub fn without(&self, secrets: &Secrets) -> Self {
        struct Redacting {
            observer: Arc<dyn Observer>,
            redactor: Redactor,
        }
        impl Observer for Redacting {
            fn event(&self, mut event: Event) {
                match &mut event {
                    Event::Started { name: text, .. }
                    | Event::Log { message: text, .. }
                    | Event::Finished { outcome: Outcome::Failed(text), .. } => *text = self.redactor.text(text),
                    Event::Progress { .. } | Event::Output { .. } | Event::Finished { .. } => {}
                }
                self.observer.event(event);
            }
        }
        let observer = Arc::new(Redacting { observer: self.observer.clone(), redactor: Redactor::new(secrets) });
        Self { observer, next: self.next.clone() }
    }

    /// Passes an event on.
    pub fn event(&self, event: Event) {
        self.observer.event(event);
    }

    /// Begins a step.
    pub fn step(&self, parent: Option<StepId>, name: impl Into<String>) -> Step {
        let id = StepId(self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        self.event(Event::Started { step: id, parent, name: name.into() });
        Step { reporter: self.clone(), id, ended: false }
    }

    /// Writes a line that belongs to no step.
    pub fn log(&self, level: Level, message: impl Into<String>) {
        self.event(Event::Log { step: None, level, message: message.into() });
    }
}

/// A step under way. Dropped without a word it is reported as cancelled.
pub struct Step {
    reporter: Reporter,
    id: StepId,
    ended: bool,
}

impl Step {
    /// Its number.
    pub fn id(&self) -> StepId {
        self.id
    }

    /// Who reports it.
    pub fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// Begins a part of it.
    pub fn child(&self, name: impl Into<String>) -> Self {
        self.reporter.step(Some(self.id), name)
    }

    /// `done` of `total` so far.
    pub fn progress(&self, done: u64, total: Option<u64>, unit: Unit) {
        self.reporter.event(Event::Progress { step: self.id, done, total, unit });
    }

    /// Output as it comes.
    pub fn output(&self, bytes: &[u8]) {
        self.reporter.event(Event::Output { step: self.id, bytes: bytes.to_vec() });
    }

    /// A line about this step.
    pub fn log(&self, level: Level, message: impl Into<String>) {
        self.reporter.event(Event::Log { step: Some(self.id), level, message: message.into() });
    }

    /// Ends it.
    pub fn finish(mut self, outcome: Outcome) {
        self.ended = true;
        self.reporter.event(Event::Finished { step: self.id, outcome });
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.reporter.event(Event::Finished { step: self.id, outcome: Outcome::Cancelled });
        }
    }
}
