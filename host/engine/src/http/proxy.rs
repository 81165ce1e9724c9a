//! Which proxy a request goes through, from the values that programs by convention read from `http_proxy`,
//! `https_proxy` and `no_proxy`. Opens no connection.

use std::net::IpAddr;

use base64::Engine as _;

use super::Error;
use super::address::{is_loopback_host, literal};

/// Proxies as the user set them; empty strings count as not set.
#[derive(Debug, Clone, Default)]
pub struct ProxySettings {
    /// For `http` URLs.
    pub http: Option<String>,
    /// For `https` URLs.
    pub https: Option<String>,
    /// Hosts that are reached without: names (with or without a leading dot, subdomains included), addresses,
    /// networks as `10.0.0.0/8`, each with an optional port, `*` for all; separated by commas.
    pub no_proxy: Option<String>,
}

/// One proxy.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Proxy {
    pub host: String,
    pub port: u16,
    /// Value of `Proxy-Authorization`.
    pub authorization: Option<String>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Proxy {
    /// Parses `[http://][user:password@]host[:port]`.
    fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Configuration { what: "proxy".into(), reason: reason.into() };
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                return Err(wrong(&format!("{scheme}:// proxies are not supported, only http:// ones")));
            }
            None => text,
        };
        let authority: ::http::uri::Authority =
            rest.trim_end_matches('/').parse().map_err(|_| wrong("not of the form http://host:port"))?;
        let authorization = authority.as_str().rsplit_once('@').map(|(user, _)| {
            let decoded = percent_decode(user);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(decoded))
        });
        Ok(Self { host: authority.host().to_owned(), port: authority.port_u16().unwrap_or(80), authorization })
    }
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[i], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 3;
            }
            (byte, _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    out
}

/// The settings, parsed.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Vec<Exception>,
}

#[derive(Debug, PartialEq)]
struct Exception {
    what: ExceptionHost,
    port: Option<u16>,
}

#[derive(Debug, PartialEq)]
enum ExceptionHost {
    All,
    Name(String),
    Network(IpAddr, u8),
}

impl Proxies {
    pub fn new(settings: &ProxySettings) -> Result<Self, Error> {
        let proxy = |value: &Option<String>| match value.as_deref().map(str::trim) {
            None | Some("") => Ok(None),
            Some(text) => Proxy::parse(text).map(Some),
        };
        let exceptions = settings.no_proxy.iter().flat_map(|list| list.split(',')).filter_map(Exception::parse);
        Ok(Self { http: proxy(&settings.http)?, https: proxy(&settings.https)?, exceptions: exceptions.collect() })
    }

    /// The proxy for a host. This machine is never reached through one.
    pub fn select(&self, https: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if https { self.https.as_ref() } else { self.http.as_ref() }?;
        let excepted = is_loopback_host(host) || self.exceptions.iter().any(|e| e.matches(host, port));
        (!excepted).then_some(proxy)
    }
}

impl Exception {
    fn parse(item: &str) -> Option<Self> {
        let item = item.trim().to_ascii_lowercase();
        if item.is_empty() {
            return None;
        }
        if item == "*" {
            return Some(Self { what: ExceptionHost::All, port: None });
        }
        if let Some((network, bits)) = item.split_once('/')
            && let (Some(address), Ok(bits)) = (literal(network), bits.parse())
        {
            return Some(Self { what: ExceptionHost::Network(address, bits), port: None });
        }
        let (host, port) = match item.rsplit_once(':') {
            Some((host, port)) if literal(&item).is_none() => (host.to_owned(), Some(port.parse().ok()?)),
            _ => (item, None),
        };
        let what = match literal(&host) {
            Some(address @ IpAddr::V4(_)) => ExceptionHost::Network(address, 32),
            Some(address @ IpAddr::V6(_)) => ExceptionHost::Network(address, 128),
            None => ExceptionHost::Name(host.trim_start_matches("*.").trim_start_matches('.').to_owned()),
        };
        Some(Self { what, port })
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|p| p != port) {
            return false;
        }
        match &self.what {
            ExceptionHost::All => true,
            ExceptionHost::Name(name) => {
                let host = host.to_ascii_lowercase();
                host == *name || host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            ExceptionHost::Network(network, bits) => literal(host).is_some_and(|a| in_network(a, *network, *bits)),
        }
    }
}

fn in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            u32::from(a) & mask == u32::from(n) & mask
        }
        (IpAddr::V6(a), IpAddr::V6(n)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            u128::from(a) & mask == u128::from(n) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(no_proxy: &str) -> Proxies {
        Proxies::new(&ProxySettings {
            http: Some("http://plain.example:3128".into()),
            https: Some("http://al%69ce:s%40t@secure.example:8080/".into()),
            no_proxy: Some(no_proxy.into()),
        })
        .unwrap()
    }

    #[test]
    fn scheme_chooses_the_proxy() {
        let p = proxies("");
        assert_eq!(p.select(false, "a.example", 80).unwrap().host, "plain.example");
        let secure = p.select(true, "a.example", 443).unwrap();
        assert_eq!((secure.host.as_str(), secure.port), ("secure.example", 8080));
        // base64 of "alice:s@t"
        assert_eq!(secure.authorization.as_deref(), Some("Basic YWxpY2U6c0B0"));
        assert_eq!(format!("{secure:?}"), "secure.example:8080");
    }

    #[test]
    fn exceptions_are_matched() {
        let p = proxies("corp.example, .other.example, 10.0.0.0/8, 192.0.2.1, only.example:8443, fd00::/8");
        let direct = |host: &str, port| p.select(true, host, port).is_none();
        assert!(direct("corp.example", 443) && direct("a.b.CORP.example", 443));
        assert!(direct("x.other.example", 443));
        assert!(!direct("xcorp.example", 443));
        assert!(direct("10.200.1.1", 443) && !direct("11.0.0.1", 443));
        assert!(direct("192.0.2.1", 443) && !direct("192.0.2.2", 443));
        assert!(direct("only.example", 8443) && !direct("only.example", 443));
        assert!(direct("[fd12::1]", 443));
        assert!(direct("localhost", 443) && direct("127.0.0.1", 443));
        assert!(proxies("*").select(false, "x.example", 80).is_none());
    }

    #[test]
    fn unusable_proxies_are_refused() {
        let settings = ProxySettings { https: Some("socks5://x:1".into()), ..Default::default() };
        assert!(Proxies::new(&settings).unwrap_err().to_string().contains("socks5"));
        let empty = ProxySettings { https: Some(String::new()), ..Default::default() };
        assert!(Proxies::new(&empty).unwrap().select(true, "a.example", 443).is_none());
    }
}
