//! Lengths of time as people write them: `90s`, `1h30m`, `500ms`.

use std::time::Duration;

use cooperage_sdk::{Error, Result};

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Numbers, each with its unit; a single number without one counts seconds.
///
/// # Errors
/// `invalid-input`.
pub fn parse(text: &str) -> Result<Duration> {
    let wrong =
        || Error::invalid_input(format!("{text:?} is no length of time")).hint("write it like `90s`, `10m` or `1h30m`");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    if let Some(seconds) = digits(rest).filter(|found| found.len() == rest.len()) {
        return seconds.parse().map(Duration::from_secs).map_err(|_| wrong());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number = digits(rest).ok_or_else(wrong)?;
        rest = &rest[number.len()..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (unit, after) = rest.split_at(unit_end);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// The digits that a text begins with, if it does.
fn digits(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| &text[..end])
}

/// The same for people, in the two largest units.
#[must_use]
pub fn show(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) if !time.is_zero() => format!("{}ms", time.as_millis()),
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, 0, _) => format!("{h}h"),
        (h, m, _) => format!("{h}h{m}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("90", 90_000),
            ("90s", 90_000),
            (" 5m ", 300_000),
            ("1h30m", 5_400_000),
            ("1m500ms", 60_500),
            ("2d", 172_800_000),
        ] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(milliseconds), "{text}");
        }
        for text in ["", "m", "5 m", "-5s", "1.5h", "5x", "99999999999999999999s", "99999999999999999d", "5m3"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_people_read() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (300, "5m"), (61, "1m1s"), (3600, "1h"), (5400, "1h30m")] {
            assert_eq!(show(Duration::from_secs(seconds)), text);
        }
        assert_eq!(show(Duration::from_millis(250)), "250ms");
    }
}
