//! Makes an image of a tree: waits for its layers, completes the configuration, writes manifest and index.

use std::collections::{BTreeMap, HashSet};

use cooperage_store::layers::{LayerId, Seal, Sealed};
use cooperage_store::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, media_types};
use serde_json::{Value, json};

use crate::build::{Build, blocking, lock};
use crate::evaluate::Evaluated;
use crate::tree::Op;
use crate::{Error, ErrorKind, Tree};

/// An image to be.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its file system.
    pub tree: Tree,
    /// Its platform.
    pub platform: Platform,
    /// Its configuration without `rootfs`; the contract's `builder.image` tells how history belongs to layers.
    pub config: Value,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

impl Build {
    /// Evaluates an image and writes its manifest; gives the manifest's descriptor with the platform.
    pub async fn image(&self, image: Image) -> Result<Descriptor, Error> {
        check_processors(&image)?;
        self.export(&image.tree).await?;
        let evaluated = self.evaluate(&image.tree, false).await?;
        let (layers, diff_ids) = self.layers(&evaluated).await?;
        let config = complete(image.config, &image.platform, &diff_ids, &evaluated)?;
        let store = self.options().store.clone();
        let (annotations, platform) = (image.annotations, image.platform);
        blocking(move || {
            let config = store.images().put_config(&ImageConfig::new(config))?;
            let manifest = Manifest { config, layers, annotations, ..Manifest::default() };
            let mut descriptor = store.images().put_manifest(&manifest)?;
            descriptor.platform = Some(platform);
            Ok(descriptor)
        })
        .await
    }

    /// Writes an index over manifests.
    pub async fn index(&self, manifests: Vec<Descriptor>) -> Result<Descriptor, Error> {
        let store = self.options().store.clone();
        blocking(move || Ok(store.images().put_index(&Index { manifests, ..Index::default() })?)).await
    }

    /// Marks the operations whose layers become part of an image, so that their blobs are made at once.
    async fn export(&self, tree: &Tree) -> Result<(), Error> {
        let mut next = Some(tree);
        while let Some(tree) = next {
            if tree.base().is_some() {
                let key = self.key(tree).await?;
                lock(&self.0.exported).insert(key.digest);
            }
            next = tree.base();
        }
        Ok(())
    }

    /// The layers of a manifest and their diff ids, the lowest first.
    async fn layers(&self, evaluated: &Evaluated) -> Result<(Vec<Descriptor>, Vec<Digest>), Error> {
        let (mut descriptors, mut diff_ids) = (Vec::new(), Vec::new());
        if let Some(base) = &evaluated.base {
            descriptors.extend(base.layers.iter().map(as_oci));
            diff_ids.extend(base.config.diff_ids()?);
        }
        let made = evaluated.layers.get(diff_ids.len()..).unwrap_or_default();
        for sealed in futures::future::try_join_all(made.iter().map(|id| self.sealed(*id))).await? {
            descriptors.push(sealed.descriptor);
            diff_ids.push(sealed.diff_id);
        }
        Ok((descriptors, diff_ids))
    }

    /// The blob of a layer, made once per build.
    pub(crate) async fn sealed(&self, id: LayerId) -> Result<Sealed, Error> {
        let cell = lock(&self.0.seals).entry(id).or_default().clone();
        let result = cell
            .get_or_init(|| async {
                let layers = self.options().store.layers().clone();
                let seal = Seal { compression: self.options().compression, clamp_mtime: self.options().epoch };
                blocking(move || {
                    layers.seal(&id, seal).map_err(|error| Error::from(error).context("compressing a layer"))
                })
                .await
            })
            .await;
        result.clone()
    }
}

/// A process for another processor would run as this machine's, and its result would be in the wrong image. Looks at the
/// tree of the image and at all that it copies from or mounts, before anything is done.
pub(crate) fn check_processors(image: &Image) -> Result<(), Error> {
    let host = Platform::host();
    let mut seen = HashSet::new();
    let mut todo = vec![(&image.tree, Some(&image.platform))];
    while let Some((top, assumed)) = todo.pop() {
        let mut chain = Vec::new();
        let mut next = Some(top);
        while let Some(tree) = next.filter(|tree| seen.insert(tree.address())) {
            chain.push(tree);
            next = tree.base();
        }
        let platform = top.bottom().platform().or(assumed).filter(|platform| platform.serves(&host).is_none());
        for tree in chain {
            if let (Op::Run { .. }, Some(platform)) = (&tree.0.op, platform) {
                let message = format!("a process for {platform} cannot run on {host} yet");
                return Err(Error::new(ErrorKind::Unsupported, message)
                    .hint("run it in a stage for this machine and copy the result, or build on such a machine")
                    .at(tree.origin()));
            }
            // What a stage without a base image is for, only its files could tell.
            todo.extend(tree.sources().map(|source| (source, None)));
        }
    }
    Ok(())
}

/// A layer of a Docker image under the media type that an OCI manifest gives it.
fn as_oci(layer: &Descriptor) -> Descriptor {
    let media_type = match layer.media_type.as_str() {
        media_types::DOCKER_LAYER_GZIP => media_types::LAYER_GZIP,
        media_types::DOCKER_LAYER => media_types::LAYER,
        media_types::DOCKER_LAYER_ZSTD => media_types::LAYER_ZSTD,
        other => other,
    };
    Descriptor { media_type: media_type.to_owned(), ..layer.clone() }
}

/// Adds platform, root file system and the truth about empty layers.
fn complete(
    mut config: Value,
    platform: &Platform,
    diff_ids: &[Digest],
    evaluated: &Evaluated,
) -> Result<Value, Error> {
    let object = config.as_object_mut().ok_or_else(|| Error::invalid("the image configuration is not an object"))?;
    object.insert("os".to_owned(), json!(platform.os));
    object.insert("architecture".to_owned(), json!(platform.architecture));
    match &platform.variant {
        Some(variant) => object.insert("variant".to_owned(), json!(variant)),
        None => object.remove("variant"),
    };
    object.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    let history = match object.remove("history") {
        Some(Value::Array(history)) => history,
        None | Some(Value::Null) => Vec::new(),
        Some(_) => return Err(Error::invalid("the history of the image configuration is not a list")),
    };
    object.insert("history".to_owned(), Value::Array(true_history(history, evaluated)));
    Ok(config)
}

/// Marks entries whose operation gave no layer, and completes a history that knows fewer layers than there are.
fn true_history(mut history: Vec<Value>, evaluated: &Evaluated) -> Vec<Value> {
    let is_empty = |entry: &Value| entry.get("empty_layer").and_then(Value::as_bool).unwrap_or(false);
    let mark = |entry: &mut Value| {
        if let Some(object) = entry.as_object_mut() {
            object.insert("empty_layer".to_owned(), json!(true));
        }
    };
    let mut wanted: Vec<bool> = vec![true; evaluated.base_layers()];
    wanted.extend(evaluated.operations.iter());
    let mut made = wanted.into_iter().rev();
    for entry in history.iter_mut().rev().filter(|entry| !is_empty(entry)) {
        if made.next() != Some(true) {
            mark(entry);
        }
    }
    let missing = made.filter(|made| *made).count();
    let unknown = json!({ "created_by": "unknown" });
    history.splice(0..0, std::iter::repeat_n(unknown, missing));
    history
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tree::{CopyOptions, Mount, MountKind, Process};
    use crate::{Base, Origin};

    fn evaluated(base: usize, operations: &[bool]) -> Evaluated {
        let layers = base + operations.iter().filter(|made| **made).count();
        let layers = vec![LayerId(Digest::of(b"")); layers];
        Evaluated { layers: Arc::new(layers), operations: Arc::new(operations.to_vec()), base: None }
    }

    fn base(architecture: &str) -> Tree {
        let platform = Platform { architecture: architecture.to_owned(), ..Platform::host() };
        let manifest = Descriptor::new(media_types::MANIFEST, Digest::of(b""), 0);
        let config = ImageConfig::new(json!({}));
        Tree::image(Arc::new(Base { reference: "base".into(), manifest, layers: Vec::new(), config, platform }))
    }

    #[test]
    fn processes_for_other_processors_are_found_wherever_they_are() {
        let (ours, other) = (Platform::host().architecture, "riscv64");
        let ran = |tree: Tree| tree.run(Process::default(), Vec::new(), Origin::default());
        let copied =
            |from: Tree| Tree::scratch().copy(&from, Vec::new(), "/".into(), CopyOptions::default(), Origin::default());
        let mounted = |source: Tree| {
            let kind = MountKind::Bind { source, path: "/".into() };
            let mounts = vec![Mount { target: "/x".into(), kind, read_only: true }];
            base(&ours).run(Process::default(), mounts, Origin::default())
        };
        let refused = |tree: Tree, architecture: &str| {
            let platform = Platform { architecture: architecture.to_owned(), ..Platform::host() };
            let image = Image { tree, platform, config: json!({}), annotations: BTreeMap::new() };
            check_processors(&image).is_err()
        };
        assert!(refused(ran(base(other)), other));
        assert!(refused(ran(Tree::scratch()), other));
        assert!(refused(copied(ran(base(other))), &ours));
        assert!(refused(mounted(copied(ran(base(other)))), &ours));
        assert!(!refused(copied(ran(base(&ours))), other), "a stage for this machine");
        assert!(!refused(copied(base(other)), other), "nothing runs");
        assert!(!refused(mounted(base(other)), &ours));
    }

    fn shape(history: &[Value]) -> String {
        let letter = |entry: &Value| if entry.get("empty_layer").is_some() { 'e' } else { 'L' };
        history.iter().map(letter).collect()
    }

    #[test]
    fn history_has_as_many_layers_as_the_image() {
        let layer = || json!({ "created_by": "x" });
        let empty = || json!({ "created_by": "y", "empty_layer": true });
        for (history, base, operations, expected) in [
            (vec![layer(), empty(), layer()], 1, &[true][..], "LeL"),
            (vec![layer(), empty(), layer()], 1, &[false], "Lee"),
            (vec![layer()], 1, &[true], "LL"),
            (vec![], 2, &[], "LL"),
            (vec![layer(), layer(), layer()], 1, &[true], "eLL"),
            (vec![layer(), layer()], 0, &[false, true], "eL"),
        ] {
            assert_eq!(shape(&true_history(history, &evaluated(base, operations))), expected);
        }
    }
}
