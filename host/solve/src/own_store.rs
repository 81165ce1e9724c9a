//! A build context with this program's own store in it. The store changes while it is read and grows with each build
//! that takes it in, so a copy that would take it is refused. A store that the user ignores does not matter.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::files::{Files, Item, display};
use crate::pattern::Ignore;
use crate::{Error, ErrorKind};

/// A context without leave to copy the store.
struct Guarded {
    files: Arc<dyn Files>,
    /// Path of the store in the context.
    store: Vec<u8>,
}

/// The path of the store in the context at `root`, if it lies there and is not left out.
pub(crate) fn within(root: &Path, store: &Path, include: &Ignore, ignore: &Ignore) -> Option<Vec<u8>> {
    // What cannot be resolved here cannot be read as a context either.
    let (root, store) = (root.canonicalize().ok()?, store.canonicalize().ok()?);
    let path = store.strip_prefix(&root).ok()?.as_os_str().as_bytes().to_vec();
    (include.is_empty() && !ignore.ignores(&path)).then_some(path)
}

/// The files of a context that has the store at the path `store`.
pub(crate) fn guard(files: Arc<dyn Files>, store: Vec<u8>) -> Arc<dyn Files> {
    Arc::new(Guarded { files, store })
}

impl Guarded {
    fn takes_store(&self, path: &[u8]) -> bool {
        let rest = self.store.strip_prefix(path);
        path.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }
}

impl Files for Guarded {
    fn lookup(&self, path: &[u8]) -> Result<Option<Item>, Error> {
        self.files.lookup(path)
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Item>, Error> {
        self.files.list(path)
    }

    fn subtree(&self, path: &[u8]) -> Result<Vec<Item>, Error> {
        if !self.takes_store(path) {
            return self.files.subtree(path);
        }
        let message = format!("the store of coop lies in the build context, at {}", display(&self.store));
        let line = String::from_utf8_lossy(&self.store);
        Err(Error::new(ErrorKind::InvalidInput, message)
            .hint(format!("name it in .dockerignore as /{line}, or keep it elsewhere with --root or COOP_ROOT")))
    }

    fn read(&self, item: &Item, max: u64) -> Result<Vec<u8>, Error> {
        self.files.read(item, max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::testing::{Listed, directory, file};

    #[test]
    fn only_what_would_take_the_store_is_refused() {
        let items = vec![directory("deep"), directory("deep/store"), file("deep/store2"), directory("dee")];
        let files = guard(Arc::new(Listed(items)), b"deep/store".to_vec());
        for path in ["", "deep", "deep/store"] {
            let error = files.subtree(path.as_bytes()).unwrap_err();
            assert!(error.message.contains("/deep/store"), "{error}");
            assert!(error.hint.unwrap_or_default().contains(".dockerignore"));
        }
        for path in ["deep/store2", "dee"] {
            assert!(files.subtree(path.as_bytes()).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_store_elsewhere_or_left_out_does_no_harm() {
        let check = |root: &str, store: &str, include: &[&str], ignore: &[&str]| {
            let (include, ignore) = (Ignore::new(include).unwrap(), Ignore::new(ignore).unwrap());
            within(Path::new(root), Path::new(store), &include, &ignore)
        };
        assert_eq!(check("/", "/proc/self/../../usr", &[], &[]), Some(b"usr".to_vec()));
        assert_eq!(check("/", "/usr", &[], &["u*"]), None, "ignored");
        assert_eq!(check("/", "/usr", &["Dockerfile"], &[]), None, "not wanted");
        assert_eq!(check("/usr", "/", &[], &[]), None, "around the context");
        assert_eq!(check("/usr", "/proc", &[], &[]), None);
        assert_eq!(check("/usr", "/not there", &[], &[]), None);
    }
}
