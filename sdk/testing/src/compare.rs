//! Holds what happened against what was expected, and says each difference with its path. Both are JSON.

use serde_json::Value;

/// Longer values are shortened in messages.
const LONGEST: usize = 300;

/// The differences, in the order of `expected`. Maps may have more than expected; `null` stands for nothing.
pub(crate) fn differences(expected: &Value, actual: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    compare(expected, actual, path, &mut found);
    found
}

fn compare(expected: &Value, actual: &Value, path: &str, found: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            for (key, value) in expected {
                let there = actual.get(key).unwrap_or(&Value::Null);
                compare(value, there, &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (n, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                compare(expected, actual, &format!("{path}[{n}]"), found);
            }
        }
        (Value::String(expected), Value::String(actual)) if expected != actual => {
            found.push(texts(path, expected, actual));
        }
        _ if expected == actual => {}
        (_, Value::Null) => found.push(format!("{path}: expected {}, and there is nothing", shown(expected))),
        (Value::Null, _) => found.push(format!("{path}: expected nothing, and there is {}", shown(actual))),
        (Value::Array(expected_list), Value::Array(actual_list)) => found.push(format!(
            "{path}: expected {} entries, and there are {}\n  expected {}\n  actual   {}",
            expected_list.len(),
            actual_list.len(),
            shown(expected),
            shown(actual)
        )),
        _ => found.push(format!("{path}\n  expected {}\n  actual   {}", shown(expected), shown(actual))),
    }
}

/// Texts of several lines are shown by the first line that differs.
fn texts(path: &str, expected: &str, actual: &str) -> String {
    if !expected.contains('\n') && !actual.contains('\n') {
        return format!("{path}\n  expected {}\n  actual   {}", quoted(expected), quoted(actual));
    }
    let (mut left, mut right) = (expected.split('\n'), actual.split('\n'));
    let mut line = 1;
    loop {
        let (one, two) = (left.next(), right.next());
        if one != two {
            let show = |text: Option<&str>| text.map_or_else(|| "the end of the text".to_owned(), quoted);
            return format!("{path}, line {line}\n  expected {}\n  actual   {}", show(one), show(two));
        }
        line += 1;
    }
}

fn quoted(text: &str) -> String {
    shown(&Value::String(text.to_owned()))
}

/// A value on one line, shortened.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_say_where_and_what() {
        for (expected, actual, differences_expected) in [
            (json!({ "a": 1 }), json!({ "a": 1, "b": 2 }), vec![]),
            (json!({ "b": null }), json!({ "a": 1 }), vec![]),
            (json!({ "a": null }), json!({ "a": 1 }), vec!["x.a: expected nothing, and there is 1"]),
            (json!({ "a": [1] }), json!({ "a": [2] }), vec!["x.a[0]\n  expected 1\n  actual   2"]),
            (
                json!([1]),
                json!([1, 2]),
                vec!["x: expected 1 entries, and there are 2\n  expected [1]\n  actual   [1,2]"],
            ),
            (json!("a"), json!("b"), vec!["x\n  expected \"a\"\n  actual   \"b\""]),
            (json!("a\nb\n"), json!("a\nb"), vec!["x, line 3\n  expected \"\"\n  actual   the end of the text"]),
            (
                json!({ "a": 1, "b": 2 }),
                json!({}),
                vec!["x.a: expected 1, and there is nothing", "x.b: expected 2, and there is nothing"],
            ),
        ] {
            assert_eq!(differences(&expected, &actual, "x"), differences_expected, "{expected} {actual}");
        }
    }
}
