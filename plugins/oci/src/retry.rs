//! When to try again: which answers pass, and how patient this plugin is with registries.

use std::time::Duration;

use cooperage_sdk::Result;
use cooperage_sdk::retry::{self, Limits};
use cooperage_sdk::time::Clock;

use crate::edge::Answer;

/// Tries of one request, the first included.
pub const TRIES: u32 = 6;
/// Whoever wants us to wait longer than this gets no further try from this call.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// A registry may take its time over one request, so how long all tries take together does not count.
const LIMITS: Limits = Limits { tries: TRIES, longest: retry::LONGEST, patience: PATIENCE, together: Duration::MAX };

/// Sends until the answer is one that lasts, or patience ends; then the last answer or error is the result. Only for what
/// may be done twice.
///
/// # Errors
/// Those of `send`; `cancelled` while waiting.
pub fn persistently(clock: &dyn Clock, send: impl FnMut() -> Result<Answer>) -> Result<Answer> {
    retry::persistently(clock, &LIMITS, send, |answer| {
        is_passing(answer.status).then(|| answer.headers.retry_after(clock.now()).unwrap_or_default())
    })
}

/// Whether a status is likely to be another one soon.
#[must_use]
pub fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502..=504 | 520..=599)
}

/// How long to wait after so many failures (1 is the first).
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    retry::backoff(failures, LIMITS.longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes() {
        for status in [408, 429, 500, 502, 503, 504, 529] {
            assert!(is_passing(status));
        }
        for status in [200, 301, 400, 401, 403, 404, 413, 501, 505] {
            assert!(!is_passing(status));
        }
    }
}
