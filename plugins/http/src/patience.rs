//! When to try again: how many faults a call bears, those that follow progress counted less.

use std::time::Duration;

use cooperage_sdk::retry::{LONGEST, backoff, wish};
use cooperage_sdk::time::Clock;
use cooperage_sdk::{Error, ErrorKind, Result};

/// Whoever wants us to wait longer than this gets no further try from this call.
const MOST: Duration = Duration::from_secs(90);
/// Faults in all, however far the transfer gets in between.
const MOST_FAULTS: u32 = 50;

/// What is left of the patience of one call.
#[derive(Debug)]
pub struct Patience {
    retries: u32,
    in_vain: u32,
    faults: u32,
    /// How far any try got.
    furthest: u64,
}

impl Patience {
    /// For so many faults without progress in between.
    #[must_use]
    pub fn new(retries: u32) -> Self {
        Self { retries, in_vain: 0, faults: 0, furthest: 0 }
    }

    /// So many bytes are there. If that is more than ever before, the next fault is a first one.
    pub fn progress(&mut self, done: u64) {
        if done > self.furthest {
            self.furthest = done;
            self.in_vain = 0;
        }
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// The same error if it will not pass or patience has ended; `cancelled` while waiting.
    pub fn again(&mut self, clock: &dyn Clock, error: Error) -> Result<()> {
        if error.kind != ErrorKind::Unavailable {
            return Err(error);
        }
        self.in_vain += 1;
        self.faults += 1;
        let wish = wish(&error).unwrap_or_default();
        if self.in_vain > self.retries || self.faults > MOST_FAULTS || wish > MOST {
            // Whoever asks again with the same error has been told already.
            let tried = self.in_vain == self.retries + 1 && self.retries > 0;
            return Err(if tried { error.because(format!("tried {} times", self.in_vain)) } else { error });
        }
        let wait = wish.max(backoff(self.in_vain, LONGEST));
        cooperage_sdk::debug!("{}; trying again in {:.1} s", summary(&error), wait.as_secs_f64());
        clock.pause(wait)
    }
}

/// Message and causes in one line.
#[must_use]
pub fn summary(error: &Error) -> String {
    std::iter::once(&error.message).chain(&error.context).map(String::as_str).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[derive(Default)]
    struct Log(RefCell<Vec<Duration>>);

    impl Clock for Log {
        fn pause(&self, time: Duration) -> Result<()> {
            self.0.borrow_mut().push(time);
            Ok(())
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }

        fn now(&self) -> u64 {
            0
        }
    }

    #[test]
    fn patience_ends_and_says_so() {
        let (clock, mut patience) = (Log::default(), Patience::new(2));
        let fault = || Error::unavailable("broken");
        patience.again(&clock, fault()).unwrap();
        patience.progress(5);
        patience.again(&clock, fault()).unwrap();
        patience.progress(5);
        patience.again(&clock, fault()).unwrap();
        let error = patience.again(&clock, fault()).unwrap_err();
        assert_eq!(error.context, ["tried 3 times"]);
        assert_eq!(patience.again(&clock, error).unwrap_err().context, ["tried 3 times"]);
        assert_eq!(clock.0.borrow().len(), 3);
    }

    #[test]
    fn what_does_not_pass_is_not_waited_for() {
        let clock = Log::default();
        assert!(Patience::new(9).again(&clock, Error::denied("no")).is_err());
        assert!(Patience::new(9).again(&clock, Error::unavailable("later").retry_after(100_000)).is_err());
        assert!(Patience::new(0).again(&clock, Error::unavailable("now")).unwrap_err().context.is_empty());
        assert!(clock.0.borrow().is_empty());
        Patience::new(1).again(&clock, Error::unavailable("soon").retry_after(7000)).unwrap();
        assert_eq!(*clock.0.borrow(), [Duration::from_secs(7)]);
    }
}
