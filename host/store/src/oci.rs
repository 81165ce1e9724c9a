//! The documents of the OCI image specification as plain values: descriptor, platform, manifest, index, configuration.
//!
//! The configuration stays JSON: Docker's fields that the specification does not know (`Healthcheck`, `OnBuild`,
//! `Shell`) must survive, and typed readers of others drop them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
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
            "powerpc64" => "ppc64le",
            "riscv64" => "riscv64",
            other => other,
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), os_version: None, variant: None }
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
        let fine = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
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
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// What this manifest is about, for signatures and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
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
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// What this index is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
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
    fn unknown_fields_of_a_configuration_survive() {
        let text = r#"{"config":{"Healthcheck":{"Test":["NONE"]}},"os":"linux","architecture":"amd64"}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert!(serde_json::to_string(&config).unwrap().contains("Healthcheck"));
        assert_eq!(config.platform().unwrap().to_string(), "linux/amd64");
    }
}
