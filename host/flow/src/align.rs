//! The place in the file of each byte of a YAML scalar; knows quoting and folding, not what the text means.

use crate::source::{Source, Span};

/// Where each byte of a scalar's value stands in the file: the result has one entry per byte and one for the end.
///
/// Plain and quoted text on one line is the same text shifted; folding, block indentation and escapes make
/// the two differ, so they are walked side by side.
pub(crate) fn align(source: &Source, span: &Span, value: &str) -> Vec<usize> {
    let raw = source.slice(span);
    if let Some(at) = raw.find(value) {
        return (0..=value.len()).map(|i| span.start + at + i).collect();
    }
    let escapes = raw.starts_with('"');
    let mut places = Vec::with_capacity(value.len() + 1);
    let mut at = usize::from(raw.starts_with(['"', '\'']));
    for wanted in value.chars() {
        let mut width = 0;
        while let Some(c) = raw[at..].chars().next() {
            if escapes && c == '\\' {
                width = escape_width(&raw[at..]);
                if raw[at + 1..].starts_with('\n') {
                    at += width;
                    continue;
                }
                break;
            }
            if c == wanted || (c.is_whitespace() && wanted.is_whitespace()) {
                width = c.len_utf8();
                break;
            }
            at += c.len_utf8();
        }
        places.extend(std::iter::repeat_n(span.start + at, wanted.len_utf8()));
        at = (at + width).min(raw.len());
    }
    places.push(span.start + at);
    places
}

/// Bytes of the escape that `text`, which begins with a backslash, begins with.
fn escape_width(text: &str) -> usize {
    let Some(kind) = text[1..].chars().next() else {
        return 1;
    };
    let digits = match kind {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    let end = 1 + kind.len_utf8() + digits;
    if text.is_char_boundary(end.min(text.len())) { end.min(text.len()) } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Value, read};
    use std::sync::Arc;

    #[test]
    fn a_place_inside_a_scalar_is_found_however_it_is_written() {
        let cases = [
            "a: x ${{ y }}\n",
            "a: \"q\\\"\\n\\u00e9 ${{ y }}\"\n",
            "a: 'it''s ${{ y }}'\n",
            "a: |\n    one\n    two ${{ y }}\n",
            "a: >-\n    one\n    two\n    ${{ y }}\n",
            "a: \"one \\\n   two ${{ y }}\"\n",
        ];
        for text in cases {
            let source = Arc::new(Source::new("f", text));
            let node = read(&source, &mut Vec::new()).unwrap();
            let Value::Map(entries) = &node.value else { panic!("{text}") };
            let Value::Text(value) = &entries[0].1.value else { panic!("{text}") };
            let places = align(&source, &entries[0].1.span, value);
            assert_eq!(places.len(), value.len() + 1);
            assert_eq!(places[value.find("${{").unwrap()], text.find("${{").unwrap(), "{text}");
            assert_eq!(places[value.find('y').unwrap()], text.find('y').unwrap(), "{text}");
        }
    }
}
