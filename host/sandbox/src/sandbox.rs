//! The host's side of a run: starts the helper, hands it the specification, passes on output, ends it in time.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::cancel::Cancel;
use crate::cgroup;
use crate::error::Error;
use crate::helper::{GRACE, timespec};
use crate::oci;
use crate::probe;
use crate::spec::{Exit, Isolation, Outcome, Spec};
use crate::wire::{Failure, Report, Request};

/// What the helper has to end a run itself before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);

/// How a sandbox is made.
#[derive(Debug, Clone)]
pub struct Config {
    /// How strongly processes are fenced off.
    pub isolation: Isolation,
    /// A program whose `main` calls [`crate::helper`] first; usually the running `coop` itself.
    pub helper: PathBuf,
    /// The OCI runtime; looked for in the usual directories when absent.
    pub runtime: Option<PathBuf>,
}

/// Runs processes; cheap to share, every run is on its own.
#[derive(Debug, Clone)]
pub struct Sandbox {
    isolation: Isolation,
    helper: PathBuf,
    runtime: Option<PathBuf>,
}

impl Sandbox {
    /// Finds out what this machine allows and settles on an isolation. `Auto` is `Native`: where that is not
    /// possible, an OCI runtime inside of the same restrictions is not either.
    ///
    /// # Errors
    /// `Unsupported` when the isolation asked for does not work here, with what to install or change.
    pub fn new(config: Config) -> Result<Self, Error> {
        probe::can_mount()?;
        let isolation = match config.isolation {
            Isolation::Auto => Isolation::Native,
            other => other,
        };
        let runtime = match (isolation, config.runtime) {
            (Isolation::Oci, None) => Some(oci::runtimes().into_iter().next().ok_or_else(|| Error::Unsupported {
                what: "no OCI runtime was found".to_owned(),
                hint: "install runc, crun or youki, or choose the native isolation".to_owned(),
            })?),
            (_, given) => given,
        };
        Ok(Self { isolation, helper: config.helper, runtime })
    }

    /// The isolation in use; never `Auto`.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Runs one process to its end and blocks this thread meanwhile (the process dies with it); `output` gets standard output and standard
    /// error as they come. Limits that cannot be kept are logged as warnings.
    ///
    /// # Errors
    /// When the process could not be started; its own failure is an `Exit`.
    pub fn run(&self, spec: &Spec, output: &mut dyn FnMut(&[u8]), cancel: &Cancel) -> Result<Exit, Error> {
        let outcome = self.run_to_outcome(spec, output, cancel)?;
        for warning in &outcome.warnings {
            tracing::warn!("{warning}");
        }
        Ok(outcome.exit)
    }

    /// Like [`Sandbox::run`], but returns the warnings.
    ///
    /// # Errors
    /// As `run`.
    pub fn run_to_outcome(
        &self,
        spec: &Spec,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Outcome, Error> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        if cancel.is_cancelled() {
            return Ok(Outcome { exit: Exit::Cancelled, warnings: Vec::new() });
        }
        let mut request = Request {
            spec: spec.clone(),
            isolation: self.isolation,
            runtime: self.runtime.clone(),
            name: cgroup::name(std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)),
            lengths: Vec::new(),
        };
        let mut run = Run::start(&self.helper, &mut request)?;
        run.follow(spec.limits.timeout, output, cancel)?;
        let status = run.child.wait().map_err(Error::Pipe)?;
        if run.killed || !status.success() {
            // The helper may not have cleaned up.
            cgroup::remove(&request.name);
        }
        let runtime = self.runtime.clone().unwrap_or_default();
        conclude(&run.reports, run.ended, runtime).unwrap_or_else(|| {
            let message = String::from_utf8_lossy(&run.reports).trim().to_owned();
            Err(Error::HelperDied { status: status.to_string(), message })
        })
    }
}

/// One helper at work.
struct Run {
    child: Child,
    control: Option<OwnedFd>,
    streams: [Option<OwnedFd>; 2],
    reports: Vec<u8>,
    /// Why we ended it, if we did.
    ended: Option<Exit>,
    /// When the helper is killed.
    deadline: Option<Instant>,
    killed: bool,
}

impl Drop for Run {
    fn drop(&mut self) {
        // Only after an error or a panic of `output` is it still there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Run {
    /// The helper asks by itself to die with the thread that starts it, so there is nothing to do between fork and
    /// exec, and a large host need not be copied.
    fn start(helper: &PathBuf, request: &mut Request) -> Result<Self, Error> {
        let cannot = |source| Error::Helper { path: helper.clone(), source };
        let mut child = Command::new(helper)
            .args([crate::HELPER, &std::process::id().to_string()])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(cannot)?;
        let control: Option<OwnedFd> = child.stdin.take().map(Into::into);
        let streams = [child.stdout.take().map(Into::into), child.stderr.take().map(Into::into)];
        let run = Self { child, control, streams, reports: Vec::new(), ended: None, deadline: None, killed: false };
        if let Some(control) = &run.control {
            let file = std::fs::File::from(control.try_clone().map_err(Error::Pipe)?);
            match request.write(file) {
                // It died at once; its reports tell more.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) if error.get_ref().is_some_and(|inner| inner.is::<serde_json::Error>()) => {
                    return Err(Error::Invalid(format!("the specification cannot be passed on: {error}")));
                }
                done => done.map_err(Error::Pipe)?,
            }
        }
        Ok(run)
    }

    /// Passes on what the helper writes until it is done.
    fn follow(
        &mut self,
        timeout: Option<Duration>,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let mut buffer = vec![0; 64 << 10];
        self.deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout + PATIENCE));
        let end_of_timeout = timeout.map(|_| Exit::TimedOut);
        while self.streams.iter().any(Option::is_some) {
            let ready = self.wait(cancel)?;
            for (index, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
                let Some(stream) = self.streams.get(index).and_then(Option::as_ref) else { continue };
                match rustix::io::retry_on_intr(|| rustix::io::read(stream, &mut buffer[..])) {
                    Ok(0) => self.streams[index] = None,
                    Ok(length) if index == 0 => output(&buffer[..length]),
                    Ok(length) => self.reports.extend_from_slice(&buffer[..length]),
                    Err(error) => return Err(Error::Pipe(error.into())),
                }
            }
            if self.ended.is_none() && cancel.is_cancelled() {
                self.ended = Some(Exit::Cancelled);
                self.deadline = Some(Instant::now() + GRACE + PATIENCE);
                if let Some(control) = &self.control {
                    let _ = rustix::io::write(control, b"c");
                }
            }
            if !self.killed && self.deadline.is_some_and(|at| at <= Instant::now()) {
                self.ended = self.ended.or(end_of_timeout);
                self.killed = true;
                self.child.kill().map_err(Error::Pipe)?;
            }
        }
        Ok(())
    }

    /// Waits for something to do; tells which streams can be read.
    fn wait(&self, cancel: &Cancel) -> Result<[bool; 2], Error> {
        let mut ready = [false; 2];
        let open: Vec<usize> = (0..2).filter(|index| self.streams[*index].is_some()).collect();
        let mut fds: Vec<PollFd<'_>> =
            self.streams.iter().flatten().map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
        if self.ended.is_none() {
            fds.push(PollFd::from_borrowed_fd(cancel.as_fd(), PollFlags::IN));
        }
        let deadline = self.deadline.filter(|_| !self.killed);
        let left = deadline.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::Pipe(error.into())),
        }
        for (index, fd) in open.into_iter().zip(&fds) {
            ready[index] = !fd.revents().is_empty();
        }
        Ok(ready)
    }
}

/// Folds the reports into one result; `None` if they do not tell how the run ended.
fn conclude(reports: &[u8], ended: Option<Exit>, runtime: PathBuf) -> Option<Result<Outcome, Error>> {
    let (mut exited, mut stronger, mut failure, mut warnings) = (None, None, None, Vec::new());
    for line in reports.split(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(Report::Exited(exit)) => exited = Some(exit),
            Ok(Report::Ended(exit)) => stronger = Some(exit),
            Ok(Report::Warning(warning)) => warnings.push(warning),
            Ok(Report::Failed(first)) => failure = failure.or(Some(first)),
            // What a panic or the dynamic loader says; shown when there is nothing else.
            Err(_) => {}
        }
    }
    // A process that ended well had no use for the memory that was denied to a child of it.
    if stronger == Some(Exit::OutOfMemory) && exited == Some(Exit::Code(0)) {
        stronger = None;
    }
    if let Some(exit) = ended.or(stronger) {
        return Some(Ok(Outcome { exit, warnings }));
    }
    if let Some(failure) = failure {
        return Some(Err(match failure {
            Failure::Invalid(why) => Error::Invalid(why),
            Failure::Setup(why) => Error::Setup(why),
            Failure::Unsupported { what, hint } => Error::Unsupported { what, hint },
            Failure::Runtime(message) => Error::Runtime { runtime, message },
        }));
    }
    exited.map(|exit| Ok(Outcome { exit, warnings }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reports: &[Report], ended: Option<Exit>) -> Option<Result<Exit, String>> {
        let lines: Vec<u8> = reports.iter().flat_map(Report::line).chain(*b"thread panicked\n").collect();
        let folded = conclude(&lines, ended, PathBuf::new());
        folded.map(|done| done.map(|outcome| outcome.exit).map_err(|error| error.to_string()))
    }

    #[test]
    fn the_strongest_report_wins() {
        let failed = || Report::Failed(Failure::Setup("why".to_owned()));
        assert_eq!(check(&[], None), None);
        assert_eq!(check(&[Report::Exited(Exit::Code(3))], None), Some(Ok(Exit::Code(3))));
        assert_eq!(
            check(&[failed(), Report::Exited(Exit::Code(70))], None),
            Some(Err("cannot set up the sandbox: why".to_owned()))
        );
        let oom = || Report::Ended(Exit::OutOfMemory);
        assert_eq!(check(&[Report::Exited(Exit::Signal(9)), oom()], None), Some(Ok(Exit::OutOfMemory)));
        assert_eq!(check(&[Report::Exited(Exit::Code(0)), oom()], None), Some(Ok(Exit::Code(0))));
        assert_eq!(check(&[Report::Ended(Exit::TimedOut)], None), Some(Ok(Exit::TimedOut)));
        assert_eq!(check(&[failed()], Some(Exit::Cancelled)), Some(Ok(Exit::Cancelled)));
    }
}
