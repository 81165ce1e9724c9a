//! Lazy trees, cache keys and their evaluation.
//!
//! A [`Tree`] says what a file system is made of and costs nothing. A [`Build`] evaluates trees: it looks up what
//! earlier builds left, does the rest in parallel, and makes images of the result. Images and other files come through the
//! ports [`ImageSource`] and [`SourceProvider`], processes run in `cooperage-sandbox`, bytes lie in `cooperage-store`. This crate knows
//! no plugin, no registry and no terminal, and never reads the environment.

mod archive;
mod build;
mod cache;
mod copy;
mod define;
mod error;
mod evaluate;
mod files;
mod filter;
mod frozen;
mod image;
mod key;
mod mode;
mod mounts;
mod outputs;
mod own_store;
mod pattern;
mod place;
mod ports;
mod record;
mod redact;
mod run;
mod select;
mod source;
mod stream;
mod tree;
mod users;

pub use build::{Build, BuildOptions, CacheMode, Context, FileInfo, FileKind};
pub use cooperage_sandbox::{Cancel, Error as ProcessError, Exit, Limits, Spec};
pub use error::{Error, ErrorKind, Location};
pub use image::Image;
pub use key::{Key, Part};
pub use ports::{
    Event, ImageSource, Level, NoSources, Observer, Outcome, Processes, Reporter, SourceProvider, SourceRequest,
    SourceVersion, Step, StepId, Unit,
};
pub use record::{BuildRecord, CacheResult, Change, StepRecord};
pub use redact::Redactor;
pub use tree::{Base, CopyOptions, Mount, MountKind, Network, Origin, Process, Secrets, Selection, Sharing, Tree};
