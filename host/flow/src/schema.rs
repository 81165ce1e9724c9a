//! The JSON Schema of a flow file, for editors; says what is allowed, checks nothing.
//!
//! The types here only have the shape of the file: reading is done by hand, for the sake of places and hints.
//! A test compares their fields with those that reading knows.
#![allow(dead_code, reason = "only their schema is used")]

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use std::collections::BTreeMap;

/// The schema as JSON (draft 2020-12).
pub fn json_schema() -> Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<File>();
    let mut schema = schema.to_value();
    remove_null(&mut schema);
    schema
}

/// A field may be left out, but not be empty: `with:` and nothing after it is probably a mistake.
fn remove_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(remove_null),
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_string(), only);
                }
            }
            if let Some(Value::Array(choices)) = map.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    map.remove("anyOf");
                    map.extend(only);
                }
            }
            map.values_mut().for_each(remove_null);
        }
        _ => {}
    }
}

/// What to build, and how.
#[derive(JsonSchema)]
#[schemars(title = "cooperage.yaml", deny_unknown_fields)]
struct File {
    /// Version of this format: 1.
    #[schemars(extend("const" = 1))]
    version: u32,
    /// Where images come from and go to. `${NAME}` and `${NAME:-default}` are replaced by variables, `$$` is a dollar sign.
    registries: Option<Registries>,
    /// Plugins besides the bundled ones, by the name that `uses` gives them.
    plugins: Option<BTreeMap<String, Plugin>>,
    /// Images to build, by name without registry and tag.
    images: Option<BTreeMap<String, Image>>,
    /// Steps that build no named image, by name.
    flow: Option<BTreeMap<String, Step>>,
}

/// Where images come from and go to.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Registries {
    /// Registry that the file's images are pulled from.
    pull: Option<String>,
    /// Registry that they are pushed to.
    push: Option<String>,
}

/// A plugin.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Plugin {
    /// Where it comes from: `oci://registry.example/name:1`, `file:name.wasm`.
    from: String,
    /// What it may do, by class: `http`, `secrets`, `registries`, ... It gets what it asks for and this allows.
    allow: Option<BTreeMap<String, Value>>,
    /// What one call of it may use up, instead of the defaults: `memory: 1GiB`, `time: 2h`, `cpu: 30m`, `handles`,
    /// `log_bytes`, `blob_bytes`, ...; and what compiling it may: `component: 128MiB`, `compile_memory`, `compile_cpu`,
    /// `compile_time`. The policy of the host may cap it.
    limits: Option<BTreeMap<String, Amount>>,
}

/// A size with a unit, a time with a unit, or a number.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Amount {
    /// A number of things, or of bytes.
    Number(#[schemars(range(min = 1))] u64),
    /// `512MiB`, `1GiB`; `90s`, `10m`, `1h 30m`.
    Text(String),
}

/// An image.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Image {
    /// How it is pushed.
    push: Option<Push>,
    /// The flow of each tag.
    tags: BTreeMap<String, Tag>,
}

/// How an image is pushed.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Push {
    /// Registry, instead of `registries.push`.
    registry: Option<String>,
    /// Replaces the first part of the image's name.
    override_user: Option<String>,
    /// Do not push it.
    skip: Option<bool>,
}

/// A tag.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Tag {
    /// Steps by name. Those that do not wait for each other run in parallel.
    flow: BTreeMap<String, Step>,
}

/// A step.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Step {
    /// The plugin that does the work: its name, or where it comes from.
    uses: String,
    /// What the plugin gets. `${{ expression }}` in a text is CEL with `steps.NAME.OUTPUT`, `steps.NAME.status`,
    /// `matrix.NAME`, `env.NAME`, `image` and `tag`; a text that is one expression keeps its type. `{ secret: NAME }` names a secret.
    with: Option<BTreeMap<String, Value>>,
    /// The step whose files it works on.
    #[schemars(rename = "in")]
    input: Option<String>,
    /// Further steps whose files it works on, by the names that the plugin knows them under.
    inputs: Option<BTreeMap<String, String>>,
    /// Steps, or `IMAGE:TAG` of this file, that must be over before.
    needs: Option<Vec<String>>,
    /// Whether it runs, in CEL. Without `always()` or `failure()` it runs only if everything it waits for went well.
    #[schemars(rename = "if")]
    condition: Option<Condition>,
    /// What varies, and its values: the step runs once for every combination, `STEP (1, a)`. Expressions see the values
    /// as `matrix.NAME`; for other steps, `steps.STEP.OUTPUT` is the list of what all of them gave. Steps with the same
    /// matrix are paired.
    matrix: Option<Matrix>,
    /// How many combinations run at a time.
    #[schemars(range(min = 1, max = 256))]
    max_parallel: Option<u32>,
    /// Whether the failure of one combination stops the others: true by default, false for a `finally` step.
    fail_fast: Option<bool>,
    /// How long one attempt may take: `90s`, `10m`, `1h 30m`.
    timeout: Option<String>,
    /// What to do about failures that may pass.
    retry: Option<Retry>,
    /// A failure does not fail the flow.
    continue_on_error: Option<bool>,
    /// Runs when all other steps of the flow are over, whatever came of them.
    finally: Option<bool>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Condition {
    /// Always or never.
    Constant(bool),
    /// A CEL expression.
    Expression(String),
}

/// Values by name. Every value is combined with every value of the other names; there are at most 256 combinations.
#[derive(JsonSchema)]
struct Matrix {
    /// Values to add to all combinations that they do not contradict, else combinations of their own.
    include: Option<Vec<BTreeMap<String, Value>>>,
    /// Values, all or some; the combinations that have them are left out.
    exclude: Option<Vec<BTreeMap<String, Value>>>,
    /// The values of one name.
    #[schemars(flatten)]
    names: BTreeMap<String, Vec<Value>>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Retry {
    /// How often it is tried again.
    Again(#[schemars(range(min = 0, max = 100))] u32),
    /// How often and when.
    Policy(RetryPolicy),
}

/// How often and when a step is tried again.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RetryPolicy {
    /// How often it is tried in all.
    #[schemars(range(min = 1, max = 100))]
    attempts: u32,
    /// The wait before the second attempt; `1s` by default.
    delay: Option<String>,
    /// By how much each later wait is longer than the one before; 2 by default.
    #[schemars(range(min = 1.0, max = 10.0))]
    backoff: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::json_schema;
    use crate::file;
    use std::collections::BTreeSet;

    #[test]
    fn the_schema_has_exactly_the_fields_that_are_read() {
        let schema = json_schema();
        let check = |place: &str, fields: &[&str]| {
            let properties = schema.pointer(&format!("{place}/properties")).and_then(|p| p.as_object());
            let names: BTreeSet<&str> =
                properties.unwrap_or_else(|| panic!("{place}")).keys().map(String::as_str).collect();
            assert_eq!(names, fields.iter().copied().collect(), "{place}");
        };
        check("", file::FILE_FIELDS);
        check("/$defs/Registries", file::REGISTRIES_FIELDS);
        check("/$defs/Plugin", file::PLUGIN_FIELDS);
        check("/$defs/Image", file::IMAGE_FIELDS);
        check("/$defs/Push", file::PUSH_FIELDS);
        check("/$defs/Tag", file::TAG_FIELDS);
        check("/$defs/Step", file::STEP_FIELDS);
        check("/$defs/RetryPolicy", file::RETRY_FIELDS);
    }
}
