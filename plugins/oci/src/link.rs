//! Reading `Link` (RFC 8288) for the next page of a list.

/// The target of the first link whose relation is `next`.
pub fn next<'a>(fields: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    fields.flat_map(links).find(|(_, is_next)| *is_next).map(|(target, _)| target)
}

/// Target, and whether it is the next page, of each link of a field.
fn links(field: &str) -> Vec<(&str, bool)> {
    let mut all = Vec::new();
    let mut rest = field;
    while let Some(open) = rest.find('<') {
        let Some(close) = rest[open..].find('>') else { break };
        let target = &rest[open + 1..open + close];
        let after = &rest[open + close + 1..];
        let end = unquoted(after, ',').unwrap_or(after.len());
        all.push((target, is_next(&after[..end])));
        rest = &after[end..];
    }
    all
}

fn is_next(parameters: &str) -> bool {
    let mut rest = parameters;
    loop {
        let end = unquoted(rest, ';').unwrap_or(rest.len());
        if let Some((name, value)) = rest[..end].split_once('=')
            && name.trim().eq_ignore_ascii_case("rel")
        {
            let value = value.trim().trim_matches('"');
            return value.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"));
        }
        if end == rest.len() {
            return false;
        }
        rest = &rest[end + 1..];
    }
}

/// Where a character stands outside of quotes.
fn unquoted(text: &str, wanted: char) -> Option<usize> {
    let mut quoted = false;
    text.char_indices()
        .find(|(_, c)| {
            quoted ^= *c == '"';
            !quoted && *c == wanted
        })
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page() {
        for (field, expected) in [
            (r#"</v2/a/tags/list?n=2&last=b>; rel="next""#, Some("/v2/a/tags/list?n=2&last=b")),
            ("<x>;rel=next", Some("x")),
            (r#"<p>; rel="prev", <n?a,b;c>; title="x, <y>; rel=next"; REL="last Next""#, Some("n?a,b;c")),
            (r#"<p>; title="rel=next""#, None),
            ("<p>", None),
            ("<p; rel=next", None),
            ("", None),
            ("<>; rel=next", Some("")),
        ] {
            assert_eq!(next([field].into_iter()), expected, "{field}");
        }
        assert_eq!(next(["<a>; rel=prev", "<b>; rel=next"].into_iter()), Some("b"));
    }
}
