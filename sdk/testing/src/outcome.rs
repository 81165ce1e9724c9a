//! What happened, in the form of `expect`, and its judgement.

use cooperage_engine::CallError;
use cooperage_solve::{Error, ErrorKind};
use serde_json::{Map, Value, json};

use crate::case::{Case, Expect, ExpectError};
use crate::compare::{differences, shown};
use crate::harness::{PROJECT, World};
use crate::perform::Result_;

/// The result of a call with what was heard during it.
pub(crate) struct Seen {
    pub(crate) result: Result_,
    pub(crate) log: String,
}

/// Everything that happened.
pub(crate) fn actual(world: &World, case: &Case, seen: &Seen) -> Value {
    let mut all = match &seen.result {
        Ok(values) => values.clone(),
        Err(error) => Map::from_iter([("error".to_owned(), failure(error))]),
    };
    all.insert("http".to_owned(), Value::Array(world.script.iter().flat_map(|script| script.requests()).collect()));
    all.insert("runs".to_owned(), Value::Array(world.commands.commands()));
    if !world.build.record().steps.is_empty() {
        // Side by side they end in any order.
        let mut names: Vec<String> = world.build.record().steps.into_iter().map(|step| step.name).collect();
        names.sort();
        all.insert("operations".to_owned(), json!(names));
    }
    all.insert("pushed".to_owned(), Value::Array(world.pushes.pushed()));
    let expected = case.expect.state.iter().flat_map(Map::keys);
    let mut state = Map::new();
    for key in case.state.keys().chain(expected) {
        if let Ok(Some(value)) = world.plugin.kept(PROJECT, key) {
            state.insert(key.clone(), json!(String::from_utf8_lossy(&value)));
        }
    }
    all.insert("state".to_owned(), Value::Object(state));
    Value::Object(all)
}

fn failure(error: &CallError) -> Value {
    let kind = match error {
        CallError::Trap { .. } => "crashed",
        CallError::Limit { .. } => "stopped",
        other => word(Error::from(other.clone()).kind),
    };
    let error = Error::from(error.clone());
    json!({ "kind": kind, "message": error.message, "context": error.context, "hint": error.hint })
}

/// The contract's name of a kind.
fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput => "invalid-input",
        ErrorKind::NotFound => "not-found",
        ErrorKind::Denied => "denied",
        ErrorKind::Unauthenticated => "unauthenticated",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Limit => "limit",
        ErrorKind::Internal => "internal",
    }
}

/// What is not as expected.
pub(crate) fn judge(expect: &Expect, actual: &Value, log: &str) -> Vec<String> {
    let mut found = Vec::new();
    match (&expect.error, actual.get("error")) {
        (None, Some(error)) => found.push(unexpected(error)),
        (Some(expected), None) => {
            let kind = expected.kind.as_deref().unwrap_or("any kind");
            found.push(format!("error: expected one of {kind}, and the call succeeds"));
        }
        (Some(expected), Some(error)) => found.extend(judge_error(expected, error)),
        (None, None) => {}
    }
    // After an error that nobody expected, nothing else is there either.
    if actual.get("error").is_none() || expect.error.is_some() {
        for (key, expected) in wanted(expect) {
            found.extend(differences(&expected, actual.get(&key).unwrap_or(&Value::Null), &key));
        }
    }
    let missing = expect.log_contains.iter().filter(|line| !log.contains(line.as_str()));
    found.extend(missing.map(|line| format!("log: nowhere is {}", json!(line))));
    found
}

fn unexpected(error: &Value) -> String {
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut message = format!("the call fails, {}: {}", text("kind"), text("message"));
    for cause in error.get("context").and_then(Value::as_array).into_iter().flatten() {
        message.push_str(&format!("\n  because {}", cause.as_str().unwrap_or_default()));
    }
    if !text("hint").is_empty() {
        message.push_str(&format!("\n  help: {}", text("hint")));
    }
    message
}

fn judge_error(expected: &ExpectError, actual: &Value) -> Vec<String> {
    let mut wanted = Map::new();
    wanted.extend(expected.kind.as_ref().map(|kind| ("kind".to_owned(), json!(kind))));
    wanted.extend(expected.message.as_ref().map(|message| ("message".to_owned(), json!(message))));
    let mut found = differences(&Value::Object(wanted), actual, "error");
    if let Some(part) = &expected.message_contains {
        let texts = ["message", "hint"].into_iter().filter_map(|key| actual.get(key)?.as_str());
        let context = actual.get("context").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        if !texts.chain(context).any(|text| text.contains(part)) {
            found.push(format!("error: nothing in {} contains {}", shown(actual), json!(part)));
        }
    }
    found
}

/// The parts of `expect` that are compared as they are.
fn wanted(expect: &Expect) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut add = |key: &str, value: Option<Value>| all.extend(value.map(|value| (key.to_owned(), value)));
    add("outputs", expect.outputs.as_ref().map(|map| json!(map)));
    add("files", expect.files.as_ref().map(files));
    add("images", expect.images.as_ref().map(|images| Value::Array(images.iter().map(image).collect())));
    let sorted = |names: &Vec<String>| {
        let mut names = names.clone();
        names.sort();
        json!(names)
    };
    add("operations", expect.operations.as_ref().map(sorted));
    add("answer", expect.answer.clone());
    add("http", expect.http.as_ref().map(|list| json!(list)));
    add("runs", expect.runs.as_ref().map(|list| json!(list)));
    add("pushed", expect.pushed.as_ref().map(|list| json!(list)));
    add("state", expect.state.as_ref().map(|map| json!(map)));
    all
}

/// A text stands for the content of a file.
fn files(expected: &Map<String, Value>) -> Value {
    let file = |(path, file): (&String, &Value)| {
        let file = match file {
            Value::String(content) => json!({ "kind": "file", "content": content }),
            other => other.clone(),
        };
        (path.clone(), file)
    };
    Value::Object(expected.iter().map(file).collect())
}

fn image(expected: &Map<String, Value>) -> Value {
    let mut image = expected.clone();
    if let Some(Value::Object(map)) = image.get("files") {
        let map = files(map);
        image.insert("files".to_owned(), map);
    }
    Value::Object(image)
}
