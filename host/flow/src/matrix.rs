//! The combinations of values that a step is run for; knows neither YAML nor steps.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What a combination is made of: names and values in the order of the file.
pub(crate) type Values = Vec<(String, Value)>;

/// Longer texts are cut in the name of an instance.
const LONGEST: usize = 40;

/// The combinations that a step is run for, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// The names that some combination has a value for, in the order of the file.
    pub names: Vec<String>,
    /// Never empty; each has another label.
    pub instances: Vec<Arc<Instance>>,
    /// How many of them run at a time; None is as many as there is room for.
    pub max_parallel: Option<usize>,
    /// Whether the failure of one stops the others.
    pub fail_fast: bool,
}

/// One combination.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    values: Values,
    label: String,
}

impl Instance {
    pub(crate) fn new(values: Values) -> Instance {
        let label = values.iter().map(|(_, value)| excerpt(value)).collect::<Vec<_>>().join(", ");
        Instance { values, label }
    }

    /// What stands in parentheses behind the name of the step: its values, `1, a`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// Names and values in the order of the file.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether the two have names in common, and equal values under all of them.
    fn agrees(&self, other: &Instance) -> bool {
        let mut shared = self.values.iter().filter_map(|(name, value)| Some((value, other.get(name)?))).peekable();
        shared.peek().is_some() && shared.all(|(own, other)| own == other)
    }
}

impl Serialize for Instance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.values.iter().cloned().collect::<Map<_, _>>().serialize(serializer)
    }
}

impl Matrix {
    /// The one instance that agrees with `other` in all names that the two share; None if there is none, or more
    /// than one.
    pub fn partner(&self, other: &Instance) -> Option<usize> {
        let mut agreeing = self.instances.iter().enumerate().filter(|(_, own)| own.agrees(other));
        let (index, _) = agreeing.next()?;
        agreeing.next().is_none().then_some(index)
    }
}

/// The combinations of a matrix, by the rules of GitHub Actions
/// (docs.github.com, "Running variations of jobs in a workflow").
///
/// Every value of an axis is combined with every value of the others. What agrees with an entry of `exclude` in all
/// names of that entry is left out. An entry of `include` extends every combination of the axes that it contradicts in
/// no axis; if there is none, it is a combination of its own. Values of an axis are never replaced, others are.
pub(crate) fn combine(axes: &[(String, Vec<Value>)], include: &[Values], exclude: &[Values]) -> Vec<Values> {
    let mut all: Vec<Values> = if axes.is_empty() { Vec::new() } else { vec![Vec::new()] };
    for (name, values) in axes {
        let extended = all.iter().flat_map(|combination| {
            values.iter().map(|value| {
                let mut combination = combination.clone();
                combination.push((name.clone(), value.clone()));
                combination
            })
        });
        all = extended.collect();
    }
    all.retain(|combination| !exclude.iter().any(|entry| matches(combination, entry)));
    let original = all.len();
    for entry in include {
        let is_axis = |name: &str| axes.iter().any(|(axis, _)| axis == name);
        let fits = |combination: &Values| {
            entry.iter().filter(|(name, _)| is_axis(name)).all(|pair| combination.contains(pair))
        };
        let mut fitted = false;
        for combination in all[..original].iter_mut().filter(|combination| fits(combination)) {
            fitted = true;
            for (name, value) in entry {
                match combination.iter_mut().find(|(own, _)| own == name) {
                    Some((_, old)) => value.clone_into(old),
                    None => combination.push((name.clone(), value.clone())),
                }
            }
        }
        if !fitted {
            all.push(entry.clone());
        }
    }
    all
}

/// Whether a combination has all values of an entry of `exclude`.
fn matches(combination: &Values, entry: &Values) -> bool {
    entry.iter().all(|pair| combination.contains(pair))
}

/// A value as one line: text as it is, anything else as JSON.
fn excerpt(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let short: String = chars.by_ref().take(LONGEST).collect();
    if chars.next().is_some() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values(value: &Value) -> Values {
        value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn check(axes: Value, include: Value, exclude: Value, expected: &[&str]) {
        let axes: Vec<_> =
            values(&axes).into_iter().map(|(name, list)| (name, list.as_array().unwrap().clone())).collect();
        let list = |entries: &Value| entries.as_array().unwrap().iter().map(values).collect::<Vec<_>>();
        let combined = combine(&axes, &list(&include), &list(&exclude));
        let shown: Vec<String> = combined
            .into_iter()
            .map(|combination| {
                let pairs = combination.iter().map(|(name, value)| format!("{name}={}", excerpt(value)));
                pairs.collect::<Vec<_>>().join(" ")
            })
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_example_of_the_documentation() {
        check(
            json!({ "fruit": ["apple", "pear"], "zoo": ["cat", "dog"] }),
            json!([
                { "color": "green" },
                { "color": "pink", "zoo": "cat" },
                { "fruit": "apple", "shape": "circle" },
                { "fruit": "banana" },
                { "fruit": "banana", "zoo": "cat" },
            ]),
            json!([]),
            &[
                "fruit=apple zoo=cat color=pink shape=circle",
                "fruit=apple zoo=dog color=green shape=circle",
                "fruit=pear zoo=cat color=pink",
                "fruit=pear zoo=dog color=green",
                "fruit=banana",
                "fruit=banana zoo=cat",
            ],
        );
    }

    #[test]
    fn what_is_excluded_may_be_a_part_and_comes_before_what_is_included() {
        check(
            json!({ "os": ["a", "b"], "version": [1, 2, 3] }),
            json!([{ "os": "b", "version": 1, "extra": true }, { "os": "a", "extra": 5 }]),
            json!([{ "os": "b" }, { "os": "a", "version": 2 }]),
            &["os=a version=1 extra=5", "os=a version=3 extra=5", "extra=true os=b version=1"],
        );
    }

    #[test]
    fn includes_alone_are_the_combinations() {
        check(json!({}), json!([{ "a": 1 }, { "a": 2 }, { "b": 1 }]), json!([]), &["a=1", "a=2", "b=1"]);
    }

    #[test]
    fn numbers_and_texts_differ() {
        check(json!({ "v": [1, "1", 1.5] }), json!([]), json!([{ "v": "1" }]), &["v=1", "v=1.5"]);
    }

    #[test]
    fn partners_agree_in_what_they_share() {
        let matrix = |all: &[Value]| Matrix {
            names: Vec::new(),
            instances: all.iter().map(|one| Arc::new(Instance::new(values(one)))).collect(),
            max_parallel: None,
            fail_fast: true,
        };
        let one = |value: Value| Instance::new(values(&value));
        let both = matrix(&[json!({ "os": "a", "v": 1 }), json!({ "os": "b", "v": 1 }), json!({ "os": "b", "v": 2 })]);
        assert_eq!(both.partner(&one(json!({ "os": "b", "v": 2 }))), Some(2));
        assert_eq!(both.partner(&one(json!({ "os": "a" }))), Some(0));
        assert_eq!(both.partner(&one(json!({ "os": "b" }))), None, "two of them");
        assert_eq!(both.partner(&one(json!({ "os": "c", "v": 1 }))), None);
        assert_eq!(both.partner(&one(json!({ "x": 1 }))), None, "nothing is shared");
        assert_eq!(matrix(&[json!({ "os": "a" })]).partner(&one(json!({ "os": "a", "v": 9 }))), Some(0));
    }

    #[test]
    fn labels_are_one_short_line() {
        let label = |value: Value| Instance::new(vec![("x".into(), value)]).label().to_owned();
        assert_eq!(label(json!("a\nb")), "a b");
        assert_eq!(label(json!({ "k": [1, true] })), r#"{"k":[1,true]}"#);
        assert_eq!(label(json!("é".repeat(50))).chars().count(), 41);
    }
}
