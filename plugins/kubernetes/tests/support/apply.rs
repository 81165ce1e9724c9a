//! Server-side apply, as far as the tests need it: who has set which field, conflicts, and what goes when it is applied no
//! more (kubernetes.io, "Server-Side Apply"). Lists with keys are merged, all others are values.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// A step on the way to a field, written as `FieldsV1` has it: `f:NAME` or `k:{...}`.
type Path = Vec<String>;

/// An object and the owners of its fields, by manager and operation.
#[derive(Clone, Default)]
pub struct Tracked {
    pub live: Value,
    pub owners: BTreeMap<(String, String), BTreeSet<Path>>,
}

/// A field that somebody else has set to something else.
#[derive(Debug)]
pub struct Conflict {
    pub manager: String,
    pub field: String,
}

impl Tracked {
    /// One that somebody made by other means than apply, as `kubectl create` does.
    pub fn made_by(manager: &str, object: Value) -> Self {
        let paths = fields(&object).into_iter().map(|(path, _)| path).collect();
        Self { live: object, owners: BTreeMap::from([((manager.to_owned(), "Update".to_owned()), paths)]) }
    }

    /// Applies; the object stays as it was if there are conflicts.
    pub fn apply(&mut self, manager: &str, force: bool, wanted: &Value) -> Result<(), Vec<Conflict>> {
        let own = (manager.to_owned(), "Apply".to_owned());
        let new = fields(wanted);
        let mut conflicts = Vec::new();
        for (path, _) in new.iter().filter(|(path, value)| !value.is_null() && get(&self.live, path) != Some(value)) {
            for (owner, _) in self.owners.iter().filter(|(owner, set)| **owner != own && set.contains(path)) {
                conflicts.push((owner.clone(), path.clone()));
            }
        }
        if !force && !conflicts.is_empty() {
            let told = |(owner, path): ((String, String), Path)| Conflict { manager: owner.0, field: show(&path) };
            return Err(conflicts.into_iter().map(told).collect());
        }
        for (owner, path) in conflicts {
            self.owners.get_mut(&owner).unwrap().remove(&path);
        }
        let paths: BTreeSet<Path> = new.iter().map(|(path, _)| path.clone()).collect();
        let before = self.owners.insert(own.clone(), paths.clone()).unwrap_or_default();
        let others: BTreeSet<&Path> = self.owners.values().flatten().collect();
        // Items before the fields in them, by which they are found.
        for path in before.iter().filter(|path| !others.iter().any(|other| other.starts_with(path))) {
            remove(&mut self.live, path);
        }
        prune(&mut self.live);
        for (path, value) in new {
            set(&mut self.live, &path, value);
        }
        for name in ["apiVersion", "kind"] {
            self.live[name] = wanted[name].clone();
        }
        for name in ["name", "namespace"] {
            if wanted["metadata"][name].is_string() {
                self.live["metadata"][name] = wanted["metadata"][name].clone();
            }
        }
        Ok(())
    }

    /// The object with `metadata.managedFields`.
    pub fn shown(&self) -> Value {
        let mut object = self.live.clone();
        let entry = |((manager, operation), set): (&(String, String), &BTreeSet<Path>)| {
            json!({ "manager": manager, "operation": operation, "apiVersion": object["apiVersion"],
                "fieldsType": "FieldsV1", "fieldsV1": to_fields(set), "time": "2026-01-01T00:00:00Z" })
        };
        let entries: Vec<Value> = self.owners.iter().map(entry).collect();
        object["metadata"]["managedFields"] = entries.into();
        object
    }
}

/// By what the items of a list are told apart.
fn keys(list: &str) -> &'static [&'static str] {
    match list {
        "f:containers" | "f:initContainers" | "f:env" | "f:imagePullSecrets" | "f:volumes" => &["name"],
        "f:ports" => &["containerPort", "protocol"],
        "f:volumeMounts" => &["mountPath"],
        _ => &[],
    }
}

/// All fields with their values; the item of a list has none of its own.
fn fields(object: &Value) -> Vec<(Path, Value)> {
    let mut all = Vec::new();
    walk(object, &mut Vec::new(), &mut all);
    let identity = ["f:name", "f:namespace", "f:resourceVersion", "f:uid", "f:generation", "f:managedFields"];
    all.retain(|(path, _)| match path.as_slice() {
        [first] => !matches!(first.as_str(), "f:apiVersion" | "f:kind"),
        [first, second, ..] if first == "f:metadata" => !identity.contains(&second.as_str()),
        [first, ..] => first != "f:status",
        [] => false,
    });
    all
}

fn walk(value: &Value, path: &mut Path, all: &mut Vec<(Path, Value)>) {
    let is_atom = path.last().is_some_and(|last| last == "f:selector");
    match value {
        Value::Object(map) if !map.is_empty() && !is_atom => {
            for (name, value) in map {
                path.push(format!("f:{name}"));
                walk(value, path, all);
                path.pop();
            }
        }
        Value::Array(items) if !path.last().is_none_or(|last| keys(last).is_empty()) => {
            let keys = keys(path.last().unwrap());
            for item in items {
                let key: Map<String, Value> = keys
                    .iter()
                    .map(|key| ((*key).to_owned(), item.get(*key).cloned().unwrap_or_else(|| "TCP".into())))
                    .collect();
                path.push(format!("k:{}", Value::Object(key)));
                all.push((path.clone(), Value::Null));
                walk(item, path, all);
                path.pop();
            }
        }
        value => all.push((path.clone(), value.clone())),
    }
}

fn matches(item: &Value, key: &str) -> bool {
    let keys: Map<String, Value> = serde_json::from_str(&key[2..]).unwrap();
    keys.iter().all(|(name, value)| item.get(name).unwrap_or(&json!("TCP")) == value)
}

fn get<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, step| match step.strip_prefix("f:") {
        Some(name) => value.get(name),
        None => value.as_array()?.iter().find(|item| matches(item, step)),
    })
}

fn set(value: &mut Value, path: &[String], new: Value) {
    let Some((step, rest)) = path.split_first() else {
        if !new.is_null() {
            *value = new;
        }
        return;
    };
    match step.strip_prefix("f:") {
        Some(name) => {
            if !value.is_object() {
                *value = json!({});
            }
            set(&mut value[name], rest, new);
        }
        None => {
            if !value.is_array() {
                *value = json!([]);
            }
            let items = value.as_array_mut().unwrap();
            let at = items.iter().position(|item| matches(item, step)).unwrap_or_else(|| {
                items.push(serde_json::from_str(&step[2..]).unwrap());
                items.len() - 1
            });
            set(&mut items[at], rest, new);
        }
    }
}

fn remove(value: &mut Value, path: &[String]) {
    let Some((step, rest)) = path.split_first() else { return };
    match (step.strip_prefix("f:"), rest.is_empty()) {
        (Some(name), true) => {
            value.as_object_mut().and_then(|map| map.remove(name));
        }
        (Some(name), false) => {
            if let Some(below) = value.get_mut(name) {
                remove(below, rest);
            }
        }
        (None, last) => {
            let Some(items) = value.as_array_mut() else { return };
            let Some(at) = items.iter().position(|item| matches(item, step)) else { return };
            if last {
                items.remove(at);
            } else {
                remove(&mut items[at], rest);
            }
        }
    }
}

/// A list whose last item went is gone.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| value.as_array().is_none_or(|items| !items.is_empty()));
            map.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn to_fields(set: &BTreeSet<Path>) -> Value {
    let mut root = json!({});
    for path in set {
        let mut at = &mut root;
        for step in path {
            at = at.as_object_mut().unwrap().entry(step.clone()).or_insert_with(|| json!({}));
        }
        if path.last().is_some_and(|last| last.starts_with("k:")) {
            at["."] = json!({});
        }
    }
    root
}

/// As the server writes it in a conflict: `.spec.template.spec.containers[name="web"].image`.
fn show(path: &[String]) -> String {
    path.iter()
        .map(|step| match step.strip_prefix("f:") {
            Some(name) => format!(".{name}"),
            None => {
                let keys: Map<String, Value> = serde_json::from_str(&step[2..]).unwrap();
                let keys: Vec<_> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("[{}]", keys.join(","))
            }
        })
        .collect()
}
