//! Joins physical lines to logical ones: directives, comments, continuations. Knows where each byte of a
//! logical line came from, and nothing of instructions.

use super::heredoc::Heredoc;
use super::{Fault, Span, Word};

/// A line with its continuations joined.
#[derive(Debug, Clone)]
pub struct Logical {
    /// The text, without comments and line breaks.
    pub text: String,
    /// First line, from 1.
    pub start: u32,
    /// Last line.
    pub end: u32,
    /// An empty line within the continuation, if there was one.
    pub empty_continuation: Option<u32>,
    /// The comments above it since the last empty one, without `#`; an empty line is an empty text.
    pub comments: Vec<String>,
    /// Where pieces of the text come from: offset in the text, line, column.
    pieces: Vec<(usize, u32, u32)>,
}

impl Logical {
    /// Where a slice of `self.text` was written.
    pub fn span_of(&self, slice: &str) -> Span {
        let offset = (slice.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        let whole = Span { line: self.start, column: 0, end_line: self.end };
        let Some(before) = self.text.get(..offset) else {
            return whole;
        };
        match self.pieces.iter().rev().find(|(at, ..)| *at <= offset) {
            Some(&(at, line, column)) => {
                let column = column + before[at..].chars().count() as u32;
                Span { line, column, end_line: line }
            }
            None => whole,
        }
    }

    /// A word whose text begins where this slice does.
    pub fn word(&self, text: impl Into<String>, slice: &str) -> Word {
        Word { text: text.into(), span: self.span_of(slice) }
    }
}

/// Reads a file line by line.
pub struct Lines<'a> {
    rest: std::str::SplitInclusive<'a, char>,
    line: u32,
    escape: char,
    directives_done: bool,
    seen: Vec<(String, Word)>,
}

impl<'a> Lines<'a> {
    /// Begins at the first line; a byte order mark is no part of it.
    pub fn new(text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { rest: text.split_inclusive('\n'), line: 0, escape: '\\', directives_done: false, seen: Vec::new() }
    }

    /// The escape character so far.
    pub fn escape(&self) -> char {
        self.escape
    }

    /// The number of the line that was read last.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The values of `check` and `syntax`.
    pub fn into_directives(self) -> (Option<Word>, Option<Word>) {
        let find = |name: &str| self.seen.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        (find("check"), find("syntax"))
    }

    fn next_raw(&mut self) -> Option<&'a str> {
        let line = self.rest.next()?;
        self.line += 1;
        Some(line)
    }

    /// The next line that is neither empty nor a comment, continuations joined.
    pub fn next_logical(&mut self) -> Result<Option<Logical>, Fault> {
        let mut comments = Vec::new();
        while let Some(raw) = self.next_raw() {
            let content = trim_break(raw);
            let indent = content.len() - content.trim_start().len();
            let stripped = &content[indent..];
            if !self.directive(stripped)? {
                note(stripped, &mut comments);
            }
            let stripped = if stripped.starts_with('#') { "" } else { stripped };
            let (text, continues) = self.cut_continuation(stripped);
            if !continues && text.is_empty() {
                continue;
            }
            let column = content[..indent].chars().count() as u32 + 1;
            let mut line = Logical {
                text: text.to_owned(),
                start: self.line,
                end: self.line,
                empty_continuation: None,
                comments,
                pieces: vec![(0, self.line, column)],
            };
            if continues {
                self.join(&mut line);
            }
            return Ok(Some(line));
        }
        Ok(None)
    }

    fn join(&mut self, line: &mut Logical) {
        while let Some(raw) = self.next_raw() {
            line.end = self.line;
            let content = trim_break(raw);
            let trimmed = content.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                line.empty_continuation.get_or_insert(self.line);
                continue;
            }
            let (text, continues) = self.cut_continuation(content);
            line.pieces.push((line.text.len(), self.line, 1));
            line.text.push_str(text);
            if !continues {
                return;
            }
        }
    }

    /// Reads the body of a heredoc up to its end; false if the file ends before.
    pub fn read_body(&mut self, heredoc: &mut Heredoc) -> bool {
        while let Some(raw) = self.next_raw() {
            let line = raw.trim_end_matches(['\r', '\n']);
            let line = if heredoc.chomp { line.trim_start_matches('\t') } else { line };
            if line == heredoc.name {
                return true;
            }
            heredoc.content.push_str(raw);
        }
        false
    }

    /// An escape character at the end joins the next line, unless it is itself escaped.
    fn cut_continuation<'l>(&self, line: &'l str) -> (&'l str, bool) {
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(self.escape) {
            Some(before) if !before.ends_with(self.escape) => (before, true),
            _ => (line, false),
        }
    }

    /// `# name=value`, before everything else, each once. Tells whether the line is one.
    fn directive(&mut self, line: &str) -> Result<bool, Fault> {
        if self.directives_done {
            return Ok(false);
        }
        let Some((name, value)) = directive(line) else {
            self.directives_done = true;
            return Ok(false);
        };
        let here = Span { line: self.line, column: 0, end_line: self.line };
        if self.seen.iter().any(|(seen, _)| *seen == name) {
            return Err(Fault::invalid(format!("only one {name} parser directive can be used")).at(here));
        }
        if name == "escape" {
            self.escape = match value {
                "\\" => '\\',
                "`" => '`',
                _ => {
                    let message = format!("invalid escape token {value:?}");
                    return Err(Fault::invalid(message).hint("it is either ` or \\").at(here));
                }
            };
        }
        self.seen.push((name, Word { text: value.to_owned(), span: here }));
        Ok(true)
    }
}

/// Keeps a comment, or that a line is empty. A comment without text parts what is above it from what follows.
fn note(line: &str, comments: &mut Vec<String>) {
    match line.strip_prefix('#').map(str::trim) {
        Some("") => comments.clear(),
        Some(comment) => comments.push(comment.to_owned()),
        None if line.is_empty() => comments.push(String::new()),
        None => {}
    }
}

fn trim_break(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.strip_prefix('#')?.trim_start().split_once('=')?;
    let name = name.trim_end().to_ascii_lowercase();
    let value = value.trim();
    (matches!(name.as_str(), "syntax" | "escape" | "check") && !value.is_empty()).then_some((name, value))
}
