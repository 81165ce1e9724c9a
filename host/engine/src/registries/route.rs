//! The user's routing table: from the name of an image to the registry that has it and the plugin that speaks to it.
//! Opens no connection.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cooperage_store::Reference;

use crate::http::address::is_loopback_host;
use crate::http::{HostCertificates, Origin};

/// The registry plugin for everything that says nothing else.
pub const DEFAULT_PLUGIN: &str = "oci";
/// The host in names of Docker Hub.
pub(super) const HUB_NAME: &str = "docker.io";
/// Where Docker Hub's registry really is.
pub(super) const HUB: &str = "registry-1.docker.io";

/// Names that begin with `prefix` live at `location`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Beginning of names, in whole components: `company` (of Docker Hub), `registry.example/team`. Empty is every name.
    pub prefix: String,
    /// `host[:port][/path]` that takes the place of the prefix; empty leaves the name as it is.
    pub location: String,
    /// The registry plugin; none is the general one.
    pub plugin: Option<String>,
    /// Whether to do without TLS; none decides by the host.
    pub plain_http: Option<bool>,
    /// PEM file with an authority to trust at the location.
    pub ca: Option<PathBuf>,
    /// Settings for the plugin.
    pub options: Vec<(String, String)>,
}

/// Where images come from and go to.
#[derive(Debug, Clone, Default)]
pub struct Routing {
    /// For pulling; the longest prefix wins.
    pub pull: Vec<Route>,
    /// For pushing; the longest prefix wins.
    pub push: Vec<Route>,
    /// Hosts (`host` or `host:port`) that are reached without TLS, beside loopback.
    pub insecure: Vec<String>,
    /// Loopback hosts (`host` or `host:port`) that are reached with TLS all the same.
    pub secure: Vec<String>,
    /// Directories like Docker's `certs.d`: a loopback host with certificates in one of them is reached with TLS.
    pub certificate_directories: Vec<PathBuf>,
}

/// Where one image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Name of the registry plugin.
    pub plugin: String,
    /// `host` or `host:port` to connect to.
    pub host: String,
    /// Path below the host.
    pub repository: String,
    /// Without TLS.
    pub plain_http: bool,
    /// Settings for the plugin.
    pub options: Vec<(String, String)>,
}

impl Routing {
    /// Where an image is pulled from.
    pub fn for_pull(&self, name: &Reference) -> Destination {
        self.destination(&self.pull, name.host(), name.repository())
    }

    /// Where an image is pushed to.
    pub fn for_push(&self, name: &Reference) -> Destination {
        self.destination(&self.push, name.host(), name.repository())
    }

    /// Where a host leads, for logging in: of the routes only those of the whole host count, and none to elsewhere.
    pub fn for_host(&self, host: &str) -> Destination {
        let own = self.push.iter().chain(&self.pull).find(|route| route.prefix == host && route.location.is_empty());
        let plain = self.destination(&[], host, "");
        match own {
            Some(Route { plugin, options, .. }) => {
                let plugin = plugin.clone().unwrap_or_else(|| plain.plugin.clone());
                Destination { plugin, options: options.clone(), ..plain }
            }
            None => plain,
        }
    }

    /// The authorities that routes name, by host, for the HTTP client.
    pub fn certificates(&self) -> BTreeMap<String, HostCertificates> {
        let mut all = BTreeMap::<String, HostCertificates>::new();
        for route in self.pull.iter().chain(&self.push) {
            let host = if route.location.is_empty() { &route.prefix } else { &route.location };
            let host = host.split('/').next().unwrap_or_default();
            if let Some(ca) = &route.ca {
                all.entry(host.to_owned()).or_default().authorities.push(ca.clone());
            }
        }
        all
    }

    fn destination(&self, routes: &[Route], host: &str, repository: &str) -> Destination {
        let path = format!("{host}/{repository}");
        let matching = routes.iter().filter_map(|route| Some((route, below(&path, &full_prefix(&route.prefix))?)));
        let best = matching.max_by_key(|(route, _)| full_prefix(&route.prefix).len());
        let place = match best {
            Some((Route { location, .. }, rest)) if !location.is_empty() => {
                // A route for every name keeps the path, and drops the host that it replaces.
                let rest = if best.is_some_and(|(route, _)| route.prefix.is_empty()) { repository } else { rest };
                [location.trim_end_matches('/'), rest]
                    .iter()
                    .filter(|p| !p.is_empty())
                    .copied()
                    .collect::<Vec<_>>()
                    .join("/")
            }
            _ => path.clone(),
        };
        let (host, repository) = place.split_once('/').unwrap_or((place.as_str(), ""));
        let host = if host == HUB_NAME { HUB } else { host };
        let route = best.map(|(route, _)| route);
        Destination {
            plugin: route.and_then(|r| r.plugin.clone()).unwrap_or_else(|| DEFAULT_PLUGIN.to_owned()),
            host: host.to_owned(),
            repository: repository.to_owned(),
            plain_http: route.and_then(|r| r.plain_http).unwrap_or_else(|| self.plain_http(host)),
            options: route.map(|r| r.options.clone()).unwrap_or_default(),
        }
    }

    /// Docker reaches loopback without TLS unless told otherwise, and everybody's test registries rely on it.
    fn plain_http(&self, host: &str) -> bool {
        let Some(origin) = Origin::of_authority(false, host) else { return false };
        let listed = |list: &[String]| list.iter().any(|entry| *entry == host || *entry == origin.host);
        let certified =
            || self.certificate_directories.iter().any(|d| d.join(host).is_dir() || d.join(&origin.host).is_dir());
        listed(&self.insecure) || is_loopback_host(&origin.host) && !listed(&self.secure) && !certified()
    }
}

/// A prefix without a host means Docker Hub, as a name does.
fn full_prefix(prefix: &str) -> String {
    let prefix = prefix.trim_end_matches(['*', '/']);
    let first = prefix.split('/').next().unwrap_or_default();
    if prefix.is_empty() || first.contains(['.', ':']) || first == "localhost" {
        prefix.to_owned()
    } else {
        format!("{HUB_NAME}/{prefix}")
    }
}

/// What of `path` comes below `prefix`; none if it is not below in whole components.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(prefix)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefix: &str, location: &str) -> Route {
        Route { prefix: prefix.into(), location: location.into(), ..Default::default() }
    }

    #[track_caller]
    fn check(routing: &Routing, name: &str, expected: &str) {
        let d = routing.for_pull(&name.parse().unwrap());
        let scheme = if d.plain_http { "http" } else { "https" };
        assert_eq!(format!("{} {scheme}://{}/{}", d.plugin, d.host, d.repository), expected, "{name}");
    }

    #[test]
    fn without_routes() {
        let routing = Routing { insecure: vec!["plain.example:5000".into(), "10.0.0.1".into()], ..Default::default() };
        check(&routing, "busybox", "oci https://registry-1.docker.io/library/busybox");
        check(&routing, "r.example/a/b:1", "oci https://r.example/a/b");
        check(&routing, "localhost:5000/a", "oci http://localhost:5000/a");
        check(&routing, "127.0.0.2/a", "oci http://127.0.0.2/a");
        check(&routing, "plain.example:5000/a", "oci http://plain.example:5000/a");
        check(&routing, "plain.example/a", "oci https://plain.example/a");
        check(&routing, "10.0.0.1:8080/a", "oci http://10.0.0.1:8080/a");
        let secure = Routing { secure: vec!["localhost:5443".into()], ..Default::default() };
        check(&secure, "localhost:5443/a", "oci https://localhost:5443/a");
        check(&secure, "localhost:5000/a", "oci http://localhost:5000/a");
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("localhost:5443")).unwrap();
        let certified = Routing { certificate_directories: vec![directory.path().into()], ..Default::default() };
        check(&certified, "localhost:5443/a", "oci https://localhost:5443/a");
        check(&certified, "localhost:5000/a", "oci http://localhost:5000/a");
    }

    #[test]
    fn the_longest_prefix_wins() {
        let routing = Routing {
            pull: vec![
                route("company", "registry.company.example"),
                route("company/secret/", "vault.example/x/"),
                Route { plugin: Some("layout".into()), ..route("files.example", "") },
                Route { plain_http: Some(true), ..route("mirror.example", "10.0.0.1:5000/mirror") },
            ],
            ..Default::default()
        };
        check(&routing, "company/os:1", "oci https://registry.company.example/os");
        check(&routing, "company/secret/a", "oci https://vault.example/x/a");
        check(&routing, "companyx/os", "oci https://registry-1.docker.io/companyx/os");
        check(&routing, "files.example/a", "layout https://files.example/a");
        check(&routing, "mirror.example/a/b", "oci http://10.0.0.1:5000/mirror/a/b");
        let all =
            Routing { pull: vec![route("", "cache.example"), route("r.example", "r.example")], ..Default::default() };
        check(&all, "company/os", "oci https://cache.example/company/os");
        check(&all, "r.example/os", "oci https://r.example/os");
    }

    #[test]
    fn routes_bring_authorities() {
        let routing = Routing {
            push: vec![Route { ca: Some("ca.pem".into()), ..route("a", "r.example:5000/a") }],
            ..Default::default()
        };
        assert_eq!(routing.certificates()["r.example:5000"].authorities, [PathBuf::from("ca.pem")]);
    }
}
