//! Checks the parameters of a step against the plugin's JSON Schema, so that a mistake is told with its place before
//! anything runs.

use jsonschema::Validator;
use serde_json::Value;

use crate::call::CallError;

/// A schema ready for use.
#[derive(Debug)]
pub(crate) struct Schema(Validator);

impl Schema {
    /// Reads a schema. References to other documents are refused: nothing is fetched for a schema.
    pub(crate) fn new(schema: &Value) -> Result<Self, String> {
        jsonschema::validator_for(schema)
            .map(Self)
            .map_err(|error| format!("its schema of parameters is none: {error}"))
    }

    /// The first value that does not fit, in the order of the document.
    pub(crate) fn check(&self, parameters: &Value) -> Result<(), CallError> {
        let Some(error) = self.0.iter_errors(parameters).min_by_key(|error| error.instance_path().as_str().len())
        else {
            return Ok(());
        };
        let pointer = error.instance_path().as_str().to_owned();
        Err(CallError::Parameters { pointer, message: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_place_is_a_pointer() {
        let schema = Schema::new(&json!({
            "type": "object",
            "properties": { "list": { "type": "array", "items": { "type": "integer" } } },
            "required": ["list"],
            "additionalProperties": false
        }))
        .unwrap();
        schema.check(&json!({ "list": [1, 2] })).unwrap();
        let pointer = |value: Value| match schema.check(&value) {
            Err(CallError::Parameters { pointer, message }) => (pointer, message),
            other => panic!("{other:?}"),
        };
        assert_eq!(pointer(json!({ "list": [1, "x"] })).0, "/list/1");
        assert_eq!(pointer(json!({})).0, "");
        assert!(pointer(json!({ "list": [], "lits": 1 })).1.contains("lits"));
    }

    #[test]
    fn nothing_is_fetched_for_a_schema() {
        assert!(Schema::new(&json!({ "$ref": "https://schema.example/x.json" })).is_err());
        assert!(Schema::new(&json!({ "$ref": "file:///etc/passwd" })).is_err());
    }
}
