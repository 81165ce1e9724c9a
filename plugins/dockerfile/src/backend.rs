//! What the planner needs from the outside: bases, trees and operations on trees. The contract's WIT
//! implements it for real; tests implement it by writing down what they were asked.

use serde_json::Value;

use crate::fault::{Fault, Place};
use crate::instructions::Network;
use crate::platform::Platform;

/// An image that a stage starts from or copies from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// As the Dockerfile names it.
    pub reference: String,
    /// Its platform.
    pub platform: Platform,
}

/// Where a tree comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// Nothing at all.
    Scratch,
    /// An image that was resolved. Each call gives a handle of its own.
    Image(&'a Wanted),
    /// A context; the empty name is the main one.
    Context {
        /// Its name.
        name: &'a str,
        /// Lines of an ignore file.
        exclude: &'a [String],
        /// Paths to keep; empty keeps all.
        include: &'a [String],
    },
    /// Files behind a URL.
    Url {
        /// As the Dockerfile names it.
        url: &'a str,
        /// Parameters of whoever serves it.
        parameters: &'a Value,
        /// Where it is written.
        origin: &'a Origin,
    },
}

/// A new tree from one or more trees.
#[derive(Debug, Clone)]
pub enum Operation<T> {
    /// Copies into the tree.
    Copy(CopyOperation<T>),
    /// Runs a process in the tree.
    Run(RunOperation<T>),
    /// Makes a directory with its parents.
    MakeDirectory {
        /// Absolute.
        path: String,
        /// Permission bits.
        mode: u32,
        /// `user[:group]`.
        owner: Option<String>,
    },
    /// Writes a file.
    WriteFile {
        /// Absolute.
        path: String,
        /// Its content.
        bytes: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
}

/// The options of a copy.
#[derive(Debug, Clone)]
pub struct CopyOperation<T> {
    /// Where from.
    pub source: T,
    /// What, with wildcards.
    pub paths: Vec<String>,
    /// Absolute; ends in `/` if it must be a directory.
    pub destination: String,
    /// `user[:group]`.
    pub owner: Option<String>,
    /// Octal or symbolic.
    pub mode: Option<String>,
    /// Patterns to leave out.
    pub exclude: Vec<String>,
    /// Keep parent directories.
    pub parents: bool,
    /// Do not look at the tree copied to.
    pub link: bool,
    /// Unpack archives.
    pub unpack: bool,
}

/// A process and what it sees.
#[derive(Debug, Clone)]
pub struct RunOperation<T> {
    /// Program and arguments.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// `user[:group]`, empty is root.
    pub user: String,
    /// What it may reach.
    pub network: Network,
    /// What it sees beside the tree.
    pub mounts: Vec<MountOperation<T>>,
}

/// A mount, in the words of the contract's `mount`.
#[derive(Debug, Clone)]
pub struct MountOperation<T> {
    /// `bind`, `cache`, `tmpfs` or `secret`.
    pub kind: &'static str,
    /// Absolute, or empty for a secret that only appears in the environment.
    pub target: String,
    /// What to show, or what a new cache starts with.
    pub source: Option<T>,
    /// Path within the source, or the name of a secret.
    pub path: String,
    /// Which cache.
    pub identity: String,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Options by name.
    pub options: Vec<(&'static str, String)>,
}

/// Where an operation comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// What the user sees while it runs.
    pub name: String,
    /// The `created_by` of its history entry.
    pub created_by: String,
    /// Where it is written.
    pub place: Option<Place>,
}

/// The outside world.
pub trait Backend {
    /// A file system; cheap to clone.
    type Tree: Clone;
    /// Resolves images at once; their OCI configurations, one answer for each, in order.
    fn resolve(&mut self, wanted: &[Wanted]) -> Vec<Result<Value, Fault>>;
    /// A tree to start from or to copy from. A context that does not exist is a fault of kind `NotFound`.
    fn source(&mut self, source: Source<'_>) -> Result<Self::Tree, Fault>;
    /// The tree after an operation. Costs nothing now.
    fn apply(&mut self, onto: &Self::Tree, operation: Operation<Self::Tree>, origin: &Origin) -> Self::Tree;
    /// A file of a tree, or none.
    fn read(&mut self, tree: &Self::Tree, path: &str, max: u64) -> Result<Option<Vec<u8>>, Fault>;
    /// Tells the user something that is probably not meant.
    fn warn(&mut self, message: &str);
}
