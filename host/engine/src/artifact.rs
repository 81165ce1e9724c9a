//! Plugins as artifacts: how they are named, packed, described, kept in registries and layouts, fetched,
//! cached and signed. Knows nothing of what a component does: it is never run here.

mod carry;
mod error;
mod files;
mod layout;
mod pack;
mod reference;
mod remote;
mod section;
mod signatures;
mod sources;

pub use error::Error;
pub use hyper::body::Bytes;
pub use layout::{Bundle, read_file, read_layout, write_layout};
pub use pack::{Artifact, CONFIG_TYPE, Component, LAYER_TYPE, OLD_LAYER_TYPE, PackOptions, Packed, pack};
pub use reference::{PluginReference, RegistryReference};
pub use remote::Remote;
pub use section::{DESCRIPTION_SECTION, Surface, embed_description, read_description, strip_description, surface};
pub use sources::{LARGEST_COMPONENT, Sources};
