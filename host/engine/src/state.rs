//! Small values that a plugin keeps from call to call, such as a registry's token: one file per key, apart by plugin
//! and project. They may be lost at any time; nothing here is worth a failure of a build.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cooperage_solve::{Error, ErrorKind};
use cooperage_store::Digest;

const LONGEST_KEY: usize = 512;
const LARGEST_VALUE: usize = 64 * 1024;
const MOST_VALUES: usize = 256;
/// Values are kept no longer than this, whatever the plugin says.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// The values of one plugin in one project.
#[derive(Debug, Clone)]
pub(crate) struct StateStore {
    root: PathBuf,
    plugin: String,
    project: String,
}

impl StateStore {
    pub(crate) fn new(root: &Path, plugin: &str, project: &str) -> Self {
        Self { root: root.to_owned(), plugin: plugin.to_owned(), project: project.to_owned() }
    }

    fn directory(&self) -> PathBuf {
        // Framed by length, so that no two pairs of names give the same text.
        let name = format!("{}:{}{}", self.plugin.len(), self.plugin, self.project);
        self.root.join(Digest::of(name.as_bytes()).hex())
    }

    /// The value kept under a key, unless its time is over.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        check(key, &[])?;
        let path = self.path(key);
        let Ok(bytes) = fs::read(&path) else { return Ok(None) };
        let Some((until, value)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
        if u64::from_le_bytes(*until) <= now() {
            let _ = fs::remove_file(path);
            return Ok(None);
        }
        Ok(Some(value.to_vec()))
    }

    /// Keeps a value; an empty one removes what is there.
    pub(crate) fn set(&self, key: &str, value: &[u8], keep: Option<Duration>) -> Result<(), Error> {
        check(key, value)?;
        let path = self.path(key);
        if value.is_empty() {
            let _ = fs::remove_file(path);
            return Ok(());
        }
        let directory = self.directory();
        let io = |error: std::io::Error| Error::io("keep a value of the plugin", &error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(io)?;
        if !path.exists() && count(&directory) >= MOST_VALUES {
            forget_old(&directory);
            if count(&directory) >= MOST_VALUES {
                return Err(Error::new(ErrorKind::Limit, format!("the plugin keeps {MOST_VALUES} values already")));
            }
        }
        let until = now().saturating_add(keep.unwrap_or(LONGEST).min(LONGEST).as_secs());
        let bytes = [&until.to_le_bytes(), value].concat();
        let temporary = directory.join(format!(".{}-{}", std::process::id(), Digest::of(&bytes).hex()));
        let _ = fs::remove_file(&temporary);
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&temporary).map_err(io)?;
        std::io::Write::write_all(&mut file, &bytes).map_err(io)?;
        fs::rename(temporary, path).map_err(io)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory().join(Digest::of(key.as_bytes()).hex())
    }
}

fn check(key: &str, value: &[u8]) -> Result<(), Error> {
    if key.len() > LONGEST_KEY {
        return Err(Error::new(ErrorKind::Limit, format!("a key has at most {LONGEST_KEY} bytes")));
    }
    if value.len() > LARGEST_VALUE {
        return Err(Error::new(ErrorKind::Limit, format!("a value has at most {LARGEST_VALUE} bytes")));
    }
    Ok(())
}

fn count(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

fn forget_old(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let over = fs::read(entry.path()).ok().and_then(|bytes| bytes.first_chunk().copied()).map(u64::from_le_bytes);
        if over.is_none_or(|until| until <= now()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn values_are_kept_apart_and_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let store = |plugin: &str, project: &str| StateStore::new(root.path(), plugin, project);
        let mine = store("oci", "a");
        mine.set("token", b"secret", None).unwrap();
        assert_eq!(mine.get("token").unwrap().as_deref(), Some(&b"secret"[..]));
        assert_eq!(store("oci", "b").get("token").unwrap(), None);
        assert_eq!(store("oc", "ia").get("token").unwrap(), None);
        let mode = fs::metadata(mine.path("token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        mine.set("short", b"x", Some(Duration::ZERO)).unwrap();
        assert_eq!(mine.get("short").unwrap(), None);
        mine.set("token", b"", None).unwrap();
        assert_eq!(mine.get("token").unwrap(), None);
    }

    #[test]
    fn it_is_bounded() {
        let root = tempfile::tempdir().unwrap();
        let store = StateStore::new(root.path(), "p", "");
        assert_eq!(store.set(&"k".repeat(513), b"v", None).unwrap_err().kind, ErrorKind::Limit);
        assert_eq!(store.set("k", &vec![0; LARGEST_VALUE + 1], None).unwrap_err().kind, ErrorKind::Limit);
        store.set("old", b"v", Some(Duration::ZERO)).unwrap();
        for n in 0..MOST_VALUES {
            store.set(&n.to_string(), b"v", None).unwrap();
        }
        assert_eq!(store.set("more", b"v", None).unwrap_err().kind, ErrorKind::Limit);
        store.set("3", b"another", None).unwrap();
    }
}
