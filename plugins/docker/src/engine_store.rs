//! The role `registry`: the images that the engine keeps, as if it were a registry.
//!
//! Most engines keep configurations and unpacked layers, and no manifests: one is made of the configuration and the
//! layers without compression. It is the same for the same image always, but it is not the manifest that the image may
//! have had in a registry. Docker 25 and later hand out a manifest with the image, which is kept as it is.

use cooperage_sdk::names::is_digest;
use cooperage_sdk::roles::registry::Arrival;
use cooperage_sdk::{Descriptor, Error, ErrorKind, Result};
use serde::Deserialize;

use crate::archive;
use crate::edge::Store;
use crate::engine::{Engine, Request};
use crate::image::{self, Inspected};
use crate::{faults, load, names};

const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// One repository: the images that share a name without a tag.
pub struct Kept<'a> {
    engine: Engine<'a>,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    #[serde(default)]
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

impl<'a> Kept<'a> {
    /// Those of that name.
    #[must_use]
    pub fn new(engine: Engine<'a>, name: String) -> Self {
        Self { engine, name }
    }

    /// The manifest that a tag or a digest stands for; it is then in the store. The rest of the image came with it, be
    /// it at an earlier time: what the store has let go of since, [`blob`](Self::blob) brings again.
    ///
    /// # Errors
    /// `not-found` if the engine has no such image.
    pub fn manifest(&self, reference: &str) -> Result<Descriptor> {
        if is_digest(reference) {
            return self.by_digest(reference).map(|(_, manifest)| manifest);
        }
        let name = format!("{}:{reference}", self.name);
        names::split(&name)?;
        self.manifest_of(&image::inspect(&self.engine, &name)?)
    }

    fn manifest_of(&self, image: &Inspected) -> Result<Descriptor> {
        let edge = self.engine.edge();
        if let Some((digest, media_type)) = self.remembered(&image.id)
            && let Some(size) = edge.store.stat(&digest)?
        {
            return Ok(Descriptor { media_type, digest, size, annotations: Vec::new() });
        }
        let manifest = image::fetch(&self.engine, image)?.put_manifest(edge)?;
        edge.memory.set(&key(&image.id), format!("{} {}", manifest.digest, manifest.media_type).as_bytes());
        Ok(manifest)
    }

    /// Digest and media type of the manifest that an image had at an earlier time.
    fn remembered(&self, id: &str) -> Option<(String, String)> {
        let value = String::from_utf8(self.engine.edge().memory.get(&key(id))?).ok()?;
        value.split_once(' ').map(|(digest, media_type)| (digest.to_owned(), media_type.to_owned()))
    }

    /// The image of this repository whose manifest has a digest.
    fn by_digest(&self, digest: &str) -> Result<(String, Descriptor)> {
        let (mut likely, mut unknown) = (Vec::new(), Vec::new());
        for (id, _) in self.images()? {
            match self.remembered(&id) {
                _ if id == digest => likely.insert(0, id),
                Some((known, _)) if known == digest => likely.push(id),
                Some(_) => {}
                None => unknown.push(id),
            }
        }
        // Only for those of which nothing is known, whole images are taken out of the engine to see what they are.
        for id in likely.into_iter().chain(unknown) {
            let manifest = self.manifest_of(&image::inspect(&self.engine, &id)?)?;
            if manifest.digest == digest || id == digest {
                return Ok((id, manifest));
            }
        }
        Err(Error::not_found(format!("the engine has no image {} with the digest {digest}", self.name))
            .hint("an engine forgets an image when its tag goes to another one"))
    }

    /// Brings a blob into the store.
    ///
    /// # Errors
    /// `not-found` if no image of this repository has it.
    pub fn blob(&self, digest: &str) -> Result<()> {
        let store = self.engine.edge().store;
        let mut images = Vec::new();
        if store.stat(digest)?.is_some() {
            return Ok(());
        }
        for (id, _) in self.images()? {
            images.push(image::inspect(&self.engine, &id)?);
        }
        // The right one first: a layer without compression has the digest that the engine knows it by.
        images.sort_by_key(|image| image.id != digest && !image.diff_ids().iter().any(|layer| layer == digest));
        for image in images {
            image::fetch(&self.engine, &image)?;
            if store.stat(digest)?.is_some() {
                return Ok(());
            }
        }
        Err(Error::not_found(format!("no image {} of the engine has {digest}", self.name)))
    }

    /// Sends an image to the engine. Of an index the engine gets the image of its own platform, for it keeps no
    /// indexes. What has no tag is not sent: the images of an index are announced one by one before it, and the engine
    /// would have no name for them.
    ///
    /// # Errors
    /// `not-found` if the store lacks a part, and those of the engine.
    pub fn put_manifest(&self, manifest: &Descriptor, tag: Option<&str>) -> Result<()> {
        let is_index = INDEXES.contains(&manifest.media_type.as_str());
        let store = self.engine.edge().store;
        match tag {
            Some(tag) => {
                let name = format!("{}:{tag}", self.name);
                names::split(&name)?;
                let chosen = if is_index { self.choose(manifest)? } else { manifest.clone() };
                load::load(&self.engine, &chosen, &name)
            }
            None if is_index => archive::document(store, &manifest.digest).map(drop),
            None => load::check(store, manifest),
        }
    }

    fn choose(&self, index: &Descriptor) -> Result<Descriptor> {
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Entry>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Entry {
            media_type: String,
            digest: String,
            size: u64,
            platform: Option<Of>,
        }
        #[derive(Deserialize)]
        struct Of {
            os: String,
            architecture: String,
        }
        let bytes = archive::document(self.engine.edge().store, &index.digest)?;
        let parsed: Index = serde_json::from_slice(&bytes)?;
        let traits = self.engine.traits();
        let own = |of: &Of| of.os == traits.os && of.architecture == traits.architecture;
        let found = parsed.manifests.into_iter().find(|entry| entry.platform.as_ref().is_some_and(own));
        let Entry { media_type, digest, size, .. } = found.ok_or_else(|| {
            Error::unsupported(format!(
                "the index has no image for {}/{}, which is what the engine runs on",
                traits.os, traits.architecture
            ))
        })?;
        Ok(Descriptor { media_type, digest, size, annotations: Vec::new() })
    }

    /// The tags, sorted.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn tags(&self) -> Result<Vec<String>> {
        let mut tags: Vec<String> = self.images()?.into_iter().flat_map(|(_, tags)| tags).collect();
        tags.sort();
        tags.dedup();
        if tags.is_empty() {
            return Err(Error::not_found(format!("the engine has no image {}", self.name)));
        }
        Ok(tags)
    }

    /// Takes a tag away, or all tags of an image of this repository. The engine deletes an image with its last name.
    ///
    /// # Errors
    /// `not-found` if there is none, `conflict` if a container uses it.
    pub fn delete(&self, reference: &str) -> Result<()> {
        let tags = if is_digest(reference) {
            let (id, _) = self.by_digest(reference)?;
            self.images()?.into_iter().filter(|(image, _)| *image == id).flat_map(|(_, tags)| tags).collect()
        } else {
            vec![reference.to_owned()]
        };
        for tag in tags {
            let name = format!("{}:{tag}", self.name);
            names::split(&name)?;
            let answer = self.engine.send(Request::new("DELETE", format!("/images/{name}")))?;
            faults::expect(answer, &format!("cannot delete {name} from the engine"))?;
        }
        Ok(())
    }

    /// The images of this repository with their tags.
    fn images(&self) -> Result<Vec<(String, Vec<String>)>> {
        let listed: Vec<Listed> =
            self.engine.ask(Request::get("/images/json"), "the engine does not list its images")?;
        let own = names::full(&self.name);
        let mut images: Vec<(String, Vec<String>)> = Vec::new();
        for Listed { id, repo_tags } in listed {
            let names = repo_tags.unwrap_or_default();
            let tags: Vec<String> = names
                .iter()
                .filter_map(|name| names::split(name).ok())
                .filter(|(name, _)| names::full(name) == own)
                .map(|(_, tag)| tag.to_owned())
                .collect();
            if !tags.is_empty() && is_digest(&id) {
                images.push((id, tags));
            }
        }
        Ok(images)
    }
}

/// Takes note of a blob: it is sent with the manifest, for an engine takes whole images only.
///
/// # Errors
/// `not-found` if the store does not have it.
pub fn put_blob(store: &dyn Store, digest: &str) -> Result<Arrival> {
    match store.stat(digest)? {
        Some(_) => Ok(Arrival::Uploaded),
        None => Err(Error::not_found(format!("{digest} is not in the store"))),
    }
}

/// Under what is remembered which manifest an image has.
fn key(id: &str) -> String {
    format!("manifest/{id}")
}

/// Whether an engine answers is all that can be proven: it knows no logins of its own.
///
/// # Errors
/// `unsupported` if a credential was given.
pub fn login(has_credential: bool) -> Result<()> {
    if has_credential {
        return Err(Error::new(ErrorKind::Unsupported, "an engine's own images need no login")
            .hint("the task `docker` proves a credential with `login`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Script, digest};

    const LAYER: &[u8] = &[5; 40_000];

    fn config() -> String {
        serde_json::json!({ "rootfs": { "diff_ids": [digest(LAYER)] } }).to_string()
    }

    /// An engine with `app:1` and `app:2`, which are the same image, and another image.
    fn script() -> Script {
        let config = config();
        let id = digest(config.as_bytes());
        let list = serde_json::json!([
            { "Id": id, "RepoTags": ["docker.io/library/app:2", "app:1", "other:1", "localhost:5000/app:3"] },
            { "Id": digest(b"x"), "RepoTags": ["<none>:<none>"] },
            { "Id": digest(b"y"), "RepoTags": null },
        ]);
        let inspected = serde_json::json!({ "Id": id, "RootFS": { "Layers": [digest(LAYER)] } }).to_string();
        let manifest = br#"[{"Config":"c.json","Layers":["l"]}]"#.as_slice();
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in [("l", LAYER), ("c.json", config.as_bytes()), ("manifest.json", manifest)] {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, bytes).unwrap();
        }
        Script::engine()
            .answers("GET /v1.41/images/json", 200, &[], list.to_string())
            .answers("GET /v1.41/images/app:1/json", 200, &[], &inspected)
            .answers("GET /v1.41/images/app:9/json", 404, &[], r#"{"message":"no such image"}"#)
            .answers(&format!("GET /v1.41/images/{id}/json"), 200, &[], &inspected)
            .answers(&format!("GET /v1.41/images/{id}/get"), 200, &[], builder.into_inner().unwrap())
            .answers("DELETE /v1.41/images/app:1", 200, &[], "[]")
            .answers("DELETE /v1.41/images/app:2", 200, &[], "[]")
            .answers("DELETE /v1.41/images/app:9", 409, &[], r#"{"message":"in use"}"#)
            .answers("POST /v1.41/images/load?quiet=1", 200, &[], "")
    }

    fn app(script: &Script) -> Kept<'_> {
        Kept::new(Engine::connect(script.edge()).unwrap(), "app".to_owned())
    }

    #[test]
    fn tags_and_digests_stand_for_manifests() {
        let script = script();
        let app = app(&script);
        assert_eq!(app.tags().unwrap(), ["1", "2"]);
        let manifest = app.manifest("1").unwrap();
        assert_eq!(app.manifest(&manifest.digest).unwrap(), manifest);
        assert_eq!(
            app.manifest(&digest(config().as_bytes())).unwrap(),
            manifest,
            "the engine's own digest is known, too"
        );
        let gets = |script: &Script| script.requests().iter().filter(|request| request.ends_with("/get")).count();
        assert_eq!(gets(&script), 1);
        script.contents.remove(&digest(LAYER));
        app.blob(&digest(LAYER)).unwrap();
        app.blob(&digest(LAYER)).unwrap();
        assert_eq!(gets(&script), 2);
        for (reference, text) in
            [("9", "no image app:9"), ("a b", "no name of an image"), (digest(b"none").as_str(), "with the digest")]
        {
            let error = app.manifest(reference).unwrap_err();
            assert!(error.message.contains(text), "{}", error.message);
        }
        assert_eq!(app.blob(&digest(b"none")).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn tags_go_one_by_one_and_images_with_all_of_theirs() {
        let script = script();
        let app = app(&script);
        let deleted =
            || script.requests().into_iter().filter(|request| request.starts_with("DELETE")).collect::<Vec<_>>();
        app.delete("1").unwrap();
        assert_eq!(deleted(), ["DELETE /v1.41/images/app:1"]);
        app.delete(&digest(config().as_bytes())).unwrap();
        assert_eq!(deleted()[1..], ["DELETE /v1.41/images/app:2", "DELETE /v1.41/images/app:1"]);
        assert_eq!(app.delete("9").unwrap_err().kind, ErrorKind::Conflict);
    }

    #[test]
    fn only_what_gets_a_name_is_sent() {
        let script = script();
        let app = app(&script);
        let own = app.manifest("1").unwrap();
        let loads = || script.requests().iter().filter(|request| request.contains("load")).count();
        app.put_manifest(&own, None).unwrap();
        assert_eq!(loads(), 0);
        app.put_manifest(&own, Some("7")).unwrap();
        assert_eq!(loads(), 1);
        let empty = Descriptor { media_type: INDEXES[0].to_owned(), digest: script.contents.put(b"{}"), ..own.clone() };
        app.put_manifest(&empty, None).unwrap();
        script.contents.remove(&digest(LAYER));
        for missing in [&own, &Descriptor { digest: digest(b"none"), ..empty }] {
            assert_eq!(app.put_manifest(missing, None).unwrap_err().kind, ErrorKind::NotFound);
        }
        assert_eq!(loads(), 1);
    }

    #[test]
    fn digests_are_looked_for_without_taking_other_images_out() {
        let script = script();
        let own = digest(config().as_bytes());
        let other = digest(b"an image whose archive is not to be asked for");
        let list = serde_json::json!([{ "Id": other, "RepoTags": ["app:0"] }, { "Id": own, "RepoTags": ["app:1"] }]);
        let inspected = serde_json::json!({ "Id": other, "RootFS": { "Layers": [] } }).to_string();
        let script = script.answers("GET /v1.41/images/json", 200, &[], list.to_string()).answers(
            &format!("GET /v1.41/images/{other}/json"),
            200,
            &[],
            inspected,
        );
        let app = app(&script);
        let manifest = app.manifest(&own).unwrap();
        assert_eq!(app.manifest(&manifest.digest).unwrap(), manifest);
        assert_eq!(app.manifest(&digest(b"none")).unwrap_err().kind, ErrorKind::Unavailable, "now it is asked for");
    }

    #[test]
    fn of_an_index_the_engine_gets_its_own_platform() {
        let script = script();
        let app = app(&script);
        let own = app.manifest("1").unwrap();
        let index = |architecture: &str| {
            let entry = serde_json::json!({
                "mediaType": own.media_type, "digest": own.digest, "size": own.size,
                "platform": { "os": "linux", "architecture": architecture },
            });
            let bytes = serde_json::json!({ "manifests": [entry] }).to_string();
            let (media_type, size) = (INDEXES[0].to_owned(), bytes.len() as u64);
            Descriptor { media_type, digest: script.contents.put(bytes.as_bytes()), size, annotations: Vec::new() }
        };
        app.put_manifest(&index("amd64"), Some("5")).unwrap();
        let error = app.put_manifest(&index("arm64"), Some("5")).unwrap_err();
        assert!(error.message.contains("linux/amd64"), "{}", error.message);
        assert_eq!(put_blob(&script.contents, &own.digest).unwrap(), Arrival::Uploaded);
        assert_eq!(put_blob(&script.contents, &digest(b"none")).unwrap_err().kind, ErrorKind::NotFound);
        assert!(login(true).is_err() && login(false).is_ok());
    }
}
