//! Reading `Range` of an upload's status and `Content-Range` of a partial answer.

/// How many bytes an upload has, by its `Range: 0-<last>`; the prefix `bytes=` is tolerated.
///
/// `0-0` is one byte by the letter, but what docker-registry says of an empty upload; it counts as none.
#[must_use]
pub fn received(field: &str) -> Option<u64> {
    let field = field.trim();
    let (first, last) = field.strip_prefix("bytes=").unwrap_or(field).split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    match (first, last) {
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

/// First byte and, unless it is `*`, the whole size, by `Content-Range: bytes <first>-<last>/<size>`.
#[must_use]
pub fn partial(field: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = field.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let size = if size.trim() == "*" { None } else { Some(number(size)?) };
    let sound = first <= last && size.is_none_or(|size| last < size);
    sound.then_some((first, size))
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads() {
        for (field, expected) in [
            ("0-1023", Some(1024)),
            ("bytes=0-9", Some(10)),
            ("0-0", Some(0)),
            ("5-9", None),
            ("0--1", None),
            ("-1", None),
            ("0-", None),
            ("0-18446744073709551615", None),
            ("", None),
        ] {
            assert_eq!(received(field), expected, "{field}");
        }
    }

    #[test]
    fn partial_answers() {
        for (field, expected) in [
            ("bytes 10-19/20", Some((10, Some(20)))),
            ("bytes 10-19/*", Some((10, None))),
            ("bytes 10-20/20", None),
            ("bytes 10-9/20", None),
            ("bytes */20", None),
            ("bytes -5-9/20", None),
            ("items 0-1/2", None),
        ] {
            assert_eq!(partial(field), expected, "{field}");
        }
    }
}
