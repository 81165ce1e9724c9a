//! Takes secrets out of the result of a flow; knows no secret, only whoever does.

use super::ports::StepError;
use super::result::{FlowResult, StepFault};
use serde_json::{Map, Value};

impl FlowResult {
    /// The same with every text changed by `redact`: outputs, messages and logs. Trees stay as they are.
    #[must_use]
    pub fn redacted(mut self, redact: &dyn Fn(&str) -> String) -> FlowResult {
        for step in &mut self.steps {
            step.values = map(std::mem::take(&mut step.values), redact);
            step.log = redact(&step.log);
            if let Some(fault) = &mut step.fault {
                redact_fault(fault, redact);
            }
        }
        self
    }
}

fn redact_fault(fault: &mut StepFault, redact: &dyn Fn(&str) -> String) {
    redact_error(&mut fault.error, redact);
    if let Some(diagnostic) = &mut fault.diagnostic {
        diagnostic.message = redact(&diagnostic.message);
        diagnostic.label = redact(&diagnostic.label);
        diagnostic.hint = diagnostic.hint.as_deref().map(redact);
        diagnostic.related.iter_mut().for_each(|(_, label)| *label = redact(label));
    }
}

fn redact_error(error: &mut StepError, redact: &dyn Fn(&str) -> String) {
    error.message = redact(&error.message);
    error.context.iter_mut().for_each(|line| *line = redact(line));
    error.hint = error.hint.as_deref().map(redact);
}

/// A value with every text in it changed; a number that is changed becomes text.
pub fn redact_value(value: Value, redact: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(redact(&text)),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| redact_value(item, redact)).collect()),
        Value::Object(entries) => Value::Object(map(entries, redact)),
        Value::Number(number) => {
            let (plain, shown) = (number.to_string(), redact(&number.to_string()));
            if plain == shown { Value::Number(number) } else { Value::String(shown) }
        }
        Value::Null | Value::Bool(_) => value,
    }
}

fn map(entries: Map<String, Value>, redact: &dyn Fn(&str) -> String) -> Map<String, Value> {
    entries.into_iter().map(|(name, value)| (redact(&name), redact_value(value, redact))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_names_and_numbers_are_changed_wherever_they_are() {
        let redact = |text: &str| text.replace("1234567", "***");
        let value = json!({ "a1234567": [{ "b": "x1234567y" }, 1234567, 12, null, true] });
        assert_eq!(redact_value(value, &redact), json!({ "a***": [{ "b": "x***y" }, "***", 12, null, true] }));
    }
}
