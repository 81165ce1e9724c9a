//! The kinds of workloads that can be updated, where each has its pods' template, and which container is meant. It reads
//! and makes JSON; it knows no server.

use cooperage_sdk::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::names;
use crate::value;

/// A kind of workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Kind {
    /// Pods that are all alike.
    Deployment,
    /// Pods with names and storage of their own.
    StatefulSet,
    /// A pod on each node.
    DaemonSet,
    /// Pods that run at given times.
    CronJob,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet, Self::CronJob];

    /// As manifests have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::CronJob => "CronJob",
        }
    }

    /// As people write it: `deployment`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
            Self::CronJob => "cronjob",
        }
    }

    /// As paths have it.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
            Self::CronJob => "cronjobs",
        }
    }

    /// Group and version.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::CronJob => "batch/v1",
            _ => "apps/v1",
        }
    }

    /// The kind of an object, if it is one of these.
    #[must_use]
    pub fn of(object: &Value) -> Option<Self> {
        let (version, kind) = (value::text(object, "/apiVersion")?, value::text(object, "/kind")?);
        Self::ALL.into_iter().find(|known| known.api_version() == version && known.name() == kind)
    }

    /// Whether there is a rollout to wait for. The pods of a `CronJob` are made when their time comes.
    #[must_use]
    pub fn rolls_out(self) -> bool {
        self != Self::CronJob
    }

    /// The way from the object to its pods' template.
    #[must_use]
    pub fn template(self) -> &'static [&'static str] {
        match self {
            Self::CronJob => &["spec", "jobTemplate", "spec", "template"],
            _ => &["spec", "template"],
        }
    }
}

/// Which container of a workload gets an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// `containers` or `initContainers`.
    pub list: &'static str,
    /// Its name.
    pub name: String,
    /// Its image so far.
    pub image: Option<String>,
}

const LISTS: [&str; 2] = ["containers", "initContainers"];

impl Container {
    /// Finds it in a pods' template: the one of that name, the only one, or the only one whose image is of the same
    /// repository as `image`.
    ///
    /// # Errors
    /// `not-found` if there is no container of that name, `invalid-input` if it is not clear which one is meant.
    pub fn find(template: &Value, name: Option<&str>, image: Option<&str>) -> Result<Self> {
        let all = containers(template);
        let names: Vec<&str> = all.iter().map(|container| container.name.as_str()).collect();
        if let Some(name) = name {
            let found = all.iter().find(|container| container.name == name).cloned();
            return found.ok_or_else(|| {
                Error::not_found(format!("it has no container {name:?}")).hint(format!("it has {}", list(&names)))
            });
        }
        let ordinary: Vec<&Self> = all.iter().filter(|container| container.list == LISTS[0]).collect();
        if let [only] = ordinary.as_slice() {
            return Ok((*only).clone());
        }
        let same = |container: &&Self| {
            let (Some(old), Some(new)) = (&container.image, image) else { return false };
            names::same_repository(old, new)
        };
        let matching: Vec<&Self> = all.iter().filter(same).collect();
        match (matching.as_slice(), all.is_empty()) {
            ([one], _) => Ok((*one).clone()),
            (_, true) => Err(Error::invalid_input("it has no containers")),
            _ => Err(Error::invalid_input("it is not clear which container is meant")
                .hint(format!("name it with `container`: it has {}", list(&names)))),
        }
    }
}

/// The containers of a pods' template; those without a name are none.
fn containers(template: &Value) -> Vec<Container> {
    let of = |list: &'static str| {
        let items = template.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(move |item| {
            let image = value::text(item, "/image").map(str::to_owned);
            Some(Container { list, name: value::text(item, "/name")?.to_owned(), image })
        })
    };
    LISTS.into_iter().flat_map(of).collect()
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::ErrorKind;
    use serde_json::json;

    use super::*;

    fn template() -> Value {
        json!({ "spec": {
            "containers": [
                { "name": "web", "image": "r.example/web:1" },
                { "name": "proxy", "image": "r.example/proxy:1" },
                { "name": "other", "image": "r.example/proxy:2" },
            ],
            "initContainers": [{ "name": "setup", "image": "r.example/setup:1" }, { "image": "nameless" }],
        } })
    }

    #[test]
    fn a_container_is_found() {
        let one = json!({ "spec": {
            "containers": [{ "name": "only" }], "initContainers": [{ "name": "first", "image": "x" }]
        } });
        for (template, name, image, expected) in [
            (&one, None, None, ("containers", "only")),
            (&one, None, Some("anything"), ("containers", "only")),
            (&one, Some("first"), None, ("initContainers", "first")),
            (&template(), Some("proxy"), Some("r.example/web:2"), ("containers", "proxy")),
            (&template(), None, Some("r.example/web@sha256:0"), ("containers", "web")),
            (&template(), None, Some("r.example/setup:2"), ("initContainers", "setup")),
        ] {
            let found = Container::find(template, name, image).unwrap();
            assert_eq!((found.list, found.name.as_str()), expected);
        }
    }

    #[test]
    fn it_must_be_clear_which_one() {
        for (template, name, image, kind, says) in [
            (template(), Some("absent"), None, ErrorKind::NotFound, "web, proxy, other, setup"),
            (template(), None, None, ErrorKind::InvalidInput, "web, proxy, other, setup"),
            (template(), None, Some("r.example/proxy:3"), ErrorKind::InvalidInput, "`container`"),
            (template(), None, Some("r.example/unknown"), ErrorKind::InvalidInput, "`container`"),
        ] {
            let error = Container::find(&template, name, image).unwrap_err();
            assert_eq!(error.kind, kind);
            assert!(error.hint.unwrap().contains(says));
        }
        for nonsense in
            [json!({}), json!(null), json!({ "spec": { "containers": "x" } }), json!({ "spec": { "containers": [1] } })]
        {
            assert!(Container::find(&nonsense, None, None).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn kinds_are_told_by_group_and_version() {
        let kind = |version: &str, kind: &str| Kind::of(&json!({ "apiVersion": version, "kind": kind }));
        assert_eq!(kind("apps/v1", "Deployment"), Some(Kind::Deployment));
        assert_eq!(kind("batch/v1", "CronJob"), Some(Kind::CronJob));
        assert_eq!(kind("extensions/v1beta1", "Deployment"), None);
        assert_eq!(kind("apps/v1", "ReplicaSet"), None);
        assert_eq!(Kind::of(&json!([])), None);
    }
}
