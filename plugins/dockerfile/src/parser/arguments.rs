//! Splits the arguments of an instruction in the way its kind asks for: a JSON array, words, pairs, or the
//! rest of the line.

use super::heredoc::{cut_blanks, is_blank};
use super::lines::Logical;
use super::{Fault, Word};

/// In which way an instruction splits its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A JSON array, else the rest of the line: `RUN`, `CMD`.
    JsonOrLine,
    /// A JSON array, else words: `COPY`, `VOLUME`.
    JsonOrWords,
    /// Words between blanks: `FROM`, `EXPOSE`.
    Words,
    /// Words that may be quoted: `ARG`.
    Quoted,
    /// `name=value` pairs, or one `name value`: `ENV`, `LABEL`.
    Pairs,
    /// The rest of the line: `USER`, `WORKDIR`.
    Line,
    /// A type, then a JSON array or the rest of the line: `HEALTHCHECK`.
    Typed,
    /// Another instruction: `ONBUILD`.
    Instruction,
    /// No such instruction.
    Unknown,
}

impl Style {
    /// The style of a keyword in lower case.
    pub fn of(keyword: &str) -> Self {
        match keyword {
            "run" | "cmd" | "entrypoint" | "shell" => Self::JsonOrLine,
            "copy" | "add" | "volume" => Self::JsonOrWords,
            "from" | "expose" => Self::Words,
            "arg" => Self::Quoted,
            "env" | "label" => Self::Pairs,
            "user" | "workdir" | "stopsignal" | "maintainer" => Self::Line,
            "healthcheck" => Self::Typed,
            "onbuild" => Self::Instruction,
            _ => Self::Unknown,
        }
    }
}

/// Arguments after splitting.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The words.
    pub words: Vec<Word>,
    /// Whether they were a JSON array.
    pub json: bool,
    /// Whether they look like one that is not well formed.
    pub broken_json: bool,
}

/// Splits `rest`, a trimmed slice of the line's text.
pub fn parse(style: Style, line: &Logical, rest: &str, escape: char, keyword: &str) -> Result<Parsed, Fault> {
    let plain = |words| Ok(Parsed { words, ..Parsed::default() });
    match style {
        Style::Unknown | Style::Instruction => plain(Vec::new()),
        _ if rest.is_empty() => plain(Vec::new()),
        Style::Line => plain(vec![line.word(rest, rest)]),
        Style::Words => plain(split_blanks(line, rest)),
        Style::Quoted => plain(quoted(rest, escape).into_iter().map(|(word, at)| line.word(word, at)).collect()),
        Style::Pairs => plain(pairs(line, rest, escape, keyword)?),
        Style::JsonOrWords => maybe_json(line, rest, keyword, split_blanks),
        Style::JsonOrLine => maybe_json(line, rest, keyword, |line, rest| vec![line.word(rest, rest)]),
        Style::Typed => {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (kind, command) = (&rest[..end], rest[end..].trim_start());
            let mut parsed = match command.is_empty() {
                true => Parsed::default(),
                false => maybe_json(line, command, keyword, |line, rest| vec![line.word(rest, rest)])?,
            };
            parsed.words.insert(0, line.word(kind, rest));
            Ok(parsed)
        }
    }
}

fn split_blanks(line: &Logical, rest: &str) -> Vec<Word> {
    rest.split(is_blank).filter(|word| !word.is_empty()).map(|word| line.word(word, word)).collect()
}

fn maybe_json(
    line: &Logical,
    rest: &str,
    keyword: &str,
    otherwise: fn(&Logical, &str) -> Vec<Word>,
) -> Result<Parsed, Fault> {
    if !rest.starts_with('[') {
        return Ok(Parsed { words: otherwise(line, rest), ..Parsed::default() });
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(rest) else {
        return Ok(Parsed { words: otherwise(line, rest), json: false, broken_json: looks_meant(rest) });
    };
    let mut words = Vec::with_capacity(values.len());
    for value in values {
        match value {
            serde_json::Value::String(text) => words.push(line.word(text, rest)),
            other => {
                let message =
                    format!("the JSON array of {} holds {other}, and only strings are allowed", keyword.to_uppercase());
                return Err(Fault::invalid(message)
                    .hint(format!("write it in double quotes: \"{other}\""))
                    .at(line.span_of(rest)));
            }
        }
    }
    Ok(Parsed { words, json: true, broken_json: false })
}

/// `[ -f x ] && y` is a shell command; `['a']` and `["a", "b"` were meant as arrays.
fn looks_meant(rest: &str) -> bool {
    let inside = rest[1..].trim_start();
    let closed = rest.ends_with(']');
    inside.starts_with('"') || closed && inside.starts_with(['\'', '“', '‘', '`'])
}

/// Words between blanks, where quotes and escapes keep blanks together; both stay in the word. With each
/// word comes the slice that begins with it.
fn quoted(rest: &str, escape: char) -> Vec<(String, &str)> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut start = None;
    let mut quote: Option<char> = None;
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if let Some(start) = start.take() {
                words.push((std::mem::take(&mut word), &rest[start..]));
            }
            continue;
        }
        start.get_or_insert(at);
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        if c == escape && quote != Some('\'') {
            // At the very end there is nothing left to escape.
            let Some((_, escaped)) = chars.next() else {
                break;
            };
            word.push(c);
            word.push(escaped);
        } else {
            word.push(c);
        }
    }
    if let Some(start) = start.filter(|_| !word.is_empty()) {
        words.push((word, &rest[start..]));
    }
    words
}

/// Triples of name, value and delimiter.
fn pairs(line: &Logical, rest: &str, escape: char, keyword: &str) -> Result<Vec<Word>, Fault> {
    let words = quoted(rest, escape);
    let Some((first, _)) = words.first() else {
        return Ok(Vec::new());
    };
    let keyword = keyword.to_uppercase();
    if !first.contains('=') {
        let (name, Some(value)) = cut_blanks(rest) else {
            return Err(Fault::invalid(format!("{keyword} must have two arguments"))
                .hint(format!("write {keyword} {rest}=VALUE"))
                .at(line.span_of(rest)));
        };
        return Ok(vec![line.word(name, rest), line.word(value, value), line.word("", rest)]);
    }
    let mut triples = Vec::with_capacity(words.len() * 3);
    for (word, at) in words {
        let Some((name, value)) = word.split_once('=') else {
            return Err(Fault::invalid(format!("can't find = in {word:?}: {keyword} takes name=value pairs"))
                .hint("a value with blanks needs quotes")
                .at(line.span_of(at)));
        };
        triples.push(line.word(name, at));
        triples.push(line.word(value, at));
        triples.push(line.word("=", at));
    }
    Ok(triples)
}
