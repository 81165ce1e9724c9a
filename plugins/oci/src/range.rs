//! Reading `Range` of an upload's status.

use cooperage_sdk::http::number;

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
}
