//! Turns trees into stacks of layers: looks up the definition, then the content, then does the work.
//!
//! ```text
//! evaluate(tree) ── key known? ──► record by definition ── hit ──► the whole stack, nothing else is looked at
//!                                        │ miss
//!                                        ▼
//!                      evaluate base and sources, in parallel
//!                                        ▼
//!                     what is really used ── layer there? ──► content hit
//!                                        │ no
//!                                        ▼
//!                              do it, remember it under the definition
//! ```

use std::sync::Arc;
use std::time::Instant;

use cooperage_store::layers::LayerId;
use futures::future::BoxFuture;
use tokio::sync::OnceCell;

use crate::build::{Build, CacheMode, Context, apart, blocking, lock};
use crate::cache::Remembered;
use crate::files::{Files, StackFiles, StackLayer};
use crate::filter::FilteredFiles;
use crate::key::Key;
use crate::record::{CacheResult, StepRecord};
use crate::tree::Op;
use crate::{Base, Error, Outcome, Step, Tree};

/// A tree as a stack of layers.
#[derive(Debug, Clone)]
pub(crate) struct Evaluated {
    /// The lowest first. Those of the image come first, and may not be in the store.
    pub(crate) layers: Arc<Vec<LayerId>>,
    /// For each operation since the tree that the chain of operations starts from, whether it gave a layer.
    pub(crate) operations: Arc<Vec<bool>>,
    /// The image at the bottom.
    pub(crate) base: Option<Arc<Base>>,
}

impl Evaluated {
    /// Nothing at all.
    fn empty() -> Self {
        Self { layers: Arc::default(), operations: Arc::default(), base: None }
    }

    /// Layers of the store, the lowest first, without any operation on them.
    pub(crate) fn layers(ids: Vec<LayerId>) -> Self {
        Self { layers: Arc::new(ids), ..Self::empty() }
    }

    /// An image without any operation on it.
    fn image(base: &Arc<Base>) -> Result<Self, Error> {
        let layers = base.config.diff_ids()?.into_iter().map(LayerId).collect();
        Ok(Self { layers: Arc::new(layers), base: Some(base.clone()), ..Self::empty() })
    }

    /// How many layers the tree has that the chain of operations starts from.
    pub(crate) fn base_layers(&self) -> usize {
        self.layers.len() - self.operations.iter().filter(|made| **made).count()
    }

    /// The same with the result of one more operation.
    pub(crate) fn with(&self, layer: Option<LayerId>) -> Self {
        let mut layers = self.layers.to_vec();
        layers.extend(layer);
        let mut operations = self.operations.to_vec();
        operations.push(layer.is_some());
        Self { layers: Arc::new(layers), operations: Arc::new(operations), base: self.base.clone() }
    }
}

/// What a doer of an operation gets beside the operation.
pub(crate) struct Doing<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) key: &'a Key,
    pub(crate) step: &'a Step,
    /// Whether a process will run on top, so that the layer is wanted unpacked.
    pub(crate) unpack: bool,
}

/// What came of an operation.
pub(crate) struct Done {
    pub(crate) evaluated: Evaluated,
    pub(crate) result: CacheResult,
}

impl Build {
    /// The layers of a tree. `unpack` tells that a process will run in it.
    pub(crate) fn evaluate<'a>(&'a self, tree: &'a Tree, unpack: bool) -> BoxFuture<'a, Result<Evaluated, Error>> {
        Box::pin(async move {
            match &tree.0.op {
                Op::Scratch => Ok(Evaluated::empty()),
                Op::Image(base) => Evaluated::image(base),
                Op::Layers(evaluated) => Ok(evaluated.clone()),
                Op::Context { .. } => self.evaluate(&tree.whole(), unpack).await,
                _ => {
                    let key = self.key(tree).await?;
                    if let Some(known) = self.cell(&key).get() {
                        return known.clone();
                    }
                    let (build, tree) = (self.clone(), tree.clone());
                    apart(async move { build.evaluate_chain(&tree, key, unpack).await }).await
                }
            }
        })
    }

    /// Evaluates the operations that `tree` ends, upwards from the highest whose result is known. A stage may have
    /// thousands of them, so they are walked.
    async fn evaluate_chain(&self, tree: &Tree, key: Arc<Key>, unpack: bool) -> Result<Evaluated, Error> {
        let mut todo = Vec::new();
        let (mut next, mut unpack) = (Some((tree, key)), unpack);
        while let Some((tree, key)) = next {
            let cell = self.cell(&key);
            let known = cell.initialized() || self.remembered(tree, &key)?.is_some();
            next = match tree.base() {
                Some(base) if !known && base.base().is_some() => Some((base, self.key(base).await?)),
                _ => None,
            };
            let below = unpack || matches!(tree.0.op, Op::Run { .. });
            todo.push((tree, key, cell, std::mem::replace(&mut unpack, below)));
        }
        // The base goes first, so that steps are shown in the order in which they happen.
        let mut result = Ok(Evaluated::empty());
        for (tree, key, cell, unpack) in todo.iter().rev() {
            result = cell.get_or_init(|| self.evaluate_once(tree, key, *unpack)).await.clone();
            if result.is_err() {
                break;
            }
        }
        result
    }

    fn cell(&self, key: &Key) -> Arc<OnceCell<Result<Evaluated, Error>>> {
        lock(&self.0.evaluated).entry(key.digest).or_default().clone()
    }

    async fn evaluate_once(&self, tree: &Tree, key: &Key, unpack: bool) -> Result<Evaluated, Error> {
        let started = Instant::now();
        if self.options().cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        if let Some(evaluated) = self.remembered(tree, key)? {
            self.report_hits(tree).await?;
            return Ok(evaluated);
        }
        if self.options().cache == CacheMode::Only {
            let name = step_name(tree);
            lock(&self.0.missed).get_or_insert_with(|| name.clone());
            return Err(Error::not_found(format!("{name} is not in the cache")));
        }
        let step = self.options().reporter.step(None, step_name(tree));
        let doing = Doing { tree, key, step: &step, unpack };
        let done = self.perform(&doing).await.map_err(|error| error.at(tree.origin()));
        let result = match &done {
            Ok(done) => done.result,
            Err(_) => CacheResult::Failed,
        };
        self.note(tree, key, result, started);
        match done {
            Ok(done) => {
                let remembered = Remembered {
                    stack: done.evaluated.layers.to_vec(),
                    operations: done.evaluated.operations.to_vec(),
                };
                self.0.cache.put(&key.digest, &remembered)?;
                step.finish(if done.result == CacheResult::Miss { Outcome::Done } else { Outcome::Cached });
                Ok(done.evaluated)
            }
            Err(error) => {
                let cancelled = error.kind == crate::ErrorKind::Cancelled;
                step.finish(if cancelled { Outcome::Cancelled } else { Outcome::Failed(error.to_string()) });
                Err(error)
            }
        }
    }

    async fn perform(&self, doing: &Doing<'_>) -> Result<Done, Error> {
        match &doing.tree.0.op {
            Op::Copy { base, source, paths, destination, options } => {
                self.copy(doing, base, source, paths, destination, options).await
            }
            Op::Run { base, process, mounts } => self.run(doing, base, process, mounts).await,
            Op::MakeDirectory { base, path, mode, owner } => {
                let (path, mode) = (path.clone(), *mode);
                self.place(doing, base, owner.as_deref(), move |placement| placement.make_directory(&path, mode)).await
            }
            Op::WriteFile { base, path, bytes, mode, owner } => {
                let (path, bytes, mode) = (path.clone(), bytes.clone(), *mode);
                let write =
                    move |placement: &mut crate::place::Placement<'_>| placement.write_file(&path, &bytes, mode);
                self.place(doing, base, owner.as_deref(), write).await
            }
            Op::Remove { base, path } => {
                let path = path.clone();
                self.place(doing, base, None, move |placement| placement.remove(&path)).await
            }
            Op::Source(request) => self.source(doing, request).await,
            Op::Scratch | Op::Image(_) | Op::Layers(_) | Op::Context { .. } => Err(Error::internal("not an operation")),
        }
    }

    /// The record of a key, if all layers it names that we made are still there.
    fn remembered(&self, tree: &Tree, key: &Key) -> Result<Option<Evaluated>, Error> {
        if self.options().cache == CacheMode::Ignore {
            return Ok(None);
        }
        let Some(Remembered { stack, operations }) = self.0.cache.get(&key.digest) else { return Ok(None) };
        let start = start_of(tree)?;
        let base = start.as_ref().and_then(|start| start.base.clone());
        let evaluated = Evaluated { layers: Arc::new(stack), operations: Arc::new(operations), base };
        let mut expected = 0;
        if let Some(start) = start {
            expected = start.layers.len();
            if !evaluated.layers.starts_with(&start.layers) || evaluated.base_layers() != expected {
                return Ok(None);
            }
        }
        let layers = self.options().store.layers();
        for id in &evaluated.layers[expected..] {
            if layers.get(id)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(evaluated))
    }

    /// Evaluates a tree and gives one of its layers, which depends on nothing of this build.
    pub async fn freeze(&self, tree: &Tree) -> Result<Tree, Error> {
        let evaluated = self.evaluate(tree, false).await?;
        let frozen = Evaluated { operations: Arc::default(), ..evaluated };
        Ok(Tree::of(Op::Layers(frozen), tree.origin().clone()))
    }

    /// Reports a tree and all it is based on as cached, each once.
    async fn report_hits(&self, tree: &Tree) -> Result<(), Error> {
        let mut chain = Vec::new();
        let mut next = Some(tree);
        while let Some(tree) = next {
            chain.push(tree);
            next = tree.base();
        }
        let done = |tree: &&Tree| tree.base().is_some() || matches!(tree.0.op, Op::Source(_));
        for tree in chain.into_iter().rev().filter(done) {
            let key = self.key(tree).await?;
            if lock(&self.0.reported).insert(key.digest) {
                self.note(tree, &key, CacheResult::Hit, Instant::now());
                self.options().reporter.step(None, step_name(tree)).finish(Outcome::Cached);
            }
        }
        Ok(())
    }

    fn note(&self, tree: &Tree, key: &Key, result: CacheResult, started: Instant) {
        lock(&self.0.reported).insert(key.digest);
        lock(&self.0.steps).push(StepRecord {
            name: step_name(tree),
            location: tree.origin().location.clone(),
            key: key.digest,
            parts: key.parts.clone(),
            result,
            milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
    }

    /// The files of a tree.
    pub(crate) fn files<'a>(&'a self, tree: &'a Tree) -> BoxFuture<'a, Result<Arc<dyn Files>, Error>> {
        Box::pin(async move {
            let Op::Context { name, selection } = &tree.0.op else {
                let evaluated = self.evaluate(tree, false).await?;
                return self.stack_files(&evaluated).await;
            };
            match self.context(name)? {
                Context::Directory(root) => self.context_files(name, selection, root).await,
                Context::Tree(inner) => {
                    let files = self.files(&inner).await?;
                    Ok(Arc::new(FilteredFiles::new(files, selection)?) as Arc<dyn Files>)
                }
            }
        })
    }

    /// The merged view of a stack; layers of the image that are missing are fetched.
    pub(crate) async fn stack_files(&self, evaluated: &Evaluated) -> Result<Arc<dyn Files>, Error> {
        self.fetch_layers(evaluated).await?;
        let store = self.options().store.layers().clone();
        let ids = evaluated.layers.clone();
        blocking(move || {
            let mut layers = Vec::with_capacity(ids.len());
            for id in ids.iter().rev() {
                layers.push(StackLayer { id: *id, toc: store.toc(id)? });
            }
            Ok(Arc::new(StackFiles::new(layers, store)) as Arc<dyn Files>)
        })
        .await
    }

    /// Brings the layers of the image at the bottom into the store, with their tables of contents.
    pub(crate) async fn fetch_layers(&self, evaluated: &Evaluated) -> Result<(), Error> {
        let Some(base) = &evaluated.base else { return Ok(()) };
        let wanted = base.config.diff_ids()?.into_iter().zip(&base.layers);
        futures::future::try_join_all(wanted.map(|(diff_id, descriptor)| self.fetch_layer(base, diff_id, descriptor)))
            .await?;
        Ok(())
    }

    async fn fetch_layer(
        &self,
        base: &Arc<Base>,
        diff_id: cooperage_store::Digest,
        descriptor: &cooperage_store::Descriptor,
    ) -> Result<(), Error> {
        let id = LayerId(diff_id);
        if self.options().store.layers().get(&id)?.is_some() {
            return Ok(());
        }
        let cell = lock(&self.0.fetches).entry(id).or_default().clone();
        let result = cell
            .get_or_init(|| async {
                self.options().images.fetch_layer(base, descriptor).await?;
                let (layers, descriptor) = (self.options().store.layers().clone(), descriptor.clone());
                blocking(move || Ok(layers.ingest(&diff_id, &descriptor).map(drop)?)).await
            })
            .await;
        result.clone()
    }
}

/// What the chain of operations of a tree starts from; none where only looking there could tell.
fn start_of(tree: &Tree) -> Result<Option<Evaluated>, Error> {
    match &tree.bottom().0.op {
        Op::Image(base) => Evaluated::image(base).map(Some),
        Op::Layers(evaluated) => Ok(Some(evaluated.clone())),
        Op::Source(_) | Op::Context { .. } => Ok(None),
        _ => Ok(Some(Evaluated::empty())),
    }
}

/// What the user sees of a step.
pub(crate) fn step_name(tree: &Tree) -> String {
    let name = &tree.origin().name;
    if !name.is_empty() {
        return name.clone();
    }
    match &tree.0.op {
        Op::Copy { paths, destination, .. } => format!("copy {} {destination}", paths.join(" ")),
        Op::Run { process, .. } => format!("run {}", process.args.join(" ")),
        Op::MakeDirectory { path, .. } => format!("make directory {path}"),
        Op::WriteFile { path, .. } => format!("write {path}"),
        Op::Remove { path, .. } => format!("remove {path}"),
        Op::Source(request) => format!("fetch {}", request.shown()),
        Op::Scratch | Op::Image(_) | Op::Layers(_) | Op::Context { .. } => String::new(),
    }
}
