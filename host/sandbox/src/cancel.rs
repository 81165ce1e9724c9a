//! A flag that ends runs early and wakes whoever waits for them; knows nothing of what it ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Cancels every run it was given to, from any thread, once and for good; clones are the same flag.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    flag: AtomicBool,
    event: OwnedFd,
}

impl Cancel {
    /// A flag that is not set.
    ///
    /// # Errors
    /// When this process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Inner { flag: AtomicBool::new(false), event })))
    }

    /// Sets the flag: the process of each run gets SIGTERM and, a short while later, SIGKILL.
    pub fn cancel(&self) {
        self.0.flag.store(true, Ordering::SeqCst);
        // The counter is never read back, so that every waiter, now and later, finds it readable. It cannot
        // overflow: only the first write of each clone's call adds one.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }

    /// Whether `cancel` was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.flag.load(Ordering::SeqCst)
    }
}

impl AsFd for Cancel {
    /// Becomes readable, and stays so, when cancelled.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn readable(cancel: &Cancel) -> bool {
        let mut fds = [PollFd::new(cancel, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn wakes_every_clone_and_stays_set() {
        let cancel = Cancel::new().unwrap();
        let clone = cancel.clone();
        assert!(!readable(&clone) && !clone.is_cancelled());
        cancel.cancel();
        cancel.cancel();
        assert!(readable(&clone) && readable(&clone) && clone.is_cancelled());
    }
}
