//! What is wrong, where the user wrote it and what helps. Knows the error kinds of the plugin contract by
//! name, but nothing of WIT.

use std::fmt;

/// What a caller can do about a fault; the names are those of the contract's `error-kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The Dockerfile or the request is wrong.
    InvalidInput,
    /// What was named does not exist.
    NotFound,
    /// A grant, a policy or the far side refuses.
    Denied,
    /// The far side wants other credentials.
    Unauthenticated,
    /// The state of things contradicts the request.
    Conflict,
    /// A passing fault.
    Unavailable,
    /// The user or a deadline stopped the build.
    Cancelled,
    /// Well formed, but not something this builder can do.
    Unsupported,
    /// A limit was reached.
    Limit,
    /// A defect.
    Internal,
}

/// Where an instruction, or a word of one, is: lines and columns count from 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First line.
    pub line: u32,
    /// First column; 0 stands for the whole line.
    pub column: u32,
    /// Last line, inclusive.
    pub end_line: u32,
}

/// A span with the name of its file and the text of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Path of the file as the user knows it.
    pub file: String,
    /// Which lines of it.
    pub span: Span,
    /// These lines, without the last line break.
    pub text: String,
}

/// A failure for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What a caller can do about it.
    pub kind: Kind,
    /// One sentence without a full stop.
    pub message: String,
    /// Causes, outermost first.
    pub context: Vec<String>,
    /// What the user can do.
    pub hint: Option<String>,
    /// Where it is in the Dockerfile, once that is known.
    pub span: Option<Span>,
    /// Where it is, if the host said so or once the file is known.
    pub place: Option<Box<Place>>,
    /// Milliseconds after which another try may succeed.
    pub retry_after: Option<u32>,
}

impl Fault {
    /// A fault of this kind, nowhere yet.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            context: Vec::new(),
            hint: None,
            span: None,
            place: None,
            retry_after: None,
        }
    }

    /// The user wrote something wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidInput, message)
    }

    /// Something named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// Well formed, but not offered here.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// Adds what the user can do, unless that is known already.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Adds a hint if there is one to add.
    pub fn maybe_hint(self, hint: Option<String>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Says where, unless a more exact place is known already.
    pub fn at(mut self, span: Span) -> Self {
        if self.place.is_none() {
            self.span.get_or_insert(span);
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(span) = self.span {
            write!(f, " (line {})", span.line)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// The text of a Dockerfile with its name, to quote from.
#[derive(Debug, Clone)]
pub struct Source {
    file: String,
    text: String,
}

impl Source {
    /// Keeps a file to quote from.
    pub fn new(file: impl Into<String>, text: impl Into<String>) -> Self {
        Self { file: file.into(), text: text.into() }
    }

    /// The place of a span, with its lines.
    pub fn place(&self, span: Span) -> Place {
        let first = span.line.max(1) as usize - 1;
        let count = (span.end_line.max(span.line) - span.line) as usize + 1;
        let lines: Vec<&str> = self.text.split('\n').skip(first).take(count).collect();
        let text = lines.iter().map(|line| line.trim_end_matches('\r')).collect::<Vec<_>>().join("\n");
        Place { file: self.file.clone(), span, text }
    }

    /// Gives a fault that only knows its span the file and the text.
    pub fn complete(&self, mut fault: Fault) -> Fault {
        if let (None, Some(span)) = (&fault.place, fault.span) {
            fault.place = Some(Box::new(self.place(span)));
        }
        fault
    }
}

/// The option nearest to what was written, at most two edits away, as a ready hint.
pub fn nearest<'a>(written: &str, options: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let lower = written.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for option in options {
        let candidate = option.to_lowercase();
        if candidate == lower {
            return None;
        }
        let distance = edits(&lower, &candidate);
        if distance < 3 && distance < candidate.chars().count() && best.is_none_or(|(d, _)| distance < d) {
            best = Some((distance, option));
        }
    }
    best.map(|(_, option)| format!("did you mean {option}?"))
}

/// Whether a word is another one with one slip of the finger.
pub fn is_slip(written: &str, option: &str) -> bool {
    option.chars().count() > 2 && edits(&written.to_lowercase(), &option.to_lowercase()) == 1
}

/// Edits between two words, a swap of neighbours being one; gives up on words too long to be a slip of the finger.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 || a.len() > 200 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..=b.len() {
            let substitute = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitute.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_near_names() {
        assert_eq!(nearest("RNU", ["RUN", "ENV"]), Some("did you mean RUN?".into()));
        assert_eq!(nearest("COPPY", ["RUN", "COPY"]), Some("did you mean COPY?".into()));
        assert_eq!(nearest("FROBNICATE", ["RUN", "COPY"]), None);
        assert_eq!(nearest("run", ["RUN"]), None, "an exact match is no slip");
        assert_eq!(nearest("", ["a"]), None);
    }

    #[test]
    fn quotes_the_lines_of_a_span() {
        let source = Source::new("Dockerfile", "FROM a\r\nRUN b \\\r\n  c\nCMD d\n");
        let place = source.place(Span { line: 2, column: 1, end_line: 3 });
        assert_eq!(place.text, "RUN b \\\n  c");
        assert_eq!(source.place(Span { line: 99, column: 0, end_line: 99 }).text, "");
    }

    #[test]
    fn the_most_exact_span_stays() {
        let inner = Span { line: 3, column: 7, end_line: 3 };
        let fault = Fault::invalid("x").at(inner).at(Span::default());
        assert_eq!(fault.span, Some(inner));
    }
}
