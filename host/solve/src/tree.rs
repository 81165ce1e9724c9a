//! Trees as values: what a file system is made of, before anything is done. Knows nothing of evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;

use cooperage_store::{Descriptor, ImageConfig, Platform};

use crate::error::Location;
use crate::ports::SourceRequest;

/// Where an operation came from, for progress, history, errors and explanations; part of no key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// What the user sees while it runs.
    pub name: String,
    /// `created_by` of the history entry.
    pub created_by: String,
    /// Where the user asked for it.
    pub location: Option<Location>,
}

/// An image pinned by digest. Its layers may not be in the store yet.
#[derive(Debug, Clone)]
pub struct Base {
    /// Canonical name with tag and digest.
    pub reference: String,
    /// Manifest of the chosen platform.
    pub manifest: Descriptor,
    /// Layers as the manifest lists them, the lowest first.
    pub layers: Vec<Descriptor>,
    /// The image configuration; it has as many diff ids as there are layers.
    pub config: ImageConfig,
    /// The platform chosen.
    pub platform: Platform,
}

/// Which part of a build context a tree has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// Paths or patterns to keep; empty keeps all.
    pub include: Vec<String>,
    /// Lines of an ignore file as Docker reads them.
    pub exclude: Vec<String>,
}

/// How to copy; the contract's `copy-options`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// `user[:group]`, names or numbers.
    pub owner: Option<String>,
    /// Octal or symbolic permission bits.
    pub mode: Option<String>,
    /// Patterns below each source path to leave out.
    pub exclude: Vec<String>,
    /// Keep the directories of the source path.
    pub parents: bool,
    /// Do not look at the tree copied to.
    pub link: bool,
    /// Unpack local tar archives.
    pub unpack: bool,
}

/// What a process may reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// What the user chose for the build.
    #[default]
    Default,
    /// Only its own loopback.
    None,
    /// What the host reaches.
    Host,
}

/// One native process; the contract's `process`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Process {
    /// Program and arguments.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// `user[:group]`; empty is root.
    pub user: String,
    /// What it may reach.
    pub network: Network,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// Host name, if not the default.
    pub hostname: Option<String>,
    /// Size of /dev/shm in bytes, if not the default.
    pub shm_size: Option<u64>,
    /// Limits beside those of the build; of two the lower counts.
    pub limits: cooperage_sandbox::Limits,
}

/// Whether runs may share a cache mount at the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// All at once.
    #[default]
    Shared,
    /// A second run gets a directory of its own.
    Private,
    /// A second run waits.
    Locked,
}

/// What a mount shows.
#[derive(Debug, Clone)]
pub enum MountKind {
    /// A path of a tree; writes are thrown away.
    Bind {
        /// The tree.
        source: Tree,
        /// Path within it.
        path: String,
    },
    /// A directory that lasts from run to run.
    Cache {
        /// Caches with the same identity are the same directory.
        identity: String,
        /// What a new cache starts with.
        source: Option<(Tree, String)>,
        /// Concurrent use.
        sharing: Sharing,
        /// Permission bits of a new cache directory.
        mode: u32,
        /// Owner of a new cache directory.
        uid: u32,
        /// Group of a new cache directory.
        gid: u32,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
    },
    /// A file with a secret of the user.
    Secret {
        /// Its name.
        name: String,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Whether its absence is a fault.
        required: bool,
        /// An environment variable that gets the value too.
        env: Option<String>,
    },
}

/// Something a process sees at a path and that does not become part of the tree.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Where the process sees it; empty for a secret that is only an environment variable.
    pub target: String,
    /// What it sees.
    pub kind: MountKind,
    /// Whether writing is refused.
    pub read_only: bool,
}

#[derive(Debug)]
pub(crate) enum Op {
    Scratch,
    Image(Arc<Base>),
    /// Layers that are in the store already.
    Layers(crate::evaluate::Evaluated),
    /// Files behind a URL.
    Source(SourceRequest),
    Context {
        name: String,
        selection: Selection,
    },
    Copy {
        base: Tree,
        source: Tree,
        paths: Vec<String>,
        destination: String,
        options: CopyOptions,
    },
    Run {
        base: Tree,
        process: Process,
        mounts: Vec<Mount>,
    },
    MakeDirectory {
        base: Tree,
        path: String,
        mode: u32,
        owner: Option<String>,
    },
    WriteFile {
        base: Tree,
        path: String,
        bytes: Arc<[u8]>,
        mode: u32,
        owner: Option<String>,
    },
    Remove {
        base: Tree,
        path: String,
    },
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) op: Op,
    pub(crate) origin: Origin,
}

/// A lazy, immutable file system. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Tree(pub(crate) Arc<Node>);

impl Tree {
    pub(crate) fn of(op: Op, origin: Origin) -> Self {
        Self(Arc::new(Node { op, origin }))
    }

    /// Nothing at all.
    pub fn scratch() -> Self {
        Self::of(Op::Scratch, Origin::default())
    }

    /// The file system of an image.
    pub fn image(base: Arc<Base>) -> Self {
        Self::of(Op::Image(base), Origin::default())
    }

    /// A build context; the empty name is the main one.
    pub fn context(name: impl Into<String>, selection: Selection) -> Self {
        Self::of(Op::Context { name: name.into(), selection }, Origin::default())
    }

    /// The files behind a URL.
    pub fn source(request: SourceRequest, origin: Origin) -> Self {
        Self::of(Op::Source(request), origin)
    }

    /// Copies paths of `source` into this tree by the rules of a Dockerfile's COPY.
    pub fn copy(
        &self,
        source: &Self,
        paths: Vec<String>,
        destination: String,
        options: CopyOptions,
        origin: Origin,
    ) -> Self {
        Self::of(Op::Copy { base: self.clone(), source: source.clone(), paths, destination, options }, origin)
    }

    /// Runs a process in this tree.
    pub fn run(&self, process: Process, mounts: Vec<Mount>, origin: Origin) -> Self {
        Self::of(Op::Run { base: self.clone(), process, mounts }, origin)
    }

    /// Makes a directory and its missing parents.
    pub fn make_directory(&self, path: String, mode: u32, owner: Option<String>, origin: Origin) -> Self {
        Self::of(Op::MakeDirectory { base: self.clone(), path, mode, owner }, origin)
    }

    /// Writes a file.
    pub fn write_file(&self, path: String, bytes: Vec<u8>, mode: u32, owner: Option<String>, origin: Origin) -> Self {
        Self::of(Op::WriteFile { base: self.clone(), path, bytes: bytes.into(), mode, owner }, origin)
    }

    /// Removes a path and everything below.
    pub fn remove(&self, path: String, origin: Origin) -> Self {
        Self::of(Op::Remove { base: self.clone(), path }, origin)
    }

    /// The same files as layers of their own.
    pub(crate) fn whole(&self) -> Self {
        let everything = (vec!["/".to_owned()], "/".to_owned());
        Self::scratch().copy(self, everything.0, everything.1, CopyOptions::default(), Origin::default())
    }

    /// Where the operation came from.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// The tree that this operation changes, if it changes one.
    pub(crate) fn base(&self) -> Option<&Self> {
        match &self.0.op {
            Op::Scratch | Op::Image(_) | Op::Layers(_) | Op::Source(_) | Op::Context { .. } => None,
            Op::Copy { base, .. }
            | Op::Run { base, .. }
            | Op::MakeDirectory { base, .. }
            | Op::WriteFile { base, .. }
            | Op::Remove { base, .. } => Some(base),
        }
    }

    /// What the chain of operations starts from.
    pub(crate) fn bottom(&self) -> &Self {
        let mut tree = self;
        while let Some(base) = tree.base() {
            tree = base;
        }
        tree
    }

    /// The image that the chain of operations starts from; none if it starts from anything else.
    pub fn image_below(&self) -> Option<&Arc<Base>> {
        match &self.bottom().0.op {
            Op::Image(base) => Some(base),
            _ => None,
        }
    }

    /// Other trees that the operation takes files from.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Self> {
        let (source, mounts) = match &self.0.op {
            Op::Copy { source, .. } => (Some(source), &[][..]),
            Op::Run { mounts, .. } => (None, &mounts[..]),
            _ => (None, &[][..]),
        };
        let mounted = mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Bind { source, .. } => Some(source),
            _ => None,
        });
        source.into_iter().chain(mounted)
    }

    /// The platform of the image that this is.
    pub(crate) fn platform(&self) -> Option<&Platform> {
        match &self.0.op {
            Op::Image(base) => Some(&base.platform),
            Op::Layers(evaluated) => evaluated.base.as_ref().map(|base| &base.platform),
            _ => None,
        }
    }

    /// By what the node is known as long as it lives.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }
}

/// A long chain of operations must not be dropped one inside the other: each would take its part of the stack.
impl Drop for Node {
    fn drop(&mut self) {
        let mut next = take_base(&mut self.op);
        while let Some(mut node) = next.and_then(|tree| Arc::into_inner(tree.0)) {
            next = take_base(&mut node.op);
        }
    }
}

/// The tree that an operation changes; the operation is left without it.
fn take_base(op: &mut Op) -> Option<Tree> {
    match std::mem::replace(op, Op::Scratch) {
        Op::Copy { base, .. }
        | Op::Run { base, .. }
        | Op::MakeDirectory { base, .. }
        | Op::WriteFile { base, .. }
        | Op::Remove { base, .. } => Some(base),
        Op::Scratch | Op::Image(_) | Op::Layers(_) | Op::Source(_) | Op::Context { .. } => None,
    }
}

/// Secrets of the user, by name. Debug output never shows a value.
#[derive(Clone, Default)]
pub struct Secrets(Arc<BTreeMap<String, Vec<u8>>>);

impl Secrets {
    /// Takes the values.
    pub fn new(values: BTreeMap<String, Vec<u8>>) -> Self {
        Self(Arc::new(values))
    }

    /// The value of a secret.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// All values, for redaction.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.0.values().map(Vec::as_slice)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_chain_is_dropped_without_recursion() {
        let mut tree = Tree::scratch();
        for number in 0..200_000 {
            tree = tree.remove(number.to_string(), Origin::default());
        }
        drop(tree);
    }
}
