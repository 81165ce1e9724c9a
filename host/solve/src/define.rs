//! Definition keys: what an operation is, without doing it or looking at its base.
//!
//! The key of a copy from a local context holds the content of what is copied; the key of a copy from another
//! tree holds that tree's key, so that a cached build never evaluates the stages it copies from.

use std::sync::Arc;

use cooperage_store::Digest;
use futures::future::BoxFuture;

use crate::build::{Build, Context, apart, blocking, lock};
use crate::files::{ContextFiles, Files};
use crate::key::{Key, KeyBuilder};
use crate::pattern::Ignore;
use crate::select::{Selected, content_digest, select};
use crate::tree::{CopyOptions, Mount, MountKind, Op, Process};
use crate::{Error, Network, Selection, Tree, own_store};

const DEFINITION: &str = "definition";

impl Build {
    /// The key of a tree's last operation; it covers all operations before it.
    pub(crate) async fn key(&self, tree: &Tree) -> Result<Arc<Key>, Error> {
        // Those below go first, the lowest of them first, so that a long chain of operations is no deep recursion.
        let mut unknown = Vec::new();
        let mut below = tree.base();
        while let Some(base) = below.filter(|base| !self.has_key(base)) {
            unknown.push(base);
            below = base.base();
        }
        for base in unknown.into_iter().rev() {
            self.own_key(base).await?;
        }
        self.own_key(tree).await
    }

    fn has_key(&self, tree: &Tree) -> bool {
        lock(&self.0.keys).get(&tree.address()).is_some_and(|cell| cell.initialized())
    }

    /// The key of a tree, after that of its base.
    async fn own_key(&self, tree: &Tree) -> Result<Arc<Key>, Error> {
        let cell = lock(&self.0.keys).entry(tree.address()).or_default().clone();
        let result = cell
            .get_or_init(|| async {
                let key = self.define(tree).await.map_err(|error| error.at(tree.origin()))?;
                Ok((tree.clone(), Arc::new(key)))
            })
            .await;
        result.clone().map(|(_, key)| key)
    }

    /// The key's digest as text; boxed, since keys contain keys.
    fn key_text<'a>(&'a self, tree: &'a Tree) -> BoxFuture<'a, Result<String, Error>> {
        Box::pin(async move {
            let key = match self.has_key(tree) {
                true => self.own_key(tree).await?,
                false => {
                    let (build, tree) = (self.clone(), tree.clone());
                    apart(async move { build.key(&tree).await }).await?
                }
            };
            Ok(key.digest.to_string())
        })
    }

    async fn define(&self, tree: &Tree) -> Result<Key, Error> {
        match &tree.0.op {
            Op::Scratch => Ok(KeyBuilder::new(DEFINITION, "scratch").finish()),
            Op::Image(base) => {
                let layers: Vec<String> = base.config.diff_ids()?.iter().map(Digest::to_string).collect();
                Ok(KeyBuilder::new(DEFINITION, "image").list("layers", &layers).finish())
            }
            Op::Layers(evaluated) => {
                let layers: Vec<String> = evaluated.layers.iter().map(|id| id.0.to_string()).collect();
                Ok(KeyBuilder::new(DEFINITION, "layers").list("layers", &layers).finish())
            }
            Op::Source(request) => {
                let key = KeyBuilder::new(DEFINITION, "source");
                Ok(self.source_parts(key, tree, request).await?.finish())
            }
            Op::Context { name, selection } => self.define_context(tree, name, selection).await,
            Op::Copy { base, source, paths, destination, options } => {
                let key = KeyBuilder::new(DEFINITION, "copy").part("base", self.key_text(base).await?);
                let key = copy_parts(key, destination, options, self.options().epoch);
                self.define_source(key, tree, source, paths, options).await
            }
            Op::Run { base, process, mounts } => {
                let key = KeyBuilder::new(DEFINITION, "run").part("base", self.key_text(base).await?);
                let key = process_parts(key, process, self.options().network, &self.options().platform.to_string());
                self.mount_parts(key, mounts).await
            }
            Op::MakeDirectory { base, path, mode, owner } => {
                let key = KeyBuilder::new(DEFINITION, "make-directory").part("base", self.key_text(base).await?);
                Ok(place_parts(key, path, *mode, owner.as_deref(), self.options().epoch).finish())
            }
            Op::WriteFile { base, path, bytes, mode, owner } => {
                let key = KeyBuilder::new(DEFINITION, "write-file").part("base", self.key_text(base).await?);
                let key = place_parts(key, path, *mode, owner.as_deref(), self.options().epoch);
                Ok(key.part("content", Digest::of(bytes).to_string()).finish())
            }
            Op::Remove { base, path } => {
                let key = KeyBuilder::new(DEFINITION, "remove").part("base", self.key_text(base).await?);
                Ok(key.part("path", path).finish())
            }
        }
    }

    async fn define_context(&self, tree: &Tree, name: &str, selection: &Selection) -> Result<Key, Error> {
        let key = KeyBuilder::new(DEFINITION, "context").list("include", &selection.include);
        let key = key.list("exclude", &selection.exclude);
        match self.context(name)? {
            Context::Directory(_) => {
                let files = self.files(tree).await?;
                let digest = blocking(move || {
                    let all = select(files.as_ref(), &["/".to_owned()], &[], false, "the build context")?;
                    Ok(content_digest(&all, false))
                })
                .await?;
                Ok(key.part("content", digest.to_string()).finish())
            }
            Context::Tree(inner) => Ok(key.part("tree", self.key_text(&inner).await?).finish()),
        }
    }

    /// What is copied: content where looking at it is cheap, the source's key elsewhere.
    async fn define_source(
        &self,
        key: KeyBuilder,
        copy: &Tree,
        source: &Tree,
        paths: &[String],
        options: &CopyOptions,
    ) -> Result<Key, Error> {
        let key = key.list("paths", paths);
        if let Op::Context { name, .. } = &source.0.op
            && let Context::Directory(_) = self.context(name)?
        {
            let selected = self.selected(copy, source, paths, options).await?;
            let digest = blocking(move || Ok(content_digest(&selected, false))).await?;
            return Ok(key.part("files", digest.to_string()).finish());
        }
        Ok(key.list("left out", &options.exclude).part("source", self.key_text(source).await?).finish())
    }

    async fn mount_parts(&self, mut key: KeyBuilder, mounts: &[Mount]) -> Result<Key, Error> {
        for mount in mounts {
            let name = format!("mount {}", mount.target);
            let access = if mount.read_only { "ro" } else { "rw" };
            match &mount.kind {
                MountKind::Bind { source, path } => {
                    key.push(format!("{name} path"), format!("{access} {path}"));
                    key.push(format!("{name} source"), self.key_text(source).await?);
                }
                // What a cache holds must not matter; its identity says which one was meant.
                MountKind::Cache { identity, .. } => key.push(name, format!("cache {access} {identity}")),
                MountKind::Tmpfs { .. } => key.push(name, "tmpfs"),
                // A secret's value is no part: changing it does not miss.
                MountKind::Secret { name: secret, env, .. } => {
                    key.push(name, format!("secret {secret} {}", env.as_deref().unwrap_or_default()));
                }
            }
        }
        Ok(key.finish())
    }

    /// What a copy takes from its source, looked up once per build.
    pub(crate) async fn selected(
        &self,
        copy: &Tree,
        source: &Tree,
        paths: &[String],
        options: &CopyOptions,
    ) -> Result<Arc<Vec<Selected>>, Error> {
        let address = copy.address();
        if let Some((_, known)) = lock(&self.0.selections).get(&address) {
            return Ok(known.clone());
        }
        let files = self.files(source).await?;
        let what = match &source.0.op {
            Op::Context { name, .. } if name.is_empty() => "the build context".to_owned(),
            Op::Context { name, .. } => format!("the build context {name:?}"),
            _ => "the tree copied from".to_owned(),
        };
        let (paths, exclude, parents) = (paths.to_vec(), options.exclude.clone(), options.parents);
        let selected = Arc::new(blocking(move || select(files.as_ref(), &paths, &exclude, parents, &what)).await?);
        lock(&self.0.selections).insert(address, (copy.clone(), selected.clone()));
        Ok(selected)
    }

    /// The context of a name; `not-found` if the user supplied none of this name.
    pub fn context(&self, name: &str) -> Result<Context, Error> {
        self.options().contexts.get(name).cloned().ok_or_else(|| {
            if name.is_empty() {
                Error::not_found("this build has no context").hint("name a directory: coop build .")
            } else {
                Error::not_found(format!("there is no build context named {name:?}"))
                    .hint(format!("add --build-context {name}=DIRECTORY"))
            }
        })
    }

    /// The files of a local directory, opened once per selection.
    pub(crate) async fn context_files(
        &self,
        name: &str,
        selection: &Selection,
        root: std::path::PathBuf,
    ) -> Result<Arc<dyn Files>, Error> {
        let cell = lock(&self.0.contexts).entry((name.to_owned(), selection.clone())).or_default().clone();
        let result = cell
            .get_or_init(|| async {
                let (files, own) = self.open_context(selection, root).await?;
                let files: Arc<dyn Files> = Arc::new(files);
                Ok(match own {
                    Some(path) => own_store::guard(files, path),
                    None => files,
                })
            })
            .await;
        result.clone()
    }

    /// A local directory, and where in it the store lies, if it does.
    async fn open_context(
        &self,
        selection: &Selection,
        root: std::path::PathBuf,
    ) -> Result<(ContextFiles, Option<Vec<u8>>), Error> {
        let include = Ignore::new(&selection.include)?;
        let ignore = Ignore::new(&selection.exclude)?;
        let identity = Digest::of(std::os::unix::ffi::OsStrExt::as_bytes(root.as_os_str())).hex();
        let store = self.options().store.root().to_owned();
        let cache = store.join("cache").join("stat").join(identity);
        let threads = self.options().parallel;
        blocking(move || {
            let own = own_store::within(&root, &store, &include, &ignore);
            Ok((ContextFiles::new(root, include, ignore, cache, threads), own))
        })
        .await
    }

    /// A digest that changes when a context does, without a look into its files: what `stat` says of a directory's, the
    /// key of a tree. A file that was touched counts as changed. None for a directory that has the store in it.
    pub async fn state(&self, name: &str, selection: &Selection) -> Result<Option<Digest>, Error> {
        let root = match self.context(name)? {
            Context::Tree(tree) => return Ok(Some(self.key(&tree).await?.digest)),
            Context::Directory(root) => root,
        };
        match self.open_context(selection, root).await? {
            (files, None) => blocking(move || files.state().map(Some)).await,
            (_, Some(_)) => Ok(None),
        }
    }
}

fn copy_parts(key: KeyBuilder, destination: &str, options: &CopyOptions, epoch: Option<i64>) -> KeyBuilder {
    let CopyOptions { owner, mode, exclude: _, parents, link, unpack } = options;
    let flags = [("parents", parents), ("link", link), ("unpack", unpack)];
    let flags: Vec<&str> = flags.iter().filter(|(_, set)| **set).map(|(name, _)| *name).collect();
    key.part("destination", destination)
        .part("owner", owner.as_deref().unwrap_or_default())
        .part("permissions", mode.as_deref().unwrap_or_default())
        .part("options", flags.join(" "))
        .part("epoch", epoch.map(|epoch| epoch.to_string()).unwrap_or_default())
}

fn place_parts(key: KeyBuilder, path: &str, mode: u32, owner: Option<&str>, epoch: Option<i64>) -> KeyBuilder {
    key.part("path", path)
        .part("permissions", format!("{mode:o}"))
        .part("owner", owner.unwrap_or_default())
        .part("epoch", epoch.map(|epoch| epoch.to_string()).unwrap_or_default())
}

/// Everything about a process that its result may depend on. `default` is the network that the user chose.
pub(crate) fn process_parts(key: KeyBuilder, process: &Process, default: Network, platform: &str) -> KeyBuilder {
    let network = if process.network == Network::Default { default } else { process.network };
    let mut key = key
        .part("platform", platform)
        .list("command", &process.args)
        .part("directory", &process.cwd)
        .part("user", &process.user)
        .part("network", if network == Network::Host { "host" } else { "none" })
        .part("input", Digest::of(&process.stdin).to_string())
        .part("host name", process.hostname.as_deref().unwrap_or_default())
        .part("shared memory", process.shm_size.map(|size| size.to_string()).unwrap_or_default());
    for (name, value) in &process.env {
        key.push(format!("environment {name}"), value);
    }
    key
}
