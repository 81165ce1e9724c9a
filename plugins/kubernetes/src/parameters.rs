//! What `with:` of the step takes, and what of it makes sense together. It knows neither clusters nor manifests.

use std::collections::BTreeMap;
use std::time::Duration;

use cooperage_sdk::secrets::Secret;
use cooperage_sdk::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::duration;
use crate::names;
use crate::workload::Kind;

/// Which workload gets which image, what else is applied, and how the cluster is reached.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The address of the API server, for instance `https://cluster.example:6443`. Without TLS only on this machine, as
    /// `kubectl proxy` offers it.
    pub server: Option<String>,
    /// The secret with a kubeconfig, for its token and its namespace. `server` must be written all the same.
    pub kubeconfig: Option<Secret>,
    /// The secret with the bearer token of a service account or a user.
    pub token: Option<Secret>,
    /// The namespace of everything that names none; that of the kubeconfig, or `default`, if it is left out.
    pub namespace: Option<String>,
    /// The Deployment to update.
    pub deployment: Option<String>,
    /// The StatefulSet to update.
    pub statefulset: Option<String>,
    /// The DaemonSet to update.
    pub daemonset: Option<String>,
    /// The CronJob to update.
    pub cronjob: Option<String>,
    /// The workload to update, by kind and name.
    pub workload: Option<WorkloadName>,
    /// The container that gets the image. By default the only one, or the one whose image is of the same repository.
    pub container: Option<String>,
    /// The image, best with its digest, as `${{ steps.push.reference }}` gives it.
    pub image: Option<String>,
    /// Environment variables to set in the container.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Annotations to set on the workload's pods.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// A secret to make, with which the cluster pulls the image.
    pub pull_secret: Option<PullSecret>,
    /// Manifests of the step's input to apply, in this order: YAML or JSON files, or directories of them.
    #[serde(default)]
    pub apply: Vec<String>,
    /// Under which name the cluster remembers who set a field.
    #[serde(default = "cooperage")]
    pub field_manager: String,
    /// Whether to take over fields that others have set.
    #[serde(default)]
    pub force: bool,
    /// How long to wait for the rollout, for instance `90s` or `10m`; 5 minutes by default, 0 for not at all.
    pub wait: Option<Time>,
    /// Whether the server is to check everything and to change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Asks no server: the manifests are written into this directory of the step's tree.
    pub write: Option<String>,
}

/// A workload of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadName {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

/// A text, or the name of the secret that has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Text {
    /// The text itself.
    Plain(String),
    /// Where it is.
    Secret(Secret),
}

/// A secret of the type `kubernetes.io/dockerconfigjson`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PullSecret {
    /// The name it has in the cluster.
    pub name: String,
    /// The host of the registry; that of `image` if it is left out.
    pub registry: Option<String>,
    /// Who pulls.
    pub username: Text,
    /// The password or token.
    pub password: Secret,
}

/// A length of time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Time {
    /// In seconds.
    Seconds(u32),
    /// With units, such as `1h30m`.
    Units(String),
}

/// Parameters that make sense together.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The workload to update or to wait for.
    pub workload: Option<WorkloadName>,
    /// How long to wait; zero for not at all.
    pub wait: Duration,
    /// Where to write instead of asking a server: a path relative to the root of the tree, empty for the root.
    pub write: Option<String>,
    /// The rest, as it is.
    pub parameters: Parameters,
}

const WAIT: Duration = Duration::from_secs(300);
const LONGEST_MANAGER: usize = 128;

fn cooperage() -> String {
    "cooperage".to_owned()
}

impl Wanted {
    /// Checks what the schema cannot say.
    ///
    /// # Errors
    /// `invalid-input`.
    pub fn new(parameters: Parameters) -> Result<Self> {
        let workload = workload(&parameters)?;
        let Parameters { container, image, env, annotations, pull_secret, apply, field_manager, .. } = &parameters;
        if workload.is_none() {
            for (name, given) in [
                ("container", container.is_some()),
                ("env", !env.is_empty()),
                ("annotations", !annotations.is_empty()),
                ("image", image.is_some() && pull_secret.is_none()),
            ] {
                if given {
                    return Err(Error::invalid_input(format!("`{name}` is for a workload, and the step names none"))
                        .hint("name it, for instance with `deployment: NAME`"));
                }
            }
            if pull_secret.is_none() && apply.is_empty() {
                return Err(Error::invalid_input("there is nothing to do")
                    .hint("give `deployment` and `image`, `pull_secret` or `apply`"));
            }
        }
        if let Some(image) = image {
            names::check_image(image)?;
        }
        if let Some(container) = container {
            names::check_label("container", container)?;
        }
        if let Some(namespace) = &parameters.namespace {
            names::check_label("namespace", namespace)?;
        }
        for name in pull_secret.iter().map(|secret| &secret.name).chain(workload.iter().map(|workload| &workload.name))
        {
            names::check_name(name)?;
        }
        if let Some(name) = env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(Error::invalid_input(format!("{name:?} is no name of an environment variable")));
        }
        let printable = |c: char| c.is_ascii_graphic() || c == ' ';
        if field_manager.is_empty() || field_manager.len() > LONGEST_MANAGER || !field_manager.chars().all(printable) {
            let what = format!("{field_manager:?} is no name of a field manager");
            return Err(Error::invalid_input(what).hint(format!("use 1 to {LONGEST_MANAGER} printable characters")));
        }
        let wait = match &parameters.wait {
            None => WAIT,
            Some(Time::Seconds(seconds)) => Duration::from_secs((*seconds).into()),
            Some(Time::Units(text)) => duration::parse(text)?,
        };
        let write = parameters.write.as_deref().map(directory).transpose()?;
        Ok(Self { workload, wait, write, parameters })
    }

    /// Whether the pods of the workload are to be changed.
    #[must_use]
    pub fn changes_pods(&self) -> bool {
        let Parameters { image, env, annotations, pull_secret, .. } = &self.parameters;
        let changes = image.is_some() || !env.is_empty() || !annotations.is_empty() || pull_secret.is_some();
        self.workload.is_some() && changes
    }
}

/// The one workload that the parameters name, in whichever way.
fn workload(parameters: &Parameters) -> Result<Option<WorkloadName>> {
    let Parameters { deployment, statefulset, daemonset, cronjob, workload, .. } = parameters;
    let by_kind = [
        (Kind::Deployment, deployment),
        (Kind::StatefulSet, statefulset),
        (Kind::DaemonSet, daemonset),
        (Kind::CronJob, cronjob),
    ];
    let named = by_kind.into_iter().filter_map(|(kind, name)| Some(WorkloadName { kind, name: name.clone()? }));
    let mut all = named.chain(workload.clone());
    let first = all.next();
    if let (Some(first), Some(second)) = (&first, all.next()) {
        let what = format!("the step names two workloads, {first} and {second}");
        return Err(Error::invalid_input(what).hint("make it a step for each"));
    }
    Ok(first)
}

/// A path below the root, without `.` and empty parts.
fn directory(path: &str) -> Result<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(Error::invalid_input(format!("`write`: {path:?} leads out of the step's tree")));
    }
    Ok(parts.join("/"))
}

impl std::fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind.word(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::ErrorKind;
    use serde_json::{Value, json};

    use super::*;

    fn wanted(value: Value) -> Result<Wanted> {
        Wanted::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_workload_is_named_in_one_of_five_ways() {
        for (value, expected) in [
            (json!({ "deployment": "web" }), "deployment/web"),
            (json!({ "statefulset": "db" }), "statefulset/db"),
            (json!({ "daemonset": "agent" }), "daemonset/agent"),
            (json!({ "cronjob": "report" }), "cronjob/report"),
            (json!({ "workload": { "kind": "StatefulSet", "name": "a.b-c" } }), "statefulset/a.b-c"),
        ] {
            assert_eq!(wanted(value).unwrap().workload.unwrap().to_string(), expected);
        }
    }

    #[test]
    fn times_and_directories() {
        let with = |more: Value| {
            let mut all = json!({ "deployment": "web" });
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            wanted(all)
        };
        assert_eq!(with(json!({})).unwrap().wait, WAIT);
        assert_eq!(with(json!({ "wait": 0 })).unwrap().wait, Duration::ZERO);
        assert_eq!(with(json!({ "wait": "2m" })).unwrap().wait, Duration::from_secs(120));
        assert_eq!(with(json!({ "write": "/" })).unwrap().write.as_deref(), Some(""));
        assert_eq!(with(json!({ "write": "./deploy//web/" })).unwrap().write.as_deref(), Some("deploy/web"));
        assert!(with(json!({ "write": "../x" })).is_err());
    }

    #[test]
    fn what_changes_pods() {
        assert!(!wanted(json!({ "deployment": "web" })).unwrap().changes_pods());
        assert!(wanted(json!({ "deployment": "web", "image": "a" })).unwrap().changes_pods());
        assert!(!wanted(json!({ "apply": ["a.yaml"] })).unwrap().changes_pods());
    }

    #[test]
    fn what_makes_no_sense() {
        let secret = json!({ "name": "pull", "username": "u", "password": { "secret": "P" } });
        for (value, says) in [
            (json!({}), "nothing to do"),
            (json!({ "deployment": "a", "cronjob": "b" }), "two workloads"),
            (json!({ "deployment": "a", "workload": { "kind": "Deployment", "name": "a" } }), "two workloads"),
            (json!({ "image": "a" }), "`image`"),
            (json!({ "image": "a", "apply": ["x"] }), "`image`"),
            (json!({ "env": { "A": "b" }, "pull_secret": secret }), "`env`"),
            (json!({ "deployment": "" }), "name"),
            (json!({ "deployment": "../../secrets/x" }), "name"),
            (json!({ "deployment": "Web" }), "name"),
            (json!({ "deployment": "a", "namespace": "a/b" }), "namespace"),
            (json!({ "deployment": "a", "container": "a.b" }), "container"),
            (json!({ "deployment": "a", "image": "a b" }), "image"),
            (json!({ "deployment": "a", "env": { "A=B": "" } }), "A=B"),
            (json!({ "deployment": "a", "field_manager": "" }), "field manager"),
            (json!({ "deployment": "a", "wait": "soon" }), "soon"),
        ] {
            let error = wanted(value.clone()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidInput, "{value}");
            assert!(error.message.contains(says), "{value}: {}", error.message);
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        for wrong in [
            json!({ "deployment": "a", "imgae": "b" }),
            json!({ "workload": { "kind": "Pod", "name": "a" } }),
            json!({ "token": "in clear" }),
            json!({ "wait": -1 }),
        ] {
            assert!(serde_json::from_value::<Parameters>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
