//! Checks objects against the published types of the Kubernetes API: nothing may be unknown, nothing of another type.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is wrong with an object; none if it is right, or of a kind that nobody has published.
pub fn wrong(object: &Value) -> Option<String> {
    let kind = (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
    match kind {
        ("apps/v1", "Deployment") => of::<Deployment>(object),
        ("apps/v1", "StatefulSet") => of::<StatefulSet>(object),
        ("apps/v1", "DaemonSet") => of::<DaemonSet>(object),
        ("batch/v1", "CronJob") => of::<CronJob>(object),
        ("v1", "Secret") => of::<Secret>(object),
        ("v1", "ConfigMap") => of::<ConfigMap>(object),
        ("v1", "Namespace") => of::<Namespace>(object),
        ("v1", "Service") => of::<Service>(object),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => of::<CustomResourceDefinition>(object),
        ("example.com/v1", _) => None,
        _ => Some(format!("nobody knows the kind {kind:?}")),
    }
}

/// The types pass over fields that they do not know, so what comes out is compared with what went in.
fn of<T: DeserializeOwned + Serialize>(object: &Value) -> Option<String> {
    match serde_json::from_value::<T>(object.clone()) {
        Err(error) => Some(error.to_string()),
        Ok(typed) => lost(object, &serde_json::to_value(typed).unwrap(), ""),
    }
}

fn lost(given: &Value, kept: &Value, place: &str) -> Option<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => given.iter().find_map(|(name, value)| {
            let place = format!("{place}.{name}");
            match kept.get(name) {
                Some(kept) => lost(value, kept, &place),
                None => Some(format!("unknown field {place}")),
            }
        }),
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => given
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(at, (given, kept))| lost(given, kept, &format!("{place}[{at}]"))),
        (given, kept) if given == kept => None,
        (given, kept) => Some(format!("{place} is {given} and becomes {kept}")),
    }
}
