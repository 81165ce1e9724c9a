//! The first process of the sandbox: makes the sandbox around itself, starts the payload, reaps, tells how it ended.
//!
//! It stays between the helper and the payload because a payload that runs a set-user-id program loses its
//! parent-death signal (prctl(2)); this process cannot lose it, nor can the payload signal or trace it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus, waitpid};
use rustix::thread::{CpuSet, UnshareFlags};

use crate::cgroup::Group;
use crate::helper::{report, timespec};
use crate::rootfs::{self, Rootfs};
use crate::spec::{Exit, Isolation, Limits, Network, Process, Spec};
use crate::special::{self, Kernel};
use crate::sys::{self, Fork};
use crate::wire::{Failure, Report, Request, Result, Step};
use crate::{exec, oci};

/// Mount points that every isolation adds: path, whether a directory.
pub(crate) fn mount_points(network: Network) -> &'static [(&'static str, bool)] {
    const ALL: &[(&str, bool)] =
        &[("/dev", true), ("/proc", true), ("/sys", true), ("/etc/hosts", false), ("/etc/resolv.conf", false)];
    match network {
        Network::None => &ALL[..4],
        Network::Host => ALL,
    }
}

/// Never returns: the process ends with the sandbox.
pub(crate) fn main(request: &Request, group: &Group, status: &OwnedFd, helper: &OwnedFd) -> ! {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let mut fds = [PollFd::new(helper, PollFlags::IN)];
    let now = timespec(std::time::Duration::ZERO);
    if !matches!(poll(&mut fds, Some(&rustix::event::Timespec { tv_nsec: 0, ..now })), Ok(0)) {
        // The helper died before the signal was set.
        sys::exit_now(70);
    }
    // Not only to be told: a first process ignores signals that it has no handler for, unless they are blocked.
    sys::block_signals(&[libc::SIGCHLD, libc::SIGTERM]);
    let done = start(request, group, status).and_then(|payload| match payload {
        Started::Running(payload) => wait(payload),
        Started::Ended(exit) => Ok(exit),
    });
    let last = match done {
        Ok(exit) => Report::Exited(exit),
        Err(failure) => Report::Failed(failure),
    };
    report(status, &last);
    sys::exit_now(0)
}

/// What came of the attempt to start the payload.
pub(crate) enum Started {
    Running(Pid),
    /// It could not be started for a reason that is its own, which the output tells.
    Ended(Exit),
}

fn start(request: &Request, group: &Group, status: &OwnedFd) -> Result<Started> {
    let spec = &request.spec;
    if spec.process.args.is_empty() {
        return Err(Failure::Invalid("there is no program to run".to_owned()));
    }
    let stdin = exec::stdin(&spec.process)?;
    match (request.isolation, &request.runtime) {
        (Isolation::Oci, Some(runtime)) => oci::start(request, runtime, group, &stdin),
        _ => start_native(request, group, status, &stdin),
    }
}

/// Says what is missing when namespaces are refused.
pub(crate) fn cannot_unshare(error: std::io::Error) -> Failure {
    if error.raw_os_error() != Some(libc::EPERM) {
        return Failure::Setup(format!("make namespaces: {error}"));
    }
    Failure::Unsupported {
        what: "this process may not make namespaces (no CAP_SYS_ADMIN)".to_owned(),
        hint: "run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1 or \
               kernel.apparmor_restrict_unprivileged_userns=0; in a container, a seccomp profile that allows unshare \
               and mount)"
            .to_owned(),
    }
}

fn start_native(request: &Request, group: &Group, status: &OwnedFd, stdin: &OwnedFd) -> Result<Started> {
    let (spec, isolation) = (&request.spec, request.isolation);
    let mut flags = UnshareFlags::NEWNS;
    if isolation == Isolation::Native {
        flags |= UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    }
    if spec.network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    sys::unshare(flags).map_err(cannot_unshare)?;
    rootfs::make_private()?;
    let mut root = Rootfs::build(spec, mount_points(spec.network))?;
    furnish(&mut root, spec, isolation)?;
    enter(&root)?;
    drop(root);
    if isolation == Isolation::Native {
        rustix::system::sethostname(hostname(&spec.process).as_bytes()).step(|| "set the host name".to_owned())?;
    }
    if spec.network == Network::None {
        sys::loopback_up().step(|| "bring the loopback interface up".to_owned())?;
    }
    // Its /proc entries, such as the way to the host's binary behind `exe`, are nobody's business.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    match sys::fork().step(|| "start the process".to_owned())? {
        Fork::Parent(pid) => Ok(Started::Running(pid)),
        Fork::Child => {
            let done = payload(request, group, stdin);
            let code = done.unwrap_or_else(|failure| {
                report(status, &Report::Failed(failure));
                70
            });
            sys::exit_now(code)
        }
    }
}

fn payload(request: &Request, group: &Group, stdin: &OwnedFd) -> Result<i32> {
    group.join().step(|| "join the cgroup".to_owned())?;
    approximate(&group.without)?;
    if request.isolation == Isolation::Native {
        // After joining the group, which thereby becomes the root that is seen.
        match sys::unshare(UnshareFlags::NEWCGROUP) {
            // A kernel without cgroups.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            done => done.map_err(cannot_unshare)?,
        }
    }
    exec::become_process(&request.spec.process, stdin.as_fd(), request.isolation != Isolation::None)
}

/// Puts the calling process under resource limits in place of those that no cgroup keeps.
pub(crate) fn approximate(limits: &Limits) -> Result<()> {
    let Limits { memory, cpus, pids, .. } = *limits;
    let step = || "set a resource limit".to_owned();
    if let Some(bytes) = memory {
        // Not the address space, of which many programs reserve far more than they use.
        sys::lower_limit(libc::RLIMIT_DATA, bytes).step(step)?;
    }
    if let Some(pids) = pids {
        sys::lower_limit(libc::RLIMIT_NPROC, pids).step(step)?;
    }
    if let Some(cpus) = cpus {
        let allowed = rustix::thread::sched_getaffinity(None).step(step)?;
        let mut some = CpuSet::new();
        let numbers = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number));
        numbers.take((cpus.ceil() as usize).max(1)).for_each(|number| some.set(number));
        rustix::thread::sched_setaffinity(None, &some).step(step)?;
    }
    Ok(())
}

pub(crate) fn hostname(process: &Process) -> &str {
    if process.hostname.is_empty() { "coop" } else { &process.hostname }
}

fn furnish(root: &mut Rootfs, spec: &Spec, isolation: Isolation) -> Result<()> {
    root.attach_root()?;
    match isolation {
        Isolation::None => special::host_dev(root.root.as_fd())?,
        _ => special::dev(root.root.as_fd(), spec.shm_size)?,
    }
    let kernel = if isolation == Isolation::Native { Kernel::Fresh } else { Kernel::Surrounding };
    special::proc_and_sys(root.root.as_fd(), kernel)?;
    name_files(root, spec)?;
    root.attach_mounts()?;
    if isolation == Isolation::None { Ok(()) } else { special::mask(root.root.as_fd()) }
}

/// Mounts /etc/hosts and, with the host's network, /etc/resolv.conf: copies, since tools replace the originals by
/// renaming, which a mounted file would not follow.
pub(crate) fn name_files(root: &Rootfs, spec: &Spec) -> Result<()> {
    if spec.network == Network::None {
        let name = hostname(&spec.process);
        let hosts = format!("127.0.0.1\tlocalhost {name}\n::1\tlocalhost ip6-localhost ip6-loopback {name}\n");
        return root.attach_file("/etc/hosts", hosts.as_bytes());
    }
    for path in ["/etc/hosts", "/etc/resolv.conf"] {
        if let Ok(bytes) = std::fs::read(path) {
            root.attach_file(path, &bytes)?;
        }
    }
    Ok(())
}

/// Makes the root `/` and lets go of the host's file systems.
fn enter(root: &Rootfs) -> Result<()> {
    let step = || "enter the root".to_owned();
    rustix::process::fchdir(&root.root).step(step)?;
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => {
            // The old root is now on top of the new one.
            rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH).step(step)?;
        }
        // The host runs from its initial memory file system, which cannot be pivoted away.
        Err(Errno::INVAL) => {
            rustix::mount::mount_move(".", "/").step(step)?;
            rustix::process::chroot(".").step(step)?;
        }
        Err(error) => return Err(error).step(step),
    }
    rustix::process::chdir("/").step(step)
}

/// Waits for the payload, reaping its orphans meanwhile. When it ends, the rest ends with us.
fn wait(payload: Pid) -> Result<Exit> {
    loop {
        let signal = sys::wait_signal(&[libc::SIGCHLD, libc::SIGTERM]);
        if matches!(signal, Ok(libc::SIGTERM)) {
            // All but ourselves.
            sys::signal_all_others(libc::SIGTERM);
        }
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == payload => return Ok(exit(status)),
                Ok(Some(_)) => {}
                Err(Errno::CHILD) => return Err(Failure::Setup("the process was lost".to_owned())),
                _ => break,
            }
        }
    }
}

fn exit(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Signal(0),
    }
}

/// Waits for one child only, leaving others to be reaped later.
pub(crate) fn wait_for(pid: Pid) -> Result<Exit> {
    let status = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty())).step(|| "wait".to_owned())?;
    status.map(|(_, status)| exit(status)).ok_or_else(|| Failure::Setup("the process was lost".to_owned()))
}
