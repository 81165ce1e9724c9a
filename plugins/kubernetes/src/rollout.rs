//! How far a rollout is, as `kubectl rollout status` judges it (k8s.io/kubectl/pkg/polymorphichelpers/rollout_status.go).
//! It knows one state of an object, not how it came about.

use serde::Deserialize;
use serde_json::Value;

use crate::faults::clean;
use crate::workload::Kind;

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// All pods are as they shall be.
    Done(String),
    /// It goes on.
    Going {
        /// What is waited for.
        text: String,
        /// How many pods are there.
        ready: u64,
        /// Of how many.
        wanted: Option<u64>,
    },
    /// The cluster has given up, or will not begin.
    Failed(String),
    /// Nobody can tell: pods change when somebody deletes them.
    Untold(String),
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Object {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    generation: i64,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    replicas: Option<i64>,
    paused: bool,
    update_strategy: Strategy,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Strategy {
    r#type: Option<String>,
    rolling_update: Option<RollingUpdate>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RollingUpdate {
    partition: Option<i64>,
}

/// The fields of all three kinds: their names differ, and none means two things.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    observed_generation: i64,
    replicas: i64,
    updated_replicas: i64,
    ready_replicas: i64,
    available_replicas: i64,
    current_revision: String,
    update_revision: String,
    desired_number_scheduled: i64,
    updated_number_scheduled: i64,
    number_available: i64,
    conditions: Vec<Condition>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

/// Judges one state of a workload.
#[must_use]
pub fn judge(kind: Kind, object: &Value) -> Progress {
    let Ok(object) = Object::deserialize(object) else {
        return going("waiting for a state that can be read", 0, None);
    };
    let is_rolling = object.spec.update_strategy.r#type.as_deref().is_none_or(|strategy| strategy == "RollingUpdate");
    match kind {
        Kind::CronJob => Progress::Done("its next pods have the change".to_owned()),
        Kind::Deployment => deployment(&object),
        Kind::DaemonSet | Kind::StatefulSet if !is_rolling => {
            Progress::Untold("its pods change when they are deleted (update strategy OnDelete)".to_owned())
        }
        Kind::DaemonSet => daemonset(&object),
        Kind::StatefulSet => statefulset(&object),
    }
}

/// How many pods a workload has at the end, as far as its state tells.
#[must_use]
pub fn replicas(kind: Kind, object: &Value) -> Option<i64> {
    let object = Object::deserialize(object).ok()?;
    match kind {
        Kind::Deployment | Kind::StatefulSet => object.spec.replicas,
        Kind::DaemonSet => Some(object.status.desired_number_scheduled),
        Kind::CronJob => None,
    }
}

fn deployment(Object { metadata, spec, status }: &Object) -> Progress {
    if spec.paused {
        return Progress::Failed("it is paused, and nothing rolls out until it is resumed".to_owned());
    }
    if metadata.generation > status.observed_generation {
        return going("waiting for the change to be noticed", 0, spec.replicas);
    }
    let condition = |name: &str| status.conditions.iter().find(|condition| condition.r#type == name);
    if let Some(condition) = condition("Progressing").filter(|found| found.reason == "ProgressDeadlineExceeded") {
        return Progress::Failed(format!("it exceeded its progress deadline: {}", clean(&condition.message)));
    }
    let (updated, available) = (status.updated_replicas, status.available_replicas);
    // Quotas and admission refuse pods before there are any.
    let refused = condition("ReplicaFailure").filter(|found| found.status == "True");
    let refused = refused.map(|found| format!("; {}", clean(&found.message))).unwrap_or_default();
    if let Some(wanted) = spec.replicas.filter(|wanted| updated < *wanted) {
        let text = format!("{updated} of {wanted} new pods have been made{refused}");
        return going(text, available.min(updated), spec.replicas);
    }
    let old = status.replicas - updated;
    if old > 0 {
        return going(format!("{old} old pods are about to end"), available.min(updated), Some(updated));
    }
    if available < updated {
        return going(format!("{available} of {updated} new pods are available{refused}"), available, Some(updated));
    }
    Progress::Done(format!("{updated} pods are new and available"))
}

fn daemonset(Object { metadata, status, .. }: &Object) -> Progress {
    let (wanted, updated, available) =
        (status.desired_number_scheduled, status.updated_number_scheduled, status.number_available);
    if metadata.generation > status.observed_generation {
        return going("waiting for the change to be noticed", 0, None);
    }
    if updated < wanted {
        return going(format!("{updated} of {wanted} new pods have been made"), available.min(updated), Some(wanted));
    }
    if available < wanted {
        return going(format!("{available} of {wanted} new pods are available"), available, Some(wanted));
    }
    Progress::Done(format!("{wanted} pods are new and available"))
}

fn statefulset(Object { metadata, spec, status }: &Object) -> Progress {
    if status.observed_generation == 0 || metadata.generation > status.observed_generation {
        return going("waiting for the change to be noticed", 0, spec.replicas);
    }
    let (wanted, ready, updated) = (spec.replicas, status.ready_replicas, status.updated_replicas);
    if let Some(wanted) = wanted.filter(|wanted| ready < *wanted) {
        return going(format!("{ready} of {wanted} pods are ready"), ready, Some(wanted));
    }
    let partition = spec.update_strategy.rolling_update.as_ref().and_then(|rolling| rolling.partition).unwrap_or(0);
    if partition > 0 {
        let new = (wanted.unwrap_or(1) - partition).max(0);
        return if updated < new {
            going(format!("{updated} of {new} pods above the partition have been updated"), updated, Some(new))
        } else {
            Progress::Done(format!("{updated} pods above the partition are new"))
        };
    }
    if status.update_revision != status.current_revision {
        return going(format!("{updated} pods are at revision {}", clean(&status.update_revision)), updated, wanted);
    }
    Progress::Done(format!("{ready} pods are at revision {}", clean(&status.current_revision)))
}

fn going(text: impl Into<String>, ready: i64, wanted: Option<i64>) -> Progress {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    Progress::Going { text: text.into(), ready: count(ready), wanted: wanted.map(count) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(kind: Kind, spec: Value, status: Value, expected: &str) {
        let object = json!({ "metadata": { "generation": 4 }, "spec": spec, "status": status });
        let found = match judge(kind, &object) {
            Progress::Done(text) => format!("done: {text}"),
            Progress::Going { text, ready, wanted } => {
                format!("{ready}/{}: {text}", wanted.map_or("?".into(), |wanted| wanted.to_string()))
            }
            Progress::Failed(text) => format!("failed: {text}"),
            Progress::Untold(text) => format!("untold: {text}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn deployments() {
        for (status, expected) in [
            (json!({}), "0/3: waiting for the change to be noticed"),
            (
                json!({ "observedGeneration": 3, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 3 }),
                "0/3: waiting for the change to be noticed",
            ),
            (
                json!({ "observedGeneration": 4, "replicas": 3, "availableReplicas": 3 }),
                "0/3: 0 of 3 new pods have been made",
            ),
            (
                json!({ "observedGeneration": 4, "replicas": 4, "updatedReplicas": 2, "availableReplicas": 3 }),
                "2/3: 2 of 3 new pods have been made",
            ),
            (
                json!({ "observedGeneration": 4, "replicas": 5, "updatedReplicas": 3, "availableReplicas": 3 }),
                "3/3: 2 old pods are about to end",
            ),
            (
                json!({ "observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 2 }),
                "2/3: 2 of 3 new pods are available",
            ),
            (
                json!({ "observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3 }),
                "done: 3 pods are new and available",
            ),
            (
                json!({ "observedGeneration": 4, "conditions": [{ "type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "has timed out" }] }),
                "failed: it exceeded its progress deadline: has timed out",
            ),
            (
                json!({ "observedGeneration": 3, "conditions": [{ "type": "Progressing", "reason": "ProgressDeadlineExceeded" }] }),
                "0/3: waiting for the change to be noticed",
            ),
            (
                json!({ "observedGeneration": 4, "conditions": [{ "type": "ReplicaFailure", "status": "True", "message": "exceeded quota" }] }),
                "0/3: 0 of 3 new pods have been made; exceeded quota",
            ),
            (json!(7), "0/?: waiting for a state that can be read"),
        ] {
            check(Kind::Deployment, json!({ "replicas": 3 }), status, expected);
        }
        check(
            Kind::Deployment,
            json!({ "replicas": 0 }),
            json!({ "observedGeneration": 4 }),
            "done: 0 pods are new and available",
        );
        check(
            Kind::Deployment,
            json!({ "paused": true }),
            json!({}),
            "failed: it is paused, and nothing rolls out until it is resumed",
        );
    }

    #[test]
    fn statefulsets() {
        let rolling = json!({ "replicas": 3, "updateStrategy": { "type": "RollingUpdate" } });
        for (status, expected) in [
            (json!({}), "0/3: waiting for the change to be noticed"),
            (json!({ "observedGeneration": 4, "readyReplicas": 2 }), "2/3: 2 of 3 pods are ready"),
            (
                json!({ "observedGeneration": 4, "readyReplicas": 3, "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b" }),
                "1/3: 1 pods are at revision b",
            ),
            (
                json!({ "observedGeneration": 4, "readyReplicas": 3, "updatedReplicas": 3, "currentRevision": "b", "updateRevision": "b" }),
                "done: 3 pods are at revision b",
            ),
        ] {
            check(Kind::StatefulSet, rolling.clone(), status, expected);
        }
        let partition = json!({ "replicas": 3, "updateStrategy": { "rollingUpdate": { "partition": 1 } } });
        let status = |updated: i64| json!({ "observedGeneration": 4, "readyReplicas": 3, "updatedReplicas": updated, "updateRevision": "b" });
        check(
            Kind::StatefulSet,
            partition.clone(),
            status(1),
            "1/2: 1 of 2 pods above the partition have been updated",
        );
        check(Kind::StatefulSet, partition, status(2), "done: 2 pods above the partition are new");
        check(
            Kind::StatefulSet,
            json!({ "updateStrategy": { "type": "OnDelete" } }),
            json!({}),
            "untold: its pods change when they are deleted (update strategy OnDelete)",
        );
    }

    #[test]
    fn daemonsets_and_cronjobs() {
        for (status, expected) in [
            (json!({ "desiredNumberScheduled": 2 }), "0/?: waiting for the change to be noticed"),
            (
                json!({ "observedGeneration": 4, "desiredNumberScheduled": 2, "updatedNumberScheduled": 1, "numberAvailable": 2 }),
                "1/2: 1 of 2 new pods have been made",
            ),
            (
                json!({ "observedGeneration": 4, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 1 }),
                "1/2: 1 of 2 new pods are available",
            ),
            (
                json!({ "observedGeneration": 4, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2 }),
                "done: 2 pods are new and available",
            ),
        ] {
            check(Kind::DaemonSet, json!({}), status, expected);
        }
        check(Kind::CronJob, json!({}), json!({}), "done: its next pods have the change");
    }
}
