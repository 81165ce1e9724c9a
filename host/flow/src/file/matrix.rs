//! The fields `matrix`, `max_parallel` and `fail_fast` of a step from their YAML trees; combines nothing itself.

use super::fields::Fields;
use super::names::{RESERVED, is_name};
use crate::diagnostic::{Code, Diagnostic, Severity, nearest};
use crate::matrix::{Instance, Matrix, Values, combine};
use crate::parameters::plain_value;
use crate::references::list;
use crate::source::Source;
use crate::template::is_template;
use crate::yaml::{Key, Node, Value};
use std::sync::Arc;

/// More instances are refused.
const MAX_INSTANCES: usize = 256;
/// More combinations are not even made before `exclude` takes some away.
const MAX_COMBINATIONS: usize = 4096;

/// Reads the three fields. `finally` steps clean up: there the failure of one does not stop the others by itself.
/// A matrix with mistakes is returned without instances, so that expressions that use it are not blamed.
pub(super) fn read(fields: &Fields<'_>, finally: bool, found: &mut Vec<Diagnostic>) -> Option<Matrix> {
    let source = fields.source;
    let max_parallel = max_parallel(fields, found);
    let fail_fast = fields.get("fail_fast").map(|_| fields.flag("fail_fast", found));
    let Some((key, node)) = fields.get("matrix") else {
        for name in ["max_parallel", "fail_fast"] {
            if let Some((key, _)) = fields.get(name) {
                let alone = format!("`{name}` is about the instances of a `matrix`, and this step has none");
                let wrong = Diagnostic::error(source, Code::InvalidValue, key.span.clone(), alone);
                found.push(wrong.hint("`coop run --jobs NUMBER` says how many steps run at a time"));
            }
        }
        return None;
    };
    let wrong = Matrix { names: Vec::new(), instances: Vec::new(), max_parallel, fail_fast: true };
    let Value::Map(entries) = &node.value else {
        let hint = "name what varies and its values: `matrix: { version: [1, 2] }`".to_string();
        fields.wrong_type("matrix", "a map", Some(hint), found);
        return Some(wrong);
    };
    let before = found.len();
    let parts = Reader { source, found }.parts(entries);
    if found[before..].iter().any(|one| one.severity == Severity::Error) {
        return Some(wrong);
    }
    let combinations = match combinations(&parts) {
        Ok(combinations) => combinations,
        Err((message, hint)) => {
            let error = Diagnostic::error(source, Code::InvalidValue, key.span.clone(), message);
            found.push(error.hint(hint));
            return Some(wrong);
        }
    };
    let mut names = parts.names;
    for (name, _) in parts.include.into_iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let instances: Vec<_> = combinations.into_iter().map(|values| Arc::new(Instance::new(values))).collect();
    if let Some(label) = twice(&instances) {
        let message = format!("two combinations of the matrix have the same name, `{label}`");
        let error = Diagnostic::error(source, Code::InvalidValue, key.span.clone(), message);
        found.push(error.hint("what tells them apart must stand within the first 40 characters of a value"));
        return Some(wrong);
    }
    Some(Matrix { names, instances, max_parallel, fail_fast: fail_fast.unwrap_or(!finally) })
}

/// All combinations, or why there are none or too many.
fn combinations(parts: &Parts) -> Result<Vec<Values>, (String, &'static str)> {
    const FEWER: &str = "split the step in two, or exclude what need not be run";
    let product = parts.axes.iter().try_fold(1usize, |product, (_, values)| product.checked_mul(values.len()));
    if product.is_none_or(|product| product > MAX_COMBINATIONS) {
        return Err((format!("the matrix has more than {MAX_COMBINATIONS} combinations"), FEWER));
    }
    let combinations = combine(&parts.axes, &parts.include, &parts.exclude);
    match combinations.len() {
        0 if parts.axes.is_empty() => {
            Err(("the matrix has no values".to_string(), "for example `matrix: { version: [1, 2] }`"))
        }
        0 => Err(("`exclude` leaves nothing of the matrix".to_string(), "exclude less")),
        many if many > MAX_INSTANCES => {
            Err((format!("the matrix has {many} combinations, more than {MAX_INSTANCES}"), FEWER))
        }
        _ => Ok(combinations),
    }
}

fn twice(instances: &[Arc<Instance>]) -> Option<&str> {
    let mut labels: Vec<&str> = instances.iter().map(|instance| instance.label()).collect();
    labels.sort_unstable();
    labels.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

fn max_parallel(fields: &Fields<'_>, found: &mut Vec<Diagnostic>) -> Option<usize> {
    let (_, node) = fields.get("max_parallel")?;
    let Value::Int(number) = node.value else {
        fields.wrong_type("max_parallel", "a whole number", None, found);
        return None;
    };
    let number = usize::try_from(number).ok().filter(|number| (1..=MAX_INSTANCES).contains(number));
    if number.is_none() {
        let message = format!("`max_parallel` must be from 1 to {MAX_INSTANCES}");
        found.push(Diagnostic::error(fields.source, Code::InvalidValue, node.span.clone(), message));
    }
    number
}

/// What a matrix is made of.
#[derive(Default)]
struct Parts {
    /// The names of all axes, also of those with mistakes.
    names: Vec<String>,
    axes: Vec<(String, Vec<serde_json::Value>)>,
    include: Vec<Values>,
    exclude: Vec<Values>,
}

struct Reader<'a, 'f> {
    source: &'a Arc<Source>,
    found: &'f mut Vec<Diagnostic>,
}

impl Reader<'_, '_> {
    fn parts(&mut self, entries: &[(Key, Node)]) -> Parts {
        let mut parts = Parts::default();
        for (key, node) in entries.iter().filter(|(key, _)| !["include", "exclude"].contains(&key.name.as_str())) {
            self.name(key);
            parts.names.push(key.name.clone());
            if let Some(values) = self.axis(key, node) {
                parts.axes.push((key.name.clone(), values));
            }
        }
        for (key, node) in entries {
            match key.name.as_str() {
                "include" => parts.include = self.list(key, node).into_iter().map(|(values, _)| values).collect(),
                "exclude" => parts.exclude = self.exclude(key, node, &parts),
                _ => {}
            }
        }
        parts
    }

    fn axis(&mut self, key: &Key, node: &Node) -> Option<Vec<serde_json::Value>> {
        let Value::List(items) = &node.value else {
            let computed = matches!(&node.value, Value::Text(text) if is_template(text));
            if computed {
                self.computed(node);
                return None;
            }
            let hint = match &node.value {
                Value::Map(_) | Value::Null => "for example `[1, 2]`".to_string(),
                _ => format!("write `{}: [{}]`", key.name, self.source.slice(&node.span)),
            };
            self.wrong_type(key, node, "a list of values", Some(hint));
            return None;
        };
        if items.is_empty() {
            let message = format!("`{}` has no values", key.name);
            let wrong = Diagnostic::error(self.source, Code::InvalidValue, node.span.clone(), message);
            self.found.push(wrong.hint("name at least one, or take it out of the matrix"));
            return None;
        }
        let mut values: Vec<serde_json::Value> = Vec::with_capacity(items.len());
        for item in items {
            let Some(value) = self.value(key, item) else { continue };
            if values.contains(&value) {
                let message = format!("`{}` has this value twice", key.name);
                let wrong = Diagnostic::error(self.source, Code::DuplicateKey, item.span.clone(), message);
                self.found.push(wrong.hint("keep one of the two"));
                continue;
            }
            values.push(value);
        }
        Some(values)
    }

    /// The entries of `include` or `exclude`, each with its keys.
    fn list<'n>(&mut self, key: &Key, node: &'n Node) -> Vec<(Values, &'n [(Key, Node)])> {
        let Value::List(items) = &node.value else {
            let hint = format!("for example `{}: [{{ version: 1 }}]`", key.name);
            self.wrong_type(key, node, "a list of maps", Some(hint));
            return Vec::new();
        };
        if items.len() > MAX_INSTANCES {
            let message = format!("`{}` has more than {MAX_INSTANCES} entries", key.name);
            self.found.push(Diagnostic::error(self.source, Code::InvalidValue, key.span.clone(), message));
            return Vec::new();
        }
        let mut entries = Vec::new();
        for item in items {
            let Value::Map(pairs) = &item.value else {
                let message = format!("an entry of `{}` must be a map, this is {}", key.name, item.kind());
                let span = if item.span.is_empty() { key.span.clone() } else { item.span.clone() };
                self.found.push(Diagnostic::error(self.source, Code::WrongType, span, message).label("expected a map"));
                continue;
            };
            if pairs.is_empty() {
                let message = format!("an entry of `{}` has no values", key.name);
                self.found.push(Diagnostic::error(self.source, Code::InvalidValue, item.span.clone(), message));
                continue;
            }
            let mut values = Vec::with_capacity(pairs.len());
            for (name, node) in pairs {
                self.name(name);
                values.extend(self.value(name, node).map(|value| (name.name.clone(), value)));
            }
            entries.push((values, pairs.as_slice()));
        }
        entries
    }

    fn exclude(&mut self, key: &Key, node: &Node, parts: &Parts) -> Vec<Values> {
        let mut entries = Vec::new();
        for (values, pairs) in self.list(key, node) {
            let names = || parts.names.iter().map(String::as_str);
            let mut known = true;
            for (name, _) in pairs.iter().filter(|(name, _)| !names().any(|axis| axis == name.name)) {
                known = false;
                let message = format!("the matrix has no `{}` to exclude", name.name);
                let hint = match nearest(&name.name, names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("it has {}; what `include` adds cannot be excluded", list(names())),
                };
                self.found
                    .push(Diagnostic::error(self.source, Code::UnknownField, name.span.clone(), message).hint(hint));
            }
            // A value that no axis has would exclude nothing, without a word.
            for (pair, (name, node)) in values.iter().zip(pairs).filter(|_| known) {
                let axis = parts.axes.iter().find(|(axis, _)| *axis == name.name);
                if axis.is_some_and(|(_, values)| !values.contains(&pair.1)) {
                    let message = format!("`{}` has no such value, so this excludes nothing", name.name);
                    let span = node.span.clone();
                    self.found.push(
                        Diagnostic::error(self.source, Code::NeverRuns, span, message)
                            .warning()
                            .hint("write the value as the matrix has it: a number in quotes is text"),
                    );
                }
            }
            if known {
                entries.push(values);
            }
        }
        entries
    }

    fn value(&mut self, key: &Key, node: &Node) -> Option<serde_json::Value> {
        if node.value == Value::Null {
            self.wrong_type(key, node, "a value", None);
            return None;
        }
        if let Some(computed) = template_within(node) {
            self.computed(computed);
            return None;
        }
        Some(plain_value(node))
    }

    fn computed(&mut self, node: &Node) {
        let message = "the values of a matrix cannot be computed".to_string();
        let wrong = Diagnostic::error(self.source, Code::Unsupported, node.span.clone(), message);
        self.found.push(wrong.hint("what will run is known before anything runs: write the values themselves"));
    }

    fn name(&mut self, key: &Key) {
        let wrong = |code, message| Diagnostic::error(self.source, code, key.span.clone(), message);
        if !is_name(&key.name) {
            let message = format!("`{}` cannot be a name in a matrix", key.name);
            let hint = "a name is at most 64 letters, digits, `_` and `-`, and does not begin with a digit or `-`";
            self.found.push(wrong(Code::InvalidValue, message).hint(hint));
        } else if RESERVED.contains(&key.name.as_str()) {
            let message = format!("`{}` is a word of the expression language", key.name);
            self.found.push(wrong(Code::ReservedName, message).hint("call it something else"));
        }
    }

    fn wrong_type(&mut self, key: &Key, node: &Node, expected: &str, hint: Option<String>) {
        let span = if node.span.is_empty() { key.span.clone() } else { node.span.clone() };
        let message = format!("`{}` must be {expected}, this is {}", key.name, node.kind());
        let wrong = Diagnostic::error(self.source, Code::WrongType, span, message);
        self.found.push(wrong.label(format!("expected {expected}")).maybe_hint(hint));
    }
}

/// The first text with an expression in it.
fn template_within(node: &Node) -> Option<&Node> {
    match &node.value {
        Value::Text(text) => is_template(text).then_some(node),
        Value::List(items) => items.iter().find_map(template_within),
        Value::Map(entries) => entries.iter().find_map(|(_, value)| template_within(value)),
        _ => None,
    }
}
