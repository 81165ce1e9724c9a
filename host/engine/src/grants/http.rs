//! Class `http`: which origins, methods and paths a plugin may reach. The check itself is in `crate::http`.

use serde_json::{Value, json};

use super::{Named, Scope, Side, is_from_parameters, list, some_list, wrong};
use crate::http::address::AddressKind;
use crate::http::{Origin, Rule};
use crate::pattern::overlap;

/// Places that may be reached by HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpScope {
    /// Written `*`: in a request, whatever the user allows; it allows nothing by itself.
    any: bool,
    rules: Vec<Rule>,
    /// The registry that a call is about, and what its answers point at.
    registry: bool,
    /// Where answers to GET and HEAD redirect.
    redirects: bool,
    from_parameters: bool,
    /// What the host's policy permits; none if it restricts nothing.
    cap: Option<Box<Self>>,
}

/// What the host's policy permits of the requests of one call, whatever else allows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpCap {
    /// The places.
    pub rules: Vec<Rule>,
    /// Whether the registry of the call, and what it points at, need not be among them.
    pub registry: bool,
    /// Whether the targets of redirections need not be among them.
    pub redirects: bool,
}

impl HttpScope {
    pub(super) fn named_by_user() -> Self {
        Self { registry: true, redirects: true, from_parameters: true, ..Self::default() }
    }

    /// Whether a registry plugin may reach the registry of the call.
    pub fn registry(&self) -> bool {
        self.registry
    }

    /// Whether redirections may be followed to public places that nobody has named.
    pub fn redirects(&self) -> bool {
        self.redirects
    }

    /// The allow-list of a call whose parameters name `named`.
    pub fn rules(&self, named: &Named) -> Vec<Rule> {
        let mut rules = self.rules.clone();
        if self.from_parameters {
            rules.extend(parameters(named));
        }
        rules
    }

    /// What the host's policy permits of a call whose parameters name `named`.
    pub fn cap(&self, named: &Named) -> Option<HttpCap> {
        let cap = self.cap.as_deref()?;
        Some(HttpCap { rules: cap.rules(named), registry: cap.registry, redirects: cap.redirects })
    }
}

fn parameters(named: &Named) -> impl Iterator<Item = Rule> {
    named.origins.iter().filter(|origin| !is_link_local(origin)).map(rule_of)
}

fn rule_of(origin: &Origin) -> Rule {
    Rule { origin: origin.clone(), methods: Vec::new(), path: None, local: false }
}

/// Clouds hand out machine credentials there; a flow that means it writes a rule.
fn is_link_local(origin: &Origin) -> bool {
    let host = origin.host.trim_start_matches('[').trim_end_matches(']');
    host.parse().is_ok_and(|address| AddressKind::of(address) == AddressKind::LinkLocal)
}

impl Scope for HttpScope {
    const CLASS: &'static str = "http";

    fn parse(value: &Value, side: Side) -> Result<Self, String> {
        // What the user names elsewhere the user has allowed; a policy means what it says.
        let user = side == Side::Allow;
        let mut scope = Self { registry: user, redirects: user, from_parameters: user, ..Self::default() };
        for item in list(value) {
            match item.as_str() {
                Some("*") if side == Side::Allow => return Err("`*` allows nothing; write the hosts".to_owned()),
                Some("*") => scope.any = true,
                Some("registry") => scope.registry = true,
                Some("redirects") => scope.redirects = true,
                None if is_from_parameters(item) => scope.from_parameters = true,
                _ => scope.rules.push(Rule::deserialize_value(item)?),
            }
        }
        Ok(scope)
    }

    fn everything() -> Self {
        Self { any: true, rules: Vec::new(), registry: true, redirects: true, from_parameters: true, cap: None }
    }

    fn both(&self, other: &Self) -> Self {
        let mut rules = Vec::new();
        let mut push = |rule: Rule| {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        };
        for mine in &self.rules {
            for theirs in &other.rules {
                if let Some(rule) = narrower(mine, theirs) {
                    push(rule);
                }
            }
        }
        if other.any {
            self.rules.iter().cloned().for_each(&mut push);
        }
        if self.any {
            other.rules.iter().cloned().for_each(&mut push);
        }
        Self {
            any: self.any && other.any,
            rules,
            registry: self.registry && other.registry,
            redirects: self.redirects && other.redirects,
            from_parameters: self.from_parameters && other.from_parameters,
            cap: self.cap.clone(),
        }
    }

    fn capped(&self, policy: &Self) -> Self {
        if policy.any {
            return self.clone();
        }
        let mut capped = self.clone();
        capped.rules.retain(|rule| policy.rules.iter().any(|permitted| overlaps(rule, permitted)));
        Self { cap: Some(Box::new(policy.clone())), ..capped }
    }

    fn missing(&self, granted: &Self) -> Option<Value> {
        let covered = |rule: &&Rule| !granted.rules.iter().any(|there| narrower(rule, there).is_some());
        let mut items: Vec<Value> = self.rules.iter().filter(covered).map(|rule| json!(rule.to_string())).collect();
        if self.any && !granted.any && granted.rules.is_empty() {
            items.push(json!("https://HOST"));
        }
        if self.registry && !granted.registry {
            items.push(json!("registry"));
        }
        if self.redirects && !granted.redirects {
            items.push(json!("redirects"));
        }
        if self.from_parameters && !granted.from_parameters {
            items.push(json!({ "from": "parameters" }));
        }
        some_list(items)
    }
}

/// Whether some request fits both rules.
fn overlaps(one: &Rule, two: &Rule) -> bool {
    let origin = one.origin == two.origin || one.matches_origin(&two.origin) || two.matches_origin(&one.origin);
    let method = |rule: &Rule, other: &Rule| rule.methods.iter().any(|method| other.methods.contains(method));
    let methods = one.methods.is_empty() || two.methods.is_empty() || method(one, two);
    let path = |rule: &Rule| rule.path.clone().unwrap_or_else(|| "**".to_owned());
    origin && methods && overlap(&path(one), &path(two))
}

/// The rule that allows what both allow, or none if that is nothing. `local` is the second one's word: it is the
/// user or the policy. Two different path patterns with wildcards share nothing as far as this can tell, which
/// errs on the side of refusing.
fn narrower(asked: &Rule, allowed: &Rule) -> Option<Rule> {
    let origin = if asked.matches_origin(&allowed.origin) || asked.origin == allowed.origin {
        &allowed.origin
    } else if allowed.matches_origin(&asked.origin) {
        &asked.origin
    } else {
        return None;
    };
    let methods = match (asked.methods.is_empty(), allowed.methods.is_empty()) {
        (true, _) => allowed.methods.clone(),
        (_, true) => asked.methods.clone(),
        _ => asked.methods.iter().filter(|method| allowed.methods.contains(method)).cloned().collect(),
    };
    if methods.is_empty() && !(asked.methods.is_empty() && allowed.methods.is_empty()) {
        return None;
    }
    let path = match (&asked.path, &allowed.path) {
        (None, path) | (path, None) => path.clone(),
        (Some(one), Some(two)) if one == two => Some(one.clone()),
        (Some(one), Some(_)) if is_literal(one) && allowed.allows_path(one) => Some(one.clone()),
        (Some(_), Some(two)) if is_literal(two) && asked.allows_path(two) => Some(two.clone()),
        _ => return None,
    };
    Some(Rule { origin: origin.clone(), methods, path, local: allowed.local })
}

fn is_literal(path: &str) -> bool {
    !path.contains('*')
}

trait RuleExt: Sized {
    fn deserialize_value(value: &Value) -> Result<Self, String>;
    fn allows_path(&self, path: &str) -> bool;
}

impl RuleExt for Rule {
    fn deserialize_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => text.parse(),
            Value::Object(_) => {
                serde_json::from_value(value.clone()).map_err(|error| wrong(value, &format!("a rule: {error}")))
            }
            _ => Err(wrong(value, "a URL, \"registry\", \"redirects\" or {\"from\":\"parameters\"}")),
        }
    }

    fn allows_path(&self, path: &str) -> bool {
        let any_method = Rule { methods: Vec::new(), ..self.clone() };
        any_method.allows(&self.origin, &::http::Method::GET, path)
    }
}
