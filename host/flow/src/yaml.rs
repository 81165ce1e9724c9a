//! YAML text to a tree in which every key and value knows its place; knows no field of the flow file.

use crate::diagnostic::{Code, Diagnostic};
use crate::source::{Source, Span};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Error, Location, Spanned};
use std::fmt;
use std::sync::Arc;

/// Larger files are refused: a flow file is written by hand.
const MAX_BYTES: usize = 1 << 20;
/// Deeper nesting is refused: reading is recursive.
const MAX_DEPTH: usize = 64;

/// A value and where it is defined.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub value: Value,
    pub span: Span,
}

/// A YAML value by the core schema.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key as it was written: `1.10` stays `1.10`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub name: String,
    pub span: Span,
}

impl Node {
    /// What the value is, with an article, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::UInt(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Reads one document. What makes no sense as YAML goes to `found`; a duplicate key is told and the first kept.
pub(crate) fn read(source: &Arc<Source>, found: &mut Vec<Diagnostic>) -> Option<Node> {
    if source.text().len() > MAX_BYTES {
        found.push(Diagnostic::error(source, Code::Syntax, 0..0, format!("the file is larger than {MAX_BYTES} bytes")));
        return None;
    }
    let raw = match parse(source, DuplicateKeyPolicy::Error) {
        Ok(raw) => raw,
        Err(error) => {
            let duplicate = matches!(error.without_snippet(), Error::DuplicateMappingKey { .. });
            found.push(describe(source, &error));
            if !duplicate {
                return None;
            }
            // Everything else in the file is still worth telling about.
            match parse(source, DuplicateKeyPolicy::FirstWins) {
                Ok(raw) => raw,
                Err(error) => {
                    found.push(describe(source, &error));
                    return None;
                }
            }
        }
    };
    let node = convert(source, raw, found);
    point_at_first(source, &node, found);
    Some(node)
}

fn parse(source: &Source, duplicate_keys: DuplicateKeyPolicy) -> Result<Spanned<Raw>, Error> {
    let budget = serde_saphyr::budget! { max_depth: MAX_DEPTH, max_events: 200_000 };
    let mut options = serde_saphyr::options! {
        budget: budget, with_snippet: false, strict_booleans: true,
    };
    options.duplicate_keys = duplicate_keys;
    options.alias_limits.max_total_replayed_events = 50_000;
    serde_saphyr::from_str_with_options(source.text(), options)
}

fn describe(source: &Arc<Source>, error: &Error) -> Diagnostic {
    let span = error.location().map_or(0..0, |location| span_of(source, &location));
    let wrong = |code, message: &str| Diagnostic::error(source, code, span.clone(), message);
    match error.without_snippet() {
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or_else(|| source.slice(&span));
            wrong(Code::DuplicateKey, &format!("`{key}` is there twice"))
                .label("the second one")
                .hint("keep one of the two")
        }
        Error::MultipleDocuments { .. } => wrong(Code::Syntax, "the file holds more than one YAML document")
            .hint("remove everything from the second `---` on"),
        Error::UnknownAnchor { .. } => wrong(Code::Syntax, "this alias has no anchor")
            .hint("an alias `*name` needs an anchor `&name` before it; quote text that begins with `*`"),
        Error::RecursiveReferencesRequireWeakTypes { .. } => wrong(Code::Syntax, "this alias contains itself"),
        Error::Budget { .. } => wrong(Code::Syntax, "the file is nested too deeply or expands to too much"),
        _ => {
            let text = error.to_string();
            let message = text.rfind(" at line ").map_or(text.as_str(), |at| &text[..at]);
            let hint = match message {
                tab if tab.starts_with("tabs ") => Some("indent with spaces"),
                colon if colon.contains("':'") => {
                    Some("quote text that has `: ` in it, and close every `[` and `{` before")
                }
                _ => None,
            };
            wrong(Code::Syntax, message).maybe_hint(hint.map(str::to_string))
        }
    }
}

/// Adds the place of the first key to what was said about a duplicate.
fn point_at_first(source: &Source, node: &Node, found: &mut [Diagnostic]) {
    for duplicate in found.iter_mut().filter(|d| d.code == Code::DuplicateKey && d.related.is_empty()) {
        let name = source.slice(&duplicate.span).to_string();
        let column = source.line_column(duplicate.span.start).1;
        let mut first = None;
        visit_keys(node, &mut |key| {
            let same = source.slice(&key.span) == name && source.line_column(key.span.start).1 == column;
            if same && key.span.start < duplicate.span.start {
                first = Some(key.span.clone());
            }
        });
        duplicate.related.extend(first.map(|span| (span, "the first one".to_string())));
    }
}

fn visit_keys(node: &Node, visit: &mut dyn FnMut(&Key)) {
    match &node.value {
        Value::Map(entries) => entries.iter().for_each(|(key, value)| {
            visit(key);
            visit_keys(value, visit);
        }),
        Value::List(items) => items.iter().for_each(|item| visit_keys(item, visit)),
        _ => {}
    }
}

fn span_of(source: &Source, location: &Location) -> Span {
    let span = location.span();
    let (start, end) = match (span.byte_offset(), span.byte_len()) {
        (Some(start), Some(len)) => (start as usize, (start + len) as usize),
        _ => (source.byte_of_char(span.offset() as usize), source.byte_of_char((span.offset() + span.len()) as usize)),
    };
    let start = start.min(source.text().len());
    let kept = source.text().get(start..end.max(start)).map_or(0, |text| text.trim_end().len());
    source.clamp(&(start..start + kept))
}

fn convert(source: &Arc<Source>, raw: Spanned<Raw>, found: &mut Vec<Diagnostic>) -> Node {
    let span = span_of(source, &raw.defined);
    match raw.value {
        Raw::Scalar(value) => Node { value, span },
        Raw::List(items) => {
            let items: Vec<Node> = items.into_iter().map(|item| convert(source, item, found)).collect();
            let span = collection_span(source, span, items.first().map(|n| &n.span), items.last().map(|n| &n.span));
            Node { value: Value::List(items), span }
        }
        Raw::Map(entries) => {
            let mut kept = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                let value = convert(source, value, found);
                match convert_key(source, key, found) {
                    Some(key) => kept.push((key, value)),
                    None => continue,
                }
            }
            let span =
                collection_span(source, span, kept.first().map(|(k, _)| &k.span), kept.last().map(|(_, n)| &n.span));
            Node { value: Value::Map(kept), span }
        }
    }
}

fn convert_key(source: &Arc<Source>, raw: Spanned<Raw>, found: &mut Vec<Diagnostic>) -> Option<Key> {
    let span = span_of(source, &raw.defined);
    let name = match raw.value {
        Raw::Scalar(Value::Text(name)) => name,
        Raw::Scalar(_) => source.slice(&span).to_string(),
        Raw::List(_) | Raw::Map(_) => {
            found.push(
                Diagnostic::error(source, Code::WrongType, span, "a key must be text")
                    .hint("quote a key that begins with `[` or `{`"),
            );
            return None;
        }
    };
    Some(Key { name, span })
}

/// The parser gives a collection only its start: a flow collection reaches to the end of what it holds if
/// that is one line, a block collection is shown by its first entry.
fn collection_span(source: &Source, span: Span, first: Option<&Span>, last: Option<&Span>) -> Span {
    if !matches!(source.text().as_bytes().get(span.start), Some(b'{' | b'[')) {
        return first.cloned().unwrap_or(span);
    }
    let inner_end = last.map_or(span.start + 1, |last| last.end.max(span.start + 1));
    let rest = source.text().get(inner_end..).unwrap_or("");
    let close = rest.find(['}', ']']).filter(|at| rest[..*at].chars().all(|c| c.is_whitespace() || c == ','));
    let end = close.map_or(inner_end, |at| inner_end + at + 1);
    let one_line = source.text().get(span.start..end).is_some_and(|text| !text.contains('\n'));
    if one_line { span.start..end } else { span.start..span.start + 1 }
}

/// What serde sees before places are worked out.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Int(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(i64::try_from(value).map_or(Value::UInt(value), Value::Int)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Text(value.to_string())))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_spelling() {
        let source = Arc::new(Source::new("f", "1.10: a\nyes: b\n0x1: c\n"));
        let node = read(&source, &mut Vec::new()).unwrap();
        let Value::Map(entries) = node.value else { panic!() };
        let names: Vec<_> = entries.iter().map(|(key, _)| key.name.as_str()).collect();
        assert_eq!(names, ["1.10", "yes", "0x1"]);
    }
}
