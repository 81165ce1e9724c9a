//! Images as an engine hands them out: what its archive says belongs together, checked, in the store. Knows nothing of
//! builds and registries.

use std::rc::Rc;

use cooperage_sdk::events::Step;
use cooperage_sdk::names::is_digest;
use cooperage_sdk::{Context, Descriptor, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::archive::{Archive, put};
use crate::edge::{Body, Edge};
use crate::engine::{Engine, Request};
use crate::{faults, known, names};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The part of a digest that is shown: `sha256:` and as many digits as engines show.
const SHORT: usize = 19;
/// An index within an index within an index is no image.
const DEEPEST: usize = 4;
const MOST_MANIFESTS: usize = 1000;

/// What an engine says about one of its images.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected {
    /// The digest of the configuration, or of the manifest in engines that keep images as registries do.
    pub id: String,
    #[serde(default, rename = "RootFS")]
    root: Option<Root>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Root {
    layers: Vec<String>,
}

/// An image in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The configuration as it is.
    pub config: Vec<u8>,
    /// The layers in the store, the lowest first.
    pub layers: Vec<Descriptor>,
    /// The manifest that the engine has for it, and its media type.
    pub manifest: Option<(Vec<u8>, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reference {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Reference,
    pub(crate) layers: Vec<Reference>,
}

#[derive(Deserialize)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed {
    #[serde(default)]
    media_type: String,
    pub(crate) digest: String,
}

impl Inspected {
    /// The digests of the layers without compression.
    #[must_use]
    pub fn diff_ids(&self) -> &[String] {
        self.root.as_ref().map_or(&[], |root| &root.layers)
    }
}

/// What the engine says about an image, by name or identity.
///
/// # Errors
/// `not-found` if it has none of that name.
pub fn inspect(engine: &Engine<'_>, name: &str) -> Result<Inspected> {
    let path = format!("/images/{}/json", names::check(name)?);
    let asked: Result<Inspected> = engine.ask(Request::get(path), &format!("cannot look {name} up in the engine"));
    let image = asked.map_err(|error| match error.kind {
        ErrorKind::NotFound => Error { message: format!("the engine has no image {name}"), ..error },
        _ => error,
    })?;
    if !is_digest(&image.id) {
        return Err(Error::internal(format!("the engine identifies {name} by {:?}, which is no digest", image.id)));
    }
    Ok(image)
}

/// Brings an image of the engine into the store. If all of it is there, nothing is moved.
///
/// # Errors
/// `not-found` if the engine has none of that name, `conflict` if what it hands out does not fit together.
pub fn fetch(engine: &Engine<'_>, image: &Inspected) -> Result<Image> {
    if let Some(known) = known::find(engine, image)? {
        return Ok(known);
    }
    let what = format!("cannot take {} out of the engine", image.id);
    let step = Rc::new(Step::new(format!("take {} out of the engine", &image.id[..SHORT])));
    let taken = take(engine, image, &step, &what);
    taken.inspect_err(|error| step.fail(error.context.first().unwrap_or(&error.message)))
}

fn take(engine: &Engine<'_>, image: &Inspected, step: &Rc<Step>, what: &str) -> Result<Image> {
    let answer = engine.send(Request::get(format!("/images/{}/get", image.id)).patient())?;
    let answer = faults::expect(answer, what)?;
    let body = Counted { body: answer.body, step: step.clone(), done: 0 };
    let archive = Archive::read(engine.edge(), Box::new(body)).context(what)?;
    assemble(engine, &archive, &image.id).context(what)
}

/// A body that shows how far it has come. Engines do not say how long it is.
struct Counted {
    body: Box<dyn Body>,
    step: Rc<Step>,
    done: u64,
}

impl Body for Counted {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        let bytes = self.body.chunk(max)?;
        self.done += bytes.len() as u64;
        self.step.bytes(self.done, None);
        Ok(bytes)
    }
}

fn assemble(engine: &Engine<'_>, archive: &Archive, id: &str) -> Result<Image> {
    let edge = engine.edge();
    let entries: Vec<Entry> = parse("manifest.json", archive.document("manifest.json")?)?;
    let entry = choose(engine, archive, &entries)?;
    let config = archive.document(&entry.config)?.to_vec();
    let names = entry.layers.as_deref().unwrap_or_default();
    let diff_ids = diff_ids(&config)?;
    if names.len() != diff_ids.len() {
        return Err(Error::conflict(format!(
            "the image has {} layers, but its configuration names {}",
            names.len(),
            diff_ids.len()
        )));
    }
    let mut layers = Vec::new();
    for (name, diff_id) in names.iter().zip(&diff_ids) {
        let layer = archive.layer(edge, name)?;
        let compressed = layer.media_type != crate::archive::media_type(&[]);
        if !compressed && layer.digest != *diff_id {
            return Err(Error::conflict(format!(
                "layer {name} is {}, but the configuration names {diff_id}",
                layer.digest
            )));
        }
        layers.push(layer);
    }
    let config_digest = put(edge, &config, CONFIG)?.digest;
    let manifest = find_manifest(archive, &config_digest, &layers);
    // What the engine identifies the image by is kept, so that the image is known the next time.
    if let Some((bytes, media_type)) = &manifest {
        put(edge, bytes, media_type)?;
    }
    if let Some(bytes) =
        id.strip_prefix("sha256:").and_then(|hex| archive.document(&format!("blobs/sha256/{hex}")).ok())
    {
        put(edge, bytes, MANIFEST)?;
    }
    Ok(Image { config, layers, manifest })
}

/// The image of the engine's own platform, should there be several under one name.
fn choose<'a>(engine: &Engine<'_>, archive: &Archive, entries: &'a [Entry]) -> Result<&'a Entry> {
    let own = |entry: &&Entry| {
        let config = archive.document(&entry.config).ok().and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
        let Some(config) = config else { return false };
        config["os"] == engine.traits().os.as_str() && config["architecture"] == engine.traits().architecture.as_str()
    };
    let fallback = || entries.first().ok_or_else(|| Error::conflict("the engine's archive has no image"));
    entries.iter().find(own).map_or_else(fallback, Ok)
}

/// The digests of the layers that a configuration names.
pub(crate) fn diff_ids(config: &[u8]) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        #[serde(default)]
        diff_ids: Option<Vec<String>>,
    }
    let config: Config = parse("the configuration of the image", config)?;
    Ok(config.rootfs.diff_ids.unwrap_or_default())
}

/// The manifest of the engine's OCI layout that belongs to a configuration.
fn find_manifest(archive: &Archive, config: &str, layers: &[Descriptor]) -> Option<(Vec<u8>, String)> {
    let mut left = vec![("index.json".to_owned(), String::new(), 0)];
    let mut seen = 0;
    while let Some((name, media_type, depth)) = left.pop() {
        seen += 1;
        let bytes = archive.document(&name).ok().filter(|_| depth <= DEEPEST && seen <= MOST_MANIFESTS);
        let Some(bytes) = bytes else { continue };
        if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
            let same = manifest.layers.iter().map(|layer| &layer.digest).eq(layers.iter().map(|layer| &layer.digest));
            if same && manifest.config.digest == config {
                let media_type = if media_type.is_empty() { MANIFEST.to_owned() } else { media_type };
                return Some((bytes.to_vec(), media_type));
            }
        } else if let Ok(index) = serde_json::from_slice::<Index>(bytes) {
            let path = |digest: &str| digest.strip_prefix("sha256:").map(|digits| format!("blobs/sha256/{digits}"));
            let listed = index.manifests.into_iter();
            left.extend(listed.filter_map(|listed| Some((path(&listed.digest)?, listed.media_type, depth + 1))));
        }
    }
    None
}

impl Image {
    /// Keeps the manifest in the store: the engine's own, or one made from the configuration and the layers, which is
    /// the same for the same image at any time and place.
    ///
    /// # Errors
    /// Those of the store.
    pub fn put_manifest(&self, edge: Edge<'_>) -> Result<Descriptor> {
        if let Some((bytes, media_type)) = &self.manifest {
            return put(edge, bytes, media_type);
        }
        let config = put(edge, &self.config, CONFIG)?;
        let reference =
            |of: &Descriptor| Reference { media_type: of.media_type.clone(), digest: of.digest.clone(), size: of.size };
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            config: reference(&config),
            layers: self.layers.iter().map(reference).collect(),
        };
        put(edge, &serde_json::to_vec(&manifest)?, MANIFEST)
    }

    /// The configuration without what says on which machine and when the engine made it: `created` is the time of
    /// everything in it. Which entries of the history are those of a base image, an engine does not say.
    ///
    /// # Errors
    /// `conflict` if it is no JSON object.
    pub fn portable_config(&self, created: &str) -> Result<Value> {
        let mut config: Value = parse("the configuration of the image", &self.config)?;
        let object =
            config.as_object_mut().ok_or_else(|| Error::conflict("the configuration of the image is no object"))?;
        // The classic builder writes down the container of the last step; the host makes `rootfs` itself.
        for key in ["container", "container_config", "docker_version", "rootfs"] {
            object.remove(key);
        }
        object.insert("created".to_owned(), created.into());
        let history = object.get_mut("history").and_then(Value::as_array_mut).into_iter().flatten();
        for entry in history.filter_map(Value::as_object_mut) {
            entry.insert("created".to_owned(), created.into());
        }
        Ok(config)
    }
}

fn parse<T: for<'de> Deserialize<'de>>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::conflict(format!("{what} cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Script, digest};

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn config(layers: &[&[u8]]) -> String {
        let ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
        serde_json::json!({
            "os": "linux", "architecture": "amd64", "container": "x", "created": "2024-05-06T07:08:09.123456789Z",
            "history": [{ "created": "2023-01-02T03:04:05Z", "created_by": "RUN x" }, { "created_by": "ENV a=b" }],
            "rootfs": { "type": "layers", "diff_ids": ids },
        })
        .to_string()
    }

    fn inspected(id: &str, layers: &[&[u8]]) -> String {
        let ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
        serde_json::json!({ "Id": id, "RepoTags": ["app:1"], "RootFS": { "Layers": ids } }).to_string()
    }

    fn fetched(script: &Script) -> Result<Image> {
        let engine = Engine::connect(script.edge())?;
        fetch(&engine, &inspect(&engine, "app:1")?)
    }

    #[test]
    fn an_image_comes_once() {
        let (one, two) = (vec![1; 40_000], vec![2; 10]);
        let config = config(&[&one, &two]);
        let id = digest(config.as_bytes());
        let manifest = r#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar"]}]"#;
        let files = archive(&[
            ("a/layer.tar", &one),
            ("b/layer.tar", &two),
            ("c.json", config.as_bytes()),
            ("manifest.json", manifest.as_bytes()),
        ]);
        let get = format!("GET /v1.41/images/{id}/get");
        let script = Script::engine()
            .answers("GET /v1.41/images/app:1/json", 200, &[], inspected(&id, &[&one, &two]))
            .answers(&get, 200, &[], files);
        let image = fetched(&script).unwrap();
        let manifest = image.put_manifest(script.edge()).unwrap();
        let expected = serde_json::json!({
            "os": "linux", "architecture": "amd64", "created": "1970",
            "history": [{ "created": "1970", "created_by": "RUN x" }, { "created": "1970", "created_by": "ENV a=b" }],
        });
        assert_eq!(image.portable_config("1970").unwrap(), expected);
        let again = fetched(&script).unwrap();
        assert_eq!(again.put_manifest(script.edge()).unwrap(), manifest);
        assert_eq!(script.requests().iter().filter(|request| **request == get).count(), 1);
        script.contents.remove(&digest(&two));
        fetched(&script).unwrap();
        assert_eq!(script.requests().iter().filter(|request| **request == get).count(), 2, "a layer was pruned");
    }

    #[test]
    fn the_manifest_of_a_layout_is_kept() {
        let layer = [&[0x1f, 0x8b][..], &[7; 20]].concat();
        let config = config(&[b"what it is without compression"]);
        let blob = |bytes: &[u8]| format!("blobs/sha256/{}", &digest(bytes)[7..]);
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": { "mediaType": "c", "digest": digest(config.as_bytes()), "size": config.len() },
            "layers": [{ "mediaType": "l", "digest": digest(&layer), "size": layer.len() }],
        })
        .to_string();
        let inner = serde_json::json!({ "manifests": [{ "mediaType": "m", "digest": digest(manifest.as_bytes()) }] })
            .to_string();
        let outer =
            serde_json::json!({ "manifests": [{ "digest": "sha256:00" }, { "digest": digest(inner.as_bytes()) }] })
                .to_string();
        let list = serde_json::json!([{ "Config": blob(config.as_bytes()), "Layers": [blob(&layer)] }]).to_string();
        let id = digest(manifest.as_bytes());
        let names: Vec<_> = [layer.as_slice(), config.as_bytes(), manifest.as_bytes(), inner.as_bytes()]
            .iter()
            .map(|bytes| (blob(bytes), *bytes))
            .collect();
        let mut files: Vec<(&str, &[u8])> = names.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
        files.extend([("index.json", outer.as_bytes()), ("manifest.json", list.as_bytes())]);
        let script = Script::engine()
            .answers("GET /v1.41/images/app:1/json", 200, &[], inspected(&id, &[b"what it is without compression"]))
            .answers(&format!("GET /v1.41/images/{id}/get"), 200, &[], archive(&files));
        let image = fetched(&script).unwrap();
        let kept = image.put_manifest(script.edge()).unwrap();
        assert_eq!((kept.digest, kept.media_type.as_str()), (id, "m"));
        assert!(image.layers[0].media_type.ends_with("+gzip"));
        let again = fetched(&script).unwrap();
        assert_eq!((again.config, again.layers), (image.config, image.layers));
        assert_eq!(script.requests().iter().filter(|request| request.ends_with("/get")).count(), 1, "it is known");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let layer = vec![1; 40_000];
        let good = config(&[&layer]);
        let list = br#"[{"Config":"c.json","Layers":["a"]}]"#.as_slice();
        for (files, text) in [
            (vec![], "no \"manifest.json\""),
            (vec![("manifest.json", b"[]".as_slice())], "no image"),
            (vec![("manifest.json", b"{".as_slice())], "cannot be read"),
            (vec![("manifest.json", list)], "no \"c.json\""),
            (vec![("c.json", good.as_bytes()), ("manifest.json", list)], "no \"a\""),
            (
                vec![("a", b"other".as_slice()), ("c.json", good.as_bytes()), ("manifest.json", list)],
                "but the configuration names",
            ),
            (
                vec![("a", b"other".as_slice()), ("c.json", b"{\"rootfs\":{}}".as_slice()), ("manifest.json", list)],
                "1 layers, but its configuration names 0",
            ),
        ] {
            let id = digest(good.as_bytes());
            let script = Script::engine()
                .answers("GET /v1.41/images/app:1/json", 200, &[], inspected(&id, &[&layer]))
                .answers(&format!("GET /v1.41/images/{id}/get"), 200, &[], archive(&files));
            let error = fetched(&script).unwrap_err();
            assert!(error.context.iter().any(|cause| cause.contains(text)), "{text}: {error:?}");
        }
        let script = Script::engine().answers("GET /v1.41/images/app:1/json", 200, &[], r#"{"Id":"../x"}"#);
        assert!(fetched(&script).unwrap_err().message.contains("no digest"));
    }
}
