//! When to try again: which answers pass, and how patient this plugin is with API servers. Everything that it sends may be
//! sent twice: reading changes nothing, and an apply says what shall be.

use std::time::Duration;

use cooperage_sdk::Result;
use cooperage_sdk::retry::{self, Limits};
use cooperage_sdk::time::Clock;

use crate::edge::Answer;

/// Somebody may be waiting for a rollout, and clusters come back sooner than other servers. A server that hangs is not
/// asked five times for a minute each.
const LIMITS: Limits = Limits {
    tries: 5,
    longest: Duration::from_secs(10),
    patience: Duration::from_secs(60),
    together: Duration::from_secs(90),
};

/// Sends until the answer is one that lasts, or patience ends; then the last answer or error is the result.
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
    matches!(status, 408 | 425 | 429 | 500 | 502..=504)
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
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(is_passing(status));
        }
        for status in [200, 301, 400, 401, 403, 404, 409, 415, 422, 501] {
            assert!(!is_passing(status));
        }
    }
}
