//! When to try again: how many faults a transfer bears, those that follow progress counted less.

use std::time::Duration;

use cooperage_sdk::retry::{LONGEST, backoff};

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
        (self.vain <= self.retries && self.broken <= MOST_BROKEN).then(|| backoff(self.vain, LONGEST))
    }
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
}
