//! Why pods are not ready, in the words of the cluster: images that cannot be pulled, containers that crash, nodes without
//! room.

use cooperage_sdk::Result;
use serde_json::Value;

use crate::client::Client;
use crate::faults::clean;
use crate::kinds;
use crate::value;

/// So many pods are looked at, and so many of their troubles told.
const MOST_PODS: &str = "100";
const MOST_TOLD: usize = 5;
/// What every pod waits for at first.
const ORDINARY: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// The troubles of the pods that a workload selects, each once; none if there are none.
///
/// # Errors
/// Those of the server, for instance when the account may not list pods.
pub fn troubles(client: &Client, workload: &Value, namespace: &str) -> Result<Vec<String>> {
    let Some(selector) = selector(workload) else { return Ok(Vec::new()) };
    let path = kinds::collection("v1", Some(namespace), "pods")?;
    let pods = client.list(&path, &[("labelSelector", &selector), ("limit", MOST_PODS)], "pods")?;
    let mut told: Vec<String> = Vec::new();
    for trouble in pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).flat_map(of_pod) {
        let is_new = !told
            .iter()
            .any(|other| other.split_once(": ").map(|(_, why)| why) == trouble.split_once(": ").map(|(_, why)| why));
        if is_new && told.len() < MOST_TOLD {
            told.push(trouble);
        }
    }
    Ok(told)
}

/// The pods of a workload as a query has them: `app=web,tier in (a,b),!old`.
fn selector(workload: &Value) -> Option<String> {
    let selector = workload.pointer("/spec/selector")?;
    let mut parts = Vec::new();
    for (name, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        parts.push(format!("{name}={}", value.as_str()?));
    }
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = value::text(expression, "/key")?;
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let values = values.join(",");
        parts.push(match value::text(expression, "/operator")? {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    (!parts.is_empty()).then(|| parts.join(","))
}

fn of_pod(pod: &Value) -> Vec<String> {
    let name = clean(value::text(pod, "/metadata/name").unwrap_or("a pod"));
    let statuses = ["initContainerStatuses", "containerStatuses"].into_iter().flat_map(|list| {
        let list = pod["status"][list].as_array();
        list.into_iter().flatten()
    });
    let mut found: Vec<String> = statuses.filter_map(of_container).map(|why| format!("pod {name}: {why}")).collect();
    let conditions = pod["status"]["conditions"].as_array();
    let unscheduled = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False");
    if let Some(condition) = unscheduled {
        let message =
            value::text(condition, "/message").or(value::text(condition, "/reason")).unwrap_or("no reason given");
        found.push(format!("pod {name}: it has no node: {}", clean(message)));
    }
    if pod["status"]["phase"] == "Failed" {
        let message = value::text(pod, "/status/message").or(value::text(pod, "/status/reason")).unwrap_or("it failed");
        found.push(format!("pod {name}: {}", clean(message)));
    }
    found
}

fn of_container(status: &Value) -> Option<String> {
    if status["ready"] == true {
        return None;
    }
    let name = clean(value::text(status, "/name").unwrap_or_default());
    if let Some(reason) = value::text(status, "/state/waiting/reason").filter(|reason| !ORDINARY.contains(reason)) {
        let message = value::text(status, "/state/waiting/message").map(|text| format!(": {}", clean(text)));
        let last = exit(&status["lastState"]).map(|text| format!(" ({text})")).unwrap_or_default();
        return Some(format!("container {name} waits: {}{}{last}", clean(reason), message.unwrap_or_default()));
    }
    // A container that ended well has done its work.
    exit(&status["state"]).map(|text| format!("container {name} ended: {text}"))
}

/// How a container ended, if that was not well.
fn exit(state: &Value) -> Option<String> {
    let terminated = state.get("terminated").filter(|terminated| terminated.is_object())?;
    let code = terminated["exitCode"].as_i64().filter(|code| *code != 0)?;
    let reason = value::text(terminated, "/reason").map(|reason| format!("{}, ", clean(reason))).unwrap_or_default();
    let message = value::text(terminated, "/message").map(|text| format!(": {}", clean(text))).unwrap_or_default();
    Some(format!("{reason}exit code {code}{message}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn why_pods_are_not_ready() {
        let container =
            |status: Value| json!({ "metadata": { "name": "web-1" }, "status": { "containerStatuses": [status] } });
        for (pod, expected) in [
            (
                container(
                    json!({ "name": "web", "state": { "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image" } } }),
                ),
                vec!["pod web-1: container web waits: ImagePullBackOff: Back-off pulling image"],
            ),
            (
                container(json!({ "name": "web", "state": { "waiting": { "reason": "CrashLoopBackOff" } },
                    "lastState": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } } })),
                vec!["pod web-1: container web waits: CrashLoopBackOff (OOMKilled, exit code 137)"],
            ),
            (
                container(
                    json!({ "name": "web", "state": { "terminated": { "exitCode": 1, "reason": "Error", "message": "no\u{1b}[2J" } } }),
                ),
                vec!["pod web-1: container web ended: Error, exit code 1: no [2J"],
            ),
            (container(json!({ "name": "web", "state": { "waiting": { "reason": "ContainerCreating" } } })), vec![]),
            (container(json!({ "name": "web", "state": { "terminated": { "exitCode": 0 } } })), vec![]),
            (container(json!({ "name": "web", "ready": true, "state": { "running": {} } })), vec![]),
            (
                json!({ "metadata": { "name": "web-1" }, "status": { "conditions": [
                    { "type": "PodScheduled", "status": "False", "message": "0/3 nodes are available" }] } }),
                vec!["pod web-1: it has no node: 0/3 nodes are available"],
            ),
            (json!({ "status": { "phase": "Failed", "reason": "Evicted" } }), vec!["pod a pod: Evicted"]),
            (json!({ "status": { "containerStatuses": 7, "conditions": {} } }), vec![]),
        ] {
            assert_eq!(of_pod(&pod), expected, "{pod}");
        }
    }

    #[test]
    fn selectors() {
        for (value, expected) in [
            (json!({ "matchLabels": { "app": "web", "tier": "front" } }), Some("app=web,tier=front")),
            (
                json!({ "matchLabels": { "a": "b" }, "matchExpressions": [
                    { "key": "x", "operator": "In", "values": ["1", "2"] }, { "key": "y", "operator": "DoesNotExist" }] }),
                Some("a=b,x in (1,2),!y"),
            ),
            (json!({}), None),
            (json!({ "matchExpressions": [{ "key": "x", "operator": "Like" }] }), None),
        ] {
            assert_eq!(selector(&json!({ "spec": { "selector": value } })).as_deref(), expected);
        }
    }
}
