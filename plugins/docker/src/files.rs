//! The directories that BuildKit may ask for over a session: the build context as the host sees it, and one that has
//! nothing but the Dockerfile, so that `COPY . .` never sees a Dockerfile that is no file of the context.

use std::collections::BTreeMap;

use cooperage_sdk::prelude::*;
use cooperage_sdk::trees::FileKind;

use crate::edge::Body;
use crate::session::{Entry, Files, Kind};

/// What the Dockerfile is called in its directory.
pub const DOCKERFILE: &str = "Dockerfile";
/// BuildKit takes it in place of the context's own ignore file, whose rules the host has applied already.
const NO_RULES: (&str, &str) = ("Dockerfile.dockerignore", "# applied before\n");

/// A tree, looked at once.
pub struct TreeFiles {
    tree: Tree,
    directories: BTreeMap<String, Vec<Entry>>,
    open: fn(&Tree, &str) -> Result<Box<dyn Body>>,
}

impl TreeFiles {
    /// Looks at all names of a tree, and at the digests of its files.
    ///
    /// # Errors
    /// Those of the tree.
    pub fn of(tree: Tree, open: fn(&Tree, &str) -> Result<Box<dyn Body>>) -> Result<Self> {
        let mut directories: BTreeMap<String, Vec<Entry>> = BTreeMap::from([(String::new(), Vec::new())]);
        for (info, digest) in tree.walk("/")? {
            let path = info.path.trim_start_matches('/');
            if path.is_empty() {
                continue;
            }
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let kind = match info.kind {
                FileKind::Regular => Kind::File,
                FileKind::Directory => Kind::Directory,
                FileKind::Symlink => Kind::Symlink,
                FileKind::Other => Kind::Other,
            };
            if kind == Kind::Directory {
                directories.entry(path.to_owned()).or_default();
            }
            let (name, size, mode, link_target) = (name.to_owned(), info.size, info.mode, info.link_target);
            // Whoever owns the files of a context, in an image they are root's.
            let entry = Entry { name, kind, size, mode, uid: 0, gid: 0, link_target, digest };
            directories.entry(parent.to_owned()).or_default().push(entry);
        }
        // Sorted by path they are not sorted by name: `a.b` comes before `a/b`.
        directories.values_mut().for_each(|entries| entries.sort_by(|a, b| a.name.cmp(&b.name)));
        Ok(Self { tree, directories, open })
    }
}

impl Files for TreeFiles {
    fn entries(&self, path: &str) -> Result<Vec<Entry>> {
        self.directories.get(path).cloned().ok_or_else(|| Error::not_found(format!("there is no directory /{path}")))
    }

    fn open(&self, path: &str) -> Result<Box<dyn Body>> {
        (self.open)(&self.tree, &format!("/{path}"))
    }
}

/// A directory of files that are there as texts.
pub struct Texts(Vec<(&'static str, String)>);

impl Texts {
    /// The directory of a Dockerfile.
    #[must_use]
    pub fn dockerfile(text: &str) -> Self {
        Self(vec![(DOCKERFILE, text.to_owned()), (NO_RULES.0, NO_RULES.1.to_owned())])
    }
}

impl Files for Texts {
    fn entries(&self, path: &str) -> Result<Vec<Entry>> {
        let entry = |(name, text): &(&str, String)| Entry {
            name: (*name).to_owned(),
            kind: Kind::File,
            size: text.len() as u64,
            mode: 0o644,
            uid: 0,
            gid: 0,
            link_target: None,
            // A few bytes are sent again each time.
            digest: None,
        };
        Ok(if path.is_empty() { self.0.iter().map(entry).collect() } else { Vec::new() })
    }

    fn open(&self, path: &str) -> Result<Box<dyn Body>> {
        let text = self.0.iter().find(|(name, _)| *name == path).map(|(_, text)| text.clone().into_bytes());
        text.map(|text| Box::new(Text(text)) as _).ok_or_else(|| Error::not_found(format!("there is no file /{path}")))
    }
}

struct Text(Vec<u8>);

impl Body for Text {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        let rest = self.0.split_off(self.0.len().min(max as usize));
        Ok(std::mem::replace(&mut self.0, rest))
    }
}
