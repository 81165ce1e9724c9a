//! OCI values, blobs, layers, images and tags. No wasm, no network; every call blocks.

pub mod blobs;
mod digest;
mod error;
mod export;
mod gc;
pub mod images;
mod import;
pub mod layer;
pub mod layers;
mod oci;
mod reference;
mod store;

pub use blobs::{BlobWriter, Blobs};
pub use digest::{Digest, Hasher, InvalidDigest};
pub use error::{Error, Result};
pub use gc::{Collected, Policy};
pub use images::{BuildEntry, ImageRecord, Images};
pub use import::Imported;
pub use oci::{Descriptor, ImageConfig, Index, Manifest, Platform, media_types};
pub use reference::Reference;
pub use store::{Store, WorkDir};
