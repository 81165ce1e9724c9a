//! Small values that a plugin keeps from call to call, such as a registry's token: one file per key, apart by plugin
//! and project. They may be lost at any time; nothing here is worth a failure of a build.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cooperage_solve::{Error, ErrorKind};
use cooperage_store::Digest;

use crate::grants::Quota;
use crate::limits::Amount;

const LONGEST_KEY: usize = 512;
const LARGEST_VALUE: usize = 64 * 1024;
/// Bytes before a value: until when it is kept.
const HEAD: u64 = 8;
/// Values are kept no longer than this, whatever the plugin says.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why a value is not kept.
#[derive(Debug)]
pub(crate) enum Full {
    /// There are as many values as there may be.
    Entries(u64),
    /// The values together have as many bytes as they may have.
    Bytes(u64),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Full {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        let message = match full {
            Full::Entries(most) => format!("the plugin may keep {most} values"),
            Full::Bytes(most) => format!("the values that the plugin keeps may have {} together", Amount::Size(most)),
            Full::Other(error) => return error,
        };
        Self::new(ErrorKind::Limit, message)
    }
}

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

    /// Keeps a value within the usual quota; an empty one removes what is there.
    pub(crate) fn set(&self, key: &str, value: &[u8], keep: Option<Duration>) -> Result<(), Error> {
        Ok(self.set_within(key, value, keep, Quota::DEFAULT)?)
    }

    /// The same within another quota. Calls of the same plugin take turns, so that together they do not get more than one
    /// of them may have.
    pub(crate) fn set_within(&self, key: &str, value: &[u8], keep: Option<Duration>, quota: Quota) -> Result<(), Full> {
        check(key, value)?;
        let path = self.path(key);
        if value.is_empty() {
            let _ = fs::remove_file(path);
            return Ok(());
        }
        let directory = self.directory();
        let io = |error: std::io::Error| Error::io("keep a value of the plugin", &error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(io)?;
        let _turn = turn(&directory).map_err(io)?;
        if let Err(full) = room(&directory, &path, value, quota) {
            forget_old(&directory);
            room(&directory, &path, value, quota).map_err(|_| full)?;
        }
        let until = now().saturating_add(keep.unwrap_or(LONGEST).min(LONGEST).as_secs());
        let bytes = [&until.to_le_bytes(), value].concat();
        let temporary = directory.join(format!(".{}-{}", std::process::id(), Digest::of(&bytes).hex()));
        let _ = fs::remove_file(&temporary);
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&temporary).map_err(io)?;
        std::io::Write::write_all(&mut file, &bytes).map_err(io)?;
        fs::rename(temporary, path).map_err(io)?;
        Ok(())
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

/// Held until it is dropped.
fn turn(directory: &Path) -> std::io::Result<fs::File> {
    let directory = fs::File::open(directory)?;
    directory.lock()?;
    Ok(directory)
}

/// Whether a value fits beside the others.
fn room(directory: &Path, path: &Path, value: &[u8], quota: Quota) -> Result<(), Full> {
    let (mut bytes, mut entries) = (value.len() as u64, 1u64);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        // What begins with a dot is what a killed process was about to keep: it counts, too, until it is forgotten.
        if entry.path() != path {
            let held = entry.metadata().map_or(0, |metadata| metadata.len());
            bytes = bytes.saturating_add(held.saturating_sub(HEAD));
            entries += 1;
        }
    }
    if entries > quota.entries {
        return Err(Full::Entries(quota.entries));
    }
    if bytes > quota.bytes {
        return Err(Full::Bytes(quota.bytes));
    }
    Ok(())
}

fn forget_old(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            let _ = fs::remove_file(entry.path());
            continue;
        }
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
        let quota = Quota { bytes: 100, entries: 3 };
        let set = |key: &str, value: &[u8]| {
            store.set_within(key, value, None, quota).map_err(|full| Error::from(full).message)
        };
        assert!(set(&"k".repeat(513), b"v").unwrap_err().contains("a key has at most"));
        let large = vec![0; LARGEST_VALUE + 1];
        assert!(store.set("k", &large, None).is_err());
        store.set_within("old", &[0; 90], Some(Duration::ZERO), quota).unwrap();
        set("a", &[0; 60]).unwrap();
        assert_eq!(store.get("old").unwrap(), None, "what is over makes room");
        set("a", &[0; 100]).unwrap();
        assert!(set("a", &[0; 101]).unwrap_err().contains("100B together"));
        assert!(set("b", b"1").unwrap_err().contains("100B together"));
        set("a", b"1").unwrap();
        set("b", b"1").unwrap();
        set("\0/../../c", b"1").unwrap();
        assert!(set("d", b"1").unwrap_err().contains("may keep 3 values"));
        set("b", b"another").unwrap();
        set("b", b"").unwrap();
        set("d", b"1").unwrap();
        let beside: Vec<_> = fs::read_dir(root.path()).unwrap().collect();
        assert_eq!(beside.len(), 1, "whatever the keys are called");
    }
}
