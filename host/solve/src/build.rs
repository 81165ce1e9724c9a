//! One build: its options, its memory of what was evaluated, and the questions that force evaluation.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cooperage_sandbox::{Cancel, Limits};
use cooperage_store::layer::{Compression, Kind};
use cooperage_store::layers::{LayerId, Sealed};
use cooperage_store::{Digest, Platform, Store};
use tokio::sync::{OnceCell, Semaphore};

use crate::cache::Cache;
use crate::evaluate::Evaluated;
use crate::files::{Files, Item, display, resolve};
use crate::key::Key;
use crate::pattern::clean;
use crate::record::{BuildRecord, StepRecord};
use crate::select::{Selected, content_digest, select};
use crate::{
    Base, Error, ErrorKind, ImageSource, Network, Processes, Reporter, Secrets, Selection, SourceProvider,
    SourceRequest, SourceVersion, Tree,
};

/// Where a build context comes from.
#[derive(Debug, Clone)]
pub enum Context {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A tree, for instance what an earlier step of a flow gave.
    Tree(Tree),
}

/// Whether results of earlier builds count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// They do.
    #[default]
    Use,
    /// Every operation is done anew, and its result remembered.
    Ignore,
    /// They do, and what they do not have is a fault: [`Build::missed`] tells what would have been done.
    Only,
}

/// What a build works with.
#[derive(Clone)]
pub struct BuildOptions {
    /// Where everything is kept.
    pub store: Store,
    /// Runs processes; none if this machine or the user allows none, with the reason.
    pub sandbox: Result<Arc<dyn Processes>, String>,
    /// Whether layers are unpacked with overlayfs attributes of a user namespace (`user.overlay.*`).
    pub userxattr: bool,
    /// Whether owners and devices can be made when a layer is unpacked.
    pub privileged: bool,
    /// Where images come from.
    pub images: Arc<dyn ImageSource>,
    /// Where files behind URLs come from.
    pub sources: Arc<dyn SourceProvider>,
    /// Build contexts by name; the empty name is the main one.
    pub contexts: BTreeMap<String, Context>,
    /// Secrets that mounts may ask for.
    pub secrets: Secrets,
    /// What [`Network::Default`] means.
    pub network: Network,
    /// Limits of each process.
    pub limits: Limits,
    /// Platform of the build where nothing else is said.
    pub platform: Platform,
    /// How new layers are compressed.
    pub compression: Compression,
    /// SOURCE_DATE_EPOCH in seconds: later times are cut down to it.
    pub epoch: Option<i64>,
    /// Whether results of earlier builds count.
    pub cache: CacheMode,
    /// How many heavy operations run at a time.
    pub parallel: usize,
    /// Is told what happens.
    pub reporter: Reporter,
    /// Stops the build.
    pub cancel: Cancel,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a fifo or a socket.
    Other,
}

/// What is known of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Name within its directory for `entries`, the whole path for `walk`, the resolved one for `stat`.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// Bytes of a regular file, else 0.
    pub size: u64,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Target of a symbolic link.
    pub link_target: Option<String>,
}

/// What a copy takes, with the copy itself, whose address is the key.
type Chosen = (Tree, Arc<Vec<Selected>>);
type Memo<K, V> = Mutex<HashMap<K, Arc<OnceCell<Result<V, Error>>>>>;

pub(crate) struct Inner {
    pub(crate) options: BuildOptions,
    pub(crate) cache: Cache,
    pub(crate) permits: Semaphore,
    /// Keys by the address of the node; the tree beside the key keeps the address taken.
    pub(crate) keys: Memo<usize, (Tree, Arc<Key>)>,
    pub(crate) evaluated: Memo<Digest, Evaluated>,
    pub(crate) selections: Mutex<HashMap<usize, Chosen>>,
    pub(crate) contexts: Memo<(String, Selection), Arc<dyn Files>>,
    pub(crate) seals: Memo<LayerId, Sealed>,
    pub(crate) fetches: Memo<LayerId, ()>,
    pub(crate) versions: Memo<SourceRequest, SourceVersion>,
    pub(crate) fetched: Memo<SourceRequest, Evaluated>,
    /// Keys of the nodes whose layers become part of an image.
    pub(crate) exported: Mutex<HashSet<Digest>>,
    pub(crate) reported: Mutex<HashSet<Digest>>,
    pub(crate) steps: Mutex<Vec<StepRecord>>,
    /// The first operation that is not in the cache, with [`CacheMode::Only`].
    pub(crate) missed: Mutex<Option<String>>,
}

/// One build. Cloning is cheap; clones share everything.
#[derive(Clone)]
pub struct Build(pub(crate) Arc<Inner>);

/// A poisoned lock only says that some other thread died; the maps behind it are whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Build {
    /// A build that has done nothing yet.
    pub fn new(options: BuildOptions) -> Self {
        let cache = Cache::new(options.store.root());
        let permits = Semaphore::new(options.parallel.max(1));
        Self(Arc::new(Inner {
            options,
            cache,
            permits,
            keys: Memo::default(),
            evaluated: Memo::default(),
            selections: Mutex::default(),
            contexts: Memo::default(),
            seals: Memo::default(),
            fetches: Memo::default(),
            versions: Memo::default(),
            fetched: Memo::default(),
            exported: Mutex::default(),
            reported: Mutex::default(),
            steps: Mutex::default(),
            missed: Mutex::default(),
        }))
    }

    /// What it works with.
    pub fn options(&self) -> &BuildOptions {
        &self.0.options
    }

    /// With [`CacheMode::Only`], the name of the first operation that would have to be done.
    pub fn missed(&self) -> Option<String> {
        lock(&self.0.missed).clone()
    }

    /// What was done so far, step by step.
    pub fn record(&self) -> BuildRecord {
        BuildRecord { steps: lock(&self.0.steps).clone() }
    }

    /// Pins several images at once; results are in the order of the requests.
    pub async fn resolve_images(&self, requests: Vec<(String, Option<Platform>)>) -> Vec<Result<Arc<Base>, Error>> {
        let options = &self.0.options;
        futures::future::join_all(requests.into_iter().map(async |(reference, platform)| {
            let platform = platform.unwrap_or_else(|| options.platform.clone());
            options.images.resolve(&reference, &platform).await.map(Arc::new)
        }))
        .await
    }

    /// A digest of a tree's content: names, kinds, bytes, permissions and owners, no times.
    pub async fn digest(&self, tree: &Tree) -> Result<Digest, Error> {
        let files = self.files(tree).await?;
        blocking(move || {
            let all = select(files.as_ref(), &["/".to_owned()], &[], false, "the tree")?;
            Ok(content_digest(&all, true))
        })
        .await
    }

    /// The bytes of a file of at most `max` bytes; symbolic links are followed.
    pub async fn read_file(&self, tree: &Tree, path: &str, max: u64) -> Result<Vec<u8>, Error> {
        let files = self.files(tree).await?;
        let path = clean(path.as_bytes());
        blocking(move || {
            let resolved = resolve(files.as_ref(), &path, true)?;
            let item = resolved.item.ok_or_else(|| Error::not_found(format!("{} does not exist", display(&path))))?;
            match item.entry.kind {
                Kind::File { size, .. } if size > max => {
                    let message = format!("{} has {size} bytes, more than {max}", display(&path));
                    Err(Error::new(ErrorKind::Limit, message))
                }
                Kind::File { .. } => files.read(&item, max),
                _ => Err(Error::invalid(format!("{} is not a regular file", display(&path)))),
            }
        })
        .await
    }

    /// What a directory has, sorted by name.
    pub async fn entries(&self, tree: &Tree, path: &str) -> Result<Vec<FileInfo>, Error> {
        let files = self.files(tree).await?;
        let path = clean(path.as_bytes());
        blocking(move || {
            let resolved = resolve(files.as_ref(), &path, true)?;
            match resolved.item {
                Some(item) if item.is_directory() => {
                    let items = files.list(&resolved.path)?;
                    Ok(items.iter().map(|item| info(crate::files::file_name(item.path()), item)).collect())
                }
                Some(_) => Err(Error::invalid(format!("{} is not a directory", display(&path)))),
                None => Err(Error::not_found(format!("{} does not exist", display(&path)))),
            }
        })
        .await
    }

    /// A path and all that is below, parents first, each with its whole path; files with the digest of their bytes.
    pub async fn walk(&self, tree: &Tree, path: &str) -> Result<Vec<(FileInfo, Option<Digest>)>, Error> {
        let files = self.files(tree).await?;
        let path = clean(path.as_bytes());
        blocking(move || {
            let resolved = resolve(files.as_ref(), &path, true)?;
            if resolved.item.is_none() {
                return Err(Error::not_found(format!("{} does not exist", display(&path))));
            }
            let whole = |item: &Item| (info(&[b"/", item.path()].concat(), item), item.digest());
            Ok(files.subtree(&resolved.path)?.iter().map(whole).collect())
        })
        .await
    }

    /// What a path is, or none. `follow` resolves a symbolic link at the end of the path.
    pub async fn stat(&self, tree: &Tree, path: &str, follow: bool) -> Result<Option<FileInfo>, Error> {
        let files = self.files(tree).await?;
        let path = clean(path.as_bytes());
        blocking(move || {
            let resolved = resolve(files.as_ref(), &path, follow)?;
            let absolute = [b"/", &resolved.path[..]].concat();
            Ok(resolved.item.map(|item| info(&absolute, &item)))
        })
        .await
    }
}

fn info(path: &[u8], item: &Item) -> FileInfo {
    let entry = &item.entry;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (kind, size, link_target) = match &entry.kind {
        Kind::File { size, .. } => (FileKind::Regular, *size, None),
        Kind::Directory { .. } => (FileKind::Directory, 0, None),
        Kind::Symlink { target } => (FileKind::Symlink, 0, Some(text(target))),
        _ => (FileKind::Other, 0, None),
    };
    FileInfo { path: text(path), kind, size, mode: entry.mode, uid: entry.uid, gid: entry.gid, link_target }
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_cancelled() => Err(Error::cancelled()),
        Err(_) => Err(Error::internal("a worker thread panicked").hint("this is a defect; please report it")),
    }
}

/// Does async work as a task of its own, so that work inside work, however deep, takes no part of the asker's stack.
/// Ends with the asker.
pub(crate) async fn apart<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let mut task = tokio::task::JoinSet::new();
    task.spawn(work);
    match task.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(error)) if error.is_panic() => {
            Err(Error::internal("a worker thread panicked").hint("this is a defect; please report it"))
        }
        Some(Err(_)) | None => Err(Error::cancelled()),
    }
}
