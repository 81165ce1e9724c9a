//! When to try again, and how long to wait before: exponential backoff with jitter, within bounds.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(400);
const LONGEST: Duration = Duration::from_secs(20);
/// Faults of one transfer in all, however far it gets between them.
const MOST_BROKEN: u32 = 50;

/// Counts faults.
#[derive(Debug, Clone)]
pub struct Tries {
    retries: u32,
    vain: u32,
    broken: u32,
}

impl Tries {
    /// So many further tries after the first that bring nothing.
    #[must_use]
    pub fn new(retries: u32) -> Self {
        Self { retries, vain: 0, broken: 0 }
    }

    /// After another fault: how long to wait, or none if it was the last. `progress` says if there was any since the
    /// fault before.
    pub fn next(&mut self, progress: bool) -> Option<Duration> {
        self.vain = if progress { 1 } else { self.vain + 1 };
        self.broken += 1;
        (self.vain <= self.retries && self.broken <= MOST_BROKEN).then(|| backoff(self.vain))
    }
}

/// How long to wait after so many failures (1 is the first).
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    let full = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    // Half of it is certain, half is chance: clients that failed together do not come back together.
    let chance = u32::try_from(random() % 1000).unwrap_or_default();
    full / 2 + full / 2 * chance / 1000
}

/// Not for secrets: the seed of the standard library's hash tables, which WASI gives.
#[must_use]
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_end() {
        let mut tries = Tries::new(2);
        assert!(tries.next(false).is_some());
        assert!(tries.next(false).is_some());
        assert!(tries.next(false).is_none());
        assert!(Tries::new(0).next(false).is_none());
        let mut tries = Tries::new(1);
        assert_eq!((0..200).filter(|_| tries.next(true).is_some()).count(), 50);
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        for failures in 1..40 {
            let full = FIRST.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST);
            let wait = backoff(failures);
            assert!(wait >= full / 2 && wait <= full, "{failures}: {wait:?}");
        }
    }
}
