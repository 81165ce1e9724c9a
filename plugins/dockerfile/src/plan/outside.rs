//! What a conversion has fetched so far: images, named contexts, the main context. Asks for each thing once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::backend::{Backend, Source, Wanted};
use crate::fault::{Fault, Kind, Span, nearest};
use crate::instructions::Stage;
use crate::parser::Warning;

/// The outside with a memory.
pub struct Outside<'a, B: Backend> {
    /// The outside itself.
    pub backend: &'a mut B,
    /// What is odd so far.
    pub warnings: Vec<Warning>,
    /// Names that an ARG declared.
    pub declared: BTreeSet<String>,
    ignore: &'a [String],
    bases: BTreeMap<Wanted, Value>,
    contexts: BTreeMap<String, Option<B::Tree>>,
    main: Option<B::Tree>,
}

impl<'a, B: Backend> Outside<'a, B> {
    /// Nothing fetched yet.
    pub fn new(backend: &'a mut B, ignore: &'a [String]) -> Self {
        Self {
            backend,
            warnings: Vec::new(),
            declared: BTreeSet::new(),
            ignore,
            bases: BTreeMap::new(),
            contexts: BTreeMap::new(),
            main: None,
        }
    }

    /// The configuration of an image that was resolved.
    pub fn base(&self, wanted: &Wanted) -> Option<&Value> {
        self.bases.get(wanted)
    }

    /// Resolves images in one call.
    pub fn resolve(&mut self, mut wanted: Vec<(Wanted, Span)>, stages: &[Stage]) -> Result<(), Fault> {
        // The sort is stable: of equal images the one that is named first stays, and gets the blame.
        wanted.sort_by(|(a, _), (b, _)| a.cmp(b));
        wanted.dedup_by(|(a, _), (b, _)| a == b);
        let requests: Vec<Wanted> = wanted.iter().map(|(wanted, _)| wanted.clone()).collect();
        let answers = self.backend.resolve(&requests);
        if answers.len() != wanted.len() {
            return Err(Fault::new(Kind::Internal, "the host resolved another number of images than asked for"));
        }
        for ((wanted, span), answer) in wanted.into_iter().zip(answers) {
            let base = answer.map_err(|mut fault| {
                let names = stages.iter().filter_map(|stage| stage.name.as_deref());
                if let Some(stage) = nearest(&wanted.reference, names) {
                    // Whoever looked for an image knows nothing of stages, and advises to log in or to pull.
                    let image = fault.hint.take().map(|hint| format!("; if an image is meant, {hint}"));
                    fault.hint = Some(format!("{stage} It is a stage of this Dockerfile{}", image.unwrap_or_default()));
                }
                fault.at(span)
            })?;
            self.bases.insert(wanted, base);
        }
        Ok(())
    }

    /// A context by name, if the user supplied one. `:latest` is no different from nothing.
    pub fn named_context(&mut self, name: &str) -> Result<Option<B::Tree>, Fault> {
        if matches!(name, "" | "scratch" | "context") {
            return Ok(None);
        }
        for name in [Some(name), name.strip_suffix(":latest")].into_iter().flatten() {
            if !self.contexts.contains_key(name) {
                let found = match self.backend.source(Source::Context { name, exclude: &[], include: &[] }) {
                    Ok(tree) => Some(tree),
                    Err(fault) if fault.kind == Kind::NotFound => None,
                    Err(fault) => return Err(fault),
                };
                self.contexts.insert(name.to_owned(), found);
            }
            if let Some(Some(tree)) = self.contexts.get(name) {
                return Ok(Some(tree.clone()));
            }
        }
        Ok(None)
    }

    /// The main context without what its ignore file leaves out.
    pub fn main_context(&mut self) -> Result<B::Tree, Fault> {
        if let Some(tree) = &self.main {
            return Ok(tree.clone());
        }
        let tree = self.backend.source(Source::Context { name: "", exclude: self.ignore, include: &[] })?;
        Ok(self.main.insert(tree).clone())
    }

    /// An empty tree.
    pub fn scratch(&mut self) -> Result<B::Tree, Fault> {
        self.backend.source(Source::Scratch)
    }
}
