//! When to try again, and how long to wait before: exponential backoff with jitter, `Retry-After` heeded. Everything
//! that this plugin sends may be sent twice: reading changes nothing, and an apply says what shall be.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use cooperage_sdk::http::Headers;
use cooperage_sdk::{ErrorKind, Result};

use crate::edge::{Answer, Clock};

/// Tries of one request, the first included.
pub const TRIES: u32 = 5;
const FIRST: Duration = Duration::from_millis(400);
const LONGEST: Duration = Duration::from_secs(10);
/// Whoever wants us to wait longer than this gets no further try from this call.
const PATIENCE: Duration = Duration::from_secs(60);
/// After this time there is no further try: a server that hangs is not asked five times for a minute each.
const TOGETHER: Duration = Duration::from_secs(90);

/// Sends until the answer is one that lasts, or patience ends; then the last answer or error is the result.
///
/// # Errors
/// Those of `send`; `cancelled` while waiting.
pub fn persistently(clock: &dyn Clock, mut send: impl FnMut() -> Result<Answer>) -> Result<Answer> {
    let began = clock.elapsed();
    let mut failures = 0;
    loop {
        let result = send();
        let wish = match &result {
            Ok(answer) if is_passing(answer.status) => asked(&answer.headers),
            Err(error) if error.kind == ErrorKind::Unavailable => None,
            _ => return result,
        };
        failures += 1;
        let wait = wish.unwrap_or_default().max(backoff(failures));
        if failures == TRIES || wait > PATIENCE || clock.elapsed().saturating_sub(began) > TOGETHER {
            return result;
        }
        drop(result);
        clock.pause(wait)?;
    }
}

/// Whether a status is likely to be another one soon.
#[must_use]
pub fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502..=504)
}

/// How long to wait after so many failures (1 is the first).
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    let full = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    // Half of it is certain, half is chance: clients that failed together do not come back together. The seed of the
    // standard library's hash tables is chance enough for this.
    let chance = (RandomState::new().build_hasher().finish() % 1000) as u32;
    full / 2 + full / 2 * chance / 1000
}

/// What `Retry-After` asks for. API servers give seconds.
#[must_use]
pub fn asked(headers: &Headers) -> Option<Duration> {
    let field = headers.get("retry-after")?.trim();
    let number = !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| Duration::from_secs(field.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use cooperage_sdk::Error;

    use super::*;

    struct Time(Cell<Duration>);

    impl Clock for Time {
        fn pause(&self, time: Duration) -> Result<()> {
            self.0.set(self.0.get() + time);
            Ok(())
        }

        fn elapsed(&self) -> Duration {
            self.0.get()
        }
    }

    #[test]
    fn tries_end_by_number_and_by_time() {
        for (seconds, tries) in [(0, TRIES), (60, 2), (100, 1)] {
            let (time, made) = (Time(Cell::default()), Cell::new(0));
            let result = persistently(&time, || {
                made.set(made.get() + 1);
                time.pause(Duration::from_secs(seconds))?;
                Err(Error::unavailable("nothing comes"))
            });
            assert_eq!((made.get(), result.is_err()), (tries, true), "{seconds}");
        }
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        for failures in 1..40 {
            let full = FIRST.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST);
            let wait = backoff(failures);
            assert!(wait >= full / 2 && wait <= full, "{failures}: {wait:?}");
        }
    }

    #[test]
    fn the_wish_of_the_server() {
        for (field, seconds) in [
            ("3", Some(3)),
            (" 0 ", Some(0)),
            ("9999999999999999999999", Some(u64::MAX)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = Headers::default();
            headers.append("Retry-After", field);
            assert_eq!(asked(&headers).map(|time| time.as_secs()), seconds, "{field}");
        }
    }

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
