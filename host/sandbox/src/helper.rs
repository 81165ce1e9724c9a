//! The helper process: reads the request, starts the first process of the sandbox, ends it when told to; knows
//! nothing of how the sandbox is made.
//!
//! It has one thread and stays outside of the sandbox. Whoever dies, all below dies: the kernel kills the helper
//! with the host (PR_SET_PDEATHSIG), the sandbox's first process with the helper, and with that process, the first
//! of its PID namespace, everything in the sandbox.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};

use crate::cgroup::{self, Group};
use crate::init;
use crate::spec::Exit;
use crate::sys::{self, Fork};
use crate::wire::{Report, Request, Result, Step};

/// What the process has between SIGTERM and SIGKILL when cancelled.
pub(crate) const GRACE: Duration = Duration::from_millis(1500);

/// The exit code of a helper that could not do its work; the reason is in its report.
const FAILED: i32 = 70;

/// Standard input without a buffer: what follows the request must stay in the pipe.
struct Input;

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::read(rustix::stdio::stdin(), &mut *into))?)
    }
}

/// Runs as helper of the host process with this id.
pub(crate) fn main(host: Option<i32>) -> i32 {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // The host may have died before that; then nobody would ever kill us.
    if rustix::process::getppid().map(Pid::as_raw_nonzero).map(std::num::NonZeroI32::get) != host {
        return FAILED;
    }
    // A Ctrl-C at the terminal is for the host, which will tell us.
    let _ = rustix::process::setsid();
    let Ok(status) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3) else { return FAILED };
    let done = Request::read(Input).step(|| "read the request".to_owned()).and_then(|request| run(&request, &status));
    match done {
        Ok(()) => 0,
        Err(failure) => {
            report(&status, &Report::Failed(failure));
            FAILED
        }
    }
}

/// Sends a report; if the host is gone, there is nobody to tell.
pub(crate) fn report(status: &OwnedFd, report: &Report) {
    let line = report.line();
    let mut rest = line.as_slice();
    while !rest.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::write(status, rest)) {
            Ok(written) => rest = &rest[written..],
            Err(_) => return,
        }
    }
}

fn run(request: &Request, status: &OwnedFd) -> Result<()> {
    let made_by_runtime = request.isolation == crate::spec::Isolation::Oci;
    let group = cgroup::create(&request.name, &request.spec.limits);
    if made_by_runtime || !group.is_empty() {
        cgroup::sweep();
    }
    for warning in &group.warnings {
        report(status, &Report::Warning(warning.clone()));
    }
    let ended = supervise(request, &group, status);
    if group.out_of_memory() {
        report(status, &Report::Ended(Exit::OutOfMemory));
    }
    if let Ok(Some(exit)) = ended {
        report(status, &Report::Ended(exit));
    }
    let needs_removal = made_by_runtime || !group.is_empty();
    drop(group);
    if needs_removal {
        cgroup::remove(&request.name);
    }
    ended.map(drop)
}

/// Starts the sandbox's first process and waits for its end; tells why it was ended, if it was.
fn supervise(request: &Request, group: &Group, status: &OwnedFd) -> Result<Option<Exit>> {
    let this = rustix::process::getpid();
    let helper = pidfd_open(this, PidfdFlags::empty()).step(|| "open a process descriptor".to_owned())?;
    sys::unshare(rustix::thread::UnshareFlags::NEWPID).map_err(init::cannot_unshare)?;
    let first = match sys::fork().step(|| "start the first process".to_owned())? {
        Fork::Child => init::main(request, group, status, &helper),
        Fork::Parent(pid) => pid,
    };
    let process = pidfd_open(first, PidfdFlags::empty()).step(|| "open a process descriptor".to_owned())?;
    let ended = watch(&process, request.spec.limits.timeout);
    rustix::io::retry_on_intr(|| waitpid(Some(first), WaitOptions::empty())).step(|| "wait".to_owned())?;
    Ok(ended)
}

/// Waits until the first process ends, ending it at the deadline, on the host's word, or when the host is gone.
fn watch(process: &OwnedFd, timeout: Option<Duration>) -> Option<Exit> {
    let mut deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut ended = None;
    loop {
        let mut fds = vec![PollFd::new(process, PollFlags::IN)];
        let stdin = rustix::stdio::stdin();
        if ended.is_none() {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        let left = deadline.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        let woken = poll(&mut fds, left.as_ref());
        if !fds[0].revents().is_empty() {
            return ended;
        }
        if woken == Ok(0) {
            let _ = pidfd_send_signal(process, Signal::KILL);
            ended = ended.or(Some(Exit::TimedOut));
            deadline = None;
        } else if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
            ended = Some(Exit::Cancelled);
            let told = matches!(rustix::io::read(stdin, &mut [0; 1]), Ok(1));
            let signal = if told { Signal::TERM } else { Signal::KILL };
            let _ = pidfd_send_signal(process, signal);
            deadline = Some(Instant::now() + GRACE);
        }
    }
}

/// Rounded up to the next millisecond, so that no wait ends just short of its end.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    let duration = duration + Duration::from_micros(999);
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: (duration.subsec_millis() * 1_000_000).into(),
    }
}
