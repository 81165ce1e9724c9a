//! Asks the rules about what the planner comes across, and keeps what they say.

use super::Request;
use super::graph::{Graph, Planned, Root};
use super::scope;
use super::stage::{Builder, State};
use crate::backend::Backend;
use crate::fault::Span;
use crate::instructions::{Command, Dockerfile, Pair, Stage, Step};
use crate::lint::bases::{self, Bases};
use crate::lint::{commands, ignored, variables};
use crate::parser::Warning;

/// The FROMs of all stages.
pub fn bases(dockerfile: &Dockerfile, request: &Request, graph: &Graph<'_>, warnings: &mut Vec<Warning>) {
    let given = request.arguments.iter().filter(|(name, _)| scope::is_automatic(name));
    let plain = Request { arguments: given.cloned().collect(), ..request.clone() };
    let defaults = scope::globals(dockerfile, &plain, &graph.platform).ok();
    let rules = Bases {
        dockerfile,
        globals: &graph.globals,
        known: graph.globals.variables().iter().map(|(name, _)| name.as_str()).collect(),
        defaults: defaults.as_ref().map(|defaults| defaults as _),
        build_platform: &request.build_platform,
    };
    rules.check(warnings);
}

impl<B: Backend> Builder<'_, '_, B> {
    /// A stage before its first instruction.
    pub fn notice_base(&mut self, stage: &Stage, root: &Root, state: &State<B::Tree>) {
        self.own = variables::declared(self.dockerfile.globals.iter().chain(&stage.steps));
        if let (Root::Image(wanted), Some(found)) = (root, &state.config.platform)
            && let Some(message) = bases::wrong_platform(&wanted.reference, &wanted.platform, found)
        {
            self.warn_at("InvalidBaseImagePlatform", stage.base.span, message);
        }
    }

    /// An instruction before it is done.
    pub fn notice(&mut self, state: &mut State<B::Tree>, planned: &Planned) {
        let step = &*planned.step;
        if let Some((ignored, message)) = state.used.again(&step.command, step.span) {
            self.warn_at("MultipleInstructionsDisallowed", ignored, message);
        }
        match &step.command {
            Command::Env(pairs) => {
                self.notice_pairs("ENV", step, pairs);
                let secrets =
                    pairs.iter().filter_map(|pair| Some((variables::secret("ENV", &pair.name.text)?, pair.name.span)));
                secrets.for_each(|(message, span)| self.warn_at("SecretsUsedInArgOrEnv", span, message));
            }
            Command::Arg(arguments) => {
                for name in arguments.iter().map(|argument| &argument.name) {
                    if let Some(message) = variables::secret("ARG", &name.text) {
                        self.warn_at("SecretsUsedInArgOrEnv", name.span, message);
                    }
                }
            }
            Command::Label(pairs) => self.notice_pairs("LABEL", step, pairs),
            Command::Cmd(line) if line.shell => self.notice_shell("CMD", state, step),
            Command::Entrypoint(line) if line.shell => self.notice_shell("ENTRYPOINT", state, step),
            _ => {}
        }
    }

    fn notice_pairs(&mut self, keyword: &str, step: &Step, pairs: &[Pair]) {
        if let Some(message) = commands::legacy(keyword, pairs) {
            self.warn("LegacyKeyValueFormat", step, message);
        }
    }

    /// Who sets a SHELL wants a shell.
    fn notice_shell(&mut self, keyword: &str, state: &State<B::Tree>, step: &Step) {
        if state.config.shell.is_empty() {
            self.warn("JSONArgsRecommended", step, commands::json_recommended(keyword));
        }
    }

    /// The path of a WORKDIR, expanded.
    pub fn notice_workdir(&mut self, state: &mut State<B::Tree>, step: &Step, path: &str) {
        let first = !std::mem::replace(&mut state.workdir_is_set, true);
        if let (true, Some(message)) = (first, commands::relative(path, &state.platform.os)) {
            self.warn("WorkdirRelativePath", step, message);
        }
    }

    /// A port of EXPOSE, expanded.
    pub fn notice_port(&mut self, span: Span, text: &str) {
        commands::port(text).into_iter().for_each(|(rule, message)| self.warn_at(rule, span, message));
    }

    /// A source of COPY and ADD in the main context, expanded.
    pub fn notice_source(&mut self, span: Span, keyword: &str, path: &str) {
        if ignored::leaves_out(&self.request.ignore, path) {
            self.warn_at("CopyIgnoredFile", span, format!("{keyword} names {path}, which the ignore file leaves out"));
        }
    }

    /// Variables that are not set; an ARG without a value is meant to be empty.
    pub fn unmatched(&mut self, state: &State<B::Tree>, step: &Step, names: impl IntoIterator<Item = String>) {
        for name in names.into_iter().filter(|name| !state.declared.contains(name)) {
            if !state.known && !variables::is_meant_here(&name, &self.own, state.scope.variables()) {
                continue;
            }
            let hint = state.scope.nearest(&name).map(|hint| format!("; {hint}")).unwrap_or_default();
            self.warn("UndefinedVar", step, format!("the variable ${name} is not set{hint}"));
        }
    }

    /// Notes something odd about an instruction.
    pub fn warn(&mut self, rule: &'static str, step: &Step, message: String) {
        self.warn_at(rule, step.span, message);
    }

    fn warn_at(&mut self, rule: &'static str, span: Span, message: String) {
        self.outside.warnings.push(Warning { rule, message, span });
    }
}
