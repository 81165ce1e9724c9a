//! Plugins as Wasm OCI artifacts, as the CNCF's TAG Runtime lays them out (tag-runtime.cncf.io, "Wasm OCI Artifact
//! layout"): one configuration, exactly one layer. Makes them and checks them; moves nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cooperage_store::Digest;
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};

use super::section::surface;
use super::{Error, RegistryReference};

/// Media type of the configuration.
pub const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
/// Media type of the layer.
pub const LAYER_TYPE: &str = "application/wasm";
/// Media type of the layer in artifacts made before the layout was agreed on; read, never written.
pub const OLD_LAYER_TYPE: &str = "application/vnd.wasm.content.layer.v1+wasm";
/// Media type of the manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// What registries accept at most as a manifest.
pub const LARGEST_MANIFEST: u64 = 4 << 20;
/// Annotation with the file name of the layer.
const TITLE: &str = "org.opencontainers.image.title";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// An OCI descriptor, with the fields that plugin artifacts use.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The part of an OCI index that an artifact's layout uses.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub schema_version: u32,
    pub manifests: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    created: String,
    architecture: &'static str,
    os: &'static str,
    layer_digests: Vec<String>,
    component: Outside<'a>,
}

#[derive(Serialize)]
struct Outside<'a> {
    exports: &'a [String],
    imports: &'a [String],
    target: Option<&'a str>,
}

/// A plugin: its component and where that came from.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The component; [`Sources::component`](super::Sources::component) has the bytes.
    pub component: Component,
    /// Digest of the component.
    pub digest: Digest,
    /// Digest of the manifest; none for a plain file.
    pub manifest: Option<Digest>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Where it came from, for messages.
    pub origin: String,
}

/// The bytes of a component. Those of a plugin that was compiled before are not needed, however many they are.
#[derive(Debug, Clone)]
pub enum Component {
    /// In memory, and what the digest says.
    Bytes(Bytes),
    /// In the cache. They are checked when they are read.
    Cached {
        /// The registry that has them too.
        from: RegistryReference,
        /// How many there are.
        size: u64,
    },
    /// In a file of the user. They are checked when they are read.
    File {
        /// The file.
        path: PathBuf,
        /// How many there are.
        size: u64,
    },
}

impl Component {
    /// Bytes of the component.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Cached { size, .. } | Self::File { size, .. } => *size,
        }
    }
}

/// What a packed plugin is called and when it was made.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// Name of the plugin; the layer's title is this with `.wasm`.
    pub name: String,
    /// Seconds since 1970 that count as the time of creation. The same input always makes the same digest.
    pub epoch: u64,
    /// The WIT world the component was made for, if known, for instance `cooperage:plugin/builder-plugin@0.1.0`.
    pub target: Option<String>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// A plugin as the three contents that a registry keeps.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The manifest.
    pub manifest: Vec<u8>,
    /// Its digest.
    pub manifest_digest: Digest,
    /// The configuration.
    pub config: Vec<u8>,
    /// Its digest.
    pub config_digest: Digest,
    /// The component.
    pub component: Bytes,
    /// Its digest.
    pub component_digest: Digest,
}

/// Makes an artifact of a component. Fails if the bytes are no component.
pub fn pack(component: Bytes, options: &PackOptions) -> Result<Packed, Error> {
    let surface = surface(&component)?;
    let component_digest = Digest::of(&component);
    let created = i64::try_from(options.epoch).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let created = created.ok_or_else(|| Error::invalid("time of creation", "it is too far in the future"))?;
    let config = Config {
        created: created.to_string(),
        architecture: "wasm",
        os: "wasip2",
        layer_digests: vec![component_digest.to_string()],
        component: Outside { exports: &surface.exports, imports: &surface.imports, target: options.target.as_deref() },
    };
    let config = serde_json::to_vec(&config).expect("strings can be written");
    let config_digest = Digest::of(&config);
    let descriptor = |media_type: &str, digest, size: usize| Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size: size as u64,
        annotations: BTreeMap::new(),
    };
    let title = BTreeMap::from([(TITLE.to_owned(), format!("{}.wasm", options.name))]);
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST_TYPE.to_owned()),
        config: descriptor(CONFIG_TYPE, config_digest, config.len()),
        layers: vec![Descriptor { annotations: title, ..descriptor(LAYER_TYPE, component_digest, component.len()) }],
        annotations: options.annotations.clone(),
    };
    let manifest = serde_json::to_vec(&manifest).expect("strings can be written");
    Ok(Packed { manifest_digest: Digest::of(&manifest), manifest, config, config_digest, component, component_digest })
}

/// What a manifest says about the component.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub descriptor: Descriptor,
    pub config: Descriptor,
    pub annotations: BTreeMap<String, String>,
}

/// Reads the manifest of a plugin and checks that it is one whose component has at most `limit` bytes.
pub(super) fn read_manifest(manifest: &[u8], what: &str, limit: u64) -> Result<Layer, Error> {
    if manifest.len() as u64 > LARGEST_MANIFEST {
        return Err(Error::TooLarge {
            what: format!("the manifest of {what}"),
            size: manifest.len() as u64,
            limit: LARGEST_MANIFEST,
        });
    }
    let parsed: Manifest = serde_json::from_slice(manifest).map_err(|e| not_a_plugin(manifest, what, &e))?;
    if parsed.schema_version != 2 {
        return Err(Error::invalid(what, format!("schemaVersion is {}, expected 2", parsed.schema_version)));
    }
    let [layer] = <[Descriptor; 1]>::try_from(parsed.layers).map_err(|layers| {
        Error::invalid(what, format!("a plugin has exactly one layer, this has {}; is it an image?", layers.len()))
    })?;
    if !matches!(layer.media_type.as_str(), LAYER_TYPE | OLD_LAYER_TYPE) {
        return Err(Error::invalid(what, format!("its layer is of type {}, expected {LAYER_TYPE}", layer.media_type)));
    }
    if layer.size > limit {
        return Err(Error::TooLarge { what: format!("the component of {what}"), size: layer.size, limit });
    }
    Ok(Layer { descriptor: layer, config: parsed.config, annotations: parsed.annotations })
}

fn not_a_plugin(manifest: &[u8], what: &str, error: &serde_json::Error) -> Error {
    if serde_json::from_slice::<Index>(manifest).is_ok() {
        return Error::invalid(what, "it is an index of several platforms, not a plugin");
    }
    Error::invalid(what, format!("its manifest cannot be read: {error}"))
}

impl Layer {
    /// Checks the bytes that came for the layer.
    pub fn accept(self, component: Bytes, manifest: Digest, origin: String) -> Result<Artifact, Error> {
        let what = || format!("the component of {origin}");
        Error::verify(what, &self.descriptor.digest, &component)?;
        if component.len() as u64 != self.descriptor.size {
            let reason = format!("it has {} bytes, its manifest says {}", component.len(), self.descriptor.size);
            return Err(Error::invalid(what(), reason));
        }
        Ok(self.artifact(Component::Bytes(component), manifest, origin))
    }

    /// The artifact with a component whose bytes are checked already, or will be.
    pub fn artifact(self, component: Component, manifest: Digest, origin: String) -> Artifact {
        let digest = self.descriptor.digest;
        Artifact { component, digest, manifest: Some(manifest), annotations: self.annotations, origin }
    }
}

#[cfg(test)]
mod tests {
    use super::super::section::EMPTY_COMPONENT;
    use super::*;

    fn packed() -> Packed {
        let options = PackOptions {
            name: "chat".into(),
            epoch: 1_700_000_000,
            annotations: BTreeMap::from([("org.opencontainers.image.version".into(), "1.2.0".into())]),
            ..Default::default()
        };
        pack(Bytes::from_static(EMPTY_COMPONENT), &options).unwrap()
    }

    #[test]
    fn the_layout_is_the_agreed_one() {
        let packed = packed();
        let config: serde_json::Value = serde_json::from_slice(&packed.config).unwrap();
        assert_eq!(
            config,
            serde_json::json!({"created": "2023-11-14T22:13:20Z", "architecture": "wasm", "os": "wasip2",
                "layerDigests": [packed.component_digest.to_string()],
                "component": {"exports": [], "imports": [], "target": null}})
        );
        let manifest: serde_json::Value = serde_json::from_slice(&packed.manifest).unwrap();
        assert_eq!(manifest["config"]["mediaType"], CONFIG_TYPE);
        assert_eq!(manifest["layers"][0]["mediaType"], LAYER_TYPE);
        assert_eq!(manifest["layers"][0]["annotations"][TITLE], "chat.wasm");
    }

    #[test]
    fn the_digest_depends_on_the_input_alone() {
        // A change of this value means that every plugin gets a new digest.
        assert_eq!(
            packed().manifest_digest.to_string(),
            "sha256:fb479d73b7dda9f7c706678419b2daf47e25fed28d6ce83aea324a7200cca941"
        );
    }

    #[test]
    fn what_is_packed_is_read() {
        let packed = packed();
        let layer = read_manifest(&packed.manifest, "chat", 100).unwrap();
        let artifact = layer.clone().accept(packed.component.clone(), packed.manifest_digest, "chat".into()).unwrap();
        assert_eq!((artifact.digest, artifact.manifest), (packed.component_digest, Some(packed.manifest_digest)));
        let other = Bytes::from_static(b"\0asm\x0d\0\x01\x01");
        assert!(matches!(
            layer.clone().accept(other, packed.manifest_digest, "chat".into()),
            Err(Error::Digest { .. })
        ));
        assert!(layer.accept(Bytes::new(), packed.manifest_digest, "chat".into()).is_err());
        let old = String::from_utf8(packed.manifest.clone())
            .unwrap()
            .replace("\"application/wasm\"", &format!("{OLD_LAYER_TYPE:?}"));
        assert!(read_manifest(old.as_bytes(), "chat", 100).is_ok());
    }

    #[test]
    fn what_is_no_plugin_is_refused() {
        let packed = packed();
        let text = String::from_utf8(packed.manifest.clone()).unwrap();
        let error = |text: &str, limit| read_manifest(text.as_bytes(), "chat", limit).unwrap_err().to_string();
        assert!(error(&text, 7).contains("more than the 7 allowed"));
        assert!(error(&text.replace("application/wasm", "application/x-tar"), 100).contains("x-tar"));
        let layer = text[text.find("\"layers\":[").unwrap() + 10..text.find("],\"annotations\"").unwrap()].to_owned();
        assert!(error(&text.replace(&layer, &format!("{layer},{layer}")), 100).contains("exactly one layer"));
        assert!(error(r#"{"schemaVersion":2,"manifests":[]}"#, 100).contains("index"));
        assert!(error("[]", 100).contains("cannot be read"));
        assert!(pack(Bytes::from_static(b"\0asm\x01\0\0\0"), &PackOptions::default()).is_err());
    }
}
