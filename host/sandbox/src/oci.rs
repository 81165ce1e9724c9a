//! Lets an OCI runtime (runtime-spec 1.0) make the container inside of our private mount and PID namespace.
//!
//! The overlay and the mounts of the specification are made by us, as for native isolation; the runtime gets a
//! bundle whose root is that overlay. It is asked to detach: the container's process then has our output pipe as
//! its own streams, becomes our child when the runtime exits, and dies with our namespace whatever happens.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::ResolveFlags;
use rustix::mount::MountAttrFlags;
use rustix::process::Pid;
use rustix::thread::UnshareFlags;
use serde_json::{Value, json};

use crate::cgroup::Group;
use crate::init::{Started, approximate, cannot_unshare, hostname, mount_points, name_files, wait_for};
use crate::overlay;
use crate::resolve::open_in;
use crate::rootfs::{self, Rootfs, all_ids};
use crate::spec::{Exit, Network, Process, Spec};
use crate::sys::{self, Fork};
use crate::wire::{Failure, Request, Result, Step};
use crate::{exec, seccomp, special};

/// Starts the process in a container.
pub(crate) fn start(request: &Request, runtime: &Path, group: &Group, stdin: &OwnedFd) -> Result<Started> {
    let spec = &request.spec;
    sys::unshare(UnshareFlags::NEWNS).map_err(cannot_unshare)?;
    rootfs::make_private()?;
    let mut root = Rootfs::build(spec, mount_points(spec.network))?;
    root.attach_root()?;
    name_files(&root, spec)?;
    let parked = root.park_dev_mounts()?;
    root.attach_mounts()?;
    if let Some(exit) = refuse(root.root.as_fd(), &spec.process) {
        return Ok(Started::Ended(exit));
    }
    show_own_processes()?;
    hide_hybrid_cgroup(runtime);
    let scratch = &spec.root.upper;
    let config = config(spec, scratch, cgroups_path(group, &request.name), &parked);
    root.scratch.directory("bundle")?;
    let config = serde_json::to_vec(&config).step(|| "write the bundle".to_owned())?;
    std::fs::write(scratch.join("bundle/config.json"), config).step(|| "write the bundle".to_owned())?;
    let pid = match sys::fork().step(|| "start the OCI runtime".to_owned())? {
        Fork::Parent(pid) => pid,
        Fork::Child => become_runtime(request, runtime, group, stdin),
    };
    match wait_for(pid)? {
        Exit::Code(0) => {}
        other => return Err(Failure::Runtime(complaint(&scratch.join("log"), other))),
    }
    let text = std::fs::read_to_string(scratch.join("pid")).step(|| "read the runtime's pid file".to_owned())?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    pid.map(Started::Running).ok_or_else(|| Failure::Runtime(format!("it wrote the pid {text:?}")))
}

/// The runtime must see the processes of its own PID namespace.
fn show_own_processes() -> Result<()> {
    let step = || "mount /proc for the OCI runtime".to_owned();
    let proc_fs = overlay::special("proc", &[], MountAttrFlags::empty()).step(step)?;
    let at = open_proc().step(step)?;
    overlay::attach(proc_fs.as_fd(), at.as_fd()).step(step)
}

fn open_proc() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open("/proc", rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
}

/// crun takes a v2 hierarchy beside v1 ones for an error (crun 1.8: "cgroups in hybrid mode not supported").
fn hide_hybrid_cgroup(runtime: &Path) {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if runtime.file_name().is_some_and(|name| name == "crun") && unified.exists() {
        let _ = rustix::mount::unmount(unified, rustix::mount::UnmountFlags::DETACH);
    }
}

fn become_runtime(request: &Request, runtime: &Path, group: &Group, stdin: &OwnedFd) -> ! {
    let scratch = request.spec.root.upper.clone();
    let path = |name: &str| scratch.join(name).into_os_string().into_encoded_bytes();
    let args: Vec<Vec<u8>> = vec![
        runtime.as_os_str().as_bytes().to_vec(),
        b"--root".to_vec(),
        path("state"),
        b"--log".to_vec(),
        path("log"),
        b"--log-format".to_vec(),
        b"json".to_vec(),
        b"run".to_vec(),
        b"--detach".to_vec(),
        b"--bundle".to_vec(),
        path("bundle"),
        b"--pid-file".to_vec(),
        path("pid"),
        request.name.clone().into_bytes(),
    ];
    let ready = || -> Option<(CString, Vec<CString>)> {
        approximate(&group.without).ok()?;
        sys::dup_to(stdin, 0).ok()?;
        sys::dup_to(rustix::stdio::stdout(), 2).ok()?;
        sys::reset_signals();
        sys::close_others_on_exec().ok()?;
        let args = args.into_iter().map(CString::new).collect::<std::result::Result<_, _>>().ok()?;
        Some((CString::new(runtime.as_os_str().as_bytes()).ok()?, args))
    };
    if let Some((program, args)) = ready() {
        let path = CString::new(format!("PATH={}", exec::DEFAULT_PATH)).unwrap_or_default();
        sys::execve(&program, &args, &[path]);
    }
    sys::exit_now(127)
}

/// What the runtime logged as its reason.
fn complaint(log: &Path, exit: Exit) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let message = |line: &str| {
        let entry: Value = serde_json::from_str(line).ok()?;
        (entry.get("level")? == "error").then(|| entry.get("msg")?.as_str().map(str::to_owned))?
    };
    let messages: Vec<String> = text.lines().filter_map(message).collect();
    if messages.is_empty() { format!("it ended with {exit:?} and no reason") } else { messages.join("; ") }
}

/// Runtimes report a missing program as a failure of their own; so it is looked for first, with our exit codes.
fn refuse(root: BorrowedFd<'_>, process: &Process) -> Option<Exit> {
    let program = process.args.first()?;
    let mut found_other = None;
    for path in exec::candidates(program, &process.env) {
        let path = if path.starts_with('/') { path } else { format!("{}/{path}", process.cwd) };
        let Ok(file) = open_in(root, &path, ResolveFlags::empty()) else { continue };
        let Ok(stat) = rustix::fs::fstat(&file) else { continue };
        if stat.st_mode & 0o170_000 == 0o100_000 && stat.st_mode & 0o111 != 0 {
            return None;
        }
        found_other = Some(path);
    }
    let (message, code) = match found_other {
        Some(path) => (format!("cannot run {path}: Permission denied"), 126),
        None if program.contains('/') => (format!("{program}: not found in the image"), 127),
        None => (format!("{program}: not found in PATH"), 127),
    };
    let _ = rustix::io::write(rustix::stdio::stdout(), format!("coop: {message}\n").as_bytes());
    Some(Exit::Code(code))
}

/// The group of the run, made by us with its limits: v1 paths are relative to the runtime's own group, v2 paths would
/// be relative to its parent. Without a group the runtime makes one of that name, except in a user namespace, where
/// it may not, and complains only if asked for one by name.
fn cgroups_path(group: &Group, name: &str) -> Option<PathBuf> {
    match &group.v2_path {
        Some(path) => Some(path.clone()),
        None if group.is_empty() && !all_ids() => None,
        None => Some(name.into()),
    }
}

fn config(spec: &Spec, scratch: &Path, cgroups_path: Option<PathBuf>, parked: &[(String, String)]) -> Value {
    let process = &spec.process;
    let caps: Vec<&str> = exec::KEPT.iter().map(|(name, _)| *name).collect();
    // As Docker: another user than root has none until a set-user-id program gives it some.
    let held = if process.uid == 0 { caps.clone() } else { Vec::new() };
    let kinds = ["pid", "mount", "ipc", "uts", "cgroup"].into_iter();
    let kinds = kinds.chain((spec.network == Network::None).then_some("network"));
    let namespaces: Vec<Value> = kinds.map(|kind| json!({ "type": kind })).collect();
    let mut config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": scratch.join("root"), "readonly": false },
        "hostname": hostname(process),
        "process": {
            "terminal": false,
            "user": { "uid": process.uid, "gid": process.gid, "umask": 0o022, "additionalGids": process.groups },
            "args": process.args,
            "env": process.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
            "cwd": process.cwd,
            "noNewPrivileges": process.no_new_privileges,
            "capabilities": { "bounding": caps, "permitted": held, "effective": held },
        },
        "mounts": mounts(spec, scratch, parked),
        "linux": {
            "namespaces": namespaces,
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "maskedPaths": special::MASKED,
            "readonlyPaths": special::READ_ONLY,
            "seccomp": seccomp::profile(),
        },
    });
    if let Some(path) = cgroups_path {
        config["linux"]["cgroupsPath"] = json!(path);
    }
    config
}

fn mounts(spec: &Spec, scratch: &Path, parked: &[(String, String)]) -> Vec<Value> {
    let mount = |kind: &str, target: &str, options: Vec<String>| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    let options = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let gid = if all_ids() { ",gid=5" } else { "" };
    let shm = spec.shm_size.unwrap_or(64 << 20);
    let mut mounts = vec![
        mount("proc", "/proc", options("nosuid,noexec,nodev")),
        mount("tmpfs", "/dev", options("nosuid,strictatime,mode=755,size=65536k")),
        mount("devpts", "/dev/pts", options(&format!("nosuid,noexec,newinstance,ptmxmode=0666,mode=0620{gid}"))),
        mount("tmpfs", "/dev/shm", options(&format!("nosuid,noexec,nodev,mode=1777,size={shm}"))),
        mount("mqueue", "/dev/mqueue", options("nosuid,noexec,nodev")),
    ];
    if spec.network == Network::Host && !all_ids() {
        // sysfs wants a network namespace of this user namespace.
        let options = options("rbind,nosuid,noexec,nodev,ro");
        mounts.push(json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": options }));
    } else {
        mounts.push(mount("sysfs", "/sys", options("nosuid,noexec,nodev,ro")));
    }
    for (name, target) in parked {
        let source = scratch.join(name);
        mounts.push(json!({ "destination": target, "type": "none", "source": source, "options": ["rbind"] }));
    }
    mounts
}

/// The OCI runtimes in the usual directories, best first: crun is last but one since its 1.8 refuses hybrid cgroups.
pub(crate) fn runtimes() -> Vec<PathBuf> {
    let directories = exec::DEFAULT_PATH.split(':');
    let names = ["runc", "crun", "youki"].into_iter();
    names
        .filter_map(|name| directories.clone().map(|dir| Path::new(dir).join(name)).find(|path| path.exists()))
        .collect()
}
