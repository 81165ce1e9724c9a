//! Lazy file systems: the contract's types, with the defaults and shorthands that its records lack.

use crate::Location;

pub use crate::bindings::imports::cooperage::plugin::trees::{
    CopyOptions, FileInfo, FileKind, Mount, Network, Origin, Process, Selection, Tree,
};

impl Origin {
    /// What the user sees while the operation runs; the same words go into the history of the image.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { created_by: name.clone(), name, location: None }
    }

    /// The words for the history of the image.
    #[must_use]
    pub fn created_by(mut self, words: impl Into<String>) -> Self {
        self.created_by = words.into();
        self
    }

    /// Where the user asked for it.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        self.location = Some(location);
        self
    }
}

impl Default for CopyOptions {
    /// A plain COPY.
    fn default() -> Self {
        Self {
            owner: None,
            mode: None,
            exclude: Vec::new(),
            parents: false,
            link: false,
            unpack: false,
            options: Vec::new(),
        }
    }
}

impl Process {
    /// A program and its arguments, run in `/` as root with an empty environment and the network of the build.
    #[must_use]
    pub fn new(args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            network: Network::Default,
            stdin: Vec::new(),
            options: Vec::new(),
        }
    }
}

impl<'a> Mount<'a> {
    fn of_kind(kind: &str, target: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            target: target.into(),
            source: None,
            path: String::new(),
            identity: String::new(),
            read_only: false,
            options: Vec::new(),
        }
    }

    /// Shows `path` of a tree; the empty path is its root. Writes are thrown away.
    #[must_use]
    pub fn bind(target: impl Into<String>, source: &'a Tree, path: impl Into<String>) -> Self {
        Self { source: Some(source), path: path.into(), ..Self::of_kind("bind", target) }
    }

    /// A directory that lasts from run to run, the same for the same identity.
    #[must_use]
    pub fn cache(target: impl Into<String>, identity: impl Into<String>) -> Self {
        Self { identity: identity.into(), ..Self::of_kind("cache", target) }
    }

    /// An empty directory in memory.
    #[must_use]
    pub fn tmpfs(target: impl Into<String>) -> Self {
        Self::of_kind("tmpfs", target)
    }

    /// A file with a secret.
    #[must_use]
    pub fn secret(target: impl Into<String>, name: impl Into<String>) -> Self {
        Self { path: name.into(), ..Self::of_kind("secret", target) }
    }

    /// Adds an option, such as `mode`.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }
}
