//! Which plugin serves a URL: what the user's configuration says, then the bundled plugins, then those that the user
//! named and that say they serve it. So a plugin from elsewhere never takes `https` over by itself.

use std::collections::BTreeMap;

/// What the bundled plugins serve; a test compares it with what they say of themselves.
pub(crate) const BUNDLED: [(&str, &str); 9] = [
    ("ftp", "ftp"),
    ("ftpes", "ftp"),
    ("ftps", "ftp"),
    ("git+http", "git"),
    ("git+https", "git"),
    ("http", "http"),
    ("http:*.git", "git"),
    ("https", "http"),
    ("https:*.git", "git"),
];

/// Whether a text is a URL and no path of this machine.
pub(crate) fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// The plugin among `claims` (what it serves, its name) that serves a URL: the one with the longest pattern.
pub(crate) fn responsible<'a>(claims: impl IntoIterator<Item = (&'a str, &'a str)>, url: &str) -> Option<&'a str> {
    let fitting = claims.into_iter().filter_map(|(claim, plugin)| Some((fit(claim, url)?, plugin)));
    fitting.max_by_key(|(length, _)| *length).map(|(_, plugin)| plugin)
}

/// How closely `SCHEME` or `SCHEME:*SUFFIX` fits a URL. The suffix is that of the path, without query and fragment.
fn fit(claim: &str, url: &str) -> Option<usize> {
    let (scheme, rest) = url.split_once("://")?;
    let (wanted, suffix) = match claim.split_once(":*") {
        Some((wanted, suffix)) => (wanted, suffix),
        None => (claim, ""),
    };
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    (scheme.eq_ignore_ascii_case(wanted) && path.ends_with(suffix)).then_some(suffix.len())
}

/// The plugin that the user's table or the bundled plugins have for a URL.
pub(crate) fn known<'a>(table: &'a BTreeMap<String, String>, url: &str) -> Option<&'a str> {
    let own = table.iter().map(|(claim, plugin)| (claim.as_str(), plugin.as_str()));
    responsible(own, url).or_else(|| responsible(BUNDLED, url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pattern_of_the_nearest_table_wins() {
        let table = BTreeMap::from([("https:*.tgz".to_owned(), "archives".to_owned())]);
        for (url, expected) in [
            ("https://a.example/x.git#main:dir", Some("git")),
            ("HTTPS://a.example/x.git", Some("git")),
            ("https://a.example/x?y=.git", Some("http")),
            ("https://a.example/x.tgz", Some("archives")),
            ("git+https://a.example/x", Some("git")),
            ("ftps://a.example/x", Some("ftp")),
            ("s3://bucket/x", None),
        ] {
            assert_eq!(known(&table, url), expected, "{url}");
        }
    }

    #[test]
    fn urls_are_told_from_paths() {
        assert!(is_url("https://a") && is_url("git+https://a") && is_url("s3://b"));
        assert!(!is_url("./a") && !is_url("/a://b") && !is_url("a:b") && !is_url("://x"));
    }
}
