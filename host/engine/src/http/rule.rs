//! One line of an allow-list: which requests to which origin. Knows nothing of plugins or connections.

use std::net::IpAddr;
use std::str::FromStr;

use ::http::{Method, Uri};
use serde::{Deserialize, Deserializer};

use super::address::{AddressKind, Reach, is_loopback_host, literal};

/// Scheme, host and port of a URL, the host in lower case, the port always there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// TLS or not.
    pub https: bool,
    /// Name or address; IPv6 in brackets.
    pub host: String,
    /// Port, the scheme's own if the URL has none.
    pub port: u16,
}

impl Origin {
    /// The origin of an absolute `http` or `https` URL, or none. A URL with a user in it has none: `https://good@evil`
    /// reads like one host and means another.
    pub fn of(uri: &Uri) -> Option<Self> {
        let https = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        Self::new(https, authority.host(), uri.port_u16())
    }

    /// The origin of `host[:port]`.
    pub fn of_authority(https: bool, authority: &str) -> Option<Self> {
        let authority: ::http::uri::Authority = authority.parse().ok()?;
        Self::new(https, authority.host(), authority.port_u16())
    }

    fn new(https: bool, host: &str, port: Option<u16>) -> Option<Self> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        // One address has many texts: `[::1]` and `[0:0:0:0:0:0:0:1]` are the same.
        let host = literal(&host).filter(IpAddr::is_ipv6).map_or(host, |address| format!("[{address}]"));
        let port = port.unwrap_or(if https { 443 } else { 80 });
        (!host.is_empty()).then_some(Self { https, host, port })
    }

    /// What a `Host` header says: the port only if it is not the scheme's own.
    pub fn host_header(&self) -> String {
        let text = self.to_string();
        text.split_once("://").map_or_else(String::new, |(_, host)| host.to_owned())
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl std::fmt::Display for Origin {
    /// As in a URL, without the scheme's own port.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (scheme, own) = if self.https { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == own { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Requests that are allowed.
///
/// As text: `[METHOD[,METHOD...] ]URL`, for instance `https://chat.example`, `GET,HEAD https://api.example:8443/v1/**`.
/// The host may be `*.example.com` (any name below, not `example.com` itself). In the path `*` stands for characters
/// other than `/`, `**` for any; no path, or `/`, is every path. As JSON or YAML also
/// `{ "url": ..., "methods": [...], "local": true }`; `local` admits private and loopback addresses behind a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Scheme, host (or `*.` and a suffix) and port.
    pub origin: Origin,
    /// Methods allowed; empty is any.
    pub methods: Vec<String>,
    /// Pattern of the path; none is any.
    pub path: Option<String>,
    /// Whether the name may lead to a private or loopback address.
    pub local: bool,
}

impl Rule {
    /// Whether the rule allows the request.
    pub fn allows(&self, origin: &Origin, method: &Method, path: &str) -> bool {
        self.matches_origin(origin) && allows_path(&self.methods, self.path.as_deref(), method, path)
    }

    /// Whether the rule is about this origin at all.
    pub fn matches_origin(&self, origin: &Origin) -> bool {
        let host = match self.origin.host.strip_prefix('*') {
            Some(suffix) => origin.host.len() > suffix.len() && origin.host.ends_with(suffix),
            None => self.origin.host == origin.host,
        };
        host && self.origin.https == origin.https && self.origin.port == origin.port
    }

    /// Which addresses a connection made under this rule may reach: a granted name leads to public ones; an
    /// address leads to itself and a loopback name to loopback, because whoever grants them has named them.
    pub fn reach(&self) -> Reach {
        let host = &self.origin.host;
        if let Some(address) = literal(host) {
            Reach::only(AddressKind::of(address))
        } else if is_loopback_host(host) {
            Reach::LOOPBACK
        } else if self.local {
            Reach::NAMED_BY_USER
        } else {
            Reach::PUBLIC
        }
    }
}

/// Whether a list of methods and a pattern allow a request; both empty allow all.
pub(crate) fn allows_path(methods: &[String], pattern: Option<&str>, method: &Method, path: &str) -> bool {
    let method = methods.is_empty() || methods.iter().any(|m| m == method.as_str());
    // A server may resolve `..` and decode `%2f` after we have compared, so such a path matches no pattern.
    method && pattern.is_none_or(|pattern| !is_evasive(path) && matches(pattern.as_bytes(), path.as_bytes()))
}

fn is_evasive(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    // `%25` begins what is encoded twice; what follows a `;` some servers cut off before they look at the dots.
    let encoded = ["%2e", "%2f", "%5c", "%00", "%25"].iter().any(|code| lower.contains(code));
    let dots = |part: &str| matches!(part.split(';').next(), Some(".." | "."));
    encoded || path.contains('\\') || path.contains("//") || path.split('/').any(dots)
}

/// Glob: `**` any characters, `*` any but `/`. Iterative with one point of return, so linear in practice and never
/// exponential.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut single: Option<(usize, usize)> = None;
    let mut double: Option<(usize, usize)> = None;
    loop {
        if pattern[p..].starts_with(b"**") {
            p += 2;
            double = Some((p, t));
            single = None;
            continue;
        }
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            single = Some((p, t));
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        if t < text.len() && pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
            continue;
        }
        if let Some((back, from)) = single
            && from < text.len()
            && text[from] != b'/'
        {
            single = Some((back, from + 1));
            (p, t) = (back, from + 1);
        } else if let Some((back, from)) = double
            && from < text.len()
        {
            double = Some((back, from + 1));
            single = None;
            (p, t) = (back, from + 1);
        } else {
            return false;
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (methods, url) = match text.rsplit_once(char::is_whitespace) {
            Some((methods, url)) => (methods.split([',', ' ']).filter(|m| !m.is_empty()).collect(), url),
            None => (Vec::new(), text),
        };
        let wrong = || format!("`{text}` is not of the form `https://host[:port][/path]`");
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let https = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let origin = match authority.strip_prefix("*.") {
            Some(below) if below.contains('.') => {
                let origin = Origin::of_authority(https, below).ok_or_else(wrong)?;
                Origin { host: format!("*.{}", origin.host), ..origin }
            }
            Some(_) => return Err(format!("`{text}` allows a whole top-level domain")),
            None if authority.contains(['*', '@']) => return Err(wrong()),
            None => Origin::of_authority(https, authority).ok_or_else(wrong)?,
        };
        let methods = methods.into_iter().map(str::to_ascii_uppercase).collect();
        let path = (!matches!(path, "" | "/")).then(|| path.to_owned());
        Ok(Self { origin, methods, path, local: false })
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.methods.is_empty() {
            write!(f, "{} ", self.methods.join(","))?;
        }
        write!(f, "{}{}", self.origin, self.path.as_deref().unwrap_or(""))
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Record(Record),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Record {
            url: String,
            #[serde(default)]
            methods: Vec<String>,
            #[serde(default)]
            local: bool,
        }
        let rule = match Form::deserialize(deserializer)? {
            Form::Text(text) => text.parse(),
            Form::Record(record) => record.url.parse().map(|rule: Self| Self {
                methods: if record.methods.is_empty() { rule.methods.clone() } else { record.methods },
                local: record.local,
                ..rule
            }),
        };
        rule.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rule: &str, method: &str, url: &str) -> bool {
        let uri: Uri = url.parse().unwrap();
        let rule: Rule = rule.parse().unwrap();
        rule.allows(&Origin::of(&uri).unwrap(), &method.parse().unwrap(), uri.path())
    }

    #[test]
    fn scheme_host_and_port_must_agree() {
        assert!(allows("https://a.example", "POST", "https://A.example./x?y"));
        assert!(allows("https://a.example", "GET", "https://a.example:443/"));
        assert!(!allows("https://a.example", "GET", "http://a.example/"));
        assert!(!allows("https://a.example", "GET", "https://a.example:8443/"));
        assert!(!allows("https://a.example", "GET", "https://b.a.example/"));
        assert!(!allows("https://a.example", "GET", "https://xa.example/"));
        assert!(allows("http://[::1]:5000", "GET", "http://[::1]:5000/"));
    }

    #[test]
    fn users_hide_no_host() {
        assert_eq!(Origin::of(&"https://a.example@evil.example/".parse().unwrap()), None);
        let origin = Origin::of(&"https://A.example:443/".parse().unwrap()).unwrap();
        assert_eq!(origin.host_header(), "a.example");
        assert_eq!(Origin::of_authority(false, "[::1]:5000").unwrap().host_header(), "[::1]:5000");
    }

    #[test]
    fn one_address_has_many_texts() {
        for (rule, url, expected) in [
            ("http://[::1]:5000", "http://[0:0:0:0:0:0:0:1]:5000/", true),
            ("http://[0:0::1]:5000", "http://[::1]:5000/", true),
            ("http://[2001:DB8::A]", "http://[2001:db8:0:0::a]/", true),
            // What carries an IPv4 address is another text of the same machine, and needs a grant of its own.
            ("http://127.0.0.1", "http://[::ffff:127.0.0.1]/", false),
            ("http://127.0.0.1", "http://[::ffff:7f00:1]/", false),
            ("http://127.0.0.1", "http://127.1/", false),
            ("http://127.0.0.1", "http://2130706433/", false),
            ("http://127.0.0.1", "http://0x7f.0.0.1/", false),
            ("http://127.0.0.1", "http://127.0.0.1./", true),
            ("http://127.0.0.1", "http://localhost/", false),
        ] {
            assert_eq!(allows(rule, "GET", url), expected, "{rule} {url}");
        }
        let kind = |url: &str| url.parse::<Rule>().unwrap().reach();
        assert_eq!(kind("http://[::ffff:10.0.0.1]"), Reach::only(AddressKind::Private));
        assert_eq!(kind("http://[64:ff9b::a9fe:a9fe]"), Reach::only(AddressKind::LinkLocal));
        for zoned in ["http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/"] {
            let origin = zoned.parse::<Uri>().ok().and_then(|uri| Origin::of(&uri));
            assert!(
                origin.is_none_or(|origin| literal(&origin.host).is_none()),
                "{zoned}: a zone is no part of a grant"
            );
            assert!(zoned.parse::<Rule>().map_or(true, |rule| rule.reach() == Reach::PUBLIC), "{zoned}");
        }
    }

    #[test]
    fn names_are_what_is_asked_for_in_dns() {
        assert!("https://b\u{fc}cher.example".parse::<Rule>().is_err(), "only as it is sent: xn--");
        assert!(allows("https://xn--bcher-kva.example", "GET", "https://XN--BCHER-KVA.example/"));
        for (rule, url) in [
            ("https://a.example", "https://a.example../"),
            ("https://a.example", "https://a.example.evil.example/"),
            ("https://a.example", "https://a-example/"),
            ("https://*.a.example", "https://.a.example/"),
            ("https://*.a.example", "https://a.example.evil.example/"),
        ] {
            let origin = url.parse::<Uri>().ok().and_then(|uri| Origin::of(&uri));
            let allowed = origin.is_some_and(|origin| rule.parse::<Rule>().unwrap().matches_origin(&origin));
            assert!(!allowed, "{rule} {url}");
        }
    }

    #[test]
    fn wildcards_need_a_domain() {
        assert!(allows("https://*.a.example", "GET", "https://x.y.a.example/"));
        assert!(!allows("https://*.a.example", "GET", "https://a.example/"));
        assert!(!allows("https://*.a.example", "GET", "https://xa.example/"));
        assert!("https://*.com".parse::<Rule>().is_err());
        assert!("https://*".parse::<Rule>().is_err());
        assert!("https://user@a.example".parse::<Rule>().is_err());
        assert!("ftp://a.example".parse::<Rule>().is_err());
        assert!("a.example".parse::<Rule>().is_err());
    }

    #[test]
    fn methods_and_paths_narrow() {
        let rule = "GET,head https://a.example/v1/*/images/**";
        assert!(allows(rule, "GET", "https://a.example/v1/x/images/a/b"));
        assert!(allows(rule, "HEAD", "https://a.example/v1/x/images/"));
        assert!(!allows(rule, "POST", "https://a.example/v1/x/images/a"));
        assert!(!allows(rule, "GET", "https://a.example/v1/x/y/images/a"));
        assert!(!allows(rule, "GET", "https://a.example/v2/x/images/a"));
        assert!(allows("https://a.example/**/z", "GET", "https://a.example/a/b/z/z"));
        assert!(!allows("https://a.example/a*c", "GET", "https://a.example/ab/c"));
        for evasive in [
            "/v1/x/images/../../admin",
            "/v1/x/images/./a",
            "/v1/x/images/..",
            "/v1/x/images/%2e%2e/admin",
            "/v1/x/images/%2E./admin",
            "/v1/x/images/%252e%252e/admin",
            "/v1/x/images/a%2Fb",
            "/v1/x/images/a%252fb",
            "/v1/x/images/a%5c..",
            "/v1/x/images/a%00",
            "/v1/x/images//b",
            "/v1/x/images/..;/admin",
            "/v1/x/images/..;a=b/admin",
            "/V1/x/images/a",
            "//v1/x/images/a",
        ] {
            assert!(!allows(rule, "GET", &format!("https://a.example{evasive}")), "{evasive}");
        }
    }

    #[test]
    fn rules_are_read_from_data() {
        let rule: Rule =
            serde_json::from_str(r#"{"url":"http://api.corp.example:8080","methods":["GET"],"local":true}"#).unwrap();
        assert_eq!(rule.reach(), Reach::NAMED_BY_USER);
        assert_eq!(rule.to_string(), "GET http://api.corp.example:8080");
        let rule: Rule = serde_json::from_str(r#""https://a.example/x/*""#).unwrap();
        assert_eq!(rule.to_string(), "https://a.example/x/*");
        assert!(serde_json::from_str::<Rule>(r#"{"url":"https://a.example","lokal":true}"#).is_err());
    }

    #[test]
    fn names_reach_public_addresses_only() {
        let reach = |rule: &str| rule.parse::<Rule>().unwrap().reach();
        assert_eq!(reach("https://a.example"), Reach::PUBLIC);
        assert_eq!(reach("http://localhost:1"), Reach::LOOPBACK);
        assert_eq!(reach("http://10.0.0.1"), Reach::only(AddressKind::Private));
        assert_eq!(reach("http://169.254.169.254"), Reach::only(AddressKind::LinkLocal));
    }
}
