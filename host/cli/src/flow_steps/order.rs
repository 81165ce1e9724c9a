//! What a step asks of a builder: which of its parameters are for the host itself, and what they may be.

use cooperage_engine::BuildRequest;
use cooperage_flow::{FaultKind, StepError};
use cooperage_solve::SourceRequest;
use cooperage_store::Platform;
use serde_json::{Map, Value};

use crate::plugins::Ready;
use crate::sources::is_url;

/// What `with` of a builder says to the host itself; everything else goes to the plugin.
const HOST_PARAMETERS: [&str; 4] = ["context", "build_args", "labels", "platforms"];

/// The parameters of a step for a builder, read.
#[derive(Debug, PartialEq)]
pub(super) struct Order {
    /// What the main context is.
    pub(super) context: Option<Place>,
    arguments: Vec<(String, String)>,
    labels: Vec<(String, String)>,
    platforms: Vec<Platform>,
    /// What the plugin gets.
    parameters: Value,
}

/// Where the files of a build are.
#[derive(Debug, PartialEq)]
pub(super) enum Place {
    /// A directory of the tree that the step is given, or of the project.
    Directory(String),
    /// A URL, with parameters for the source plugin that serves it.
    Remote(SourceRequest),
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
        Ok(Self {
            context: host.get("context").map(place).transpose()?,
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

/// Adds what the host itself takes to the names that a builder knows.
pub(super) fn with_own_names(error: StepError) -> StepError {
    let top = error.pointer.as_ref().is_some_and(|pointer| pointer.matches('/').count() == 1);
    let own = HOST_PARAMETERS.iter().filter(|_| top).map(|name| (*name).to_owned());
    StepError { known: error.known.map(|known| known.into_iter().chain(own).collect()), ..error }
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

/// `DIRECTORY`, `URL` or `{ url: URL, with: PARAMETERS }`. Secrets stay names: only the source plugin may read them.
fn place(value: &Value) -> Result<Place, StepError> {
    let map = match value {
        Value::String(url) if is_url(url) => return Ok(Place::Remote(SourceRequest::new(url))),
        Value::String(directory) => return Ok(Place::Directory(directory.clone())),
        Value::Object(map) => map,
        _ => {
            let message = "`context` must be a directory, a URL, or `{ url: URL, with: PARAMETERS }`";
            return Err(wrong("/context", message));
        }
    };
    let names = ["url", "with"];
    if let Some(name) = map.keys().find(|name| !names.contains(&name.as_str())) {
        let pointer = format!("/context/{}", name.replace('~', "~0").replace('/', "~1"));
        let known = Some(names.map(str::to_owned).to_vec());
        return Err(StepError { known, ..wrong(pointer, format!("there is no `{name}` in a context")) });
    }
    let url = map.get("url").and_then(Value::as_str).filter(|url| is_url(url));
    let url = url.ok_or_else(|| wrong("/context/url", "the `url` of a context must be a URL"))?;
    match map.get("with") {
        None => Ok(Place::Remote(SourceRequest::new(url))),
        Some(with @ Value::Object(_)) => {
            Ok(Place::Remote(SourceRequest { parameters: with.to_string(), ..SourceRequest::new(url) }))
        }
        Some(_) => Err(wrong("/context/with", "`with` must be a map: the parameters of the source plugin")),
    }
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
                context: Some(Place::Directory("app".to_owned())),
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
    fn a_context_is_a_directory_or_a_url_with_parameters() {
        let check = |context: Value, expected: Place| assert_eq!(place(&context).unwrap(), expected, "{context}");
        let remote = |parameters: &str| {
            Place::Remote(SourceRequest { url: "https://a.example/x".to_owned(), parameters: parameters.to_owned() })
        };
        check(json!("app/web"), Place::Directory("app/web".to_owned()));
        check(json!("https://a.example/x"), remote("{}"));
        check(json!({ "url": "https://a.example/x" }), remote("{}"));
        check(
            json!({ "url": "https://a.example/x", "with": { "password": { "secret": "NAME" } } }),
            remote(r#"{"password":{"secret":"NAME"}}"#),
        );
    }

    #[test]
    fn what_has_the_wrong_shape_is_told_with_its_place() {
        for (parameters, pointer) in [
            (json!({ "context": 5 }), "/context"),
            (json!({ "context": null }), "/context"),
            (json!({ "context": {} }), "/context/url"),
            (json!({ "context": { "url": "directory" } }), "/context/url"),
            (json!({ "context": { "url": "https://a.example/x", "with": "y" } }), "/context/with"),
            (json!({ "context": { "url": "https://a.example/x", "wiht": {} } }), "/context/wiht"),
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
