//! What a manager has applied to an object before, read back from the object.
//!
//! Server-side apply takes away what a manager applied once and does not apply again. Whoever wants to change one field
//! must therefore send along all others that are theirs: those of an earlier step, of another container, of a whole
//! manifest. The server keeps the list of them in `metadata.managedFields` (format `FieldsV1`: `f:NAME` is a field,
//! `k:{...}` the item of a list with these keys, `v:VALUE` an item that is its own key, `.` the thing itself).

use serde_json::{Map, Value, json};

/// Deeper than this, no kind has fields.
const DEEPEST: usize = 100;

/// The object with what `manager` has applied to it, and with its identity.
#[must_use]
pub fn of(object: &Value, manager: &str) -> Value {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let own = entries.into_iter().flatten().find(|entry| {
        let is = |name: &str, value: &str| entry[name].as_str().unwrap_or_default() == value;
        is("manager", manager) && is("operation", "Apply") && is("subresource", "")
    });
    let fields = own.and_then(|entry| entry["fieldsV1"].as_object());
    let mut owned = fields.and_then(|fields| extract(object, fields, 0)).filter(Value::is_object).unwrap_or(json!({}));
    for field in ["apiVersion", "kind"] {
        owned[field] = object[field].clone();
    }
    if !owned["metadata"].is_object() {
        owned["metadata"] = json!({});
    }
    for field in ["name", "namespace"] {
        owned["metadata"][field] = object["metadata"][field].clone();
    }
    owned
}

/// The part of a value that the fields name.
fn extract(value: &Value, fields: &Map<String, Value>, depth: usize) -> Option<Value> {
    let mut parts = fields.iter().filter(|(name, _)| *name != ".").peekable();
    if parts.peek().is_none() && !fields.contains_key(".") || depth > DEEPEST {
        return Some(value.clone());
    }
    match value {
        Value::Object(map) => {
            let part = |(name, below): (&String, &Value)| {
                let name = name.strip_prefix("f:")?;
                Some((name.to_owned(), extract(map.get(name)?, below.as_object()?, depth + 1)?))
            };
            Some(Value::Object(parts.filter_map(part).collect()))
        }
        Value::Array(items) => {
            let named: Vec<_> = parts.filter_map(|(name, below)| Some((select(items, name)?, name, below))).collect();
            let mut picked: Vec<(usize, Value)> = named
                .into_iter()
                .filter_map(|(at, name, below)| Some((at, item(&items[at], name, below, depth)?)))
                .collect();
            picked.sort_by_key(|(at, _)| *at);
            Some(Value::Array(picked.into_iter().map(|(_, item)| item).collect()))
        }
        scalar => Some(scalar.clone()),
    }
}

/// Which item of a list an entry means.
fn select(items: &[Value], name: &str) -> Option<usize> {
    let (sort, text) = name.split_at_checked(2)?;
    match sort {
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(text).ok()?;
            items.iter().position(|item| has_keys(item, &keys))
        }
        "v:" => {
            let value: Value = serde_json::from_str(text).ok()?;
            items.iter().position(|item| *item == value)
        }
        "i:" => text.parse().ok().filter(|at| *at < items.len()),
        _ => None,
    }
}

/// A key that an item lacks has its default, as `protocol: TCP` of a port; the server has written it in then.
fn has_keys(item: &Value, keys: &Map<String, Value>) -> bool {
    !keys.is_empty() && keys.iter().all(|(key, value)| item.get(key) == Some(value))
}

/// An item always with its keys: without them nobody knows which one it is.
fn item(item: &Value, name: &str, below: &Value, depth: usize) -> Option<Value> {
    let mut part = extract(item, below.as_object()?, depth + 1)?;
    if let Some(keys) = name.strip_prefix("k:") {
        let keys: Map<String, Value> = serde_json::from_str(keys).ok()?;
        part.as_object_mut()?.extend(keys);
    }
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "web", "namespace": "shop", "uid": "1", "labels": { "a": "1", "b": "2" }, "finalizers": ["x", "y"] },
            "spec": { "replicas": 3, "selector": { "matchLabels": { "a": "1" } }, "template": { "spec": { "containers": [
                { "name": "web", "image": "w:1", "ports": [{ "containerPort": 80, "protocol": "TCP", "name": "http" }] },
                { "name": "proxy", "image": "p:1", "args": ["-a", "-b"], "resources": {} },
            ] } } },
            "status": { "replicas": 3 },
        })
    }

    fn with(mut object: Value, fields: Value, manager: &str, operation: &str) -> Value {
        object["metadata"]["managedFields"] = json!([
            { "manager": "kubelet", "operation": "Update", "fieldsV1": { "f:status": {} }, "subresource": "status" },
            { "manager": "cooperage", "operation": "Update", "fieldsV1": { "f:spec": {} } },
            { "manager": "cooperage", "operation": "Apply", "subresource": "scale", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
            { "manager": manager, "operation": operation, "fieldsV1": fields },
        ]);
        object
    }

    #[test]
    fn only_what_the_manager_applied_comes_back() {
        let fields = json!({
            "f:metadata": { "f:labels": { "f:b": {} }, "f:finalizers": { ".": {}, "v:\"y\"": {} }, "f:gone": {} },
            "f:spec": { "f:selector": {}, "f:template": { "f:spec": { "f:containers": {
                "k:{\"name\":\"proxy\"}": { ".": {}, "f:image": {}, "f:name": {}, "f:args": {}, "f:resources": {} },
                "k:{\"name\":\"web\"}": { ".": {}, "f:ports": {
                    "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:containerPort": {} } } },
                "k:{\"name\":\"gone\"}": { ".": {}, "f:image": {} },
            } } } },
        });
        assert_eq!(
            of(&with(live(), fields, "cooperage", "Apply"), "cooperage"),
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": { "name": "web", "namespace": "shop", "labels": { "b": "2" }, "finalizers": ["y"] },
                "spec": { "selector": { "matchLabels": { "a": "1" } }, "template": { "spec": { "containers": [
                    { "name": "web", "ports": [{ "containerPort": 80, "protocol": "TCP" }] },
                    { "name": "proxy", "image": "p:1", "args": ["-a", "-b"], "resources": {} },
                ] } } },
            })
        );
    }

    #[test]
    fn of_others_nothing_comes_back() {
        let nothing = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" } });
        for object in [
            live(),
            with(live(), json!({ "f:spec": {} }), "helm", "Apply"),
            with(live(), json!({ "f:spec": {} }), "cooperage", "Update"),
            with(live(), json!({}), "cooperage", "Update"),
        ] {
            assert_eq!(of(&object, "cooperage"), nothing);
        }
    }

    #[test]
    fn nonsense_is_survived() {
        for fields in [
            json!(7),
            json!({ "f:spec": 7, "": {}, "é": {}, "k:": {}, "f:metadata": [] }),
            json!({ "f:spec": { "f:template": { "f:spec": { "f:containers": { "k:7": {}, "k:{}": {}, "i:9": {}, "i:-1": {}, "v:": {}, "x:1": {} } } } } }),
        ] {
            let _ = of(&with(live(), fields, "cooperage", "Apply"), "cooperage");
        }
        let mut deep = json!({});
        for _ in 0..120 {
            deep = json!({ "f:a": deep });
        }
        let _ = of(&with(live(), deep, "cooperage", "Apply"), "cooperage");
        for object in [json!(null), json!({ "metadata": 7 }), json!({ "metadata": { "managedFields": [7] } })] {
            let _ = of(&object, "cooperage");
        }
    }
}
