//! What is to be run: root, process, mounts, network, limits. Plain values; knows nothing of how it is done.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How strongly the process is fenced off from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// `Native` where the kernel allows it, else `Oci`; never a weaker one.
    #[default]
    Auto,
    /// An OCI runtime (`runc`, `crun`, `youki`) makes the container.
    Oci,
    /// Our own namespaces, capabilities and seccomp filter.
    Native,
    /// For unprivileged containers that may mount but are refused a fresh `/proc`: that of the surrounding
    /// container is seen, with its processes, and its IPC objects and host name. Capabilities are dropped, the
    /// seccomp filter is on, and the network is what the specification says.
    Chroot,
    /// Only another root directory: all capabilities, no filter, the host's IPC, names, processes and devices. The
    /// network is still what the specification says, and all processes still end with the run.
    None,
}

/// One process to run in one root file system.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Spec {
    /// The file system it sees as `/`.
    pub root: Root,
    /// The process itself.
    pub process: Process,
    /// What is mounted into the root; parents are mounted before what lies below them, whatever the order here.
    pub mounts: Vec<Mount>,
    /// What of the network it sees.
    pub network: Network,
    /// What it may use up.
    pub limits: Limits,
    /// Bytes of `/dev/shm`; 64 MiB when absent (Docker's default).
    pub shm_size: Option<u64>,
}

/// An overlay of unpacked layers; everything the process changes ends in `upper`, and nothing else does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Root {
    /// Unpacked layers, topmost first; may be empty.
    pub lowers: Vec<PathBuf>,
    /// Existing directory, by its absolute path, that receives the changes in overlayfs form (whiteout = character device 0:0).
    pub upper: PathBuf,
    /// Existing empty directory on the same mount as `upper`; its contents after the run are of no use.
    pub work: PathBuf,
    /// Opaque directories are marked `user.overlay.opaque` (true) or `trusted.overlay.opaque` (false). Must be
    /// true in a user namespace.
    pub userxattr: bool,
}

/// The process; its program is looked up inside the root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments. A program without `/` is looked up in `PATH` of `env`.
    pub args: Vec<String>,
    /// The whole environment: nothing is added, nothing inherited.
    pub env: Vec<(String, String)>,
    /// Absolute working directory; made (mode 0755, owner root) when missing.
    pub cwd: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids; those of the host are always dropped.
    pub groups: Vec<u32>,
    /// What it reads on standard input; empty means `/dev/null`.
    #[serde(skip)]
    pub stdin: Vec<u8>,
    /// Host name it sees; empty means `coop`.
    pub hostname: String,
    /// Whether set-user-id programs and file capabilities give no privileges. Off by default, as in Docker and
    /// BuildKit: `USER app` followed by `RUN sudo ...`, `su` back to root, or `ping` of an image would break.
    /// What such programs can gain is bounded by the capability bounding set and the seccomp filter.
    pub no_new_privileges: bool,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            stdin: Vec::new(),
            hostname: String::new(),
            no_new_privileges: false,
        }
    }
}

/// Something mounted into the root for this run only. Targets are absolute; symbolic links in them are resolved
/// inside the root; missing ones are made in a way that leaves nothing in `upper`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Mount {
    /// A directory or file of this host.
    Bind {
        /// Path on this host; links in it are followed.
        source: PathBuf,
        /// Path in the root.
        target: String,
        /// Whether writing fails.
        read_only: bool,
    },
    /// A directory or file of other layers.
    Overlay {
        /// Unpacked layers, topmost first; at least one.
        lowers: Vec<PathBuf>,
        /// What of them is mounted; empty for their root. Links are resolved inside the layers.
        sub_path: String,
        /// Path in the root.
        target: String,
        /// Whether writing fails; if false, writes succeed and are thrown away at the end.
        read_only: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Path in the root.
        target: String,
        /// Bytes at most; the kernel's default (half of the memory) when absent.
        size: Option<u64>,
        /// Mode of its root directory, such as `0o1777`.
        mode: u32,
    },
    /// A read-only file that exists in memory only: secrets, scripts, generated files. Never on disk.
    File {
        /// Its contents.
        #[serde(skip)]
        bytes: Vec<u8>,
        /// Path in the root.
        target: String,
        /// Its mode, such as `0o400`.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

impl Mount {
    /// The path in the root where it is mounted.
    pub fn target(&self) -> &str {
        match self {
            Self::Bind { target, .. }
            | Self::Overlay { target, .. }
            | Self::Tmpfs { target, .. }
            | Self::File { target, .. } => target,
        }
    }
}

/// What of the network the process sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A loopback interface and nothing else.
    #[default]
    None,
    /// All of the host's network, with the host's `/etc/resolv.conf` and `/etc/hosts`.
    Host,
}

/// What the process with all its children may use up. Kept by cgroups (v2, v1 or both) where this user may
/// write them, else approximated by resource limits, of which the outcome's warnings tell.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// CPUs' worth of time, such as 1.5.
    pub cpus: Option<f64>,
    /// Processes and threads at once.
    pub pids: Option<u64>,
    /// Wall-clock time from the start of the helper; then everything is killed.
    pub timeout: Option<Duration>,
}

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It returned this code. 127: program or its interpreter not found; 126: found but not executable; both
    /// with a message in the output.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// `Limits::timeout` was over.
    TimedOut,
    /// It failed and the kernel had killed a process of it for want of memory.
    OutOfMemory,
    /// `Cancel::cancel` was called.
    Cancelled,
}

/// How the process ended, and what could not be done as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub exit: Exit,
    /// One sentence for each limit that is weaker than asked for.
    pub warnings: Vec<String>,
}
