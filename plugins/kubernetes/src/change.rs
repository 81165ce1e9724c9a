//! What an update changes of a workload's pods, on any object that has their template: on what a server has, or on a
//! manifest. It knows neither servers nor files.

use std::collections::BTreeMap;

use cooperage_sdk::{Error, Result};
use serde_json::{Value, json};

use crate::parameters::Wanted;
use crate::value;
use crate::workload::{Container, Kind};

/// A change.
#[derive(Debug, Clone, Copy)]
pub struct Change<'w> {
    /// The new image.
    pub image: Option<&'w str>,
    /// Environment variables to set.
    pub env: &'w BTreeMap<String, String>,
    /// Annotations of the pods to set.
    pub annotations: &'w BTreeMap<String, String>,
    /// The secret to pull with.
    pub pull_secret: Option<&'w str>,
}

impl<'w> Change<'w> {
    /// What the step wants.
    #[must_use]
    pub fn new(wanted: &'w Wanted) -> Self {
        let parameters = &wanted.parameters;
        Self {
            image: parameters.image.as_deref(),
            env: &parameters.env,
            annotations: &parameters.annotations,
            pull_secret: parameters.pull_secret.as_ref().map(|secret| secret.name.as_str()),
        }
    }

    /// Whether it matters which container is meant.
    #[must_use]
    pub fn needs_container(&self) -> bool {
        self.image.is_some() || !self.env.is_empty()
    }

    /// Whether the variables can be set in `live`, of which `own` is what was applied before: a `valueFrom` that somebody
    /// else has set stays beside the value, by force too, and servers refuse a variable that has both.
    ///
    /// # Errors
    /// `conflict` with the variable.
    pub fn check_env(&self, live: &Value, own: &Value, kind: Kind, container: Option<&Container>) -> Result<()> {
        let Some(container) = container else { return Ok(()) };
        let elsewhere = |object: &Value, name: &str| comes_from_elsewhere(object, kind, container, name);
        match self.env.keys().find(|name| elsewhere(live, name) && !elsewhere(own, name)) {
            None => Ok(()),
            Some(name) => Err(Error::conflict(format!(
                "somebody else has set `valueFrom` for the variable {name} of the container {}",
                container.name
            ))
            .hint("take the variable out of the manifest that sets it, or leave it out of `env`")),
        }
    }

    /// Makes it on an object of this kind. What is set already is replaced, what is missing is made.
    ///
    /// # Errors
    /// `invalid-input` if the object is not of the shape of its kind.
    pub fn make(&self, object: &mut Value, kind: Kind, container: Option<&Container>) -> Result<()> {
        let way = |last: &[&'static str]| [kind.template(), last].concat();
        if !self.annotations.is_empty() {
            let annotations = value::descend(object, &way(&["metadata", "annotations"]))?;
            annotations.extend(self.annotations.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
        }
        let spec = value::descend(object, &way(&["spec"]))?;
        if let Some(name) = self.pull_secret {
            value::named(spec, "imagePullSecrets", name)?;
        }
        let Some(container) = container else { return Ok(()) };
        let container = value::named(spec, container.list, &container.name)?;
        if let Some(image) = self.image {
            container.insert("image".to_owned(), image.into());
        }
        for (name, value) in self.env {
            // The whole variable: beside a value there may be no `valueFrom`.
            *value::named(container, "env", name)? =
                json!({ "name": name, "value": value }).as_object().cloned().unwrap_or_default();
        }
        Ok(())
    }
}

/// Whether a container has the value of a variable from elsewhere.
fn comes_from_elsewhere(object: &Value, kind: Kind, container: &Container, variable: &str) -> bool {
    let item = |list: &Value, name: &str| {
        let mut items = list.as_array().into_iter().flatten();
        items.find(|item| item["name"] == name).cloned().unwrap_or_default()
    };
    let container = item(&template(object, kind)["spec"][container.list], &container.name);
    !item(&container["env"], variable)["valueFrom"].is_null()
}

/// The template of the pods of a workload.
#[must_use]
pub fn template(object: &Value, kind: Kind) -> &Value {
    const NONE: &Value = &Value::Null;
    kind.template().iter().fold(object, |value, name| value.get(name).unwrap_or(NONE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Parameters;

    fn check(parameters: Value, mut object: Value, kind: Kind, expected: Value) {
        let parameters: Parameters = serde_json::from_value(parameters).unwrap();
        let wanted = Wanted::new(parameters).unwrap();
        let change = Change::new(&wanted);
        let container = Container { list: "containers", name: "web".into(), image: None };
        change.make(&mut object, kind, Some(&container)).unwrap();
        assert_eq!(object, expected);
    }

    #[test]
    fn nothing_but_the_change_is_made() {
        check(
            json!({ "deployment": "web", "image": "w:2" }),
            json!({}),
            Kind::Deployment,
            json!({ "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": "w:2" }] } } } }),
        );
    }

    #[test]
    fn all_of_a_change() {
        check(
            json!({ "cronjob": "web", "image": "w:2", "env": { "A": "1", "B": "2" }, "annotations": { "example/at": "now" },
                "pull_secret": { "name": "pull", "username": "u", "password": { "secret": "P" } } }),
            json!({ "spec": { "schedule": "@daily", "jobTemplate": { "spec": { "template": {
                "metadata": { "annotations": { "example/at": "before", "kept": "1" } },
                "spec": { "imagePullSecrets": [{ "name": "other" }], "containers": [
                    { "name": "side", "image": "s:1" },
                    { "name": "web", "image": "w:1", "env": [{ "name": "B", "valueFrom": { "fieldRef": {} } }] },
                ] } } } } } }),
            Kind::CronJob,
            json!({ "spec": { "schedule": "@daily", "jobTemplate": { "spec": { "template": {
                "metadata": { "annotations": { "example/at": "now", "kept": "1" } },
                "spec": { "imagePullSecrets": [{ "name": "other" }, { "name": "pull" }], "containers": [
                    { "name": "side", "image": "s:1" },
                    { "name": "web", "image": "w:2", "env": [{ "name": "B", "value": "2" }, { "name": "A", "value": "1" }] },
                ] } } } } } }),
        );
    }

    #[test]
    fn values_from_elsewhere_are_replaced_only_where_they_are_ours() {
        let object = |env: Value| json!({ "spec": { "template": { "spec": { "containers": [{ "name": "web", "env": env }] } } } });
        let from = json!([{ "name": "A", "valueFrom": { "fieldRef": {} } }]);
        let (nothing, foreign, value) = (json!({}), object(from), object(json!([{ "name": "A", "value": "0" }])));
        let parameters: Parameters =
            serde_json::from_value(json!({ "deployment": "web", "env": { "A": "1" } })).unwrap();
        let wanted = Wanted::new(parameters).unwrap();
        let container = Container { list: "containers", name: "web".into(), image: None };
        for (live, own, refused) in [
            (&foreign, &nothing, true),
            (&foreign, &value, true),
            (&foreign, &foreign, false),
            (&value, &nothing, false),
            (&nothing, &nothing, false),
        ] {
            let found = Change::new(&wanted).check_env(live, own, Kind::Deployment, Some(&container));
            assert_eq!(found.is_err(), refused, "{live} {own}");
        }
    }

    #[test]
    fn what_has_no_template_is_refused() {
        let wanted: Parameters = serde_json::from_value(json!({ "deployment": "web", "image": "w:2" })).unwrap();
        let wanted = Wanted::new(wanted).unwrap();
        let container = Container { list: "containers", name: "web".into(), image: None };
        for mut object in [json!({ "spec": 7 }), json!({ "spec": { "template": { "spec": { "containers": {} } } } })] {
            assert!(Change::new(&wanted).make(&mut object, Kind::Deployment, Some(&container)).is_err());
        }
        assert_eq!(template(&json!({ "spec": 7 }), Kind::Deployment), &Value::Null);
    }
}
