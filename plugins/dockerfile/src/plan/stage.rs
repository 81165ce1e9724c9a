//! Goes through the instructions of the stages that are needed and keeps what each changes: the tree, the
//! configuration, the variables.

use std::collections::BTreeSet;

use serde_json::Value;

use super::graph::{Graph, Planned, Root};
use super::outside::Outside;
use super::scope::{Scope, wrong_word};
use super::{Image, Request};
use crate::backend::{Backend, CopyOperation, Operation, Origin, Source};
use crate::config::{Config, DEFAULT_PATH};
use crate::fault::{self, Fault, Kind};
use crate::instructions::{Command, Dockerfile, Step};
use crate::lint::commands::Used;
use crate::parser::Word;
use crate::paths;
use crate::platform::Platform;
use crate::words::Lexer;

/// A stage after some of its instructions.
#[derive(Clone)]
pub struct State<T> {
    /// Its file system.
    pub tree: T,
    /// Its configuration.
    pub config: Config,
    /// ENV and ARG, as RUN and later instructions see them.
    pub scope: Scope,
    /// Names declared by ARG, in order.
    pub declared: Vec<String>,
    /// Its platform.
    pub platform: Platform,
    /// Instructions of this stage that may stand only once. With a CMD among them ENTRYPOINT leaves CMD alone.
    pub used: Used,
    /// Whether there was a WORKDIR, in this stage or one below it.
    pub workdir_is_set: bool,
    /// Whether the variables of the base are known.
    pub known: bool,
}

/// Everything that an instruction needs beside its stage.
pub struct Builder<'a, 'b, B: Backend> {
    /// Images and contexts.
    pub outside: &'a mut Outside<'b, B>,
    /// The escape character of words.
    pub lexer: Lexer,
    /// Stages that are done.
    pub done: Vec<Option<State<B::Tree>>>,
    /// What the user asked for.
    pub request: &'a Request,
    /// Variables that ARG inherits from before the first FROM.
    pub globals: Scope,
    /// Names that the ARG and ENV of the current stage, and those before the first FROM, declare.
    pub own: BTreeSet<String>,
    /// What is built.
    pub dockerfile: &'a Dockerfile,
    source: &'a fault::Source,
    counter: Counter,
}

/// Numbers the steps of a stage for the user.
#[derive(Default)]
struct Counter {
    prefix: String,
    index: usize,
    total: usize,
}

/// Builds the target of a graph.
pub fn build<B: Backend>(
    graph: Graph<'_>,
    dockerfile: &Dockerfile,
    source: &fault::Source,
    request: &Request,
    outside: &mut Outside<'_, B>,
) -> Result<Image<B::Tree>, Fault> {
    let lexer = Lexer::new(dockerfile.escape);
    let done = graph.nodes.iter().map(|_| None).collect();
    let mut builder = Builder {
        outside,
        lexer,
        done,
        request,
        source,
        dockerfile,
        globals: graph.globals,
        own: BTreeSet::new(),
        counter: Counter::default(),
    };
    let many = request.platforms.len() > 1;
    for (index, node) in graph.nodes.iter().enumerate() {
        let (Some(root), Some(platform)) = (&node.root, &node.platform) else {
            continue;
        };
        let stage = &dockerfile.stages[index];
        let name = match (&stage.name, dockerfile.stages.len()) {
            (Some(name), _) => name.clone(),
            (None, 1) => String::new(),
            (None, _) => format!("stage-{index}"),
        };
        let platforms = match (many, *platform == graph.platform) {
            (false, _) => String::new(),
            (true, true) => platform.to_string(),
            (true, false) => format!("{platform}->{}", graph.platform),
        };
        let prefix = [platforms, name].iter().filter(|part| !part.is_empty()).map(|part| format!("{part} ")).collect();
        let external = matches!(root, Root::Image(_) | Root::Context(_));
        let counted = node
            .planned
            .iter()
            .filter(|planned| matches!(planned.step.command, Command::Copy(_) | Command::Run(_) | Command::Workdir(_)));
        builder.counter =
            Counter { prefix, index: usize::from(external), total: usize::from(external) + counted.count() };
        let mut state = builder.begin(root, platform).map_err(|fault| fault.at(stage.span))?;
        builder.notice_base(stage, root, &state);
        for planned in &node.planned {
            builder.step(&mut state, planned).map_err(|fault| fault.at(planned.step.span))?;
        }
        builder.done[index] = Some(state);
    }
    let state =
        builder.done[graph.target].take().ok_or_else(|| Fault::new(Kind::Internal, "the target was not built"))?;
    // With a single platform that is the host's nobody asked for a platform, and FROM --platform decides.
    let asked = many || graph.platform != request.build_platform;
    let platform = match (&state.config.platform, asked) {
        (Some(own), false) => own.clone(),
        _ => graph.platform,
    };
    let mut config = state.config;
    config.labels.extend(request.labels.iter().cloned());
    Ok(Image { tree: state.tree, config: config.write(&platform, request.epoch()), platform })
}

impl<B: Backend> Builder<'_, '_, B> {
    /// A stage before its first instruction.
    fn begin(&mut self, root: &Root, platform: &Platform) -> Result<State<B::Tree>, Fault> {
        let (tree, mut config) = match root {
            Root::Scratch => (self.outside.scratch()?, Config::scratch(platform)),
            Root::Context(name) => {
                let context = self.tree(root)?;
                let created_by = format!("FROM {name}");
                let origin = Origin {
                    name: format!("[{}] {created_by}", self.counter.prefix.trim_end()),
                    created_by,
                    place: None,
                };
                let copy = CopyOperation {
                    source: context,
                    paths: vec!["/".into()],
                    destination: "/".into(),
                    owner: None,
                    mode: None,
                    exclude: Vec::new(),
                    parents: false,
                    link: false,
                    unpack: false,
                };
                let scratch = self.outside.scratch()?;
                let mut config = Config::scratch(platform);
                config.add_history(&origin.created_by, false, self.request.epoch());
                (self.outside.backend.apply(&scratch, Operation::Copy(copy), &origin), config)
            }
            Root::Image(_) => {
                let tree = self.tree(root)?;
                (tree, self.base_config(root))
            }
            Root::Stage(index) => {
                let Some(Some(state)) = self.done.get(*index) else {
                    return Err(Fault::new(Kind::Internal, format!("stage {index} is used before it is built")));
                };
                let mut state = state.clone();
                state.config.on_build.clear();
                state.used = Used::default();
                return Ok(state);
            }
        };
        config.on_build.clear();
        if platform.os != "windows" && !config.env_pairs().any(|(name, _)| name == "PATH") {
            config.set_env("PATH", DEFAULT_PATH);
        }
        if !config.working_dir.is_empty() {
            config.working_dir = paths::join("/", &config.working_dir);
        }
        let mut scope = Scope::default();
        for (name, value) in config.env_pairs() {
            scope.set(name, value)?;
        }
        Ok(State {
            tree,
            config,
            scope,
            declared: Vec::new(),
            platform: platform.clone(),
            used: Used::default(),
            workdir_is_set: false,
            known: !matches!(root, Root::Image(wanted) if self.outside.base(wanted).is_none_or(Value::is_null)),
        })
    }

    fn base_config(&self, root: &Root) -> Config {
        match root {
            Root::Image(wanted) => self.outside.base(wanted).map(Config::read).unwrap_or_default(),
            _ => Config::default(),
        }
    }

    /// The file system that a name refers to.
    pub fn tree(&mut self, root: &Root) -> Result<B::Tree, Fault> {
        let missing = || Fault::new(Kind::Internal, "a stage uses something that was not fetched");
        match root {
            Root::Scratch => self.outside.scratch(),
            Root::Context(name) => self.outside.named_context(name)?.ok_or_else(missing),
            Root::Image(wanted) => self.outside.backend.source(Source::Image(wanted)),
            Root::Stage(index) => {
                self.done.get(*index).and_then(Option::as_ref).map(|state| state.tree.clone()).ok_or_else(missing)
            }
        }
    }

    fn step(&mut self, state: &mut State<B::Tree>, planned: &Planned) -> Result<(), Fault> {
        let step = &*planned.step;
        self.notice(state, planned);
        match &step.command {
            Command::Arg(arguments) => self.arg(state, step, arguments),
            Command::Env(pairs) => self.env(state, step, pairs),
            Command::Label(pairs) => self.label(state, step, pairs),
            Command::Copy(copy) => self.copy(state, planned, copy),
            Command::Run(run) => self.run(state, planned, run),
            Command::Workdir(path) => self.workdir(state, planned, path),
            _ => self.metadata(state, step),
        }
    }

    /// Expands a word with the variables of a stage, and notes those that are not set.
    pub fn expand(&mut self, state: &State<B::Tree>, step: &Step, word: &Word) -> Result<String, Fault> {
        let expanded = self.lexer.word(&word.text, &state.scope).map_err(|error| wrong_word(word, &error))?;
        self.unmatched(state, step, expanded.unmatched);
        Ok(expanded.text)
    }

    /// Adds to the history what changed no file.
    pub fn note(&mut self, state: &mut State<B::Tree>, created_by: &str) {
        state.config.add_history(created_by, true, self.request.epoch());
    }

    /// Does something to the tree, with its entry in the history.
    pub fn apply(&mut self, state: &mut State<B::Tree>, operation: Operation<B::Tree>, origin: &Origin) {
        state.tree = self.outside.backend.apply(&state.tree, operation, origin);
        state.config.add_history(&origin.created_by, false, self.request.epoch());
    }

    /// `[stage n/m] TEXT` for the user.
    pub fn origin(
        &mut self,
        state: &State<B::Tree>,
        planned: &Planned,
        lexer: Lexer,
        suffix: &str,
        created_by: String,
    ) -> Origin {
        let code = &planned.step.code;
        let text = lexer.word(code, &state.scope).map(|expanded| expanded.text).unwrap_or_else(|_| code.clone());
        let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
        let text = format!("{} {}{suffix}", keyword.to_uppercase(), rest.trim_start());
        let onbuild = if planned.onbuild { "ONBUILD " } else { "" };
        self.counter.index += 1;
        let Counter { prefix, index, total } = &self.counter;
        let width = total.to_string().len();
        let name = format!("[{prefix}{index:width$}/{total}] {onbuild}{text}");
        Origin { name, created_by, place: Some(self.source.place(planned.step.span)) }
    }
}
