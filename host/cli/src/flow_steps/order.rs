//! What a step asks of a builder: which of its parameters are for the host itself, and what they may be.

use cooperage_engine::BuildRequest;
use cooperage_flow::{FaultKind, StepError};
use cooperage_store::Platform;
use serde_json::{Map, Value};

use crate::plugins::Ready;

/// What `with` of a builder says to the host itself; everything else goes to the plugin.
const HOST_PARAMETERS: [&str; 4] = ["context", "build_args", "labels", "platforms"];

/// The parameters of a step for a builder, read.
#[derive(Debug, PartialEq)]
pub(super) struct Order {
    /// The directory or URL that is the main context.
    pub(super) context: Option<String>,
    arguments: Vec<(String, String)>,
    labels: Vec<(String, String)>,
    platforms: Vec<Platform>,
    /// What the plugin gets.
    parameters: Value,
}

impl Order {
    /// None if the step is for a task. A plugin that has tasks too is meant as what the parameters fit.
    ///
    /// # Errors
    /// What is for the host is not of the right shape.
    pub(super) fn of(ready: &Ready, parameters: &Value) -> Result<Option<Self>, StepError> {
        let roles = ready.plugin.roles();
        if !roles.builder {
            return Ok(None);
        }
        let (host, plugin) = split(parameters);
        let fits = |role: &str, parameters| ready.plugin.check_parameters(role, parameters).is_ok();
        if roles.task && fits("task", parameters) && !fits("builder", &plugin) {
            return Ok(None);
        }
        Self::read(&host, plugin).map(Some)
    }

    fn read(host: &Map<String, Value>, parameters: Value) -> Result<Self, StepError> {
        let context = match host.get("context") {
            None => None,
            Some(Value::String(place)) => Some(place.clone()),
            Some(_) => return Err(wrong("/context", "`context` must be text: a directory or a URL")),
        };
        Ok(Self {
            context,
            arguments: pairs("build_args", host.get("build_args"))?,
            labels: pairs("labels", host.get("labels"))?,
            platforms: platforms(host.get("platforms"))?,
            parameters,
        })
    }

    /// The request to the plugin.
    pub(super) fn request(self, epoch: Option<i64>) -> BuildRequest {
        BuildRequest {
            arguments: self.arguments,
            labels: self.labels,
            platforms: self.platforms,
            epoch: epoch.and_then(|epoch| u64::try_from(epoch).ok()),
            ..BuildRequest::new(self.parameters, Platform::host())
        }
    }
}

/// A parameter that is not what it must be.
pub(super) fn wrong(pointer: impl Into<String>, message: impl Into<String>) -> StepError {
    StepError { pointer: Some(pointer.into()), ..StepError::new(FaultKind::Invalid, message) }
}

/// Parts what is meant for the host from what is meant for the plugin.
fn split(parameters: &Value) -> (Map<String, Value>, Value) {
    let (mut host, mut plugin) = (Map::new(), Map::new());
    for (name, value) in parameters.as_object().into_iter().flatten() {
        let into = if HOST_PARAMETERS.contains(&name.as_str()) { &mut host } else { &mut plugin };
        into.insert(name.clone(), value.clone());
    }
    (host, Value::Object(plugin))
}

/// A map of texts, numbers and truth values as pairs of texts.
fn pairs(parameter: &str, value: Option<&Value>) -> Result<Vec<(String, String)>, StepError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let Value::Object(map) = value else {
        let hint = format!("write `{parameter}: {{ NAME: VALUE }}`");
        let error = wrong(format!("/{parameter}"), format!("`{parameter}` must be a map of names and values"));
        return Err(StepError { hint: Some(hint), ..error });
    };
    let pair = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Ok((name.clone(), text.clone())),
        Value::Number(_) | Value::Bool(_) => Ok((name.clone(), value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            let pointer = format!("/{parameter}/{}", name.replace('~', "~0").replace('/', "~1"));
            let error = wrong(pointer, format!("the value of `{name}` must be text, a number, `true` or `false`"));
            let hint = match value {
                // Whoever has the image can read them.
                Value::Object(_) if value.get("secret").is_some() => {
                    "arguments and labels become part of the image: let the builder mount the secret instead"
                }
                Value::Null => "leave it out, or write `\"\"` for an empty text",
                _ => "an expression makes text of it: `${{ string(...) }}`",
            };
            Err(StepError { hint: Some(hint.to_owned()), ..error })
        }
    };
    map.iter().map(pair).collect()
}

fn platforms(value: Option<&Value>) -> Result<Vec<Platform>, StepError> {
    let expected = |pointer: &str| wrong(pointer, "expected platforms such as linux/amd64");
    let parse = |pointer: &str, text: &str| text.parse().map_err(|error| wrong(pointer, format!("{error}")));
    match value {
        None => Ok(vec![Platform::host()]),
        Some(Value::String(text)) => text.split(',').map(|text| parse("/platforms", text.trim())).collect(),
        Some(Value::Array(all)) if !all.is_empty() => {
            let one = |(at, value): (usize, &Value)| {
                let pointer = format!("/platforms/{at}");
                value.as_str().ok_or_else(|| expected(&pointer)).and_then(|text| parse(&pointer, text))
            };
            all.iter().enumerate().map(one).collect()
        }
        Some(_) => Err(expected("/platforms")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(parameters: Value, expected: Result<Order, &str>) {
        let (host, plugin) = split(&parameters);
        let found = Order::read(&host, plugin).map_err(|error| {
            assert_eq!(error.kind, FaultKind::Invalid, "{error:?}");
            error.pointer.unwrap()
        });
        assert_eq!(found, expected.map_err(str::to_owned), "{parameters}");
    }

    #[test]
    fn what_is_for_the_host_does_not_reach_the_plugin() {
        let texts = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        check(
            json!({ "context": "app", "target": "prod", "build_args": { "A": "a", "B": 1.5, "C": true },
                "labels": { "org.example/x": 2 }, "platforms": "linux/amd64, linux/arm64" }),
            Ok(Order {
                context: Some("app".to_owned()),
                arguments: texts(&[("A", "a"), ("B", "1.5"), ("C", "true")]),
                labels: texts(&[("org.example/x", "2")]),
                platforms: ["linux/amd64", "linux/arm64"].map(|text| text.parse().unwrap()).to_vec(),
                parameters: json!({ "target": "prod" }),
            }),
        );
        let (arguments, labels) = (Vec::new(), Vec::new());
        let platforms = vec![Platform::host()];
        check(json!({}), Ok(Order { context: None, arguments, labels, platforms, parameters: json!({}) }));
    }

    #[test]
    fn what_has_the_wrong_shape_is_told_with_its_place() {
        for (parameters, pointer) in [
            (json!({ "context": 5 }), "/context"),
            (json!({ "context": null }), "/context"),
            (json!({ "build_args": ["A=1"] }), "/build_args"),
            (json!({ "build_args": "A=1" }), "/build_args"),
            (json!({ "build_args": null }), "/build_args"),
            (json!({ "labels": ["a=b"] }), "/labels"),
            (json!({ "build_args": { "TOKEN": { "secret": "TOKEN" } } }), "/build_args/TOKEN"),
            (json!({ "build_args": { "A": "a", "B": null } }), "/build_args/B"),
            (json!({ "labels": { "org.example/x": ["a"] } }), "/labels/org.example~1x"),
            (json!({ "platforms": [] }), "/platforms"),
            (json!({ "platforms": null }), "/platforms"),
            (json!({ "platforms": "" }), "/platforms"),
            (json!({ "platforms": ["linux/amd64", 5] }), "/platforms/1"),
            (json!({ "platforms": ["linux/amd64", "a/b/c/d"] }), "/platforms/1"),
        ] {
            check(parameters, Err(pointer));
        }
    }

    #[test]
    fn a_secret_is_told_where_it_belongs() {
        let value = json!({ "T": { "secret": "TOKEN" } });
        let error = pairs("build_args", Some(&value)).unwrap_err();
        assert!(error.hint.unwrap().contains("mount the secret"));
    }
}
