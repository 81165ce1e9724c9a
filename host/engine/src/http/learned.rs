//! The origins that one call of a registry plugin may reach: the registry itself, and what its answers point at.
//!
//! A registry tells its clients where to fetch tokens (`WWW-Authenticate: Bearer realm=`) and where blobs really are
//! (`Location`), usually on other hosts that no user has ever heard of. So these origins are allowed once an allowed
//! origin has named them, for the rest of the call. The threat is a registry that points at something behind the
//! user's firewall, or at the machine's metadata service: what is learned is therefore held to https and to
//! public addresses, unless the registry itself is as near.

use ::http::{HeaderMap, Method, Response, StatusCode, header};

use super::address::{AddressKind, Reach, is_loopback_host};
use super::client::Peer;
use super::rule::Origin;

/// More origins than any honest registry names in one call.
const MOST: usize = 32;

/// What one call has learned.
#[derive(Debug)]
pub(crate) struct Learned {
    registry: Origin,
    /// What kind of address answers as the registry; none until it has answered, or behind a proxy.
    kind: Option<AddressKind>,
    origins: Vec<Origin>,
}

impl Learned {
    /// Knows the registry, by `host[:port]`; none if that is no host.
    pub fn new(host: &str, plain_http: bool) -> Option<Self> {
        let registry = Origin::of_authority(!plain_http, host)?;
        let kind = is_loopback_host(&registry.host).then_some(AddressKind::Loopback);
        Some(Self { registry, kind, origins: Vec::new() })
    }

    /// Which addresses a request to `origin` may reach; none if the origin is not allowed.
    pub fn reach(&self, origin: &Origin) -> Option<Reach> {
        if *origin == self.registry {
            // The user named it, wherever it is.
            return Some(if is_loopback_host(&origin.host) { Reach::LOOPBACK } else { Reach::NAMED_BY_USER });
        }
        if !self.origins.contains(origin) {
            return None;
        }
        let near = self.kind.unwrap_or(AddressKind::Public);
        Some(match (origin.https, near) {
            (true, AddressKind::Private | AddressKind::Loopback) => Reach::PUBLIC.and(near),
            (true, _) => Reach::PUBLIC,
            (false, _) => Reach::only(near),
        })
    }

    /// Takes note of what an answer of an allowed origin points at.
    pub fn note(&mut self, origin: &Origin, answer: &Response<impl Sized>) {
        if *origin == self.registry
            && let Some(Peer(address)) = answer.extensions().get()
        {
            self.kind = Some(AddressKind::of(*address));
        }
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED {
            for realm in realms(answer.headers()) {
                self.learn(&realm);
            }
        }
        if (status.is_success() || status.is_redirection())
            && let Some(location) = answer.headers().get(header::LOCATION).and_then(|l| l.to_str().ok())
        {
            self.learn(location);
        }
    }

    fn learn(&mut self, url: &str) {
        // A location without a host stays where it is.
        let Some(origin) = url.parse().ok().and_then(|uri| Origin::of(&uri)) else { return };
        let allowed = origin.https || !self.registry.https;
        if allowed && !self.origins.contains(&origin) && self.origins.len() < MOST {
            self.origins.push(origin);
        }
    }
}

/// Where allowed origins have redirected GET and HEAD in one call: a download begins at a place that the user named and
/// ends at one that its server names. That is held to public addresses, and TLS is never given up.
#[derive(Debug, Default)]
pub(crate) struct Redirects(Vec<Origin>);

impl Redirects {
    /// Which addresses a request may reach; none if nobody has pointed there.
    pub fn reach(&self, origin: &Origin, method: &Method) -> Option<Reach> {
        (is_reading(method) && self.0.contains(origin)).then_some(Reach::PUBLIC)
    }

    /// Takes note of where an answer of an allowed origin points.
    pub fn note(&mut self, origin: &Origin, method: &Method, answer: &Response<impl Sized>) {
        if !is_reading(method) || !answer.status().is_redirection() || self.0.len() >= MOST {
            return;
        }
        let location = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
        let Some(target) = location.and_then(|url| url.parse().ok()).and_then(|uri| Origin::of(&uri)) else { return };
        if (target.https || !origin.https) && !self.0.contains(&target) {
            self.0.push(target);
        }
    }
}

fn is_reading(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// The realms of all bearer challenges. One header may hold several challenges, and quoted strings may hold commas.
fn realms(headers: &HeaderMap) -> Vec<String> {
    let mut found = Vec::new();
    for value in headers.get_all(header::WWW_AUTHENTICATE) {
        let Ok(value) = value.to_str() else { continue };
        let mut bearer = false;
        for part in split_quoted(value) {
            let part = part.trim();
            let parameter = match part.split_once(' ') {
                Some((scheme, rest)) if !scheme.contains('=') => {
                    bearer = scheme.eq_ignore_ascii_case("bearer");
                    rest.trim()
                }
                _ => part,
            };
            if bearer
                && let Some((name, value)) = parameter.split_once('=')
                && name.trim().eq_ignore_ascii_case("realm")
            {
                found.push(value.trim().trim_matches('"').replace("\\\"", "\""));
            }
        }
    }
    found
}

fn split_quoted(value: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                parts.push(&value[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&value[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Origin {
        Origin::of(&url.parse().unwrap()).unwrap()
    }

    fn answer(status: u16, headers: &[(&'static str, &str)], peer: Option<&str>) -> Response<()> {
        let mut answer = Response::builder().status(status).body(()).unwrap();
        for (name, value) in headers {
            answer.headers_mut().append(*name, value.parse().unwrap());
        }
        if let Some(peer) = peer {
            answer.extensions_mut().insert(Peer(peer.parse().unwrap()));
        }
        answer
    }

    #[test]
    fn only_the_registry_at_first() {
        let learned = Learned::new("registry.example", false).unwrap();
        assert_eq!(learned.reach(&origin("https://registry.example/v2/")), Some(Reach::NAMED_BY_USER));
        assert_eq!(learned.reach(&origin("http://registry.example/v2/")), None);
        assert_eq!(learned.reach(&origin("https://registry.example:8443/")), None);
        assert_eq!(learned.reach(&origin("https://auth.example/")), None);
    }

    #[test]
    fn realm_and_location_are_learned() {
        let mut learned = Learned::new("registry.example", false).unwrap();
        let registry = origin("https://registry.example");
        let challenge = r#"Basic realm="https://no.example", Bearer realm="https://auth.example/token",service="a,b""#;
        learned.note(&registry, &answer(401, &[("www-authenticate", challenge)], Some("93.184.216.34")));
        learned.note(&registry, &answer(307, &[("location", "https://cdn.example/blob?sig=1")], None));
        learned.note(&registry, &answer(202, &[("location", "/v2/upload/1")], None));
        assert_eq!(learned.reach(&origin("https://auth.example/token")), Some(Reach::PUBLIC));
        assert_eq!(learned.reach(&origin("https://cdn.example/x")), Some(Reach::PUBLIC));
        assert_eq!(learned.reach(&origin("https://no.example/")), None);
        assert_eq!(learned.origins.len(), 2);
    }

    #[test]
    fn other_answers_teach_nothing() {
        let mut learned = Learned::new("registry.example", false).unwrap();
        let registry = origin("https://registry.example");
        let challenge = r#"Bearer realm="https://auth.example/""#;
        learned.note(&registry, &answer(200, &[("www-authenticate", challenge)], None));
        learned.note(&registry, &answer(404, &[("location", "https://cdn.example/")], None));
        assert_eq!(learned.reach(&origin("https://auth.example/")), None);
        assert_eq!(learned.reach(&origin("https://cdn.example/")), None);
    }

    #[test]
    fn tls_is_never_given_up() {
        let mut learned = Learned::new("registry.example", false).unwrap();
        learned.note(&origin("https://registry.example"), &answer(307, &[("location", "http://cdn.example/")], None));
        assert_eq!(learned.reach(&origin("http://cdn.example/")), None);
    }

    #[test]
    fn near_registries_may_point_near() {
        let mut learned = Learned::new("registry.corp.example", false).unwrap();
        let registry = origin("https://registry.corp.example");
        learned.note(&registry, &answer(307, &[("location", "https://minio.corp.example/")], Some("10.0.0.5")));
        assert_eq!(
            learned.reach(&origin("https://minio.corp.example/")),
            Some(Reach::PUBLIC.and(AddressKind::Private))
        );

        let mut local = Learned::new("localhost:5000", true).unwrap();
        local.note(&origin("http://localhost:5000"), &answer(307, &[("location", "http://10.0.0.5/")], None));
        assert_eq!(local.reach(&origin("http://10.0.0.5/")), Some(Reach::LOOPBACK));
    }

    #[test]
    fn redirections_of_reading_requests_lead_to_public_places() {
        let (first, next) = (origin("https://a.example"), origin("https://cdn.example"));
        let to = |url: &str| answer(302, &[("location", url)], None);
        let mut redirects = Redirects::default();
        redirects.note(&first, &Method::POST, &to("https://cdn.example/x"));
        redirects.note(&first, &Method::GET, &answer(200, &[("location", "https://cdn.example/x")], None));
        redirects.note(&first, &Method::GET, &to("http://cdn.example/x"));
        assert_eq!(redirects.reach(&next, &Method::GET), None);
        redirects.note(&first, &Method::GET, &to("https://cdn.example/x"));
        assert_eq!(redirects.reach(&next, &Method::GET), Some(Reach::PUBLIC));
        assert_eq!(redirects.reach(&next, &Method::PUT), None);
    }

    #[test]
    fn the_list_is_bounded() {
        let mut learned = Learned::new("registry.example", false).unwrap();
        for i in 0..100 {
            let url = format!("https://h{i}.example/");
            learned.note(&origin("https://registry.example"), &answer(307, &[("location", &url)], None));
        }
        assert_eq!(learned.origins.len(), MOST);
    }
}
