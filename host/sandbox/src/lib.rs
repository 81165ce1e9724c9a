//! Runs one native process in a root file system and tells how it ended; knows nothing of images, keys or plugins.
//!
//! Four processes take part, so that any of them may die at any moment without leaving a process, a mount or a file
//! behind:
//!
//! ```text
//! host (many threads)          sandbox.rs   starts the helper, passes on output, cancels
//!  └ helper (one thread)       helper.rs    limits, deadline, cleaning up; outside of the sandbox
//!     └ first process          init.rs      pid 1 of a PID namespace: makes mounts, reaps
//!        └ the process itself  exec.rs      or an OCI runtime that starts it (oci.rs)
//! ```
//!
//! The helper is the host's own binary, executed again with a hidden argument: a process with threads must not fork
//! and go on. All mounts are made in a mount namespace that only the sandbox has.

mod cancel;
mod cgroup;
mod error;
mod exec;
mod helper;
mod init;
mod oci;
mod overlay;
mod probe;
mod resolve;
mod rootfs;
mod sandbox;
mod seccomp;
mod spec;
mod special;
mod sys;
mod userns;
mod wire;

pub use cancel::Cancel;
pub use error::Error;
pub use probe::{Item, Report, probe};
pub use sandbox::{Config, Sandbox};
pub use spec::{Exit, Isolation, Limits, Mount, Network, Outcome, Process, Root, Spec};
pub use userns::{Entered, enter_user_namespace};

/// The hidden first argument of a helper.
const HELPER: &str = "__sandbox";

/// The hidden entry of the re-executed binary: `main` calls it first, before any thread exists, with all of its
/// arguments (program name included). `Some(code)` means that this process was a sandbox helper and is done: `main`
/// must return the code at once.
pub fn helper<I: IntoIterator<Item = std::ffi::OsString>>(args: I) -> Option<i32> {
    let mut args = args.into_iter().skip(1);
    if args.next()? != HELPER {
        return None;
    }
    Some(helper::main(args.next().and_then(|pid| pid.to_str()?.parse().ok())))
}
