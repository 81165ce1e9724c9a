//! Class `tcp`: which hosts and ports a plugin may connect to. The check itself is in `crate::sockets`.

use std::ops::RangeInclusive;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::http::Origin;
use crate::http::address::AddressKind;

use super::{Named, Scope, Side, is_from_parameters, list, some_list, wrong};

/// `host:port`, `host:first-last`, `host:*`; the host a name, an address (IPv6 in brackets) or `*.` and a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpRule {
    /// Name in lower case, address without brackets, or `*.` and a domain.
    pub host: String,
    /// Ports, inclusive.
    pub ports: RangeInclusive<u16>,
}

impl TcpRule {
    /// Whether the rule is about this name or address.
    pub fn matches_host(&self, host: &str) -> bool {
        match self.host.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => self.host == host,
        }
    }

    fn narrower(&self, other: &Self) -> Option<Self> {
        let host = if self.matches_host(&other.host) || self.host == other.host {
            &other.host
        } else if other.matches_host(&self.host) {
            &self.host
        } else {
            return None;
        };
        let ports = *self.ports.start().max(other.ports.start())..=*self.ports.end().min(other.ports.end());
        (!ports.is_empty()).then(|| Self { host: host.clone(), ports })
    }
}

impl FromStr for TcpRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not of the form `host:port`, `host:first-last` or `host:*`");
        let (host, ports) = text.rsplit_once(':').ok_or_else(form)?;
        let ports = match ports.split_once('-') {
            _ if ports == "*" => 1..=u16::MAX,
            Some((first, last)) => first.parse().map_err(|_| form())?..=last.parse().map_err(|_| form())?,
            None => {
                let port = ports.parse().map_err(|_| form())?;
                port..=port
            }
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_ascii_lowercase();
        let name = host.strip_prefix("*.").unwrap_or(&host);
        if name.is_empty() || name.contains(['*', '/', '@']) || ports.is_empty() || *ports.start() == 0 {
            return Err(form());
        }
        if host.starts_with("*.") && !name.contains('.') {
            return Err(format!("`{text}` allows a whole top-level domain"));
        }
        Ok(Self { host, ports })
    }
}

impl std::fmt::Display for TcpRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:", self.host)?
        } else {
            write!(f, "{}:", self.host)?
        }
        match (*self.ports.start(), *self.ports.end()) {
            (1, u16::MAX) => f.write_str("*"),
            (first, last) if first == last => write!(f, "{first}"),
            (first, last) => write!(f, "{first}-{last}"),
        }
    }
}

/// Places that may be connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpScope {
    any: bool,
    rules: Vec<TcpRule>,
    /// The registry that a call is about.
    registry: bool,
    from_parameters: bool,
    /// What the host's policy permits; none if it restricts nothing.
    cap: Option<Box<Self>>,
}

impl TcpScope {
    pub(super) fn named_by_user() -> Self {
        Self { registry: true, from_parameters: true, ..Self::default() }
    }

    /// The allow-list of a call whose parameters name `named`: each `HOST:PORT`, and hosts of URLs that are not HTTP, with
    /// any port, because protocols such as FTP open more connections on ports of the server's choice. The same for the
    /// `host[:port]` of the registry that the call is about.
    pub fn rules(&self, named: &Named, registry: Option<&str>) -> Vec<TcpRule> {
        let rules = self.wanted(named, registry);
        let Some(cap) = &self.cap else { return rules };
        let permitted = cap.wanted(named, registry);
        rules.iter().flat_map(|rule| permitted.iter().filter_map(|most| rule.narrower(most))).collect()
    }

    fn wanted(&self, named: &Named, registry: Option<&str>) -> Vec<TcpRule> {
        let mut rules = self.rules.clone();
        if let Some(registry) = registry.filter(|_| self.registry)
            && let Some(origin) = Origin::of_authority(false, registry)
        {
            let host = origin.host.trim_start_matches('[').trim_end_matches(']').to_owned();
            rules.push(TcpRule { host, ports: 1..=u16::MAX });
        }
        if self.from_parameters {
            let host = |host: &String| host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let names = named.hosts.iter().map(host).filter(|name| !is_link_local(name));
            rules.extend(names.map(|host| TcpRule { host, ports: 1..=u16::MAX }));
            rules.extend(named.endpoints.iter().filter(|rule| !is_link_local(&rule.host)).cloned());
        }
        rules
    }
}

/// Clouds hand out machine credentials there; a flow that means it writes a rule.
fn is_link_local(host: &str) -> bool {
    host.parse().is_ok_and(|address| AddressKind::of(address) == AddressKind::LinkLocal)
}

impl Scope for TcpScope {
    const CLASS: &'static str = "tcp";

    fn parse(value: &Value, side: Side) -> Result<Self, String> {
        let user = side == Side::Allow;
        let mut scope = Self { registry: user, from_parameters: user, ..Self::default() };
        for item in list(value) {
            match item.as_str() {
                Some("*") if side == Side::Allow => return Err("`*` allows nothing; write the hosts".to_owned()),
                Some("*") => scope.any = true,
                Some("registry") => scope.registry = true,
                Some(text) => scope.rules.push(text.parse()?),
                None if is_from_parameters(item) => scope.from_parameters = true,
                None => return Err(wrong(item, "`host:port`, \"registry\" or {\"from\":\"parameters\"}")),
            }
        }
        Ok(scope)
    }

    fn everything() -> Self {
        Self { any: true, rules: Vec::new(), registry: true, from_parameters: true, cap: None }
    }

    fn both(&self, other: &Self) -> Self {
        let pairs = self.rules.iter().flat_map(|mine| other.rules.iter().filter_map(|theirs| mine.narrower(theirs)));
        let mut rules: Vec<TcpRule> = pairs.collect();
        if other.any {
            rules.extend(self.rules.iter().cloned());
        }
        if self.any {
            rules.extend(other.rules.iter().cloned());
        }
        rules.dedup();
        Self {
            any: self.any && other.any,
            rules,
            registry: self.registry && other.registry,
            from_parameters: self.from_parameters && other.from_parameters,
            cap: self.cap.clone(),
        }
    }

    fn capped(&self, policy: &Self) -> Self {
        if policy.any {
            return self.clone();
        }
        let mut capped = self.clone();
        capped.rules.retain(|rule| policy.rules.iter().any(|permitted| rule.narrower(permitted).is_some()));
        Self { cap: Some(Box::new(policy.clone())), ..capped }
    }

    fn missing(&self, granted: &Self) -> Option<Value> {
        let open = |rule: &&TcpRule| !granted.rules.iter().any(|there| rule.narrower(there).is_some());
        let mut items: Vec<Value> = self.rules.iter().filter(open).map(|rule| json!(rule.to_string())).collect();
        if self.any && !granted.any && granted.rules.is_empty() {
            items.push(json!("HOST:PORT"));
        }
        if self.registry && !granted.registry {
            items.push(json!("registry"));
        }
        if self.from_parameters && !granted.from_parameters {
            items.push(json!({ "from": "parameters" }));
        }
        some_list(items)
    }
}
