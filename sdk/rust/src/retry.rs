//! When to try again, and how long to wait before: exponential backoff with jitter, the wish of the far side heeded. It
//! knows no protocol: what an answer means, the caller says.

use std::time::Duration;

use crate::time::Clock;
use crate::{Error, ErrorKind, Result, random};

const FIRST: Duration = Duration::from_millis(400);
/// The longest wait between two tries where nothing else is known of the far side.
pub const LONGEST: Duration = Duration::from_secs(20);

/// How long to go on with one request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Tries, the first included.
    pub tries: u32,
    /// The longest wait that backoff leads to.
    pub longest: Duration,
    /// Whoever wants us to wait longer than this gets no further try.
    pub patience: Duration,
    /// After this time there is no further try: a far side that hangs would use it up in each of them.
    pub together: Duration,
}

/// Sends until the answer is one that lasts, or the limits are reached; then the last answer or error is the result.
/// Only for what may be done twice.
///
/// `passing` says of an answer whether another one is likely soon, and if so how long the far side wants us to wait;
/// zero if it does not say. Errors pass if they are `unavailable`.
///
/// # Errors
/// Those of `send`; `cancelled` while waiting.
pub fn persistently<T>(
    clock: &dyn Clock,
    limits: &Limits,
    mut send: impl FnMut() -> Result<T>,
    passing: impl Fn(&T) -> Option<Duration>,
) -> Result<T> {
    let began = clock.elapsed();
    let mut failures = 0;
    loop {
        let result = send();
        let passes = match &result {
            Ok(answer) => passing(answer),
            Err(error) => (error.kind == ErrorKind::Unavailable).then(|| wish(error).unwrap_or_default()),
        };
        let Some(wish) = passes else { return result };
        failures += 1;
        let wait = wish.max(backoff(failures, limits.longest));
        let is_late = clock.elapsed().saturating_sub(began) > limits.together;
        if failures >= limits.tries || wait > limits.patience || is_late {
            return result;
        }
        // An answer may hold a connection, which nobody needs while waiting.
        drop(result);
        clock.pause(wait)?;
    }
}

/// How long to wait after so many failures (1 is the first), and never longer than `longest`.
#[must_use]
pub fn backoff(failures: u32, longest: Duration) -> Duration {
    let full = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest);
    // Half of it is certain, half is chance: clients that failed together do not come back together.
    let chance = (random() % 1000) as u32;
    full / 2 + full / 2 * chance / 1000
}

/// How long the far side wants us to wait, as an error has it.
#[must_use]
pub fn wish(error: &Error) -> Option<Duration> {
    error.retry_after.map(|time| Duration::from_millis(time.into()))
}

/// A wish of the far side in the unit of an error's `retry_after`.
#[must_use]
pub fn milliseconds(wish: Duration) -> u32 {
    u32::try_from(wish.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[derive(Default)]
    struct Time(Cell<Duration>);

    impl Clock for Time {
        fn pause(&self, time: Duration) -> Result<()> {
            self.0.set(self.0.get() + time);
            Ok(())
        }

        fn elapsed(&self) -> Duration {
            self.0.get()
        }

        fn now(&self) -> u64 {
            0
        }
    }

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: Limits =
        Limits { tries: 5, longest: SECOND, patience: Duration::from_secs(60), together: Duration::from_secs(90) };

    #[test]
    fn tries_end_by_number_and_by_time() {
        for (seconds, tries) in [(0, 5), (60, 2), (100, 1)] {
            let (time, made) = (Time::default(), Cell::new(0));
            let result: Result<()> = persistently(
                &time,
                &LIMITS,
                || {
                    made.set(made.get() + 1);
                    time.pause(SECOND * seconds)?;
                    Err(Error::unavailable("nothing comes"))
                },
                |()| None,
            );
            assert_eq!((made.get(), result.is_err()), (tries, true), "{seconds}");
        }
    }

    #[test]
    fn what_passes_is_tried_again() {
        // Each try takes the next of these; the number is the wish of an answer that passes.
        let check = |results: &[Result<Option<u64>>]| {
            let (time, made) = (Time::default(), Cell::new(0));
            let send = || {
                made.set(made.get() + 1);
                results[made.get() - 1].clone()
            };
            let result = persistently(&time, &LIMITS, send, |answer| answer.map(Duration::from_secs));
            (made.get(), result.ok(), time.elapsed().as_secs())
        };
        assert_eq!(check(&[Ok(None)]), (1, Some(None), 0));
        assert_eq!(check(&[Ok(Some(7)), Ok(None)]), (2, Some(None), 7));
        assert_eq!(check(&[Ok(Some(61))]), (1, Some(Some(61)), 0));
        assert_eq!(check(&[Err(Error::unavailable("soon").retry_after(9000)), Ok(None)]), (2, Some(None), 9));
        assert_eq!(check(&[Err(Error::unavailable("later").retry_after(61_000))]), (1, None, 0));
        assert_eq!(check(&[Err(Error::denied("no"))]), (1, None, 0));
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        for longest in [SECOND, LONGEST] {
            for failures in 1..40 {
                let full = FIRST.saturating_mul(1 << (failures - 1).min(16)).min(longest);
                let wait = backoff(failures, longest);
                assert!(wait >= full / 2 && wait <= full, "{failures}: {wait:?}");
            }
        }
    }

    #[test]
    fn wishes() {
        assert_eq!(wish(&Error::unavailable("soon").retry_after(1500)), Some(Duration::from_millis(1500)));
        assert_eq!(wish(&Error::unavailable("soon")), None);
        assert_eq!(milliseconds(SECOND), 1000);
        assert_eq!(milliseconds(Duration::from_secs(u64::MAX)), u32::MAX);
    }
}
