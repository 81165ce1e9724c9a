//! The text of a flow file and places in it; knows nothing of YAML.

use std::ops::Range;

/// A place in a [`Source`]: byte offsets, end excluded.
pub type Span = Range<usize>;

/// A text with the name that messages give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
}

impl Source {
    /// A text under a name (usually the file's path as the user wrote it). A byte order mark is dropped.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        let mut text = text.into();
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        Source { name: name.into(), text }
    }

    /// The name given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text at a place; empty where the place lies outside.
    pub fn slice(&self, span: &Span) -> &str {
        self.text.get(span.clone()).unwrap_or("")
    }

    /// Line and column, both from 1, the column in characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.floor(offset)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The same text with asterisks at some places; every other place stays where it is.
    pub(crate) fn blot(&self, spans: &[Span]) -> Source {
        let mut bytes = self.text.clone().into_bytes();
        for span in spans {
            let blots = bytes[self.clamp(span)].iter_mut();
            blots.filter(|byte| **byte != b'\n').for_each(|byte| *byte = b'*');
        }
        let text = String::from_utf8(bytes).unwrap_or_default();
        Source { name: self.name.clone(), text }
    }

    /// The byte offset of a character offset.
    pub(crate) fn byte_of_char(&self, chars: usize) -> usize {
        self.text.char_indices().nth(chars).map_or(self.text.len(), |(at, _)| at)
    }

    /// The same place, moved onto character boundaries inside the text.
    pub(crate) fn clamp(&self, span: &Span) -> Span {
        let start = self.floor(span.start);
        start..self.floor(span.end).max(start)
    }

    fn floor(&self, offset: usize) -> usize {
        let mut at = offset.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

/// A value and the place it was written at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Located<T> {
    /// A value at a place.
    pub fn new(value: T, span: Span) -> Located<T> {
        Located { value, span }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_and_never_panic() {
        let source = Source::new("f", "\u{feff}aé\nb");
        assert_eq!(source.text(), "aé\nb");
        assert_eq!(source.line_column(0), (1, 1));
        assert_eq!(source.line_column(2), (1, 2), "inside é");
        assert_eq!(source.line_column(4), (2, 1));
        assert_eq!(source.line_column(99), (2, 2));
        assert_eq!(source.clamp(&(2..99)), 1..5);
        assert_eq!(source.byte_of_char(2), 3);
    }
}
