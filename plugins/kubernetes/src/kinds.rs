//! Under which path a server has an object of some kind. Kinds that are in every cluster are known, of the others the
//! server tells (its discovery documents).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use cooperage_sdk::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::client::Client;
use crate::names;
use crate::value;
use crate::workload::Kind;

/// Built-in kinds that belong to no namespace, by the end of their group.
const CLUSTER_WIDE: &str = "Namespace Node PersistentVolume ClusterRole ClusterRoleBinding CustomResourceDefinition \
    StorageClass IngressClass PriorityClass RuntimeClass GatewayClass APIService CSIDriver CSINode VolumeAttachment \
    MutatingWebhookConfiguration ValidatingWebhookConfiguration ValidatingAdmissionPolicy \
    ValidatingAdmissionPolicyBinding MutatingAdmissionPolicy MutatingAdmissionPolicyBinding \
    CertificateSigningRequest ClusterTrustBundle FlowSchema PriorityLevelConfiguration VolumeAttributesClass \
    ServiceCIDR IPAddress DeviceClass ResourceSlice StorageVersion StorageVersionMigration";

/// Between two questions for a kind that is being made, and how many.
const MAKING: (Duration, usize) = (Duration::from_secs(1), 20);

/// Which object it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Group and version, or the version alone for the core group.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, if it names one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Identity {
    /// Reads it from an object.
    ///
    /// # Errors
    /// `invalid-input` if something is missing.
    pub fn of(object: &Value) -> Result<Self> {
        let text = |pointer: &str| value::text(object, pointer).map(str::to_owned);
        let missing = |field: &str| Error::invalid_input(format!("it has no `{field}`"));
        let (Some(api_version), Some(kind)) = (text("/apiVersion"), text("/kind")) else {
            let field = if text("/kind").is_some() { "apiVersion" } else { "kind" };
            return Err(missing(field).hint("a manifest has `apiVersion`, `kind` and `metadata`"));
        };
        let name = text("/metadata/name").ok_or_else(|| match text("/metadata/generateName") {
            Some(_) => Error::unsupported("its name is for the server to make (`generateName`)")
                .hint("what is applied has a name, so that it is the same object the next time"),
            None => missing("metadata.name"),
        })?;
        names::segment(&name)?;
        Ok(Self { api_version, kind, namespace: text("/metadata/namespace"), name })
    }

    /// Of a workload.
    #[must_use]
    pub fn of_workload(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            api_version: kind.api_version().to_owned(),
            kind: kind.name().to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
        }
    }

    /// Whether this is built in and belongs to no namespace; none if only a server can tell.
    #[must_use]
    pub fn is_cluster_wide(&self) -> Option<bool> {
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        let built_in = !group.contains('.') || group.ends_with(".k8s.io");
        built_in.then(|| CLUSTER_WIDE.split_ascii_whitespace().any(|kind| kind == self.kind))
    }
}

impl std::fmt::Display for Identity {
    /// `deployment/web`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind.to_ascii_lowercase(), self.name)
    }
}

/// The path of a kind of objects in a namespace, or of one that is in none.
///
/// # Errors
/// `invalid-input` if a part cannot stand in a path.
pub fn collection(api_version: &str, namespace: Option<&str>, plural: &str) -> Result<String> {
    let mut path = match api_version.split_once('/') {
        Some((group, version)) => format!("/apis/{}/{}", names::segment(group)?, names::segment(version)?),
        None => format!("/api/{}", names::segment(api_version)?),
    };
    if let Some(namespace) = namespace {
        names::check_label("namespace", namespace)?;
        path = format!("{path}/namespaces/{namespace}");
    }
    Ok(format!("{path}/{}", names::segment(plural)?))
}

/// The path of a workload.
///
/// # Errors
/// `invalid-input` if a part cannot stand in a path.
pub fn workload(kind: Kind, namespace: &str, name: &str) -> Result<String> {
    Ok(format!("{}/{}", collection(kind.api_version(), Some(namespace), kind.plural())?, names::segment(name)?))
}

/// What a server tells of its kinds, asked once for each group and version.
pub struct Kinds<'c, 'a> {
    client: &'c Client<'a>,
    asked: RefCell<HashMap<String, Value>>,
    /// Whether this step makes kinds, which takes a server some time.
    makes: Cell<bool>,
}

impl<'c, 'a> Kinds<'c, 'a> {
    /// Of a server.
    #[must_use]
    pub fn new(client: &'c Client<'a>) -> Self {
        Self { client, asked: RefCell::default(), makes: Cell::new(false) }
    }

    /// The path of an object, and the namespace that it belongs to.
    ///
    /// # Errors
    /// `not-found` if the server does not know the kind.
    pub fn locate(&self, identity: &Identity) -> Result<(String, Option<String>)> {
        let (plural, namespaced) = self.patiently(identity)?;
        let namespace =
            namespaced.then(|| identity.namespace.clone().unwrap_or_else(|| self.client.namespace().to_owned()));
        let path = collection(&identity.api_version, namespace.as_deref(), &plural)?;
        Ok((format!("{path}/{}", names::segment(&identity.name)?), namespace))
    }

    /// Says that the step has made a kind.
    pub fn made_one(&self) {
        self.makes.set(true);
    }

    fn patiently(&self, identity: &Identity) -> Result<(String, bool)> {
        let (pause, most) = MAKING;
        for _ in 0..most {
            match self.look_up(identity) {
                Err(error) if error.kind == ErrorKind::NotFound && self.makes.get() => {
                    self.asked.borrow_mut().remove(&identity.api_version);
                    self.client.edge().clock.pause(pause)?;
                }
                result => return result,
            }
        }
        self.look_up(identity)
    }

    fn look_up(&self, identity: &Identity) -> Result<(String, bool)> {
        let Identity { api_version, kind, .. } = identity;
        match (api_version.as_str(), kind.as_str()) {
            ("v1", "Secret") => return Ok(("secrets".to_owned(), true)),
            ("v1", "Namespace") => return Ok(("namespaces".to_owned(), false)),
            _ => {}
        }
        if let Some(known) =
            Kind::ALL.into_iter().find(|known| known.api_version() == api_version && known.name() == kind)
        {
            return Ok((known.plural().to_owned(), true));
        }
        let unknown = || {
            Error::not_found(format!("the server does not know the kind {kind} of {api_version}"))
                .hint("check `apiVersion` and `kind`; a kind of one's own needs its CustomResourceDefinition first")
        };
        if !self.asked.borrow().contains_key(api_version) {
            // The path of the group is that of a collection without its last part.
            let path = collection(api_version, None, "x")?;
            let path = path.strip_suffix("/x").unwrap_or_default().to_owned();
            let list = self.client.get(&path, &format!("the kinds of {api_version}"));
            let list = list.map_err(|error| if error.kind == ErrorKind::NotFound { unknown() } else { error })?;
            self.asked.borrow_mut().insert(api_version.clone(), list);
        }
        let asked = self.asked.borrow();
        let resources = asked[api_version]["resources"].as_array().map(Vec::as_slice).unwrap_or_default();
        // Names with a slash are parts of objects, such as their status.
        let found = resources.iter().find(|resource| {
            value::text(resource, "/kind") == Some(kind)
                && value::text(resource, "/name").is_some_and(|n| !n.contains('/'))
        });
        let found = found.ok_or_else(unknown)?;
        Ok((value::text(found, "/name").unwrap_or_default().to_owned(), found["namespaced"] == true))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths() {
        assert_eq!(workload(Kind::Deployment, "shop", "web").unwrap(), "/apis/apps/v1/namespaces/shop/deployments/web");
        assert_eq!(workload(Kind::CronJob, "a", "b").unwrap(), "/apis/batch/v1/namespaces/a/cronjobs/b");
        assert_eq!(collection("v1", None, "namespaces").unwrap(), "/api/v1/namespaces");
        for (version, namespace) in [("a/../b", None), ("../v1", None), ("v1", Some("../x")), ("v1/", None), ("", None)]
        {
            assert!(collection(version, namespace, "pods").is_err(), "{version} {namespace:?}");
        }
    }

    #[test]
    fn identities() {
        let found =
            Identity::of(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" } })).unwrap();
        assert_eq!((found.to_string().as_str(), found.namespace.as_deref()), ("configmap/a", None));
        for (object, says) in [
            (json!({}), "`kind`"),
            (json!([]), "`kind`"),
            (json!({ "kind": "A" }), "`apiVersion`"),
            (json!({ "kind": "A", "apiVersion": "v1" }), "`metadata.name`"),
            (json!({ "kind": "A", "apiVersion": "v1", "metadata": { "generateName": "x" } }), "generateName"),
            (json!({ "kind": "A", "apiVersion": "v1", "metadata": { "name": "a/../b" } }), "no name"),
        ] {
            let error = Identity::of(&object).unwrap_err();
            assert!(error.message.contains(says), "{object}: {}", error.message);
        }
    }

    #[test]
    fn what_belongs_to_no_namespace() {
        for (version, kind, expected) in [
            ("v1", "Namespace", Some(true)),
            ("v1", "Secret", Some(false)),
            ("rbac.authorization.k8s.io/v1", "ClusterRole", Some(true)),
            ("apps/v1", "Deployment", Some(false)),
            ("example.com/v1", "Thing", None),
        ] {
            let identity =
                Identity { api_version: version.into(), kind: kind.into(), namespace: None, name: "a".into() };
            assert_eq!(identity.is_cluster_wide(), expected, "{version} {kind}");
        }
    }
}
