//! Reading and changing JSON objects whose shape somebody else decides: nothing here panics over what is missing or of
//! another type.

use cooperage_sdk::{Error, Result};
use serde_json::{Map, Value};

/// The text at a pointer, unless it is missing, empty or something else.
#[must_use]
pub fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

/// The object at the end of a way of names; what is missing is made.
///
/// # Errors
/// `invalid-input` if something on the way is there and no object.
pub fn descend<'v>(mut value: &'v mut Value, way: &[&str]) -> Result<&'v mut Map<String, Value>> {
    for (depth, name) in way.iter().enumerate() {
        value = object(value, &way[..depth])?.entry(*name).or_insert(Value::Null);
    }
    object(value, way)
}

fn object<'v>(value: &'v mut Value, way: &[&str]) -> Result<&'v mut Map<String, Value>> {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    let place = if way.is_empty() { "it".to_owned() } else { format!("`{}`", way.join(".")) };
    value.as_object_mut().ok_or_else(|| Error::invalid_input(format!("{place} is no object")))
}

/// The item of a list of objects whose `name` is this one; appended if it is missing.
///
/// # Errors
/// `invalid-input` if the list is there and no list.
pub fn named<'v>(owner: &'v mut Map<String, Value>, list: &str, name: &str) -> Result<&'v mut Map<String, Value>> {
    let items = owner.entry(list).or_insert(Value::Null);
    if items.is_null() {
        *items = Value::Array(Vec::new());
    }
    let Value::Array(items) = items else { return Err(Error::invalid_input(format!("`{list}` is no list"))) };
    let at = items.iter().position(|item| text(item, "/name") == Some(name)).unwrap_or_else(|| {
        items.push(serde_json::json!({ "name": name }));
        items.len() - 1
    });
    object(&mut items[at], &[list])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_is_made() {
        let mut value = json!({ "spec": null });
        descend(&mut value, &["spec", "template"]).unwrap().insert("a".into(), json!(1));
        named(descend(&mut value, &["spec"]).unwrap(), "list", "x").unwrap().insert("b".into(), json!(2));
        named(descend(&mut value, &["spec"]).unwrap(), "list", "x").unwrap().insert("c".into(), json!(3));
        assert_eq!(value, json!({ "spec": { "template": { "a": 1 }, "list": [{ "name": "x", "b": 2, "c": 3 }] } }));
    }

    #[test]
    fn what_is_something_else_is_refused() {
        let error = descend(&mut json!({ "spec": { "template": 7 } }), &["spec", "template", "spec"]).unwrap_err();
        assert_eq!(error.message, "`spec.template` is no object");
        assert!(descend(&mut json!([]), &["spec"]).is_err());
        let mut value = json!({ "list": {} });
        assert!(named(value.as_object_mut().unwrap(), "list", "x").is_err());
    }
}
