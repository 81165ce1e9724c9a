//! `<<NAME` words: recognises them and reads their names. The bodies are read elsewhere.

use crate::fault::Fault;
use crate::words::{Lexer, Unset};

/// A text that follows an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// Its name, without quotes: also the line that ends it.
    pub name: String,
    /// Whether variables in it are expanded: no part of the name was quoted.
    pub expand: bool,
    /// Whether leading tabs are removed: `<<-`.
    pub chomp: bool,
    /// The lines, with their line breaks.
    pub content: String,
}

/// Reads one word; none if it is no heredoc.
pub fn heredoc_word(word: &str) -> Result<Option<Heredoc>, Fault> {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = digits.strip_prefix("<<") else {
        return Ok(None);
    };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let lexer = Lexer { keep_unset: true, ..Lexer::new('\\') };
    let wrong = |error: crate::words::WordError| Fault::invalid(format!("invalid name of a heredoc {word:?}: {error}"));
    let names = lexer.words(rest, &Unset).map_err(wrong)?;
    let raw = Lexer { raw_quotes: true, ..lexer }.words(rest, &Unset).map_err(wrong)?;
    let ([name], [raw]) = (&names[..], &raw[..]) else {
        return Ok(None);
    };
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Ok(Some(Heredoc { name: name.clone(), expand: quotes(name) == quotes(raw), chomp, content: String::new() }))
}

/// All heredocs of a line in order, still without their bodies.
pub fn heredocs(line: &str) -> Result<Vec<Heredoc>, Fault> {
    let lexer = Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lexer::new('\\') };
    // A line that is no proper sequence of words is a matter for the shell that gets it.
    let words = lexer.words(line, &Unset).unwrap_or_default();
    let mut found = Vec::new();
    for word in &words {
        found.extend(heredoc_word(word)?);
    }
    Ok(found)
}

/// The body without the tabs at the beginning of its lines.
pub fn chomp(body: &str) -> String {
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// Blanks within a line, as the line parser sees them.
pub fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// What is before the first run of blanks, and what is after.
pub fn cut_blanks(text: &str) -> (&str, Option<&str>) {
    match text.find(is_blank) {
        Some(at) => (&text[..at], Some(text[at..].trim_start_matches(is_blank))),
        None => (text, None),
    }
}
