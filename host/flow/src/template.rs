//! Text with `${{ expression }}` in it: one whole expression keeps its type, parts of a text become text.

use crate::diagnostic::{Code, Diagnostic};
use crate::expression::{Expression, Scope};
use crate::source::Source;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

const OPEN: &str = "${{";

/// A text, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Expression(Expression),
}

impl Template {
    /// Takes a text apart. `places` gives the place in the file of each byte of `text`, and of its end. Mistakes
    /// go to `found`; what could not be read is left out.
    pub fn parse(
        source: &Arc<Source>,
        text: &str,
        places: &[usize],
        variables: &BTreeMap<String, String>,
        found: &mut Vec<Diagnostic>,
    ) -> Template {
        let pieces = match split(text) {
            Ok(pieces) => pieces,
            Err(at) => {
                found.push(
                    Diagnostic::error(
                        source,
                        Code::Expression,
                        places[at]..places[at + OPEN.len()],
                        "`${{` is never closed",
                    )
                    .hint("close it with `}}`, or write `$${{` for the characters themselves"),
                );
                return Template { parts: Vec::new() };
            }
        };
        let parts = pieces.into_iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(Part::Text(text)),
            Piece::Code(range) => {
                let places = &places[range.start..=range.end];
                Expression::compile(source, &text[range], places, variables, found).map(Part::Expression)
            }
        });
        Template { parts: parts.collect() }
    }

    /// The expressions in it.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expression(expression) => Some(expression),
            Part::Text(_) => None,
        })
    }

    /// The value: of any type if the text is one expression, else text, in which `null` is nothing and lists
    /// and maps are JSON.
    pub fn evaluate(&self, scope: &Scope) -> Result<Value, Box<Diagnostic>> {
        if let [Part::Expression(only)] = self.parts.as_slice() {
            return only.evaluate(scope);
        }
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Expression(expression) => match expression.evaluate(scope)? {
                    Value::Null => {}
                    Value::String(value) => text.push_str(&value),
                    other => text.push_str(&other.to_string()),
                },
            }
        }
        Ok(Value::String(text))
    }
}

#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Code(Range<usize>),
}

/// Whether there is anything to take apart.
pub(crate) fn is_template(text: &str) -> bool {
    text.contains(OPEN)
}

/// The pieces of a text; the error is the place of an opening that is never closed.
fn split(text: &str) -> Result<Vec<Piece>, usize> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut at = 0;
    while let Some(next) = text[at..].find(OPEN).map(|found| at + found) {
        if text[at..next].ends_with('$') {
            plain.push_str(&text[at..next - 1]);
            plain.push_str(OPEN);
            at = next + OPEN.len();
            continue;
        }
        plain.push_str(&text[at..next]);
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        let start = next + OPEN.len();
        let end = closing(&text[start..]).map(|found| start + found).ok_or(next)?;
        pieces.push(Piece::Code(start..end));
        at = end + 2;
    }
    plain.push_str(&text[at..]);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

/// Where the `}}` stands that ends an expression: not inside quotes, not the end of a map.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_maps_do_not_close() {
        let check = |text: &str, expected: Result<Vec<&str>, usize>| {
            let shown = split(text).map(|pieces| {
                let show = |piece| match piece {
                    Piece::Text(text) => text,
                    Piece::Code(range) => format!("<{}>", text.get(range).unwrap()),
                };
                pieces.into_iter().map(show).collect::<Vec<_>>()
            });
            assert_eq!(shown, expected.map(|parts| parts.into_iter().map(str::to_string).collect()), "{text}");
        };
        check("a${{ b }}c", Ok(vec!["a", "< b >", "c"]));
        check("${{ '}}' }}", Ok(vec!["< '}}' >"]));
        check("${{ {'a': {'b': 1}} }}", Ok(vec!["< {'a': {'b': 1}} >"]));
        check("${{ {'a': {'b': 1}}}}", Ok(vec!["< {'a': {'b': 1}}>"]));
        check("$${{ a }} ${b} $$", Ok(vec!["${{ a }} ${b} $$"]));
        check("x ${{ a } ", Err(2));
        check("${{ 'a\\'}}' }}${{b}}", Ok(vec!["< 'a\\'}}' >", "<b>"]));
    }
}
