//! Which stages are needed and what each name in them refers to: an earlier stage, an image, a context.
//! Knows names and order, not what instructions do.

use std::rc::Rc;

use super::Request;
use super::names::{check_reference, find_target, latest};
use super::outside::Outside;
use super::scope::{self, Scope, wrong_word};
use crate::backend::{Backend, Wanted};
use crate::fault::{Fault, Span};
use crate::instructions::{Command, Dockerfile, Stage, Step, mount_from, read_trigger};
use crate::parser::Word;
use crate::platform::Platform;
use crate::words::{Lexer, Unset};

/// What a name refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// Nothing at all.
    Scratch,
    /// An earlier stage, by number.
    Stage(usize),
    /// An image.
    Image(Wanted),
    /// A named context.
    Context(String),
}

/// An instruction with what its names refer to.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The instruction.
    pub step: Rc<Step>,
    /// For `COPY --from` one, for RUN one per mount; none where no `from` is given.
    pub references: Vec<Option<Root>>,
    /// Whether the base image brought it.
    pub onbuild: bool,
}

/// A stage as far as it is known.
#[derive(Debug, Default)]
pub struct Node {
    /// What it starts from, once it is reached.
    pub root: Option<Root>,
    /// `--platform`, or the platform of the build.
    pub platform: Option<Platform>,
    /// Its instructions, those of ONBUILD first.
    pub planned: Vec<Planned>,
    triggered: bool,
}

/// The stages of one platform.
pub struct Graph<'a> {
    /// The platform of the build.
    pub platform: Platform,
    /// Variables that FROM can use, and stages inherit.
    pub globals: Scope,
    /// The stage to build.
    pub target: usize,
    /// All stages; those not needed have no root.
    pub nodes: Vec<Node>,
    dockerfile: &'a Dockerfile,
    request: &'a Request,
}

impl<'a> Graph<'a> {
    /// Nothing reached yet but the target known.
    pub fn new(dockerfile: &'a Dockerfile, request: &'a Request, platform: &Platform) -> Result<Self, Fault> {
        let target = match &request.target {
            None => dockerfile.stages.len() - 1,
            Some(name) => find_target(&dockerfile.stages, name)?,
        };
        let globals = scope::globals(dockerfile, request, platform)?;
        let nodes = dockerfile.stages.iter().map(|_| Node::default()).collect();
        Ok(Self { platform: platform.clone(), globals, target, nodes, dockerfile, request })
    }

    /// Follows all names from the target. Gives the images that must be resolved before it can go on.
    pub fn reach<B: Backend>(&mut self, outside: &mut Outside<'_, B>) -> Result<Vec<(Wanted, Span)>, Fault> {
        let mut wanted = Vec::new();
        let mut seen = vec![false; self.nodes.len()];
        let mut open = match self.request.all_stages {
            true => (0..self.nodes.len()).collect(),
            false => vec![self.target],
        };
        while let Some(index) = open.pop() {
            if std::mem::replace(&mut seen[index], true) {
                continue;
            }
            let span = self.dockerfile.stages[index].span;
            if self.nodes[index].root.is_none() {
                self.enter(index, outside).map_err(|fault| fault.at(span))?;
            }
            self.trigger(index, outside)?;
            let node = &self.nodes[index];
            let named = node
                .planned
                .iter()
                .flat_map(|planned| planned.references.iter().flatten().map(|root| (root, planned.step.span)));
            for (root, span) in node.root.iter().map(|root| (root, span)).chain(named) {
                match root {
                    Root::Stage(stage) => open.push(*stage),
                    Root::Image(image) if outside.base(image).is_none() => wanted.push((image.clone(), span)),
                    _ => {}
                }
            }
        }
        Ok(wanted)
    }

    /// Finds out what a stage starts from and what its instructions refer to.
    fn enter<B: Backend>(&mut self, index: usize, outside: &mut Outside<'_, B>) -> Result<(), Fault> {
        let stage = &self.dockerfile.stages[index];
        let platform = match &stage.platform {
            None => self.platform.clone(),
            Some(word) => self.stage_platform(word)?,
        };
        // A context with the name of a stage takes the place of the whole stage.
        let replaced = match &stage.name {
            Some(name) => self.supplied(name, &platform, outside)?,
            None => None,
        };
        let steps: &[Step] = if replaced.is_some() { &[] } else { &stage.steps };
        let root = match replaced {
            Some(root) => root,
            None => self.root_of(index, stage, &platform, outside)?,
        };
        let mut planned = Vec::with_capacity(steps.len());
        for step in steps {
            planned.push(self.plan(index, Rc::new(step.clone()), false, outside).map_err(|fault| fault.at(step.span))?);
        }
        let node = &mut self.nodes[index];
        node.planned = planned;
        node.platform = Some(platform);
        node.root = Some(root);
        Ok(())
    }

    fn stage_platform(&self, word: &Word) -> Result<Platform, Fault> {
        let value = self.expand(word)?;
        Platform::parse(&value, &self.request.build_platform).ok_or_else(|| {
            Fault::invalid(format!("invalid platform {value:?}"))
                .hint("write it as os/architecture, for instance linux/arm64")
                .at(word.span)
        })
    }

    /// A word of FROM. A variable that is not set is the usual reason for an empty result.
    fn expand(&self, word: &Word) -> Result<String, Fault> {
        let lexer = Lexer::new(self.dockerfile.escape);
        let expanded = lexer.word(&word.text, &self.globals).map_err(|error| wrong_word(word, &error))?;
        if !expanded.text.is_empty() {
            return Ok(expanded.text);
        }
        let fault = Fault::invalid(format!("{} in FROM is empty", word.text)).at(word.span);
        Err(match expanded.unmatched.first() {
            None => fault,
            Some(name) => fault.maybe_hint(self.globals.nearest(name)).hint(format!(
                "{name} has no value: FROM sees only ARGs that stand before the first FROM; add ARG {name}=VALUE there or pass --build-arg {name}=VALUE"
            )),
        })
    }

    fn root_of<B: Backend>(
        &self,
        index: usize,
        stage: &Stage,
        platform: &Platform,
        outside: &mut Outside<'_, B>,
    ) -> Result<Root, Fault> {
        let base = self.expand(&stage.base)?;
        if let Some(earlier) = latest(&self.dockerfile.stages[..index], &base) {
            return Ok(Root::Stage(earlier));
        }
        if base == "scratch" {
            return Ok(Root::Scratch);
        }
        if let Some(root) = self.supplied(&base, platform, outside)? {
            return Ok(root);
        }
        check_reference(&base).map_err(|fault| fault.at(stage.base.span))?;
        Ok(Root::Image(Wanted { reference: base, platform: platform.clone() }))
    }

    fn plan<B: Backend>(
        &self,
        index: usize,
        step: Rc<Step>,
        onbuild: bool,
        outside: &mut Outside<'_, B>,
    ) -> Result<Planned, Fault> {
        let mut references = Vec::new();
        match &step.command {
            Command::Copy(copy) => match &copy.from {
                None => {}
                Some(from) => {
                    let plain = Lexer::new(self.dockerfile.escape)
                        .word(&from.text, &Unset)
                        .map_err(|error| wrong_word(from, &error))?;
                    if plain.text != from.text {
                        return Err(Fault::invalid("--from of COPY does not expand variables")
                            .hint("name a stage with FROM ... AS name, which does, and use that name")
                            .at(from.span));
                    }
                    references.push(Some(self.refer(index, from, outside)?));
                }
            },
            Command::Run(run) => {
                for mount in &run.mounts {
                    let from = mount_from(&mount.text).map_err(|fault| fault.at(mount.span))?;
                    references.push(match from {
                        None => None,
                        Some(name) => Some(self.refer(index, &Word { text: name, span: mount.span }, outside)?),
                    });
                }
            }
            _ => {}
        }
        Ok(Planned { step, references, onbuild })
    }

    /// What `--from` of an instruction in a stage refers to.
    fn refer<B: Backend>(&self, index: usize, name: &Word, outside: &mut Outside<'_, B>) -> Result<Root, Fault> {
        let stages = &self.dockerfile.stages;
        if let Ok(number) = name.text.parse::<usize>() {
            return match number {
                number if number < index => Ok(Root::Stage(number)),
                number if number < stages.len() => Err(self.not_yet(index, number, name)),
                _ => Err(Fault::invalid(format!("there is no stage {number}"))
                    .hint(format!("stages count from 0, and this Dockerfile has {}", stages.len()))
                    .at(name.span)),
            };
        }
        if let Some(earlier) = latest(&stages[..index], &name.text) {
            return Ok(Root::Stage(earlier));
        }
        if let Some(later) = latest(stages, &name.text) {
            return Err(self.not_yet(index, later, name));
        }
        if name.text == "scratch" {
            return Ok(Root::Scratch);
        }
        if let Some(root) = self.supplied(&name.text, &self.platform, outside)? {
            return Ok(root);
        }
        check_reference(&name.text).map_err(|fault| fault.at(name.span))?;
        Ok(Root::Image(Wanted { reference: name.text.clone(), platform: self.platform.clone() }))
    }

    /// What the user supplied under a name: an image or a context.
    fn supplied<B: Backend>(
        &self,
        name: &str,
        platform: &Platform,
        outside: &mut Outside<'_, B>,
    ) -> Result<Option<Root>, Fault> {
        let named = self.request.images.iter().find(|image| *image == name.strip_suffix(":latest").unwrap_or(name));
        if let Some(image) = named {
            return Ok(Some(Root::Image(Wanted { reference: image.clone(), platform: platform.clone() })));
        }
        Ok(outside.named_context(name)?.map(|_| Root::Context(name.to_owned())))
    }

    fn not_yet(&self, index: usize, other: usize, name: &Word) -> Fault {
        let fault = match (index == other, self.leads_to(other, index)) {
            (true, _) => Fault::invalid(format!("circular dependency: the stage {} refers to itself", name.text)),
            (_, true) => Fault::invalid(format!("circular dependency: the stage {} needs this one", name.text)),
            _ => Fault::invalid(format!("the stage {} comes later than where it is used", name.text))
                .hint("move it before this stage"),
        };
        fault.at(name.span)
    }

    /// Whether a stage needs another one, by names alone.
    fn leads_to(&self, from: usize, to: usize) -> bool {
        let stages = &self.dockerfile.stages;
        let mut open = vec![from];
        let mut seen = vec![false; stages.len()];
        while let Some(index) = open.pop() {
            if index == to {
                return true;
            }
            if std::mem::replace(&mut seen[index], true) {
                continue;
            }
            let copies = stages[index].steps.iter().filter_map(|step| match &step.command {
                Command::Copy(copy) => copy.from.as_ref().map(|from| from.text.clone()),
                _ => None,
            });
            let base = self.expand(&stages[index].base).ok();
            for name in copies.chain(base) {
                let number = name.parse::<usize>().ok().filter(|number| *number < stages.len());
                open.extend(number.or_else(|| latest(stages, &name)));
            }
        }
        false
    }

    /// Puts the ONBUILD instructions of what a stage starts from before its own, once that is known.
    fn trigger<B: Backend>(&mut self, index: usize, outside: &mut Outside<'_, B>) -> Result<(), Fault> {
        let node = &self.nodes[index];
        if node.triggered {
            return Ok(());
        }
        let triggers: Vec<String> = match &node.root {
            Some(Root::Stage(base)) => {
                let own = self.dockerfile.stages[*base].steps.iter();
                own.filter_map(
                    |step| {
                        if let Command::Onbuild(text) = &step.command { Some(text.clone()) } else { None }
                    },
                )
                .collect()
            }
            Some(Root::Image(image)) => match outside.base(image) {
                None => return Ok(()),
                Some(base) => crate::config::Config::read(base).on_build,
            },
            _ => Vec::new(),
        };
        let span = self.dockerfile.stages[index].span;
        let mut planned = Vec::with_capacity(triggers.len());
        for text in &triggers {
            let step = Rc::new(read_trigger(text, span)?);
            let from_here =
                |fault: Fault| Fault { span: Some(span), ..fault.hint(format!("it comes from ONBUILD {text}")) };
            planned.push(self.plan(index, step, true, outside).map_err(from_here)?);
        }
        let node = &mut self.nodes[index];
        planned.append(&mut node.planned);
        node.planned = planned;
        node.triggered = true;
        Ok(())
    }
}
