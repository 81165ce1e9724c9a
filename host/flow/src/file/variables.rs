//! `${NAME}` in the settings of a file; parameters of steps are left alone, as scripts have `${NAME}` of their own.

use crate::align::align;
use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::source::{Located, Source};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Replaces `${NAME}` and `${NAME:-default}` (used if NAME is unset or empty); `$$` is one dollar sign.
/// What is not set, or not closed, is told with its place.
pub(crate) fn expand(
    source: &Arc<Source>,
    text: Located<String>,
    variables: &BTreeMap<String, String>,
    found: &mut Vec<Diagnostic>,
) -> Option<Located<String>> {
    if !text.value.contains('$') {
        return Some(text);
    }
    let places = align(source, &text.span, &text.value);
    let mut out = String::new();
    let mut rest = text.value.as_str();
    let before = found.len();
    while let Some(dollar) = rest.find('$') {
        let at = text.value.len() - rest.len() + dollar;
        out.push_str(&rest[..dollar]);
        let tail = &rest[dollar + 1..];
        if let Some(tail) = tail.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(inner) = tail.strip_prefix('{') {
            let Some(end) = inner.find('}') else {
                let span = places[at]..places[at + 2];
                let unclosed = Diagnostic::error(source, Code::InvalidValue, span, "`${` is never closed");
                found.push(unclosed.hint("close it with `}`, or write `$$` for a dollar sign"));
                return None;
            };
            match value(&inner[..end], variables) {
                Ok(value) => out.push_str(value),
                Err((code, message, hint)) => {
                    let span = places[at]..places[at + 2 + end + 1];
                    found.push(Diagnostic::error(source, code, span, message).hint(hint));
                }
            }
            rest = &inner[end + 1..];
        } else {
            out.push('$');
            rest = tail;
        }
    }
    out.push_str(rest);
    (found.len() == before).then(|| Located::new(out, text.span))
}

fn value<'a>(inner: &'a str, variables: &'a BTreeMap<String, String>) -> Result<&'a str, (Code, String, String)> {
    let (name, default) = inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        let message = format!("`{name}` is not the name of a variable");
        return Err((Code::InvalidValue, message, "write `${NAME}` or `${NAME:-default}`".to_string()));
    }
    match (variables.get(name).map(String::as_str), default) {
        (Some(""), Some(default)) | (None, Some(default)) => Ok(default),
        (Some(value), _) => Ok(value),
        (None, None) => {
            let hint = nearest(name, variables.keys().map(String::as_str)).map_or_else(
                || format!("set it, or write `${{{name}:-default}}`"),
                |near| format!("did you mean `{near}`?"),
            );
            Err((Code::UnsetVariable, format!("the variable `{name}` is not set"), hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms() {
        let variables = BTreeMap::from([("USER".to_string(), "ann".to_string()), ("EMPTY".to_string(), String::new())]);
        let check = |text: &str, expected: Result<&str, &str>| {
            let source = Arc::new(Source::new("f", text));
            let mut found = Vec::new();
            let result = expand(&source, Located::new(text.to_string(), 0..text.len()), &variables, &mut found);
            let shown = match found.first() {
                Some(first) => Err(format!("{}: {}", first.line_column().1, first.message)),
                None => Ok(result.unwrap().value),
            };
            assert_eq!(shown, expected.map(str::to_string).map_err(str::to_string), "{text}");
        };
        check("registry.${USER}.example", Ok("registry.ann.example"));
        check("${NOPE:-x}${EMPTY:-y}${EMPTY}", Ok("xy"));
        check("$$ $USER $", Ok("$ $USER $"));
        check("a${NOPE}", Err("2: the variable `NOPE` is not set"));
        check("é${USER", Err("2: `${` is never closed"));
        check("${a b}", Err("1: `a b` is not the name of a variable"));
    }
}
