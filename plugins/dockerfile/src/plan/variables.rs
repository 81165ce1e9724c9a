//! ARG, ENV, LABEL and WORKDIR: instructions that later ones build on.

use super::graph::Planned;
use super::stage::{Builder, State};
use crate::backend::{Backend, Operation};
use crate::fault::Fault;
use crate::instructions::{Argument, Pair, Step};
use crate::parser::Word;
use crate::paths;
use crate::words::Lookup;

impl<B: Backend> Builder<'_, '_, B> {
    /// ARG.
    pub fn arg(&mut self, state: &mut State<B::Tree>, step: &Step, arguments: &[Argument]) -> Result<(), Fault> {
        let mut message = String::from("ARG");
        for argument in arguments {
            let name = &self.expand(state, step, &argument.name)?;
            let given = self.request.argument(name).map(str::to_owned);
            let value = match (given, &argument.default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => Some(self.expand(state, step, default)?),
                (None, None) => self.globals.get(name).map(str::to_owned),
            };
            self.outside.declared.insert(name.clone());
            message += &format!(" {name}");
            if let Some(value) = &value {
                state.scope.set(name, value)?;
                message += &format!("={value}");
            }
            if !state.declared.contains(name) {
                state.declared.push(name.clone());
            }
        }
        self.note(state, &message);
        Ok(())
    }

    fn pairs(&mut self, state: &State<B::Tree>, step: &Step, pairs: &[Pair]) -> Result<Vec<(String, String)>, Fault> {
        let mut expanded = Vec::with_capacity(pairs.len());
        for pair in pairs {
            expanded.push((self.expand(state, step, &pair.name)?, self.expand(state, step, &pair.value)?));
        }
        Ok(expanded)
    }

    /// ENV.
    pub fn env(&mut self, state: &mut State<B::Tree>, step: &Step, pairs: &[Pair]) -> Result<(), Fault> {
        let mut message = String::from("ENV");
        for (name, value) in self.pairs(state, step, pairs)? {
            state.scope.set(&name, &value)?;
            state.config.set_env(&name, &value);
            message += &format!(" {name}={value}");
        }
        self.note(state, &message);
        Ok(())
    }

    /// LABEL.
    pub fn label(&mut self, state: &mut State<B::Tree>, step: &Step, pairs: &[Pair]) -> Result<(), Fault> {
        let mut message = String::from("LABEL");
        for (name, value) in self.pairs(state, step, pairs)? {
            message += &format!(" {name}={value}");
            state.config.labels.insert(name, value);
        }
        self.note(state, &message);
        Ok(())
    }

    /// WORKDIR, which also makes the directory.
    pub fn workdir(&mut self, state: &mut State<B::Tree>, planned: &Planned, path: &Word) -> Result<(), Fault> {
        let path = self.expand(state, &planned.step, path)?;
        self.notice_workdir(state, &planned.step, &path);
        let path = paths::join(&state.config.working_dir, &path);
        state.config.working_dir = path.clone();
        let created_by = format!("WORKDIR {path}");
        if path == "/" {
            self.note(state, &created_by);
            return Ok(());
        }
        let owner = Some(state.config.user.clone()).filter(|user| !user.is_empty());
        let origin = self.origin(state, planned, self.lexer, "", created_by);
        self.apply(state, Operation::MakeDirectory { path, mode: 0o755, owner }, &origin);
        Ok(())
    }
}
