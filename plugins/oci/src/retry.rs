//! When to try again, and how long to wait before: exponential backoff with jitter, `Retry-After` heeded.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use cooperage_sdk::http::Headers;
use cooperage_sdk::{ErrorKind, Result};

use crate::edge::{Answer, Clock};

/// Tries of one request, the first included.
pub const TRIES: u32 = 6;
const FIRST: Duration = Duration::from_millis(400);
const LONGEST: Duration = Duration::from_secs(20);
/// Whoever wants us to wait longer than this gets no further try from this call.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Sends until the answer is one that lasts, or patience ends; then the last answer or error is the result. Only for what
/// may be done twice.
///
/// # Errors
/// Those of `send`; `cancelled` while waiting.
pub fn persistently(clock: &dyn Clock, mut send: impl FnMut() -> Result<Answer>) -> Result<Answer> {
    let mut failures = 0;
    loop {
        let result = send();
        let wish = match &result {
            Ok(answer) if is_passing(answer.status) => asked(&answer.headers, clock.now()),
            Err(error) if error.kind == ErrorKind::Unavailable => {
                error.retry_after.map(|time| Duration::from_millis(time.into()))
            }
            _ => return result,
        };
        failures += 1;
        let wait = wish.unwrap_or_default().max(backoff(failures));
        if failures == TRIES || wait > PATIENCE {
            return result;
        }
        drop(result);
        clock.pause(wait)?;
    }
}

/// Whether a status is likely to be another one soon.
#[must_use]
pub fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502..=504 | 520..=599)
}

/// How long to wait after so many failures (1 is the first).
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    let full = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    // Half of it is certain, half is chance: clients that failed together do not come back together.
    let chance = (random() % 1000) as u32;
    full / 2 + full / 2 * chance / 1000
}

/// What `Retry-After` asks for, in seconds or as a date.
#[must_use]
pub fn asked(headers: &Headers, now: u64) -> Option<Duration> {
    let field = headers.get("retry-after")?.trim();
    if !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(field.parse().unwrap_or(u64::MAX)));
    }
    http_date(field).map(|at| Duration::from_secs(at.saturating_sub(now)))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.split_once(',')?.1.split_ascii_whitespace();
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.find(month).filter(|at| month.len() == 3 && at % 3 == 0)? as u64 / 3 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    if words.next()? != "GMT" || !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days from civil, counted from March so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Not for secrets: the seed of the standard library's hash tables, which WASI gives.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // 1994-11-06T08:49:37Z
        let now = 784_111_777;
        for (field, expected) in [
            ("3", Some(3)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
            ("Sun, 06 Nov 1994 08:50:37", None),
            ("Sun, 99 Nov 1994 08:50:37 GMT", None),
        ] {
            let mut headers = Headers::default();
            headers.append("Retry-After", field);
            assert_eq!(asked(&headers, now).map(|d| d.as_secs()), expected, "{field}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        assert_eq!(http_date("Sat, 01 Mar 2025 00:00:00 GMT"), Some(1_740_787_200));
    }

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
