//! Runs one native process in a root file system and tells how it ended; knows nothing of images, keys or plugins.

mod cancel;
mod error;
mod probe;
mod sandbox;
mod spec;
mod userns;

pub use cancel::Cancel;
pub use error::Error;
pub use probe::{Item, Report, probe};
pub use sandbox::{Config, Sandbox};
pub use spec::{Exit, Isolation, Limits, Mount, Network, Outcome, Process, Root, Spec};
pub use userns::{Entered, enter_user_namespace};

/// The hidden entry of the re-executed binary: `main` calls it first, before any thread exists, with all of its
/// arguments (program name included). `Some(code)` means that this process was a sandbox helper and is done.
pub fn helper<I: IntoIterator<Item = std::ffi::OsString>>(args: I) -> Option<i32> {
    let mut args = args.into_iter().skip(1);
    (args.next()? == "__sandbox").then_some(70)
}
