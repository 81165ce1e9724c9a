//! `http` and `https` URLs, as far as a client needs them: parse, compare origins, resolve a reference. Their paths
//! are kept as they were written.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// An absolute `http` or `https` URL without user information and without fragment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    https: bool,
    authority: String,
    path: String,
    query: Option<String>,
}

impl Url {
    /// Whether it is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// `host` or `host:port`, in lower case, without the scheme's own port.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path; at least `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What follows the `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Path and query, as a request line has them.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// Whether scheme, host and port are the same: only then may credentials go along.
    #[must_use]
    pub fn same_origin(&self, other: &Self) -> bool {
        self.https == other.https && self.authority == other.authority
    }

    /// Adds a parameter to the query; name and value are escaped.
    #[must_use]
    pub fn with_parameter(mut self, name: &str, value: &str) -> Self {
        let query = self.query.get_or_insert_default();
        if !query.is_empty() && !query.ends_with('&') {
            query.push('&');
        }
        query.push_str(&escape(name));
        query.push('=');
        query.push_str(&escape(value));
        self
    }

    /// Resolves a reference, such as the value of a `Location`, against this URL (RFC 3986, section 5.2).
    ///
    /// # Errors
    /// `invalid-input` if the result is no `http` or `https` URL.
    pub fn join(&self, reference: &str) -> Result<Self, Error> {
        let reference = reference.split('#').next().unwrap_or_default();
        let scheme = if self.https { "https:" } else { "http:" };
        let has_scheme = reference.split(['/', '?']).next().is_some_and(|first| first.contains(':'));
        if has_scheme {
            return reference.parse();
        }
        if reference.starts_with("//") {
            return format!("{scheme}{reference}").parse();
        }
        let origin = format!("{scheme}//{}", self.authority);
        if reference.is_empty() {
            return Ok(self.clone());
        }
        if reference.starts_with('?') {
            return format!("{origin}{}{reference}", self.path).parse();
        }
        let (path, query) = match reference.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (reference, String::new()),
        };
        let path = if path.starts_with('/') {
            without_dots(path)
        } else {
            let parent = self.path.rfind('/').map_or("/", |slash| &self.path[..=slash]);
            without_dots(&format!("{parent}{path}"))
        };
        format!("{origin}{path}{query}").parse()
    }
}

impl FromStr for Url {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::invalid_input(format!("{text:?} is no http or https URL: {why}"));
        // What is not allowed in a request line must not get there, or one request could become two.
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(wrong(&format!("it contains {bad:?}")));
        }
        let text = text.split('#').next().unwrap_or_default();
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(wrong("the scheme is another one")),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.contains('@') {
            return Err(wrong("it contains a user name"));
        }
        let (host, port) = split_port(authority).ok_or_else(|| wrong("the port is no number"))?;
        if host.is_empty() || host.contains(['\\', '"', '<', '>']) {
            return Err(wrong("it has no host"));
        }
        let default = if https { 443 } else { 80 };
        let host = host.to_ascii_lowercase();
        let authority = match port {
            Some(port) if port != default => format!("{host}:{port}"),
            _ => host,
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (rest, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { https, authority, path: path.to_owned(), query })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path_and_query())
    }
}

/// Host and port; none if the port is no number. An IPv6 address stands in brackets.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_address = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    match authority[after_address..].find(':') {
        None => Some((authority, None)),
        Some(colon) => {
            let (host, port) = authority.split_at(after_address + colon);
            let port = &port[1..];
            if port.is_empty() {
                return Some((host, None));
            }
            if !port.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            port.parse().ok().map(|port| (host, Some(port)))
        }
    }
}

/// `.` and `..` resolved.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Everything but unreserved characters as `%XX`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn urls_are_normalised_a_little() {
        for (text, expected) in [
            ("HTTPS://Registry.Example:443", "https://registry.example/"),
            ("http://localhost:5000/v2/?n=1", "http://localhost:5000/v2/?n=1"),
            ("http://[::1]:80/x#y", "http://[::1]/x"),
            ("https://h?x=1", "https://h/?x=1"),
            ("https://h:/x", "https://h/x"),
        ] {
            assert_eq!(url(text).to_string(), expected);
        }
    }

    #[test]
    fn what_could_mislead_is_refused() {
        for text in [
            "",
            "h",
            "/v2/",
            "ftp://h/",
            "https://",
            "https:///x",
            "https://user@h/",
            "https://user:pw@h/",
            "https://h:x/",
            "https://h:70000/",
            "https://h/a b",
            "https://h/\r\nx: y",
            "https://h/\u{e9}",
            "https://a\\b/",
            "http://h:+5/",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn references() {
        let base = url("https://h:8443/v2/a/blobs/uploads/?x=1");
        for (reference, expected) in [
            ("/v2/u?state=1", "https://h:8443/v2/u?state=1"),
            ("u/1?s=2", "https://h:8443/v2/a/blobs/uploads/u/1?s=2"),
            ("../../x/./y", "https://h:8443/v2/a/x/y"),
            ("/../../..", "https://h:8443/"),
            ("?y=2", "https://h:8443/v2/a/blobs/uploads/?y=2"),
            ("", "https://h:8443/v2/a/blobs/uploads/?x=1"),
            ("//other/x", "https://other/x"),
            ("http://other:5000/x", "http://other:5000/x"),
            ("/a:b/c?d=https://e", "https://h:8443/a:b/c?d=https://e"),
        ] {
            assert_eq!(base.join(reference).unwrap().to_string(), expected, "{reference}");
        }
        assert!(base.join("javascript:alert(1)").is_err());
    }

    #[test]
    fn origins() {
        assert!(url("https://h/a").same_origin(&url("https://H:443/b")));
        for other in ["http://h/", "https://h:8443/", "https://h.example/"] {
            assert!(!url("https://h/").same_origin(&url(other)), "{other}");
        }
    }

    #[test]
    fn parameters_are_escaped() {
        let url = url("https://h/u?state=1").with_parameter("digest", "sha256:00").with_parameter("a b", "&=");
        assert_eq!(url.to_string(), "https://h/u?state=1&digest=sha256%3A00&a%20b=%26%3D");
    }
}
