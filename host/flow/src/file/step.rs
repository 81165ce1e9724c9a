//! One step of a flow from its YAML tree; knows the fields of a step, not the other steps.

use super::fields::{Advice, Fields, entries, no_advice};
use super::matrix;
use super::names::is_name;
use super::read::Reader;
use super::{Condition, RETRY_FIELDS, Retry, STEP_FIELDS, Step};
use crate::align::align;
use crate::diagnostic::{Code, Diagnostic};
use crate::expression::Expression;
use crate::parameters::Parameters;
use crate::source::Located;
use crate::yaml::{Key, Node, Value};
use std::time::Duration;

const MAX_ATTEMPTS: u32 = 100;

/// Reads a step. A step with mistakes is returned too, so that others that refer to it are not blamed.
pub(super) fn read(reader: &mut Reader<'_>, key: &Key, node: &Node) -> Step {
    let source = reader.source.clone();
    let mut step = Step {
        name: Located::new(key.name.clone(), key.span.clone()),
        uses: Located::new(String::new(), key.span.clone()),
        with: Parameters::empty(key.span.clone()),
        input: None,
        inputs: Vec::new(),
        needs: Vec::new(),
        condition: None,
        matrix: None,
        timeout: None,
        retry: Retry::default(),
        continue_on_error: false,
        finally: false,
    };
    let what = format!("the step `{}`", key.name);
    let found = &mut reader.found;
    let Some(entries) = entries(&source, node, &key.span, &what, found) else {
        return step;
    };
    let fields = Fields::new(&source, entries, STEP_FIELDS, "a step", &advice, found);
    if fields.get("uses").is_none() {
        let missing = Diagnostic::error(&source, Code::MissingField, key.span.clone(), format!("{what} has no `uses`"));
        found.push(missing.hint("name the plugin that does the work: `uses: script`"));
    }
    step.uses = fields.text("uses", found).unwrap_or(step.uses);
    if fields.map("with", found).is_some()
        && let Some((_, node)) = fields.get("with")
    {
        step.with = Parameters::read(&source, node, &reader.options.variables, found);
    }
    step.input = fields.text("in", found);
    step.inputs = inputs(&fields, found);
    step.needs = needs(&fields, found);
    step.condition = condition(reader, &fields);
    let found = &mut reader.found;
    step.timeout = fields.get("timeout").and_then(|(_, node)| duration(&fields, "timeout", node, found));
    step.retry = retry(&fields, found);
    step.continue_on_error = fields.flag("continue_on_error", found);
    step.finally = fields.flag("finally", found);
    step.matrix = matrix::read(&fields, step.finally, found);
    step
}

fn advice(name: &str) -> Option<Advice> {
    let missing = |hint: &str| Some((Code::UnknownField, format!("a step has no field `{name}`"), hint.to_string()));
    match name {
        "strategy" => missing("`matrix`, `max_parallel` and `fail_fast` are fields of the step itself"),
        "outputs" => missing("what a step gives is the plugin's: of `script`, write `with: { outputs: ... }`"),
        "env" => missing("give the plugin its values under `with`; expressions see the variables as `env.NAME`"),
        "run" => missing("write `uses: script` and put the command under `with: { run: ... }`"),
        "depends_on" => missing("write `needs`"),
        _ => None,
    }
}

fn needs(fields: &Fields<'_>, found: &mut Vec<Diagnostic>) -> Vec<Located<String>> {
    let Some((key, node)) = fields.get("needs") else {
        return Vec::new();
    };
    match &node.value {
        Value::List(items) => {
            items.iter().filter_map(|item| fields.as_text("an entry of `needs`", &key.span, item, found)).collect()
        }
        Value::Text(name) => {
            fields.wrong_type("needs", "a list", Some(format!("write `needs: [{name}]`")), found);
            Vec::new()
        }
        _ => {
            fields.wrong_type("needs", "a list of names", None, found);
            Vec::new()
        }
    }
}

/// Further trees by name.
fn inputs(fields: &Fields<'_>, found: &mut Vec<Diagnostic>) -> Vec<(Located<String>, Located<String>)> {
    let Some((_, node)) = fields.get("inputs") else {
        return Vec::new();
    };
    let Value::Map(entries) = &node.value else {
        let hint = "name each: `inputs: { NAME: STEP }`; `in: STEP` is the one without a name".to_string();
        fields.wrong_type("inputs", "a map", Some(hint), found);
        return Vec::new();
    };
    let mut inputs = Vec::with_capacity(entries.len());
    for (key, node) in entries {
        if !is_name(&key.name) {
            let message = format!("`{}` cannot be the name of an input", key.name);
            found.push(
                Diagnostic::error(fields.source, Code::InvalidValue, key.span.clone(), message)
                    .hint("a name is at most 64 letters, digits, `_` and `-`, and does not begin with a digit or `-`"),
            );
        }
        if let Some(step) = fields.as_text(&format!("the input `{}`", key.name), &key.span, node, found) {
            inputs.push((Located::new(key.name.clone(), key.span.clone()), step));
        }
    }
    inputs
}

/// `if` is an expression with or without `${{ }}` around it.
fn condition(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Condition> {
    let (_, node) = fields.get("if")?;
    let found = &mut reader.found;
    match &node.value {
        Value::Bool(value) => Some(Condition::Constant(*value)),
        Value::Text(text) => {
            let places = align(fields.source, &node.span, text);
            let trimmed = text.trim();
            let inner = trimmed
                .strip_prefix("${{")
                .and_then(|rest| rest.strip_suffix("}}"))
                .filter(|inner| !inner.contains("${{"));
            let start = inner.map_or(0, |inner| inner.as_ptr() as usize - text.as_ptr() as usize);
            let inner = inner.unwrap_or(text);
            let places = &places[start..=start + inner.len()];
            Expression::compile(fields.source, inner, places, &reader.options.variables, found)
                .map(Condition::Expression)
        }
        _ => {
            fields.wrong_type("if", "an expression", Some("for example `if: failure()`".to_string()), found);
            None
        }
    }
}

fn duration(fields: &Fields<'_>, name: &str, node: &Node, found: &mut Vec<Diagnostic>) -> Option<Duration> {
    let wrong = |message: String| Diagnostic::error(fields.source, Code::InvalidValue, node.span.clone(), message);
    match &node.value {
        Value::Text(text) => match humantime::parse_duration(text.trim()) {
            Ok(duration) if duration.is_zero() && name == "timeout" => {
                found.push(wrong("`timeout` must be longer than nothing".to_string()));
                None
            }
            Ok(duration) => Some(duration),
            Err(error) => {
                let text = error.to_string();
                let reason = text.split(", supported").next().unwrap_or_default();
                found.push(
                    wrong(format!("`{name}` is not a duration: {reason}"))
                        .hint("write for example `90s`, `10m` or `1h 30m`"),
                );
                None
            }
        },
        Value::Int(number) => {
            found.push(wrong(format!("`{name}` needs a unit")).hint(format!("did you mean `{number}s`?")));
            None
        }
        _ => {
            fields.wrong_type(
                name,
                "a duration",
                Some("write for example `90s`, `10m` or `1h 30m`".to_string()),
                found,
            );
            None
        }
    }
}

/// `retry: 3` is three more attempts after the first; `attempts: 3` is three in all.
fn retry(fields: &Fields<'_>, found: &mut Vec<Diagnostic>) -> Retry {
    let mut retry = Retry::default();
    let Some((key, node)) = fields.get("retry") else {
        return retry;
    };
    match &node.value {
        Value::Int(_) => retry.attempts = count(fields, "retry", node, 0, found).map_or(1, |more| more + 1),
        Value::Map(inner) => {
            let inner = Fields::new(fields.source, inner, RETRY_FIELDS, "`retry`", &no_advice, found);
            match inner.get("attempts") {
                Some((_, node)) => retry.attempts = count(&inner, "attempts", node, 1, found).unwrap_or(1),
                None => {
                    let missing = Diagnostic::error(
                        fields.source,
                        Code::MissingField,
                        key.span.clone(),
                        "`retry` has no `attempts`",
                    );
                    found.push(missing.hint("say how often the step is tried in all: `retry: { attempts: 3 }`"));
                }
            }
            if let Some((_, node)) = inner.get("delay") {
                retry.delay = duration(&inner, "delay", node, found).unwrap_or(retry.delay);
            }
            retry.backoff = backoff(&inner, found).unwrap_or(retry.backoff);
        }
        _ => fields.wrong_type("retry", "a number or a map", Some("for example `retry: 2`".to_string()), found),
    }
    retry
}

fn count(fields: &Fields<'_>, name: &str, node: &Node, least: u32, found: &mut Vec<Diagnostic>) -> Option<u32> {
    let Value::Int(number) = node.value else {
        fields.wrong_type(name, "a whole number", None, found);
        return None;
    };
    let number = u32::try_from(number).ok().filter(|number| (least..=MAX_ATTEMPTS).contains(number));
    if number.is_none() {
        let message = format!("`{name}` must be from {least} to {MAX_ATTEMPTS}");
        found.push(Diagnostic::error(fields.source, Code::InvalidValue, node.span.clone(), message));
    }
    number
}

fn backoff(fields: &Fields<'_>, found: &mut Vec<Diagnostic>) -> Option<f64> {
    let (_, node) = fields.get("backoff")?;
    let factor = match node.value {
        Value::Int(number) => number as f64,
        Value::Float(number) => number,
        _ => {
            fields.wrong_type(
                "backoff",
                "a number",
                Some("each wait is this many times the one before".to_string()),
                found,
            );
            return None;
        }
    };
    if !(1.0..=10.0).contains(&factor) {
        let wrong =
            Diagnostic::error(fields.source, Code::InvalidValue, node.span.clone(), "`backoff` must be from 1 to 10");
        found.push(wrong.hint("each wait is this many times the one before"));
        return None;
    }
    Some(factor)
}
