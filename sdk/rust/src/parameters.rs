//! Typed parameters: their schema for `describe`, and reading them from what the host passes on.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// The JSON Schema (draft 2020-12) of a type of parameters.
pub fn schema<P: JsonSchema>() -> String {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<P>().to_value().to_string()
}

/// Reads parameters. No text at all counts as `{}`.
pub fn read<P: DeserializeOwned>(json: &str) -> Result<P> {
    let json = if json.trim().is_empty() { "{}" } else { json };
    serde_json::from_str(json).map_err(|error| Error::invalid_input(format!("parameters: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::ErrorKind;

    /// Flour and so on.
    #[derive(Debug, serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Recipe {
        /// In grams.
        flour: u32,
        #[serde(default)]
        eggs: u32,
    }

    #[test]
    fn the_schema_tells_what_is_required_and_what_it_is_for() {
        let schema: Value = serde_json::from_str(&schema::<Recipe>()).unwrap();
        assert_eq!(schema["required"], serde_json::json!(["flour"]));
        assert_eq!(schema["additionalProperties"], serde_json::json!(false));
        assert_eq!(schema["properties"]["flour"]["description"], "In grams.");
        assert_eq!(schema["description"], "Flour and so on.");
    }

    #[test]
    fn what_does_not_fit_is_invalid_input() {
        assert_eq!(read::<Recipe>(r#"{"flour": 500}"#).unwrap().flour, 500);
        for wrong in ["", "{}", "[", r#"{"flour": "much"}"#, r#"{"flour": 1, "salt": 2}"#] {
            assert_eq!(read::<Recipe>(wrong).unwrap_err().kind, ErrorKind::InvalidInput, "{wrong}");
        }
    }
}
