//! Writes what happened into a case as what is expected from now on.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::harness::Report;

/// Replaces `expect` in the `case.yaml` of a folder; all else in the file stays as it is.
///
/// # Errors
/// When the file cannot be read or written.
pub fn accept(folder: &Path, report: &Report) -> std::io::Result<()> {
    let file = folder.join("case.yaml");
    let text = std::fs::read_to_string(&file)?;
    let expect = json!({ "expect": expect(&report.actual) });
    let block = serde_saphyr::to_string(&expect).map_err(std::io::Error::other)?;
    std::fs::write(&file, replace(&text, &block))
}

/// Puts a block in the place of the one that begins with `expect:` in the first column.
fn replace(text: &str, block: &str) -> String {
    let mut kept = String::new();
    let mut within = false;
    for line in text.split_inclusive('\n') {
        if line.starts_with("expect:") {
            within = true;
        } else if within && !line.trim().is_empty() && !line.starts_with([' ', '-', '\t']) {
            within = false;
        }
        if !within {
            kept.push_str(line);
        }
    }
    format!("{}\n{}\n", kept.trim_end(), block.trim_end())
}

/// What of everything that happened is worth being kept: no header fields, no defaults, nothing empty.
fn expect(actual: &Value) -> Value {
    let mut all = Map::new();
    for (key, value) in actual.as_object().into_iter().flatten() {
        let value = match key.as_str() {
            "files" => files(value),
            "images" => list(value, image),
            "http" => list(value, |request| only(request, &["method", "url"])),
            "runs" => list(value, |run| only(run, &["args"])),
            "error" => only(value, &["kind", "message"]),
            _ => value.clone(),
        };
        let empty = value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
        if !empty && !value.is_null() {
            all.insert(key.clone(), value);
        }
    }
    Value::Object(all)
}

fn list(value: &Value, each: impl Fn(&Value) -> Value) -> Value {
    Value::Array(value.as_array().into_iter().flatten().map(each).collect())
}

fn only(value: &Value, keys: &[&str]) -> Value {
    let entry = |key: &&str| Some(((*key).to_owned(), value.get(*key)?.clone()));
    Value::Object(keys.iter().filter_map(entry).collect())
}

fn image(image: &Value) -> Value {
    let mut kept = only(image, &["config", "layers", "files"]);
    if let Some(config) = kept.get_mut("config").and_then(Value::as_object_mut) {
        // The machine's own, and what is said by the layers.
        for name in ["architecture", "os", "variant", "history"] {
            config.remove(name);
        }
    }
    let short = files(&image["files"]);
    kept["files"] = short;
    kept
}

fn files(all: &Value) -> Value {
    let short = |(path, file): (&String, &Value)| {
        let ordinary = file["mode"] == "0644" && file["owner"] == "0:0";
        let value = match file.get("content") {
            Some(content) if ordinary => content.clone(),
            _ => file.clone(),
        };
        (path.clone(), value)
    };
    Value::Object(all.as_object().into_iter().flatten().map(short).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_expected_is_replaced() {
        for (before, after) in [
            ("role: task # mine\n", "role: task # mine\nexpect: new\n"),
            ("expect:\n  a: 1\n\n  b: 2\nrole: task\n", "role: task\nexpect: new\n"),
            ("expect: { a: 1 }\n# about\nwith: {}\n", "# about\nwith: {}\nexpect: new\n"),
            ("expect:\n- 1\n", "\nexpect: new\n"),
        ] {
            assert_eq!(replace(before, "expect: new\n"), after, "{before}");
        }
    }

    #[test]
    fn defaults_are_left_out() {
        let actual = json!({
            "outputs": { "a": 1 }, "http": [{ "method": "GET", "url": "u", "headers": { "date": "now" } }], "runs": [],
            "files": { "/a": { "kind": "file", "mode": "0644", "owner": "0:0", "content": "x" } }, "answer": null,
        });
        let expected = json!({
            "outputs": { "a": 1 }, "http": [{ "method": "GET", "url": "u" }], "files": { "/a": "x" },
        });
        assert_eq!(expect(&actual), expected);
    }
}
