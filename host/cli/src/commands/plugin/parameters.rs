//! A JSON Schema of parameters as a table. Reads the parts of JSON Schema that say what a value is; what only checks
//! (patterns, bounds) is left to the check.

use serde_json::Value;

use crate::error::Failure;
use crate::output;

/// Objects in objects are shown this deep.
const DEPTH: usize = 4;

/// Prints the table, indented.
pub(super) fn show(schema: &Value) -> Result<(), Failure> {
    let rows = rows(schema);
    if rows.is_empty() {
        return output::line("           no parameters");
    }
    let table = output::aligned(["PARAMETER", "TYPE", "DEFAULT", "REQUIRED", "DESCRIPTION"], &rows);
    table.lines().try_for_each(|line| output::line(&format!("           {line}")))
}

/// A row per parameter: path, type, default, `yes` if it is required, description. What lies in an object is
/// `object.name`, what lies in a list of objects `list[].name`.
fn rows(schema: &Value) -> Vec<[String; 5]> {
    let mut rows = Vec::new();
    properties(schema, schema, "", 0, &mut rows);
    rows
}

fn properties(root: &Value, schema: &Value, prefix: &str, depth: usize, rows: &mut Vec<[String; 5]>) {
    let schema = resolve(root, schema);
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|other| other == name));
    let Some(all) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, property) in all {
        let target = resolve(root, property);
        let text = |key: &str| property.get(key).or_else(|| target.get(key));
        let about = text("description").and_then(Value::as_str).unwrap_or_default();
        rows.push([
            format!("{prefix}{name}"),
            kind(root, property),
            text("default").filter(|value| !value.is_null()).map(Value::to_string).unwrap_or_default(),
            if is_required(name) { "yes" } else { "" }.to_owned(),
            about.split_whitespace().collect::<Vec<_>>().join(" "),
        ]);
        if depth < DEPTH {
            let (inner, mark) = match target.get("items") {
                Some(items) => (items, "[]"),
                None => (target, ""),
            };
            properties(root, inner, &format!("{prefix}{name}{mark}."), depth + 1, rows);
        }
    }
}

/// What a reference within the document, or the one form that is not `null`, stands for.
fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    for _ in 0..DEPTH {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|path| root.pointer(path.strip_prefix('#')?));
        match target.or_else(|| only(schema)) {
            Some(found) => schema = found,
            None => break,
        }
    }
    schema
}

/// The forms that a value may have beside `null`.
fn forms(schema: &Value) -> Vec<&Value> {
    let all = ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema.get(key)?.as_array());
    all.into_iter().flatten().filter(|form| form.get("type").is_none_or(|kind| kind != "null")).collect()
}

fn only(schema: &Value) -> Option<&Value> {
    match forms(schema)[..] {
        [form] => Some(form),
        _ => None,
    }
}

/// The type in a word or two.
fn kind(root: &Value, schema: &Value) -> String {
    let schema = resolve(root, schema);
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    let forms = forms(schema);
    if !forms.is_empty() {
        let mut kinds: Vec<String> = forms.into_iter().map(|form| kind(root, form)).collect();
        kinds.dedup();
        return kinds.join(" | ");
    }
    let name = match schema.get("type") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            names.collect::<Vec<_>>().join(" | ")
        }
        _ if schema.get("properties").is_some() => "object".to_owned(),
        _ => "any".to_owned(),
    };
    match (name.as_str(), schema.get("items"), schema.get("additionalProperties")) {
        ("array", Some(items), _) => format!("list of {}", kind(root, items)),
        ("array", None, _) => "list".to_owned(),
        ("object", _, Some(values @ Value::Object(_))) => format!("map of {}", kind(root, values)),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_become_tables() {
        let schema = json!({
            "type": "object",
            "required": ["url", "parts"],
            "properties": {
                "url": { "type": "string", "description": "Where\n to send it." },
                "retries": { "type": ["integer", "null"], "default": 3 },
                "mode": { "anyOf": [{ "$ref": "#/$defs/Mode" }, { "type": "null" }], "default": null },
                "parts": { "type": "array", "items": { "$ref": "#/$defs/Part" } },
                "login": { "$ref": "#/$defs/Login", "description": "Who asks." },
                "headers": { "type": "object", "additionalProperties": { "type": "string" } },
                "body": { "oneOf": [{ "type": "string" }, { "type": "object" }] },
                "more": true
            },
            "$defs": {
                "Mode": { "enum": ["fast", "safe"] },
                "Part": { "type": "object", "required": ["name"], "properties": { "name": { "type": "string" } } },
                "Login": { "type": "object", "properties": { "user": { "type": "string", "default": "me" } } }
            }
        });
        let found: Vec<String> = rows(&schema).iter().map(|row| row.join("; ")).collect();
        let mut expected = [
            "url; string; ; yes; Where to send it.",
            "retries; integer; 3; ; ",
            "mode; \"fast\" | \"safe\"; ; ; ",
            "parts; list of object; ; yes; ",
            "parts[].name; string; ; yes; ",
            "login; object; ; ; Who asks.",
            "login.user; string; \"me\"; ; ",
            "headers; map of string; ; ; ",
            "body; string | object; ; ; ",
            "more; any; ; ; ",
        ];
        let mut sorted = found.clone();
        sorted.sort();
        expected.sort_unstable();
        assert_eq!(sorted, expected);
    }

    #[test]
    fn a_schema_that_names_itself_ends() {
        let schema = json!({ "properties": { "a": { "$ref": "#" } } });
        assert_eq!(rows(&schema).len(), DEPTH + 1);
        assert_eq!(rows(&json!({ "$ref": "#" })), Vec::<[String; 5]>::new());
        assert_eq!(rows(&json!(true)).len(), 0);
    }
}
