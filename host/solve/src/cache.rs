//! Remembers which layers an operation gave, by key. A record is one small file, renamed into place: no lock,
//! no database, and any number of processes.

use std::io::Write;
use std::path::PathBuf;

use cooperage_store::Digest;
use cooperage_store::layers::LayerId;
use serde::{Deserialize, Serialize};

use crate::Error;

/// What the operations of a tree gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// The whole stack, the lowest first. The upper layers of a record only fit its own lower ones, so a
    /// record never borrows layers from another.
    pub(crate) stack: Vec<LayerId>,
    /// For each operation since the image or scratch, whether it gave a layer.
    pub(crate) operations: Vec<bool>,
}

/// The records below one directory.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    pub(crate) fn new(store_root: &std::path::Path) -> Self {
        Self { directory: store_root.join("cache").join("def") }
    }

    fn path(&self, key: &Digest) -> PathBuf {
        let hex = key.hex();
        self.directory.join(&hex[..2]).join(hex)
    }

    /// The record of a key; one that cannot be read counts as none.
    pub(crate) fn get(&self, key: &Digest) -> Option<Remembered> {
        let bytes = std::fs::read(self.path(key)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Remembers; a record that is there is replaced whole.
    pub(crate) fn put(&self, key: &Digest, remembered: &Remembered) -> Result<(), Error> {
        let path = self.path(key);
        let failed = |error: std::io::Error| Error::io("writing a cache record", &error);
        let directory = path.parent().unwrap_or(&self.directory);
        std::fs::create_dir_all(directory).map_err(failed)?;
        let unique = format!(".{}.{}.{:?}", key.hex(), std::process::id(), std::thread::current().id());
        let temporary = directory.join(unique);
        let write = || {
            let mut file = std::fs::File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(remembered)?)?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(|error| {
            let _ = std::fs::remove_file(&temporary);
            failed(error)
        })
    }
}
