//! Fields of a map by name and type, with what is wrong about them; knows which fields exist, not what they mean.

use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::references::list;
use crate::source::{Located, Source, Span};
use crate::template::is_template;
use crate::yaml::{Key, Node, Value};
use std::sync::Arc;

/// Fields of the whole file. These lists are compared with the JSON Schema by a test.
pub(crate) const FILE_FIELDS: &[&str] = &["version", "registries", "plugins", "images", "flow"];
pub(crate) const REGISTRIES_FIELDS: &[&str] = &["pull", "push"];
pub(crate) const PLUGIN_FIELDS: &[&str] = &["from", "allow", "limits"];
pub(crate) const IMAGE_FIELDS: &[&str] = &["push", "tags"];
pub(crate) const PUSH_FIELDS: &[&str] = &["registry", "override_user", "skip"];
pub(crate) const TAG_FIELDS: &[&str] = &["flow"];
pub(crate) const STEP_FIELDS: &[&str] = &[
    "uses",
    "with",
    "in",
    "inputs",
    "needs",
    "if",
    "matrix",
    "max_parallel",
    "fail_fast",
    "timeout",
    "retry",
    "continue_on_error",
    "finally",
];
pub(crate) const RETRY_FIELDS: &[&str] = &["attempts", "delay", "backoff"];

/// What is said about a field that is not there: its kind, the message and the hint.
pub(crate) type Advice = (Code, String, String);

/// The entries of one map, and where to complain.
pub(crate) struct Fields<'a> {
    pub source: &'a Arc<Source>,
    entries: &'a [(Key, Node)],
}

/// The entries of a map; anything else is a mistake, told with what it is the value of.
pub(crate) fn entries<'a>(
    source: &Arc<Source>,
    node: &'a Node,
    at: &Span,
    what: &str,
    found: &mut Vec<Diagnostic>,
) -> Option<&'a [(Key, Node)]> {
    if let Value::Map(entries) = &node.value {
        return Some(entries);
    }
    found.push(wrong_type(source, node, at, what, "a map", None));
    None
}

/// A complaint about a value of the wrong type. A value that is absent has no text: `at`, its key, is shown.
fn wrong_type(
    source: &Arc<Source>,
    node: &Node,
    at: &Span,
    what: &str,
    expected: &str,
    hint: Option<String>,
) -> Diagnostic {
    let span = if node.value == Value::Null && node.span.is_empty() { at.clone() } else { node.span.clone() };
    Diagnostic::error(source, Code::WrongType, span, format!("{what} must be {expected}, this is {}", node.kind()))
        .label(format!("expected {expected}"))
        .maybe_hint(hint)
}

impl<'a> Fields<'a> {
    /// The fields of a map, after complaining about those not in `known`. `advice` gives a hint for a field
    /// that users expect and that is not there.
    pub fn new(
        source: &'a Arc<Source>,
        entries: &'a [(Key, Node)],
        known: &[&str],
        what: &str,
        advice: &dyn Fn(&str) -> Option<Advice>,
        found: &mut Vec<Diagnostic>,
    ) -> Fields<'a> {
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.name.as_str())) {
            let unknown = |code, message| Diagnostic::error(source, code, key.span.clone(), message);
            found.push(match (advice(&key.name), nearest(&key.name, known.iter().copied())) {
                (Some((code, message, hint)), _) => unknown(code, message).hint(hint),
                (None, Some(near)) => unknown(Code::UnknownField, format!("{what} has no field `{}`", key.name))
                    .hint(format!("did you mean `{near}`?")),
                (None, None) => unknown(Code::UnknownField, format!("{what} has no field `{}`", key.name))
                    .hint(format!("its fields are {}", list(known.iter().copied()))),
            });
        }
        Fields { source, entries }
    }

    /// Key and value of a field.
    pub fn get(&self, name: &str) -> Option<(&'a Key, &'a Node)> {
        self.entries.iter().find(|(key, _)| key.name == name).map(|(key, node)| (key, node))
    }

    /// A field that holds text.
    pub fn text(&self, name: &str, found: &mut Vec<Diagnostic>) -> Option<Located<String>> {
        let (key, node) = self.get(name)?;
        self.as_text(&format!("`{name}`"), &key.span, node, found)
    }

    /// A value that must be text.
    pub fn as_text(&self, what: &str, at: &Span, node: &Node, found: &mut Vec<Diagnostic>) -> Option<Located<String>> {
        match &node.value {
            Value::Text(text) if is_template(text) => {
                let message = format!("{what} cannot be computed");
                found.push(
                    Diagnostic::error(self.source, Code::Unsupported, node.span.clone(), message)
                        .hint("`${{ }}` works under `with`, and `if` is an expression"),
                );
                None
            }
            Value::Text(text) if !text.trim().is_empty() => Some(Located::new(text.clone(), node.span.clone())),
            Value::Text(_) => {
                let message = format!("{what} must not be empty");
                found.push(Diagnostic::error(self.source, Code::InvalidValue, node.span.clone(), message));
                None
            }
            value => {
                let scalar = matches!(value, Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_));
                let hint = scalar.then(|| format!("quote it: \"{}\"", self.source.slice(&node.span)));
                found.push(wrong_type(self.source, node, at, what, "text", hint));
                None
            }
        }
    }

    /// A field that is true or false; false if it is not there.
    pub fn flag(&self, name: &str, found: &mut Vec<Diagnostic>) -> bool {
        let Some((key, node)) = self.get(name) else {
            return false;
        };
        match &node.value {
            Value::Bool(value) => *value,
            value => {
                let hint = match value {
                    Value::Text(text) if ["yes", "on", "y"].contains(&text.to_lowercase().as_str()) => {
                        Some("write `true`".to_string())
                    }
                    Value::Text(text) if ["no", "off", "n"].contains(&text.to_lowercase().as_str()) => {
                        Some("write `false`".to_string())
                    }
                    _ => None,
                };
                found.push(wrong_type(self.source, node, &key.span, &format!("`{name}`"), "true or false", hint));
                false
            }
        }
    }

    /// A field that is a map.
    pub fn map(&self, name: &str, found: &mut Vec<Diagnostic>) -> Option<&'a [(Key, Node)]> {
        let (key, node) = self.get(name)?;
        entries(self.source, node, &key.span, &format!("`{name}`"), found)
    }

    /// Complains about the type of a field's value.
    pub fn wrong_type(&self, name: &str, expected: &str, hint: Option<String>, found: &mut Vec<Diagnostic>) {
        let Some((key, node)) = self.get(name) else {
            return;
        };
        found.push(wrong_type(self.source, node, &key.span, &format!("`{name}`"), expected, hint));
    }
}

/// Advice for maps of which users expect nothing that is not there.
pub(crate) fn no_advice(_: &str) -> Option<Advice> {
    None
}
