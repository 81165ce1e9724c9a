//! Time: waiting that heeds cancellation, and how moments are written.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use crate::Result;
use crate::events::check_cancelled;

/// Time as a plugin's core sees it. The plugin gives it [`System`], a test what does not wait.
pub trait Clock {
    /// Waits.
    ///
    /// # Errors
    /// `cancelled` once the call is.
    fn pause(&self, time: Duration) -> Result<()>;
    /// Time since some moment before; never goes back.
    fn elapsed(&self) -> Duration;
    /// Seconds since 1970.
    fn now(&self) -> u64;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    fn pause(&self, time: Duration) -> Result<()> {
        // The host cannot wake a plugin that sleeps, so it looks often enough for a user who waits for its end.
        const SLICE: Duration = Duration::from_millis(200);
        let mut left = time;
        while !left.is_zero() {
            check_cancelled()?;
            let now = left.min(SLICE);
            std::thread::sleep(now);
            left -= now;
        }
        check_cancelled()
    }

    fn elapsed(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }

    fn now(&self) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }
}

/// Seconds since 1970 in the form of RFC 3339. The calendar is Howard Hinnant's `civil_from_days`.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    // The last second of the year 9999: the form has no room for more.
    let seconds = seconds.min(253_402_300_799);
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_as_long_as_it_is_told() {
        let before = System.elapsed();
        System.pause(Duration::from_millis(210)).unwrap();
        assert!(System.elapsed() - before >= Duration::from_millis(210));
        System.pause(Duration::ZERO).unwrap();
    }

    #[test]
    fn writes_times() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), expected);
        }
    }
}
