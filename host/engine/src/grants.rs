//! What a plugin may do: what it asks for AND what the user allows AND what the host's policy permits. This page has
//! the list of capabilities; each one is a module of the same shape in `grants/`. Deny is the default everywhere.

mod fs;
mod http;
mod parameters;
mod registries;
pub(crate) mod run;
mod secrets;
mod service;
mod sources;
mod state;
mod tcp;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use fs::{Access, FsScope, Mount};
pub use http::{HttpCap, HttpScope};
pub use parameters::Named;
pub use registries::{Action, RegistriesScope};
pub use run::RunScope;
pub use secrets::SecretsScope;
pub use service::{ServiceRequest, ServiceScope};
pub use sources::SourcesScope;
pub use state::{Quota, StateScope};
pub use tcp::{TcpRule, TcpScope};

/// Who writes a scope. The same JSON means a little more or less depending on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The plugin, in its description.
    Request,
    /// The user, in `plugins: { NAME: { allow: ... } }`.
    Allow,
    /// The host's policy. A class that it mentions is capped to what it names, whoever else names more.
    Policy,
}

/// One class of capability. `wit/README.md` has the JSON form of each.
pub trait Scope: Default + Clone {
    /// The name in descriptions and in `allow`.
    const CLASS: &'static str;
    /// Reads the JSON form; the error says what is wrong with it.
    fn parse(value: &Value, side: Side) -> Result<Self, String>;
    /// No restriction at all.
    fn everything() -> Self;
    /// What both allow.
    fn both(&self, other: &Self) -> Self;
    /// What of this a host's policy permits; the cap holds also for what is named later, by parameters and by answers.
    fn capped(&self, policy: &Self) -> Self {
        self.both(policy)
    }
    /// What of this is not in `granted`, in the JSON form of `allow`; none if all is granted.
    fn missing(&self, granted: &Self) -> Option<Value>;
}

/// A scope that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{class}`: {message}")]
pub struct ScopeError {
    /// The class it stands under.
    pub class: String,
    /// What is wrong.
    pub message: String,
}

/// Something a plugin asks for, as its description has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Name of the class.
    pub class: String,
    /// What exactly.
    pub request: Value,
    /// Why, for the user.
    #[serde(default)]
    pub reason: String,
}

/// Something asked for and not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ungranted {
    /// Name of the class.
    pub class: String,
    /// What is missing, in the form of `allow`.
    pub missing: Value,
    /// Why the plugin wants it.
    pub reason: String,
    /// What to write into the flow file to grant it.
    pub line: String,
    /// Where the host's policy refuses what the user has allowed; none if it is the user who has not.
    pub by_policy: Option<String>,
}

impl std::fmt::Display for Ungranted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reason = if self.reason.is_empty() { "no reason given" } else { &self.reason };
        if let Some(policy) = &self.by_policy {
            let (class, missing) = (&self.class, &self.missing);
            return write!(f, "{class}: {missing} ({reason}): the policy of this host does not permit it: {policy}");
        }
        write!(f, "{}: {} ({reason}); to allow it, write `{}`", self.class, self.missing, self.line)
    }
}

/// The line of a flow file that allows `value` of `class`.
pub(crate) fn allow_line(plugin: &str, class: &str, value: &Value) -> String {
    format!("plugins: {{ {plugin}: {{ allow: {{ {class}: {value} }} }} }}")
}

macro_rules! classes {
    ($($(#[$doc:meta])* $field:ident: $scope:ty,)*) => {
        /// One scope per class.
        #[derive(Debug, Clone, Default)]
        pub struct Scopes {
            $($(#[$doc])* pub $field: $scope,)*
            /// The policy that these scopes are, or are capped by.
            policy: Option<Arc<Written>>,
        }

        impl Scopes {
            /// The names of all classes.
            pub const CLASSES: &'static [&'static str] = &[$(<$scope>::CLASS),*];

            /// No restriction at all.
            pub fn everything() -> Self {
                Self { $($field: <$scope>::everything(),)* policy: None }
            }

            /// What both allow.
            pub fn both(&self, other: &Self) -> Self {
                Self { $($field: self.$field.both(&other.$field),)* policy: self.policy.clone() }
            }

            /// What of this a policy permits.
            pub fn capped(&self, policy: &Self) -> Self {
                Self { $($field: self.$field.capped(&policy.$field),)* policy: policy.policy.clone() }
            }

            fn set(&mut self, class: &str, value: &Value, side: Side) -> Result<(), String> {
                match class {
                    $(<$scope>::CLASS => self.$field = <$scope>::parse(value, side)?,)*
                    _ => return Err(format!("there is no such capability; there are {}", Self::CLASSES.join(", "))),
                }
                Ok(())
            }

            fn missing(&self, class: &str, granted: &Self) -> Option<Value> {
                match class {
                    $(<$scope>::CLASS => self.$field.missing(&granted.$field),)*
                    _ => None,
                }
            }
        }
    };
}

classes! {
    /// Outgoing HTTP.
    http: HttpScope,
    /// Outgoing TCP.
    tcp: TcpScope,
    /// HTTP to a unix socket of this machine.
    service: ServiceScope,
    /// Values of the user's secrets.
    secrets: SecretsScope,
    /// Directories of this machine.
    fs: FsScope,
    /// Native processes in the sandbox.
    run: RunScope,
    /// Images moved through the user's routing.
    registries: RegistriesScope,
    /// Files behind URLs.
    sources: SourcesScope,
    /// A small cache of the plugin's own.
    state: StateScope,
}

impl Scopes {
    /// Reads what the user allows: class to scope.
    pub fn allow(map: &BTreeMap<String, Value>) -> Result<Self, ScopeError> {
        // What a parameter of a step names, and the registry that a reference is routed to, the user has named already.
        let named = Self {
            http: HttpScope::named_by_user(),
            tcp: TcpScope::named_by_user(),
            secrets: SecretsScope::named_by_user(),
            registries: RegistriesScope::named_by_user(),
            sources: SourcesScope::named_by_user(),
            ..Self::default()
        };
        named.read(map, Side::Allow)
    }

    /// Reads the host's policy: class to scope. A class that is absent is not restricted, or with `refuse` refused.
    /// `file` is named in messages.
    pub fn policy(map: &BTreeMap<String, Value>, refuse: bool, file: &str) -> Result<Self, ScopeError> {
        let absent = if refuse { Self::default() } else { Self::everything() };
        let mut scopes = absent.read(map, Side::Policy)?;
        let classes = map.keys().cloned().collect();
        scopes.policy = Some(Arc::new(Written { file: file.to_owned(), classes, refuse }));
        Ok(scopes)
    }

    /// Where the host's policy restricts a class, for messages; none if it does not.
    pub fn restricted(&self, class: &str) -> Option<String> {
        let Written { file, classes, refuse } = self.policy.as_deref()?;
        if classes.contains(class) {
            return Some(format!("`allow.{class}` in {file}"));
        }
        refuse.then(|| format!("`default: refuse` in {file}, which has no `allow.{class}`"))
    }

    fn read(mut self, map: &BTreeMap<String, Value>, side: Side) -> Result<Self, ScopeError> {
        for (class, value) in map {
            self.set(class, value, side).map_err(|message| ScopeError { class: class.clone(), message })?;
        }
        Ok(self)
    }

    /// Reads what a plugin asks for. Several requests of one class are one list.
    pub fn requested(requests: &[Request]) -> Result<Self, ScopeError> {
        let mut merged: BTreeMap<String, Value> = BTreeMap::new();
        for request in requests {
            match merged.get_mut(&request.class) {
                None => drop(merged.insert(request.class.clone(), request.request.clone())),
                Some(there) => {
                    let mut all = list(there).to_vec();
                    all.extend_from_slice(list(&request.request));
                    *there = Value::Array(all);
                }
            }
        }
        Self::default().read(&merged, Side::Request)
    }
}

/// Where a policy is written.
#[derive(Debug)]
struct Written {
    file: String,
    classes: BTreeSet<String>,
    refuse: bool,
}

/// What a plugin may do in a call.
#[derive(Debug, Clone, Default)]
pub struct Grants(pub(crate) Scopes);

impl Grants {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// What is asked for, allowed and permitted.
    pub fn new(requested: &[Request], allowed: &Scopes, policy: &Scopes) -> Result<Self, ScopeError> {
        Ok(Self(Scopes::requested(requested)?.both(allowed).capped(policy)))
    }

    /// Each scope.
    pub fn scopes(&self) -> &Scopes {
        &self.0
    }
}

/// What of the requests of `plugin` is not granted, with the line that would grant it.
pub fn ungranted(
    plugin: &str,
    requests: &[Request],
    allowed: &Scopes,
    policy: &Scopes,
) -> Result<Vec<Ungranted>, ScopeError> {
    let mut result = Vec::new();
    for request in requests {
        let requested = Scopes::requested(std::slice::from_ref(request))?;
        let by_user = requested.both(allowed);
        let (missing, by_policy) = match requested.missing(&request.class, &by_user) {
            Some(missing) => (missing, None),
            None => match requested.missing(&request.class, &by_user.capped(policy)) {
                Some(missing) => (missing, Some(policy.restricted(&request.class).unwrap_or_default())),
                None => continue,
            },
        };
        let line = allow_line(plugin, &request.class, &missing);
        result.push(Ungranted {
            class: request.class.clone(),
            missing,
            reason: request.reason.clone(),
            line,
            by_policy,
        });
    }
    Ok(result)
}

/// A list, or one item that stands for a list of itself.
fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        one => std::slice::from_ref(one),
    }
}

/// `{ "from": "parameters" }`: what the user names in the parameters of the step.
fn is_from_parameters(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.len() == 1 && map.get("from").is_some_and(|from| from == "parameters"))
}

fn wrong(value: &Value, expected: &str) -> String {
    format!("{value} is not {expected}")
}

/// An empty list is "nothing missing".
fn some_list(items: Vec<Value>) -> Option<Value> {
    (!items.is_empty()).then_some(Value::Array(items))
}

#[cfg(test)]
mod tests;
