//! The `index.json` of a layout: which manifests have which tags. What others wrote into it stays.

use cooperage_sdk::names;
use cooperage_sdk::{Descriptor, Error, Result};
use serde_json::{Value, json};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// An index.
#[derive(Debug, Clone, PartialEq)]
pub struct Index(Value);

impl Default for Index {
    fn default() -> Self {
        Self(json!({ "schemaVersion": 2, "mediaType": MEDIA_TYPE, "manifests": [] }))
    }
}

impl Index {
    /// Reads one.
    ///
    /// # Errors
    /// `conflict` if it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| Error::conflict(format!("it is no JSON: {error}")))?;
        if value["schemaVersion"] != 2 || !value["manifests"].is_array() {
            return Err(Error::conflict("it has no version 2 and no list of manifests"));
        }
        Ok(Self(value))
    }

    /// As it is written.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_string().into_bytes()
    }

    fn entries(&self) -> &[Value] {
        self.0["manifests"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// What a tag or digest stands for.
    #[must_use]
    pub fn find(&self, reference: &str) -> Option<Descriptor> {
        let by_digest = names::is_digest(reference);
        let fits =
            |entry: &&Value| if by_digest { entry["digest"] == reference } else { tag(entry) == Some(reference) };
        self.entries().iter().find(fits).and_then(descriptor)
    }

    /// The tags, sorted.
    #[must_use]
    pub fn tags(&self) -> Vec<String> {
        let mut tags: Vec<String> =
            self.entries().iter().filter_map(tag).filter(|tag| names::is_tag(tag)).map(str::to_owned).collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// All manifests that are listed, each once.
    #[must_use]
    pub fn descriptors(&self) -> Vec<Descriptor> {
        let mut all: Vec<Descriptor> = Vec::new();
        for found in self.entries().iter().filter_map(descriptor) {
            if !all.iter().any(|one| one.digest == found.digest) {
                all.push(found);
            }
        }
        all
    }

    /// Lists a manifest, and gives it a tag that no other has then. Whether that changed anything.
    pub fn put(&mut self, manifest: &Descriptor, tagged: Option<&str>) -> bool {
        let before = self.entries().to_vec();
        let mut after = before.clone();
        let is_it = |entry: &Value| entry["digest"] == manifest.digest.as_str();
        if let Some(tagged) = tagged {
            after.retain(|entry| tag(entry) != Some(tagged) || is_it(entry));
        }
        let there = after.iter().any(|entry| is_it(entry) && (tagged.is_none() || tag(entry) == tagged));
        if !there {
            let mut entry =
                json!({ "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size });
            if let Some(tagged) = tagged {
                entry["annotations"] = json!({ REF_NAME: tagged });
                // The entry without a name says nothing that this one does not.
                after.retain(|entry| !is_it(entry) || tag(entry).is_some());
            }
            after.push(entry);
        }
        let changed = before != after;
        self.0["manifests"] = after.into();
        changed
    }

    /// Forgets a tag, or a manifest with all its tags. Whether there was one.
    pub fn remove(&mut self, reference: &str) -> bool {
        let by_digest = names::is_digest(reference);
        let mut after = self.entries().to_vec();
        let before = after.len();
        after.retain(|entry| if by_digest { entry["digest"] != reference } else { tag(entry) != Some(reference) });
        let changed = after.len() != before;
        self.0["manifests"] = after.into();
        changed
    }
}

fn tag(entry: &Value) -> Option<&str> {
    entry["annotations"][REF_NAME].as_str()
}

fn descriptor(entry: &Value) -> Option<Descriptor> {
    let media_type = entry["mediaType"].as_str().filter(|text| names::is_media_type(text))?;
    let digest = entry["digest"].as_str().filter(|digest| names::is_digest(digest))?;
    let size = entry["size"].as_u64()?;
    Some(Descriptor { media_type: media_type.to_owned(), digest: digest.to_owned(), size, annotations: Vec::new() })
}

/// The descriptor of a manifest in a list of referrers: with its annotations, and its kind among them.
#[must_use]
pub fn referrer(mut descriptor: Descriptor, manifest: &[u8]) -> Descriptor {
    let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
    if let Some(map) = manifest["annotations"].as_object() {
        let texts = map.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        descriptor.annotations.extend(texts);
    }
    let kind = [&manifest["artifactType"], &manifest["config"]["mediaType"]].into_iter().find_map(Value::as_str);
    descriptor.annotations.extend(kind.map(|kind| ("artifactType".to_owned(), kind.to_owned())));
    descriptor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(fill: &str) -> Descriptor {
        Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            digest: format!("sha256:{}", fill.repeat(32)),
            size: 5,
            annotations: Vec::new(),
        }
    }

    #[test]
    fn tags_move() {
        let (one, two) = (manifest("0a"), manifest("0b"));
        let mut index = Index::default();
        assert!(index.put(&one, Some("latest")));
        assert!(!index.put(&one, Some("latest")));
        assert!(index.put(&one, Some("1")));
        assert!(index.put(&two, Some("latest")));
        assert_eq!(index.find("latest").unwrap().digest, two.digest);
        assert_eq!(index.find("1").unwrap().digest, one.digest);
        assert_eq!(index.find(&one.digest).unwrap(), one);
        assert_eq!(index.tags(), ["1", "latest"]);
        assert!(index.remove("1"));
        assert!(!index.remove("1"));
        assert!(index.remove(&two.digest));
        assert_eq!(index.descriptors(), []);
    }

    #[test]
    fn untagged_manifests_are_listed_once() {
        let one = manifest("0a");
        let mut index = Index::default();
        assert!(index.put(&one, None));
        assert!(!index.put(&one, None));
        assert!(index.put(&one, Some("a")));
        assert!(!index.put(&one, None));
        assert_eq!(index.entries().len(), 1);
    }

    #[test]
    fn what_others_wrote_stays() {
        let text = br#"{"schemaVersion":2,"x":1,"manifests":[{"digest":"odd"},{"digest":"sha256:00","annotations":{"y":"z"}}]}"#;
        let mut index = Index::parse(text).unwrap();
        index.put(&manifest("0a"), Some("a"));
        let value: Value = serde_json::from_slice(&index.to_bytes()).unwrap();
        assert_eq!(value["x"], 1);
        assert_eq!(value["manifests"].as_array().unwrap().len(), 3);
        assert_eq!(index.descriptors().len(), 1);
    }

    #[test]
    fn what_is_no_index() {
        for text in ["", "[]", "{}", r#"{"schemaVersion":1,"manifests":[]}"#, r#"{"schemaVersion":2,"manifests":{}}"#] {
            assert!(Index::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
