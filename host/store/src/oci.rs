//! The documents of the OCI image specification as plain values: descriptor, platform, manifest, index, configuration.
//!
//! The configuration stays JSON: Docker's fields that the specification does not know (`Healthcheck`, `OnBuild`,
//! `Shell`) must survive, and typed readers of others drop them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{Digest, Error, Result};

/// Media types of manifests, configurations and layers, OCI's and Docker's.
pub mod media_types {
    /// An OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI image configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An uncompressed layer.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer compressed with gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer compressed with zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// A Docker image manifest, version 2 schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A Docker layer without compression.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// A Docker layer compressed with gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// A Docker layer compressed with zstd.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

    /// Whether it is a manifest of one image.
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, MANIFEST | DOCKER_MANIFEST)
    }

    /// Whether it is an index over manifests.
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, INDEX | DOCKER_INDEX)
    }
}

/// Reads `null` as nothing: Go writes an empty list or map so, and builders in Go wrote most of the world's images.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What a blob is and how to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Where else the content is; foreign layers have this.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Annotations.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The platform of a manifest in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor with nothing optional.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }
}

/// A platform, with Go's names for systems and processors.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Processor architecture, such as `amd64`.
    pub architecture: String,
    /// Operating system, such as `linux`.
    pub os: String,
    /// Version of the operating system; Windows images have it.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Variant of the architecture, such as `v7` of `arm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform of this machine, as images name it.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            "mips64" if cfg!(target_endian = "little") => "mips64le",
            other => other,
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), os_version: None, variant: None }
            .normalized()
    }

    /// The same with one spelling for what has several: `x86_64`, `aarch64`, `arm64/v8`, `arm`.
    pub fn normalized(&self) -> Self {
        let os = self.os.to_lowercase();
        let architecture = self.architecture.to_lowercase();
        let variant = self.variant.as_deref().map(str::to_lowercase).filter(|variant| !variant.is_empty());
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
            ("aarch64" | "arm64", None | Some("v8" | "8")) => ("arm64", None),
            ("aarch64" | "arm64", other) => ("arm64", other),
            ("armhf", _) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("i386" | "386", _) => ("386", None),
            (other, variant) => (other, variant),
        };
        Self {
            architecture: architecture.to_owned(),
            os,
            os_version: self.os_version.clone(),
            variant: variant.map(str::to_owned),
        }
    }

    /// How well an image for `self` serves a machine that wants `wanted`: none if not at all, higher is better.
    pub fn serves(&self, wanted: &Self) -> Option<u32> {
        let (have, wanted) = (self.normalized(), wanted.normalized());
        if have.os != wanted.os || have.architecture != wanted.architecture {
            return None;
        }
        let version = |variant: &Option<String>| {
            variant.as_deref().map_or(Some(0), |text| text.strip_prefix('v').and_then(|digits| digits.parse().ok()))
        };
        match (version(&have.variant), version(&wanted.variant)) {
            (Some(have), Some(wanted)) if have <= wanted => Some(1 + have),
            _ => (have.variant == wanted.variant).then_some(1),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::Invalid {
            what: format!("platform {text:?}"),
            why: "expected OS/ARCHITECTURE[/VARIANT], such as linux/arm64".to_owned(),
        };
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(invalid()),
        };
        let fine =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if !parts.iter().all(|part| fine(part)) {
            return Err(invalid());
        }
        let platform = Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            os_version: None,
            variant: variant.map(str::to_owned),
        };
        Ok(platform.normalized())
    }
}

/// The manifest of one image or artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Media type of the manifest itself.
    #[serde(default = "manifest_media_type")]
    pub media_type: String,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(default, deserialize_with = "or_null")]
    pub layers: Vec<Descriptor>,
    /// What this manifest is about, for signatures and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn manifest_media_type() -> String {
    media_types::MANIFEST.to_owned()
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            schema_version: 2,
            media_type: manifest_media_type(),
            artifact_type: None,
            config: Descriptor::new(media_types::CONFIG, Digest::of(b""), 0),
            layers: Vec::new(),
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// Several manifests under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Media type of the index itself.
    #[serde(default = "index_media_type")]
    pub media_type: String,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    #[serde(default, deserialize_with = "or_null")]
    pub manifests: Vec<Descriptor>,
    /// What this index is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn index_media_type() -> String {
    media_types::INDEX.to_owned()
}

impl Default for Index {
    fn default() -> Self {
        Self {
            schema_version: 2,
            media_type: index_media_type(),
            artifact_type: None,
            manifests: Vec::new(),
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// The configuration of an image, with every field it came with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageConfig(Value);

impl ImageConfig {
    /// Wraps JSON.
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    /// The JSON.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Takes the JSON out.
    pub fn into_value(self) -> Value {
        self.0
    }

    /// The digests of the uncompressed layers, the lowest first.
    pub fn diff_ids(&self) -> Result<Vec<Digest>> {
        let corrupt = |why: String| Error::Corrupt { what: "the image configuration".to_owned(), why };
        let Some(ids) = self.0.pointer("/rootfs/diff_ids") else { return Ok(Vec::new()) };
        if ids.is_null() {
            return Ok(Vec::new());
        }
        let ids = ids.as_array().ok_or_else(|| corrupt("rootfs.diff_ids is not a list".to_owned()))?;
        ids.iter()
            .map(|id| {
                let text = id.as_str().ok_or_else(|| corrupt("a diff id is not a text".to_owned()))?;
                text.parse().map_err(|error: crate::InvalidDigest| corrupt(error.to_string()))
            })
            .collect()
    }

    /// The platform, where the configuration names one.
    pub fn platform(&self) -> Option<Platform> {
        let text = |name: &str| self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        Some(Platform {
            architecture: text("architecture")?.to_owned(),
            os: text("os")?.to_owned(),
            os_version: text("os.version").map(str::to_owned),
            variant: text("variant").map(str::to_owned),
        })
    }

    /// The section `config`, which says how containers run: `Env`, `Cmd`, `User` and so on. None if there is none.
    pub fn section(&self) -> Option<&serde_json::Map<String, Value>> {
        self.0.get("config").and_then(Value::as_object)
    }

    /// The history entries.
    pub fn history(&self) -> &[Value] {
        self.0.get("history").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_serve_what_they_can() {
        for (have, wanted, serves) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/x86_64", "linux/amd64", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm/v6", "linux/arm/v7", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/arm", "linux/arm/v7", true),
            ("linux/amd64", "linux/arm64", false),
            ("windows/amd64", "linux/amd64", false),
            ("linux/amd64/v3", "linux/amd64", false),
        ] {
            let platform = |text: &str| text.parse::<Platform>().unwrap();
            assert_eq!(platform(have).serves(&platform(wanted)).is_some(), serves, "{have} for {wanted}");
        }
        for bad in ["", "linux", "linux/", "a/b/c/d", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn platforms_have_one_spelling() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v2", "linux/amd64/v2"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("linux/s390x", "linux/s390x"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), normal);
        }
        assert_eq!(Platform::host().normalized(), Platform::host());
        assert!(Platform::host().serves(&Platform::host()).is_some());
    }

    #[test]
    fn an_empty_variant_is_none() {
        let platform: Platform = serde_json::from_str(r#"{"os":"linux","architecture":"arm64","variant":""}"#).unwrap();
        assert!(platform.serves(&"linux/arm64/v8".parse().unwrap()).is_some());
    }

    #[test]
    fn what_go_writes_for_empty_lists_is_read() {
        let config =
            format!(r#"{{"mediaType":"x","digest":"{}","size":2,"urls":null,"annotations":null}}"#, Digest::of(b""));
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":null,"annotations":null}}"#);
        let manifest: Manifest = serde_json::from_str(&text).unwrap();
        assert!(manifest.layers.is_empty() && manifest.media_type == media_types::MANIFEST);
        let index: Index = serde_json::from_str(r#"{"schemaVersion":2,"manifests":null}"#).unwrap();
        assert_eq!(index, Index::default());
    }

    #[test]
    fn documents_are_written_as_the_specification_has_them() {
        let mut descriptor = Descriptor::new(media_types::LAYER_GZIP, Digest::of(b""), 3);
        descriptor.platform = Some("linux/arm/v7".parse().unwrap());
        let digest = descriptor.digest;
        assert_eq!(
            serde_json::to_string(&descriptor).unwrap(),
            format!(
                r#"{{"mediaType":"{}","digest":"{digest}","size":3,"platform":{{"architecture":"arm","os":"linux","variant":"v7"}}}}"#,
                media_types::LAYER_GZIP
            )
        );
        let index = Index { manifests: vec![descriptor.clone()], ..Index::default() };
        let text = serde_json::to_string(&index).unwrap();
        assert!(
            text.starts_with(
                r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#
            )
        );
        assert_eq!(serde_json::from_str::<Index>(&text).unwrap(), index);
        for size in ["-1", "1.5", "\"3\""] {
            let text = format!(r#"{{"mediaType":"x","digest":"{digest}","size":{size}}}"#);
            assert!(serde_json::from_str::<Descriptor>(&text).is_err(), "{size}");
        }
    }

    #[test]
    fn damaged_diff_ids_are_refused_and_missing_ones_are_none() {
        let ids = |rootfs: Value| ImageConfig::new(serde_json::json!({ "rootfs": rootfs })).diff_ids();
        let digest = Digest::of(b"layer");
        assert_eq!(ids(serde_json::json!({ "diff_ids": [digest] })).unwrap(), [digest]);
        assert_eq!(ids(serde_json::json!({ "diff_ids": null })).unwrap(), []);
        assert_eq!(ids(serde_json::json!({})).unwrap(), []);
        for bad in [serde_json::json!("x"), serde_json::json!([1]), serde_json::json!(["sha256:xyz"])] {
            assert!(matches!(ids(serde_json::json!({ "diff_ids": bad })), Err(Error::Corrupt { .. })));
        }
    }

    #[test]
    fn unknown_fields_of_a_configuration_survive() {
        let text = r#"{"config":{"Healthcheck":{"Test":["NONE"]}},"os":"linux","architecture":"amd64"}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert!(serde_json::to_string(&config).unwrap().contains("Healthcheck"));
        assert_eq!(config.platform().unwrap().to_string(), "linux/amd64");
        assert!(config.section().unwrap().contains_key("Healthcheck"));
        assert!(config.history().is_empty());
    }
}
