//! A build by the engine, from what the user set to the image that the engine then has: which builder, over a session or
//! with an archive, and what it is told. The roles `builder` and `task` begin here and part afterwards.

use std::cell::RefCell;
use std::rc::Rc;

use cooperage_sdk::prelude::*;
use cooperage_sdk::secrets::{Secret, reveal_text};
use cooperage_sdk::warn;

use crate::build;
use crate::build::bases::{self, Bases};
use crate::build::buildkit::Trace;
use crate::build::choose::{Backend, Needs, choose, needs_buildkit, wants_session};
use crate::build::classic::Text;
use crate::build::parameters::Parameters;
use crate::build::request::{self, Plan};
use crate::context::{self, Recipe};
use crate::credentials::{Credential, Credentials};
use crate::edge::{Answer, Opened, Payload};
use crate::engine::{Engine, Request};
use crate::files::{self, Texts, TreeFiles};
use crate::guest::{self, Screen};
use crate::session::{Files, Session};

/// Where the key lies under which the engine keeps the context of this project for its next build.
const SHARED_KEY: &str = "session-key";

/// What is to be built.
pub struct Order<'a> {
    /// What the user set.
    pub parameters: &'a Parameters,
    /// Build arguments in order; the last of a name counts.
    pub arguments: &'a [(String, String)],
    /// Labels in order.
    pub labels: &'a [(String, String)],
    /// SOURCE_DATE_EPOCH.
    pub epoch: Option<u64>,
    /// Run every step, whatever the engine has from earlier builds.
    pub no_cache: bool,
}

/// An order that an engine has taken.
pub struct Work<'a> {
    engine: &'a Engine<'a>,
    order: Order<'a>,
    recipe: Recipe,
    backend: Backend,
    credentials: Credentials,
    secrets: Vec<(String, Vec<u8>)>,
    /// The session by which it was found that there are sessions; the first build uses it.
    opened: RefCell<Option<(Session, Opened)>>,
    /// The context as the engine may ask for it, once it was looked at.
    files: RefCell<Option<Rc<dyn Files>>>,
}

impl<'a> Work<'a> {
    /// Finds the Dockerfile, the secrets and the builder, and says which builder it is.
    ///
    /// # Errors
    /// Those of the context and the secrets, and `unsupported` if no builder of the engine can do it.
    pub fn prepare(engine: &'a Engine<'a>, order: Order<'a>) -> Result<Self> {
        let parameters = order.parameters;
        request::check(parameters)?;
        let recipe = context::find(parameters)?;
        let needs = Needs {
            secrets: !parameters.secrets.is_empty(),
            hidden: recipe.hidden(),
            syntax: needs_buildkit(&recipe.text),
        };
        let (mut opened, mut no_session) = (None, None);
        if wants_session(parameters.builder, engine.traits()) {
            match open(engine) {
                Ok(session) => opened = Some(session),
                Err(error) if matches!(error.kind, ErrorKind::Denied | ErrorKind::Unavailable) => {
                    no_session = Some(error.message);
                }
                Err(error) => return Err(error),
            }
        }
        let choice = choose(parameters.builder, engine.traits(), &needs, no_session.as_deref())?;
        let with = match choice.backend {
            Backend::Classic => "the classic builder of ",
            Backend::BuildKit { .. } => "BuildKit of ",
            Backend::Podman => "",
        };
        info!("building with {with}{}: {}", engine.traits().name, choice.why);
        if let Some(warning) = &choice.warning {
            warn!("{warning}");
        }
        let mut credentials = Credentials::default();
        for one in &parameters.registry_auth {
            credentials.add(Credential::new(&one.host, &one.username, reveal_text(&one.password.secret)?));
        }
        let reveal = |(id, value): (&String, &Secret)| Ok((id.clone(), secrets::reveal(&value.secret)?));
        let secrets = parameters.secrets.iter().map(reveal).collect::<Result<Vec<_>>>()?;
        let (opened, files) = (RefCell::new(opened), RefCell::new(None));
        Ok(Self { engine, order, recipe, backend: choice.backend, credentials, secrets, opened, files })
    }

    /// Builds, and gives the identity of the image, which then has these names too.
    ///
    /// # Errors
    /// Those of the context, of the engine, and of the build.
    pub fn run(&self, platform: &Platform, tags: &[String]) -> Result<String> {
        let refresh = self.order.parameters.pull;
        let mut screen = Screen::default();
        let mut begin = |pull| {
            let request = self.request(platform, tags, pull, None)?;
            Ok((request, self.recipe.pack(self.backend, &self.secrets)?))
        };
        match self.backend {
            Backend::BuildKit { session: true } => self.converse(platform, tags, &mut screen),
            Backend::BuildKit { session: false } => {
                let platform = request::foreign(self.engine, platform);
                let bases = Bases { credentials: &self.credentials, platform, refresh };
                bases::build(self.engine, &bases, &mut begin, &mut screen)
            }
            Backend::Classic | Backend::Podman => {
                let (request, context): (Request, Payload) = begin(refresh)?;
                build::run(self.engine, request, context, &mut Text::default(), &mut screen)
            }
        }
    }

    /// Builds over a session: BuildKit asks for what it lacks while it says how far it is.
    fn converse(&self, platform: &Platform, tags: &[String], screen: &mut Screen) -> Result<String> {
        let first = self.opened.take();
        let (session, opened) = first.map_or_else(|| open(self.engine), Ok)?;
        let request = self.request(platform, tags, self.order.parameters.pull, Some(session.id()))?;
        let credentials = self.credentials.clone();
        let session = session
            .directory("context", self.files()?)
            .directory("dockerfile", Rc::new(Texts::dockerfile(&self.recipe.text)))
            .credentials(move |host| credentials.of_host(host));
        let offered = self.secrets.iter().fold(session, |session, (id, value)| session.secret(id, value.clone()));
        let mut conversation = offered.converse(opened(self.engine.exchange(request.patient())?)?);
        let fault = conversation.fault();
        let (status, headers) = conversation.head()?;
        let answer = Answer { status, headers, body: Box::new(conversation) };
        let built = build::shown(answer, &mut Trace::default(), screen);
        // What went wrong on this side the engine tells too, in other words.
        built.map_err(|error| {
            fault.take().map_or(error, |own| own.context("the engine cannot be given what it asks for"))
        })
    }

    fn files(&self) -> Result<Rc<dyn Files>> {
        if let Some(files) = &*self.files.borrow() {
            return Ok(files.clone());
        }
        let files: Rc<dyn Files> = Rc::new(TreeFiles::of(self.recipe.tree()?, guest::open)?);
        Ok(self.files.borrow_mut().insert(files).clone())
    }

    fn request(&self, platform: &Platform, tags: &[String], pull: bool, session: Option<&str>) -> Result<Request> {
        let files: Vec<_> = match session {
            Some(_) => Vec::new(),
            None => self.secrets.iter().map(|(id, _)| (id.clone(), context::secret_file(id))).collect(),
        };
        let plan = Plan {
            parameters: self.order.parameters,
            backend: self.backend,
            dockerfile: session.map_or(&self.recipe.dockerfile, |_| files::DOCKERFILE),
            platform,
            arguments: self.order.arguments,
            labels: self.order.labels,
            epoch: self.order.epoch,
            no_cache: self.order.no_cache,
            tags,
            credentials: &self.credentials,
            pull,
            secrets: &files,
            session,
        };
        request::request(self.engine, &plan)
    }
}

/// A session of this project. The engine keeps the files of one build under the shared key, and asks in the next one
/// only for those that have changed.
fn open(engine: &Engine<'_>) -> Result<(Session, Opened)> {
    let memory = engine.edge().memory;
    let known = memory.get(SHARED_KEY).and_then(|key| String::from_utf8(key).ok());
    let key = known.unwrap_or_else(|| {
        let key = Session::new("", "").id().to_owned();
        memory.set(SHARED_KEY, key.as_bytes());
        key
    });
    let session = Session::new("cooperage", &key);
    let opened = engine.open(&session)?;
    Ok((session, opened))
}
