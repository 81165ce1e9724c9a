//! Turns the text of a Dockerfile into instructions with flags, words and heredocs, by the rules of
//! BuildKit's line parser. Knows which instruction splits its line in which way, not what it means.

mod arguments;
mod flags;
mod heredoc;
mod lines;

pub use heredoc::{Heredoc, chomp, heredoc_word};

use crate::fault::{Fault, Span};
use arguments::Style;
use lines::{Lines, Logical};

/// A piece of an instruction, and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// As written, quotes included.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The keyword as written.
    pub keyword: String,
    /// `--name=value` before the arguments, without quotes.
    pub flags: Vec<Word>,
    /// The arguments; `ENV`, `LABEL` come as triples of name, value and `=` or nothing.
    pub args: Vec<Word>,
    /// Whether the arguments were a JSON array.
    pub json: bool,
    /// Whether the arguments look like a JSON array that is none.
    pub broken_json: bool,
    /// Bodies that follow the instruction.
    pub heredocs: Vec<Heredoc>,
    /// The instruction behind `ONBUILD`.
    pub inner: Option<Box<Node>>,
    /// The line, continuations joined.
    pub original: String,
    /// The comments above it since the last empty one, without `#`; an empty line is an empty text.
    pub comments: Vec<String>,
    /// All its lines, heredocs included.
    pub span: Span,
}

/// Something that works, and probably not as meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The name of the rule, as in `# check=skip=NAME`.
    pub rule: &'static str,
    /// What is odd.
    pub message: String,
    /// Where.
    pub span: Span,
}

/// A parsed Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// All instructions in order; at least one.
    pub nodes: Vec<Node>,
    /// The escape character: `\` or a backtick.
    pub escape: char,
    /// The value of `# check=`.
    pub check: Option<Word>,
    /// The value of `# syntax=`.
    pub syntax: Option<Word>,
    /// What the parser noticed.
    pub warnings: Vec<Warning>,
}

/// Parses a whole file.
pub fn parse(text: &str) -> Result<Document, Fault> {
    let mut lines = Lines::new(text);
    let mut nodes = Vec::new();
    let mut warnings = Vec::new();
    while let Some(line) = lines.next_logical()? {
        if let Some(empty) = line.empty_continuation {
            warnings.push(Warning {
                rule: "NoEmptyContinuation",
                message: "empty continuation line".into(),
                span: Span { line: empty, column: 0, end_line: empty },
            });
        }
        let span = Span { line: line.start, column: 0, end_line: line.end };
        let mut node = node(&line, &line.text, lines.escape(), true).map_err(|fault| fault.at(span))?;
        if takes_heredocs(&node) && line.text.contains("<<") {
            node.heredocs = heredoc::heredocs(&line.text).map_err(|fault| fault.at(span))?;
            for heredoc in &mut node.heredocs {
                if !lines.read_body(heredoc) {
                    let message = format!("unterminated heredoc: no line consists of {:?} alone", heredoc.name);
                    return Err(Fault::invalid(message)
                        .hint(format!("end the text with a line that is exactly {}", heredoc.name))
                        .at(span));
                }
            }
            node.span.end_line = lines.line();
        }
        node.comments = line.comments;
        nodes.push(node);
    }
    if nodes.is_empty() {
        return Err(
            Fault::invalid("the Dockerfile has no instructions").hint("it begins with FROM and the name of an image")
        );
    }
    let escape = lines.escape();
    let (check, syntax) = lines.into_directives();
    Ok(Document { nodes, escape, check, syntax, warnings })
}

/// Only these have bodies; behind `USER <<X` there is just an odd name of a user.
fn takes_heredocs(node: &Node) -> bool {
    let node = node.inner.as_deref().unwrap_or(node);
    let keyword = node.keyword.to_ascii_lowercase();
    matches!(keyword.as_str(), "run" | "copy" | "add") && !node.json
}

fn node(line: &Logical, text: &str, escape: char, outermost: bool) -> Result<Node, Fault> {
    let (keyword, rest) = heredoc::cut_blanks(text.trim());
    let (flags, rest) = match rest {
        Some(rest) => flags::split(line, rest, escape),
        None => (Vec::new(), &text[text.len()..]),
    };
    let rest = rest.trim();
    let style = Style::of(&keyword.to_ascii_lowercase());
    let mut node = Node {
        keyword: keyword.to_owned(),
        flags,
        args: Vec::new(),
        json: false,
        broken_json: false,
        heredocs: Vec::new(),
        inner: None,
        original: text.to_owned(),
        comments: Vec::new(),
        span: Span { line: line.start, column: 0, end_line: line.end },
    };
    if style == Style::Instruction {
        // A chain of ONBUILD is refused later; following it here could exhaust the stack.
        if !rest.is_empty() && outermost {
            node.inner = Some(Box::new(self::node(line, rest, escape, false)?));
        }
        return Ok(node);
    }
    let parsed = arguments::parse(style, line, rest, escape, keyword)?;
    node.args = parsed.words;
    node.json = parsed.json;
    node.broken_json = parsed.broken_json;
    Ok(node)
}

#[cfg(test)]
mod tests;
