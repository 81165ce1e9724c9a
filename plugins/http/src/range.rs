//! What says that a file is still the same one (RFC 9110, section 8.8).

use cooperage_sdk::http::Headers;

/// The entity tag, if it stands for exactly these bytes.
#[must_use]
pub fn strong_etag(headers: &Headers) -> Option<&str> {
    let tag = headers.get("etag")?.trim();
    (tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"')).then_some(tag)
}

/// What `If-Range` may name: a strong entity tag, or a date that was more than a second ago when the answer was made.
#[must_use]
pub fn validator(headers: &Headers) -> Option<String> {
    if let Some(tag) = strong_etag(headers) {
        return Some(tag.to_owned());
    }
    let modified = headers.get("last-modified")?;
    let age = headers.date("date")?.checked_sub(headers.date("last-modified")?)?;
    (age > 1).then(|| modified.to_owned())
}

/// Whether two answers cannot be of the same bytes. Equal strong entity tags prove more than dates that differ.
#[must_use]
pub fn contradict(one: &Headers, other: &Headers) -> bool {
    let differ = |name| one.get(name).zip(other.get(name)).is_some_and(|(one, other)| one != other);
    let proven = strong_etag(one).is_some() && strong_etag(one) == strong_etag(other);
    differ("etag") || (!proven && differ("last-modified"))
}

/// A text that is equal as long as the file is; none if nothing says so.
#[must_use]
pub fn version(headers: &Headers) -> Option<String> {
    by_tag(headers).or_else(|| by_date(headers))
}

/// Whether an answer says that it has this version. The answers to HEAD and GET need not name the same kinds of it.
#[must_use]
pub fn is_version(headers: &Headers, version: &str) -> bool {
    [by_tag(headers), by_date(headers)].iter().flatten().any(|told| told == version)
}

fn by_tag(headers: &Headers) -> Option<String> {
    strong_etag(headers).map(|tag| format!("etag:{tag}"))
}

fn by_date(headers: &Headers) -> Option<String> {
    let (modified, length) = (headers.get("last-modified")?, headers.content_length()?);
    Some(format!("modified:{modified};length:{length}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::default();
        fields.iter().for_each(|(name, value)| headers.append(*name, *value));
        headers
    }

    #[test]
    fn versions() {
        let modified = ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (fields, expected) in [
            (&[("ETag", "\"a\""), modified][..], Some("etag:\"a\"")),
            (&[("ETag", "W/\"a\"")], None),
            (&[("ETag", "\"")], None),
            (
                &[("ETag", "W/\"a\""), modified, ("Content-Length", "3")],
                Some("modified:Sun, 06 Nov 1994 08:49:37 GMT;length:3"),
            ),
            (&[modified], None),
            (&[], None),
        ] {
            assert_eq!(version(&headers(fields)).as_deref(), expected, "{fields:?}");
        }
    }

    #[test]
    fn versions_of_either_kind() {
        let (tag, weak) = (("etag", "\"a\""), ("etag", "W/\"a\""));
        let (early, late) = (("last-modified", "Sun, 06 Nov 1994"), ("last-modified", "Mon, 07 Nov 1994"));
        let length = ("content-length", "3");
        for (fields, version, expected) in [
            (&[tag, early, length][..], "etag:\"a\"", true),
            (&[tag, early, length], "modified:Sun, 06 Nov 1994;length:3", true),
            (&[tag, late, length], "modified:Sun, 06 Nov 1994;length:3", false),
            (&[tag, early], "modified:Sun, 06 Nov 1994;length:3", false),
            (&[weak, early, length], "etag:\"a\"", false),
        ] {
            assert_eq!(is_version(&headers(fields), version), expected, "{fields:?} {version}");
        }
        for (one, other, expected) in [
            (&[tag, early][..], &[tag, late][..], false),
            (&[weak, early], &[weak, late], true),
            (&[early], &[late], true),
            (&[early], &[early], false),
            (&[tag], &[weak], true),
            (&[tag], &[late], false),
            (&[], &[], false),
        ] {
            assert_eq!(contradict(&headers(one), &headers(other)), expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn dates_are_validators_only_when_they_are_old_enough() {
        let modified = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (date, strong) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", false),
            ("Sun, 06 Nov 1994 08:49:38 GMT", false),
            ("Sun, 06 Nov 1994 08:49:40 GMT", true),
            ("Sun, 06 Nov 1994 08:00:00 GMT", false),
            ("soon", false),
        ] {
            assert_eq!(validator(&headers(&[modified, ("date", date)])).is_some(), strong, "{date}");
        }
        assert_eq!(validator(&headers(&[modified])), None);
    }
}
