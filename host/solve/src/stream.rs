//! Gives what a tree holds to readers: a file at any place, the whole as an archive.

use cooperage_store::Digest;
use cooperage_store::layer::Kind;
use cooperage_store::layers::{Archive, FileAt, LayerId};

use crate::build::{Build, blocking};
use crate::files::{Item, display, resolve};
use crate::pattern::clean;
use crate::tree::Op;
use crate::{Error, Origin, Tree};

impl Build {
    /// Opens a regular file; symbolic links are followed.
    pub async fn open_file(&self, tree: &Tree, path: &str) -> Result<FileAt, Error> {
        let files = self.files(tree).await?;
        let layers = self.options().store.layers().clone();
        let path = clean(path.as_bytes());
        blocking(move || {
            let item = resolve(files.as_ref(), &path, true)?.item;
            let item = item.ok_or_else(|| Error::not_found(format!("{} does not exist", display(&path))))?;
            match item.entry.kind {
                Kind::File { size, .. } => Ok(layers.open_file(&item.source, size)?),
                _ => Err(Error::invalid(format!("{} is not a regular file", display(&path)))),
            }
        })
        .await
    }

    /// The directory at `path` and all below as a tar archive, with the directory as its root.
    pub async fn pack(&self, tree: &Tree, path: &str) -> Result<Archive, Error> {
        let files = self.files(tree).await?;
        let layers = self.options().store.layers().clone();
        let path = clean(path.as_bytes());
        blocking(move || {
            let top = resolve(files.as_ref(), &path, true)?;
            match top.item {
                Some(item) if item.is_directory() => {}
                Some(_) => return Err(Error::invalid(format!("{} is not a directory", display(&path)))),
                None => return Err(Error::not_found(format!("{} does not exist", display(&path)))),
            }
            let root = top.path;
            let below = |item: Item| {
                let path = item.path().strip_prefix(&root[..]).unwrap_or_default();
                let path = path.strip_prefix(b"/").unwrap_or(path).to_vec();
                (cooperage_store::layer::Entry { path, ..item.entry }, item.source)
            };
            let items = files.subtree(&root)?;
            let entries = items.into_iter().map(below).filter(|(entry, _)| !entry.path.is_empty());
            Ok(layers.pack(entries.collect())?)
        })
        .await
    }

    /// The tree that a stack of layers of the blob store makes, the lowest first. Reads each through, unless it is known.
    pub async fn import_layers(&self, blobs: Vec<Digest>) -> Result<Tree, Error> {
        let layers = self.options().store.layers().clone();
        let ids = blocking(move || {
            let mut ids: Vec<LayerId> = Vec::with_capacity(blobs.len());
            for digest in &blobs {
                ids.push(layers.ingest_blob(digest)?);
            }
            Ok(ids)
        });
        Ok(Tree::of(Op::Layers(crate::evaluate::Evaluated::layers(ids.await?)), Origin::default()))
    }
}
