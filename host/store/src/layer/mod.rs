//! What a layer is made of, and its two forms: a tar stream and a directory for overlayfs. Knows nothing of where
//! layers are kept.
//!
//! A tar stream from outside is never unpacked as it comes. It is first read into a table of contents ([`Toc`]) by pure
//! code that plays the archive's entries in order on a virtual tree (`builder`), and only that table, which cannot name
//! anything outside the layer or below a symlink, is ever made real (`extract`).

pub mod archive;
pub(crate) mod beneath;
pub(crate) mod blocks;
pub(crate) mod builder;
pub mod compress;
pub(crate) mod decode;
pub mod entry;
pub(crate) mod extract;
pub(crate) mod fault;
pub mod limits;
pub(crate) mod reader;
pub(crate) mod tarball;
pub mod toc;
pub(crate) mod walk;

pub use compress::Compression;
pub use entry::{Entry, Kind, compare_paths};
pub use limits::Limits;
pub use toc::Toc;
