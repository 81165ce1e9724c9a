//! The merged view of a stack of layers, answered from their tables of contents. Unpacks nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use cooperage_store::layer::{Entry, Kind, Toc};
use cooperage_store::layers::{LayerId, Layers, Source};

use super::{Files, Item, ancestors, file_name};
use crate::Error;

/// A layer with its table of contents.
#[derive(Debug, Clone)]
pub(crate) struct StackLayer {
    pub(crate) id: LayerId,
    pub(crate) toc: Arc<Toc>,
}

/// Layers on top of each other, the topmost first.
pub(crate) struct StackFiles {
    layers: Vec<StackLayer>,
    store: Layers,
}

/// What one layer says about a path.
enum Answer<'a> {
    Entry(&'a Entry),
    /// The path, or a parent of it, is gone or replaced here: lower layers do not count.
    Hidden,
    /// A parent is opaque here: the path is not in this layer, and lower layers do not count.
    Silent,
}

impl StackFiles {
    /// A view of `layers`, the topmost first.
    pub(crate) fn new(layers: Vec<StackLayer>, store: Layers) -> Self {
        Self { layers, store }
    }

    fn answer<'a>(layer: &'a StackLayer, path: &[u8]) -> Option<Answer<'a>> {
        let mut opaque = false;
        for ancestor in std::iter::once(&b""[..]).chain(ancestors(path)) {
            if path.is_empty() {
                break;
            }
            match layer.toc.get(ancestor).map(|entry| &entry.kind) {
                Some(Kind::Directory { opaque: true }) => opaque = true,
                Some(Kind::Directory { .. }) | None => {}
                Some(_) => return Some(Answer::Hidden),
            }
        }
        match layer.toc.get(path) {
            Some(Entry { kind: Kind::Whiteout, .. }) => Some(Answer::Hidden),
            Some(entry) => Some(Answer::Entry(entry)),
            None if opaque => Some(Answer::Silent),
            None => None,
        }
    }

    fn item(&self, layer: &StackLayer, entry: &Entry) -> Item {
        let mut entry = entry.clone();
        let mut source_path = entry.path.clone();
        let linked = matches!(entry.kind, Kind::Hardlink { .. });
        if let Kind::Hardlink { target } = &entry.kind
            && let Some(real) = layer.toc.get(target)
        {
            source_path.clone_from(target);
            entry.kind = real.kind.clone();
        }
        if let Kind::Directory { opaque } = &mut entry.kind {
            *opaque = false;
        }
        let source = match entry.kind {
            Kind::File { .. } => Source::Layer { id: layer.id, path: source_path },
            _ => Source::None,
        };
        Item { entry, source, linked }
    }

    /// The names of a directory with the layer that has each, from the top down until something hides it.
    fn merged<'a>(&'a self, path: &[u8]) -> BTreeMap<Vec<u8>, (&'a StackLayer, &'a Entry)> {
        let mut names: BTreeMap<Vec<u8>, Option<(&StackLayer, &Entry)>> = BTreeMap::new();
        for layer in &self.layers {
            let answer = Self::answer(layer, path);
            let opaque = match &answer {
                Some(Answer::Hidden | Answer::Silent) => break,
                Some(Answer::Entry(entry)) => match entry.kind {
                    Kind::Directory { opaque } => opaque,
                    _ => break,
                },
                None => false,
            };
            for entry in layer.toc.children(path) {
                let name = file_name(&entry.path).to_vec();
                names.entry(name).or_insert_with(|| match entry.kind {
                    Kind::Whiteout => None,
                    _ => Some((layer, entry)),
                });
            }
            if opaque {
                break;
            }
        }
        names.into_iter().filter_map(|(name, found)| found.map(|found| (name, found))).collect()
    }

    fn collect(&self, item: Item, into: &mut Vec<Item>) -> Result<(), Error> {
        let descend = item.is_directory().then(|| item.entry.path.clone());
        into.push(item);
        if let Some(path) = descend {
            for item in self.list(&path)? {
                self.collect(item, into)?;
            }
        }
        Ok(())
    }

    /// A digest says as much as the content.
    fn tell(&self, items: &[Item]) -> Result<(), Error> {
        for layer in &self.layers {
            let used = items.iter().filter_map(|item| match &item.source {
                Source::Layer { id, path } if *id == layer.id => Some(&path[..]),
                _ => None,
            });
            self.store.opening(&layer.id, used)?;
        }
        Ok(())
    }

    fn add_digests(&self, items: &mut [Item]) -> Result<(), Error> {
        self.tell(items)?;
        for layer in &self.layers {
            let mut at = Vec::new();
            let mut entries: Vec<&Entry> = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let Source::Layer { id, path } = &item.source else { continue };
                if *id == layer.id
                    && item.digest().is_none()
                    && let Some(entry) = layer.toc.get(path)
                {
                    at.push(index);
                    entries.push(entry);
                }
            }
            if entries.is_empty() {
                continue;
            }
            let digests =
                self.store.digest_files(&layer.id, &entries).map_err(Error::store("hashing files of a layer"))?;
            for (index, found) in at.into_iter().zip(digests) {
                if let Kind::File { digest, .. } = &mut items[index].entry.kind {
                    *digest = Some(found);
                }
            }
        }
        Ok(())
    }
}

impl Files for StackFiles {
    fn lookup(&self, path: &[u8]) -> Result<Option<Item>, Error> {
        for layer in &self.layers {
            match Self::answer(layer, path) {
                Some(Answer::Entry(entry)) => return Ok(Some(self.item(layer, entry))),
                Some(Answer::Hidden | Answer::Silent) => return Ok(None),
                None => {}
            }
        }
        Ok(path.is_empty().then(|| Item { entry: root(), source: Source::None, linked: false }))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Item>, Error> {
        Ok(self.merged(path).into_values().map(|(layer, entry)| self.item(layer, entry)).collect())
    }

    fn subtree(&self, path: &[u8]) -> Result<Vec<Item>, Error> {
        let mut items = Vec::new();
        if let Some(item) = self.lookup(path)? {
            self.collect(item, &mut items)?;
        }
        self.add_digests(&mut items)?;
        Ok(items)
    }

    fn read(&self, item: &Item, max: u64) -> Result<Vec<u8>, Error> {
        match &item.source {
            Source::Layer { id, path } => self
                .store
                .read(id, path, max)
                .map_err(|error| Error::from(error).context(format!("reading {}", super::display(item.path())))),
            _ => Err(Error::invalid(format!("{} is not a regular file", super::display(item.path())))),
        }
    }
}

/// The root of a tree in which no layer speaks of the root.
fn root() -> Entry {
    Entry {
        path: Vec::new(),
        kind: Kind::Directory { opaque: false },
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: 0,
        mtime_nanos: 0,
        xattrs: Vec::new(),
    }
}
