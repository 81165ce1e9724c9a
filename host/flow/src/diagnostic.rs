//! Mistakes with their place in the file, shown the way cargo shows them; knows nothing of what they mean.

use crate::source::{Source, Span};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// Probably not what the user wants.
    Warning,
}

/// What kind of mistake it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// Not YAML, or more of it than is accepted.
    Syntax,
    /// A field that does not exist.
    UnknownField,
    /// A field that must be there is not.
    MissingField,
    /// A value of another type than the field takes.
    WrongType,
    /// The same key twice in one map.
    DuplicateKey,
    /// Right type, impossible value: a duration, a name, a version, a number out of range.
    InvalidValue,
    /// A CEL expression or a `${{ }}` that does not parse, or that failed when evaluated.
    Expression,
    /// A step, image or tag that the file does not define.
    UnknownStep,
    /// A plugin that is neither bundled nor declared.
    UnknownPlugin,
    /// Steps that wait for each other.
    Cycle,
    /// A name that the expression language keeps for itself.
    ReservedName,
    /// `${NAME}` or `env.NAME` without a value.
    UnsetVariable,
    /// Agreed on, but not there yet.
    Unsupported,
    /// Something that looks like a secret, in clear.
    PlainSecret,
    /// A condition that can never hold.
    NeverRuns,
    /// Steps with a matrix that do not fit together.
    Matrix,
    /// An output that the plugin does not give.
    UnknownOutput,
    /// A parameter that the plugin does not take.
    Parameter,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What kind it is.
    pub code: Code,
    /// What is wrong, in one line.
    pub message: String,
    /// The offending text.
    pub span: Span,
    /// A few words below the offending text; may be empty.
    pub label: String,
    /// Other places that belong to it.
    pub related: Vec<(Span, String)>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The file.
    pub source: Arc<Source>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(source: &Arc<Source>, code: Code, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code,
            message: message.into(),
            span,
            label: String::new(),
            related: Vec::new(),
            hint: None,
            source: source.clone(),
        }
    }

    /// The same as a warning.
    pub fn warning(mut self) -> Diagnostic {
        self.severity = Severity::Warning;
        self
    }

    /// With a few words below the offending text.
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = label.into();
        self
    }

    /// With something to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// With a hint if there is one.
    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Diagnostic {
        self.hint = hint.or(self.hint);
        self
    }

    /// With another place that belongs to it.
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.related.push((span, label.into()));
        self
    }

    /// Line and column of the offending text, from 1.
    pub fn line_column(&self) -> (usize, usize) {
        self.source.line_column(self.span.start)
    }

    /// The message with the lines of the file it is about, without a newline at the end.
    /// `color` adds terminal escapes; control characters of the file are never passed on.
    pub fn render(&self, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let label = printable(&self.label);
        let primary = AnnotationKind::Primary.span(self.source.clamp(&self.span));
        let primary = if label.is_empty() { primary } else { primary.label(label) };
        let related = self
            .related
            .iter()
            .map(|(span, label)| AnnotationKind::Context.span(self.source.clamp(span)).label(printable(label)));
        let snippet = Snippet::source(self.source.text())
            .path(printable(self.source.name()))
            .annotation(primary)
            .annotations(related);
        let mut groups: Vec<Group<'_>> = vec![level.primary_title(printable(&self.message)).element(snippet)];
        if let Some(hint) = &self.hint {
            groups.push(Group::with_title(Level::HELP.secondary_title(printable(hint))));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&groups)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_column();
        write!(f, "{}:{line}:{column}: {}", self.source.name(), self.message)
    }
}

/// For machines: severity, code, message, file, line, column, label, hint, related.
impl Serialize for Diagnostic {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let place = |span: &Span| {
            let (line, column) = self.source.line_column(span.start);
            let (end_line, end_column) = self.source.line_column(span.end);
            serde_json::json!({ "line": line, "column": column, "end_line": end_line, "end_column": end_column })
        };
        let related: Vec<_> = self
            .related
            .iter()
            .map(|(span, label)| serde_json::json!({ "place": place(span), "label": label }))
            .collect();
        serde_json::json!({
            "severity": self.severity, "code": self.code, "message": self.message, "file": self.source.name(),
            "place": place(&self.span), "label": self.label, "hint": self.hint, "related": related,
        })
        .serialize(serializer)
    }
}

/// Everything found in one pass, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Report(Vec<Diagnostic>);

impl Report {
    /// Sorted by place, each mistake once (an anchor's content is read wherever its alias stands).
    ///
    /// Secrets in clear are blotted out of what is shown, as logs are read by more people than files.
    pub(crate) fn new(mut diagnostics: Vec<Diagnostic>) -> Report {
        let secrets: Vec<Span> = diagnostics
            .iter()
            .filter(|found| found.code == Code::PlainSecret)
            .map(|found| found.span.clone())
            .collect();
        if let Some(first) = diagnostics.first().filter(|_| !secrets.is_empty()) {
            let blotted = Arc::new(first.source.blot(&secrets));
            diagnostics.iter_mut().for_each(|found| found.source = blotted.clone());
        }
        diagnostics.sort_by_key(|found| (found.severity != Severity::Error, found.span.start, found.span.end));
        diagnostics.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        Report(diagnostics)
    }

    /// The mistakes: errors first, each kind in the order of the file.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0
    }

    /// Whether any of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|found| found.severity == Severity::Error)
    }

    /// All of them, an empty line between two, see [`Diagnostic::render`].
    pub fn render(&self, color: bool) -> String {
        self.0.iter().map(|found| found.render(color)).collect::<Vec<_>>().join("\n\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}

/// Text from the file could hold escapes that move the cursor or recolour a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// The candidate closest to what was written, if it is close enough to be meant.
pub(crate) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = written.chars().count();
    let limit = (length.max(3) / 3).min(length.saturating_sub(1));
    candidates
        .into_iter()
        .map(|candidate| (distance(written, candidate), candidate))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, c)| c)
}

/// The number of insertions, deletions, substitutions and swaps of neighbours (optimal string alignment),
/// ignoring case. Long names are cut: they come from an untrusted file and the cost is quadratic.
fn distance(a: &str, b: &str) -> usize {
    let chars = |text: &str| text.chars().take(64).flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (a, b) = (chars(a), chars(b));
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + changed);
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
    fn the_nearest_name_must_be_near() {
        let fields = ["uses", "with", "needs", "timeout"];
        assert_eq!(nearest("use", fields), Some("uses"));
        assert_eq!(nearest("tiemout", fields), Some("timeout"));
        assert_eq!(nearest("Needs", fields), Some("needs"));
        assert_eq!(nearest("environment", fields), None);
    }

    #[test]
    fn escapes_of_the_file_do_not_reach_the_terminal() {
        let source = Arc::new(Source::new("a\u{1b}[2J", "k: \u{1b}[31m\n"));
        let shown = Diagnostic::error(&source, Code::Syntax, 0..3, "bad \u{1b}]0;x\u{7}").hint("\u{1b}c").render(false);
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'), "{shown:?}");
    }
}
