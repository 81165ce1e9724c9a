//! Component files of the user, by what `stat` says of them: one whose digest is known is not read again until its bytes
//! are needed, which are many where a component carries an interpreter.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cooperage_store::Digest;
use serde::{Deserialize, Serialize};

use super::Error;
use super::layout::{read_file, read_limited};
use super::pack::{Artifact, Component};
use super::sources::{Sources, write};

/// A file that changed within the clock's grain could change once more without a trace. The coarsest tick of a Linux
/// kernel is 10 ms.
const GRAIN: Duration = Duration::from_millis(50);

/// What a file was when it was read. `files/<device>-<inode>.json` in the cache holds one.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    /// Seconds since 1970, and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Serialize, Deserialize)]
struct Known {
    stamp: Stamp,
    digest: Digest,
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        let (modified, changed) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
        Self { size: file.len(), modified, changed }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1)) else {
            return false;
        };
        UNIX_EPOCH + Duration::new(seconds, nanos) + GRAIN < now
    }
}

impl Sources {
    /// The component in a file.
    pub(super) fn load_file(&self, path: &Path) -> Result<Artifact, Error> {
        let file = std::fs::metadata(path).map_err(Error::file(path))?;
        let (stamp, place) = (Stamp::of(&file), self.cache.join(format!("files/{}-{}.json", file.dev(), file.ino())));
        let known = read_limited(&place, 1 << 10).ok().and_then(|bytes| serde_json::from_slice::<Known>(&bytes).ok());
        if let Some(Known { digest, .. }) = known.filter(|known| known.stamp == stamp && stamp.size <= self.largest) {
            let (component, origin) = (Component::File { path: path.to_owned(), size: stamp.size }, path.display());
            let origin = origin.to_string();
            return Ok(Artifact { component, digest, manifest: None, annotations: Default::default(), origin });
        }
        let now = SystemTime::now();
        let artifact = read_file(path, self.largest)?;
        let is_same = || std::fs::metadata(path).is_ok_and(|file| Stamp::of(&file) == stamp);
        if stamp.is_settled(now) && is_same() {
            let known = Known { stamp, digest: artifact.digest };
            // Without it the file is read again next time.
            let _ = write(&place, &serde_json::to_vec(&known).expect("numbers and strings can be written"));
        }
        Ok(artifact)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::FileTimes;

    use super::super::section::{EMPTY_COMPONENT, embed_description};
    use super::super::{PluginReference, Remote};
    use super::*;
    use crate::http;

    #[tokio::test]
    async fn an_unchanged_file_is_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let remote = Remote::new(http::Client::new(http::Settings::default()).unwrap(), None, Vec::new());
        let cache = directory.path().join("cache");
        let sources = Sources { bundle: None, cache, remote, base: directory.path().into(), largest: 1 << 20 };
        let path = directory.path().join("plugin.wasm");
        let component =
            |version: u32| embed_description(EMPTY_COMPONENT, &format!("{{\"version\":{version}}}")).unwrap();
        let reference: PluginReference = "file:plugin.wasm".parse().unwrap();
        let load = async || sources.load(&reference, false).await.unwrap();

        std::fs::write(&path, component(1)).unwrap();
        assert!(matches!(load().await.component, Component::Bytes(_)), "it changed a moment ago");
        assert!(matches!(load().await.component, Component::Bytes(_)), "and could change again");
        tokio::time::sleep(GRAIN * 2).await;
        assert!(matches!(load().await.component, Component::Bytes(_)));
        let known = load().await;
        assert!(matches!(known.component, Component::File { size, .. } if size == component(1).len() as u64));
        assert_eq!(known.digest, Digest::of(&component(1)));
        assert_eq!(sources.component(&known).await.unwrap(), component(1));

        // The same size and the same time of modification: the time of the change tells.
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, component(2)).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_times(FileTimes::new().set_modified(modified)).unwrap();
        let error = sources.component(&known).await.unwrap_err().to_string();
        assert!(error.contains("plugin.wasm") && error.contains("changed"), "{error}");
        assert_eq!(load().await.digest, Digest::of(&component(2)));

        std::fs::remove_file(&path).unwrap();
        assert!(matches!(sources.load(&reference, false).await, Err(Error::File { .. })));
    }
}
