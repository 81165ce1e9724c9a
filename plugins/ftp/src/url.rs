//! `ftp`, `ftps` and `ftpes` URLs (RFC 1738, section 3.2): server, user name and path. It does not connect.

use cooperage_sdk::{Error, Result};

use crate::paths;
use crate::server::{Tls, authority, port};

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Name or address.
    pub host: String,
    /// Port of the control connection; by default that of the scheme.
    pub port: Option<u16>,
    /// What the scheme says of TLS: `ftp` leaves it open.
    pub tls: Option<Tls>,
    /// User name.
    pub username: Option<String>,
    /// The path without its first slash, decoded: what begins with a slash is absolute on the server, all else lies
    /// below the directory that the user is in after the login.
    pub path: String,
}

impl Url {
    /// The port and the protection that are meant, with what the parameters say of TLS.
    ///
    /// # Errors
    /// `invalid-input` if scheme and parameter contradict each other.
    pub fn protection(&self, wanted: Option<Tls>) -> Result<(u16, Tls)> {
        let tls = match (self.tls, wanted) {
            (Some(scheme), Some(wanted)) if scheme != wanted => {
                return Err(Error::invalid_input("the scheme of the URL and `tls` contradict each other")
                    .hint("`ftps` is implicit TLS and `ftpes` explicit TLS; with `ftp`, `tls` decides"));
            }
            (scheme, wanted) => scheme.or(wanted).unwrap_or(Tls::None),
        };
        Ok((self.port.unwrap_or(port(tls)), tls))
    }

    /// Whether the path means a directory: it ends in a slash, or there is none.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.path.is_empty() || self.path.ends_with('/')
    }
}

impl std::str::FromStr for Url {
    type Err = Error;

    /// No message shows more of the URL than a password cannot be part of.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| Err(Error::invalid_input(format!("the URL is no FTP URL: {why}")));
        if let Some(bad) = text.chars().find(|c| c.is_control() || *c == ' ') {
            return wrong(&format!("it contains {bad:?}"));
        }
        let Some((scheme, rest)) = text.split_once("://") else { return wrong("it has no scheme") };
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "ftp" => None,
            "ftps" => Some(Tls::Implicit),
            "ftpes" => Some(Tls::Explicit),
            _ => return wrong("its scheme is none of ftp, ftps and ftpes"),
        };
        if rest.contains(['?', '#']) {
            return wrong("it has a query or a fragment; write `%3F` and `%23` for these characters in a path");
        }
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = match place.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, place),
        };
        // A password with a slash in it ends the place early, and then no port follows the colon.
        let host = authority(place);
        let cut = (host.is_err() || place.ends_with(':')) && path.contains('@');
        if cut || user.is_some_and(|user| user.contains(':')) {
            return Err(Error::invalid_input("the URL contains a password")
                .hint("name a secret instead: `password: { secret: NAME }`"));
        }
        let (host, port) = match host {
            Ok(host) => host,
            Err(why) => return wrong(why),
        };
        let username = user.map(decoded).transpose()?.filter(|user| !user.is_empty());
        if path.contains(";type=") {
            return wrong("it says a type of transfer; use `mode`");
        }
        // `//x` and `/%2Fx` both mean `/x` on the server, as browsers and curl read them.
        let path = decoded(path)?;
        paths::check(path.strip_prefix('/').unwrap_or(&path))?;
        Ok(Self { host, port, tls, username, path })
    }
}

/// `%XX` replaced.
fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = after.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        let value = digits.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        let value = value.ok_or_else(|| Error::invalid_input("the URL has a `%` without two hexadecimal digits"))?;
        bytes.push(value);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid_input("the URL is not UTF-8 when decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Expected<'e> = Option<(&'e str, Option<u16>, Option<Tls>, Option<&'e str>, &'e str)>;

    #[track_caller]
    fn check(text: &str, expected: Expected) {
        let found: Option<Url> = text.parse().ok();
        let expected = expected.map(|(host, port, tls, user, path)| Url {
            host: host.into(),
            port,
            tls,
            username: user.map(Into::into),
            path: path.into(),
        });
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn urls() {
        check("ftp://a", Some(("a", None, None, None, "")));
        check("FTP://A/", Some(("a", None, None, None, "")));
        check("ftp://a/b/c.txt", Some(("a", None, None, None, "b/c.txt")));
        check("ftps://u@a:990/b/", Some(("a", Some(990), Some(Tls::Implicit), Some("u"), "b/")));
        check("ftpes://u%40d@a/", Some(("a", None, Some(Tls::Explicit), Some("u@d"), "")));
        check("ftp://u@d@a/", Some(("a", None, None, Some("u@d"), "")));
        check("ftp://a//etc/x", Some(("a", None, None, None, "/etc/x")));
        check("ftp://a/%2Fetc/x%20y", Some(("a", None, None, None, "/etc/x y")));
        check("ftp://[::1]:21/x", Some(("::1", Some(21), None, None, "x")));
    }

    #[test]
    fn what_is_no_ftp_url() {
        for text in [
            "a",
            "http://a/",
            "ftp:///x",
            "ftp://u:p@a/",
            "ftp://a/x%0d%0aDELE%20y",
            "ftp://a/x%00",
            "ftp://a/x\r\nDELE y",
            "ftp://a/../x",
            "ftp://a/x/%2e%2e/y",
            "ftp://a/x?y",
            "ftp://a/x#y",
            "ftp://a/%zz",
            "ftp://a/%+1",
            "ftp://a/%ff",
            "ftp://a/x;type=a",
            "ftp://a:b/",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn passwords_are_not_repeated() {
        for (text, says) in [
            ("ftp://u:geheim@a/", "contains a password"),
            ("ftp://u:geheim/x@a/", "contains a password"),
            ("ftp://u:1geheim/@a/", "contains a password"),
            ("ftp://u:/geheim@a/", "contains a password"),
            ("ftp://u:geheim", "no FTP URL"),
            ("ftp://u:geheim/x", "no FTP URL"),
        ] {
            let error = text.parse::<Url>().unwrap_err();
            assert!(error.message.contains(says), "{text}: {}", error.message);
            assert!(!format!("{error:?}").contains("geheim"), "{error:?}");
        }
        assert!("ftp://a:21/@scope/x".parse::<Url>().is_ok(), "what follows a port is a path");
    }

    #[test]
    fn scheme_and_parameter_agree() {
        let of = |text: &str, wanted| text.parse::<Url>().unwrap().protection(wanted).ok();
        assert_eq!(of("ftp://a", None), Some((21, Tls::None)));
        assert_eq!(of("ftp://a", Some(Tls::Implicit)), Some((990, Tls::Implicit)));
        assert_eq!(of("ftp://a:5", Some(Tls::Explicit)), Some((5, Tls::Explicit)));
        assert_eq!(of("ftps://a", Some(Tls::None)), None);
        assert_eq!(of("ftpes://a", Some(Tls::Explicit)), Some((21, Tls::Explicit)));
    }
}
