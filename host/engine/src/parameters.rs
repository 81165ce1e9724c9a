//! Checks the parameters of a step against the plugin's JSON Schema, so that a mistake is told with its place before
//! anything runs, and completes them with the defaults of the schema.

mod defaults;

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use crate::call::CallError;
use defaults::Defaults;

/// How many alternatives within alternatives a mistake is followed into.
const DEEPEST: usize = 8;
/// More names than these help nobody.
const MOST_NAMES: usize = 30;

/// A schema ready for use.
#[derive(Debug)]
pub(crate) struct Schema {
    validator: Validator,
    document: Value,
    defaults: Defaults,
}

impl Schema {
    /// Reads a schema. References to other documents are refused: nothing is fetched for a schema.
    pub(crate) fn new(schema: &Value) -> Result<Self, String> {
        let wrong = |error: ValidationError<'_>| format!("its schema of parameters is none: {error}");
        Ok(Self {
            validator: jsonschema::validator_for(schema).map_err(wrong)?,
            document: schema.clone(),
            defaults: Defaults::new(schema).map_err(wrong)?,
        })
    }

    /// The first value that does not fit, the outermost first.
    pub(crate) fn check(&self, parameters: &Value) -> Result<(), CallError> {
        let outermost = |error: &ValidationError<'_>| error.instance_path().as_str().len();
        match self.validator.iter_errors(parameters).min_by_key(outermost) {
            Some(error) => Err(self.mistake(&error, 0)),
            None => Ok(()),
        }
    }

    /// The parameters with the defaults of the schema for what they leave out. A default of `null` is left out too:
    /// that is what absent means.
    ///
    /// # Errors
    /// What is wrong with the schema, if a default does not fit it. The parameters must fit.
    pub(crate) fn complete(&self, parameters: &Value) -> Result<Value, String> {
        let mut complete = parameters.clone();
        if self.defaults.fill(&mut complete)?
            && let Some(error) = self.validator.iter_errors(&complete).next()
        {
            return Err(format!(
                "a default in its schema does not fit it: {}: {error}",
                error.instance_path().as_str()
            ));
        }
        Ok(complete)
    }

    fn mistake(&self, error: &ValidationError<'_>, depth: usize) -> CallError {
        let pointer = error.instance_path().as_str();
        match error.kind() {
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
                if let Some(name) = unexpected.first() {
                    return self.unknown(error, pointer, name);
                }
            }
            Kind::OneOfNotValid { context } | Kind::AnyOf { context } if depth < DEEPEST => {
                if let Some(error) = meant(context, pointer) {
                    return self.mistake(error, depth + 1);
                }
            }
            _ => {}
        }
        CallError::Parameters { pointer: pointer.to_owned(), known: None, message: error.to_string() }
    }

    /// The place of an unknown name is the name itself, not the object that has it.
    fn unknown(&self, error: &ValidationError<'_>, pointer: &str, name: &str) -> CallError {
        let object = error.schema_path().as_str().rsplit_once('/').map_or("", |(object, _)| object);
        let properties = self.document.pointer(object).and_then(|object| object.get("properties"));
        let known = properties.and_then(Value::as_object).into_iter().flat_map(|known| known.keys().cloned());
        let known: Vec<_> = known.take(MOST_NAMES).collect();
        let message = format!("there is no parameter `{name}` here");
        let name = name.replace('~', "~0").replace('/', "~1");
        CallError::Parameters { pointer: format!("{pointer}/{name}"), known: Some(known), message }
    }
}

/// The mistake in the one alternative that the value was meant as. An alternative that expects something else of the
/// value as a whole, or of the word in it that tells alternatives apart, was not meant.
fn meant<'a>(alternatives: &'a [Vec<ValidationError<'static>>], pointer: &str) -> Option<&'a ValidationError<'static>> {
    let other = |error: &ValidationError<'_>| {
        let below = error.instance_path().as_str().strip_prefix(pointer).unwrap_or_default();
        match error.kind() {
            Kind::Type { .. } => below.is_empty(),
            Kind::Constant { .. } | Kind::Enum { .. } => below.matches('/').count() <= 1,
            Kind::Required { .. } => below.is_empty(),
            _ => false,
        }
    };
    let mut fitting = alternatives.iter().filter(|errors| !errors.iter().any(&other));
    let (errors, None) = (fitting.next()?, fitting.next()) else { return None };
    errors.iter().min_by_key(|error| error.instance_path().as_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::new(&json!({
            "type": "object",
            "properties": {
                "list": { "type": "array", "items": { "type": "integer" } },
                "nested": { "$ref": "#/$defs/nested" },
                "how": { "oneOf": [
                    { "type": "object", "properties": { "kind": { "const": "fast" }, "speed": { "type": "integer" } },
                        "required": ["kind"], "additionalProperties": false },
                    { "type": "object", "properties": { "kind": { "const": "slow" } },
                        "required": ["kind"], "additionalProperties": false },
                ] },
            },
            "additionalProperties": false,
            "$defs": { "nested": {
                "type": "object",
                "properties": { "a/b": { "type": "string" }, "target": { "type": ["string", "null"] } },
                "additionalProperties": false,
            } },
        }))
        .unwrap()
    }

    #[track_caller]
    fn check(parameters: Value, place: &str, names: Option<&[&str]>, says: &str) {
        let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        match schema().check(&parameters) {
            Err(CallError::Parameters { pointer, known, message }) => {
                assert_eq!(pointer, place, "{message}");
                assert_eq!(known, names);
                assert!(message.contains(says), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_place_is_that_of_the_value_or_the_name() {
        schema().check(&json!({ "list": [1, 2], "nested": { "a/b": "x" }, "how": { "kind": "slow" } })).unwrap();
        check(json!({ "list": [1, "x"] }), "/list/1", None, "\"x\" is not of type \"integer\"");
        check(json!([]), "", None, "object");
        check(json!({ "lits": [] }), "/lits", Some(&["how", "list", "nested"]), "no parameter `lits`");
        check(json!({ "nested": { "a~/c": "" } }), "/nested/a~0~1c", Some(&["a/b", "target"]), "`a~/c`");
        check(json!({ "nested": { "target": 1 } }), "/nested/target", None, "1 is not of types");
    }

    #[test]
    fn of_alternatives_the_one_that_was_meant_is_told_of() {
        check(json!({ "how": { "kind": "fast", "speed": "x" } }), "/how/speed", None, "integer");
        check(json!({ "how": { "kind": "slow", "speed": 1 } }), "/how/speed", Some(&["kind"]), "`speed`");
        check(json!({ "how": { "kind": "warp" } }), "/how", None, "oneOf");
    }

    #[test]
    fn nothing_is_fetched_for_a_schema() {
        assert!(Schema::new(&json!({ "$ref": "https://schema.example/x.json" })).is_err());
        assert!(Schema::new(&json!({ "$ref": "file:///etc/passwd" })).is_err());
    }
}
