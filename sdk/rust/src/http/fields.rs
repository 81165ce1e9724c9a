//! Header fields that are more than text: lengths, dates, ranges (RFC 9110). One that is not well formed counts as not
//! there at all.

use std::time::{Duration, UNIX_EPOCH};

use super::Headers;

impl Headers {
    /// The announced length of the body.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        number(self.get("content-length")?)
    }

    /// First byte and, unless it is `*`, the whole size, by `Content-Range: bytes <first>-<last>/<size>`.
    #[must_use]
    pub fn content_range(&self) -> Option<(u64, Option<u64>)> {
        range(self.get("content-range")?)
    }

    /// A moment such as `Date` or `Last-Modified`, in seconds since 1970.
    #[must_use]
    pub fn date(&self, name: &str) -> Option<u64> {
        date(self.get(name)?)
    }

    /// How long `Retry-After` asks to wait, in seconds or as a date; `now` in seconds since 1970.
    #[must_use]
    pub fn retry_after(&self, now: u64) -> Option<Duration> {
        let field = self.get("retry-after")?.trim();
        if !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Duration::from_secs(field.parse().unwrap_or(u64::MAX)));
        }
        date(field).map(|at| Duration::from_secs(at.saturating_sub(now)))
    }
}

/// Digits and nothing else but space around them: `parse` alone would take a sign.
#[must_use]
pub fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn range(field: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = field.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let size = if size.trim() == "*" { None } else { Some(number(size)?) };
    let sound = first <= last && size.is_none_or(|size| last < size);
    sound.then_some((first, size))
}

/// In any of the three forms that section 5.6.7 has recipients accept.
fn date(text: &str) -> Option<u64> {
    let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Headers {
        let mut headers = Headers::default();
        headers.append(name, value);
        headers
    }

    #[test]
    fn numbers_have_no_sign() {
        for (text, expected) in
            [("12", Some(12)), (" 7 ", Some(7)), ("+1", None), ("-1", None), ("", None), ("1e3", None)]
        {
            assert_eq!(number(text), expected, "{text:?}");
            assert_eq!(of("Content-Length", text).content_length(), expected, "{text:?}");
        }
        assert_eq!(Headers::default().content_length(), None);
    }

    #[test]
    fn parts() {
        for (field, expected) in [
            ("bytes 10-19/20", Some((10, Some(20)))),
            ("bytes 10-19/*", Some((10, None))),
            ("bytes 10-20/20", None),
            ("bytes 10-9/20", None),
            ("bytes */20", None),
            ("bytes -5-9/20", None),
            ("items 0-1/2", None),
            ("", None),
        ] {
            assert_eq!(of("Content-Range", field).content_range(), expected, "{field}");
        }
    }

    #[test]
    fn dates() {
        for (field, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000)),
            ("Sat, 01 Mar 2025 00:00:00 GMT", Some(1_740_787_200)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("yesterday", None),
        ] {
            assert_eq!(of("Date", field).date("date"), expected, "{field}");
        }
    }

    #[test]
    fn the_wish_of_the_server() {
        // 1994-11-06T08:49:37Z
        let now = 784_111_777;
        for (field, expected) in [
            ("3", Some(3)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
            ("Sun, 06 Nov 1994 08:50:37", None),
            ("Sun, 99 Nov 1994 08:50:37 GMT", None),
        ] {
            let headers = of("Retry-After", field);
            assert_eq!(headers.retry_after(now).map(|time| time.as_secs()), expected, "{field}");
        }
    }
}
