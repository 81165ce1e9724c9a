//! What a command ends with when it fails: a kind that gives the exit code, and a message that says what happened,
//! where, why and what to do.

use std::process::ExitCode;

pub(crate) use annotate_snippets::Level;
use annotate_snippets::{AnnotationKind, Group, Renderer, Snippet};
use cooperage_solve::{ErrorKind, Location};

use crate::progress::harmless;

/// Which exit code a failure has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The build or a step failed: 1.
    Failed,
    /// Wrong usage, a wrong file, or a name of what does not exist: 2.
    Usage,
    /// A grant, a signature, a policy or the lock refuses, or content is not what its digest says: 3.
    Refused,
    /// A registry, the disk or an engine: 4.
    Environment,
    /// Stopped by the user: 130, as shells have it.
    Interrupted,
}

/// A failed command.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    location: Option<Location>,
    step: Option<String>,
    /// The message is a finished text of several lines, printed as it is.
    rendered: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            location: None,
            step: None,
            rendered: false,
        }
    }

    /// Wrong usage.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A text that is complete already.
    pub(crate) fn rendered(exit: Exit, text: impl Into<String>) -> Self {
        Self { rendered: true, ..Self::new(exit, text) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Puts a message in front.
    pub(crate) fn context(mut self, message: impl Into<String>) -> Self {
        let cause = std::mem::replace(&mut self.message, message.into());
        self.causes.insert(0, cause);
        self
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.exit {
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
            Exit::Environment => 4,
            Exit::Interrupted => 130,
        })
    }

    /// The same for callers that only know the solver's errors.
    pub(crate) fn into_error(self) -> cooperage_solve::Error {
        let kind = match self.exit {
            Exit::Failed => ErrorKind::Internal,
            Exit::Usage => ErrorKind::InvalidInput,
            Exit::Refused => ErrorKind::Denied,
            Exit::Environment => ErrorKind::Unavailable,
            Exit::Interrupted => ErrorKind::Cancelled,
        };
        let mut error = cooperage_solve::Error::new(kind, self.message);
        error.context = self.causes;
        error.hint = self.hint;
        error.location = self.location;
        error
    }

    /// Prints to standard error.
    pub(crate) fn print(&self) {
        anstream::eprintln!("{}", self.render());
    }

    fn render(&self) -> String {
        if self.rendered {
            return self.message.clone();
        }
        let message = match &self.step {
            Some(step) => format!("{step}: {}", self.message),
            None => self.message.clone(),
        };
        picture(Level::ERROR, &message, self.location.as_ref(), &self.causes, self.hint.as_deref())
    }
}

/// A message with the lines it is about, its causes and what to do, harmless for terminals.
pub(crate) fn picture(
    level: Level<'_>,
    message: &str,
    location: Option<&Location>,
    causes: &[String],
    hint: Option<&str>,
) -> String {
    let mut group = Group::with_title(level.primary_title(harmless(message)));
    let text = location.map(|location| harmless_lines(&location.text)).unwrap_or_default();
    if let Some(location) = location {
        let line = usize::try_from(location.line).unwrap_or(1).max(1);
        let snippet = Snippet::source(&text).line_start(line).path(harmless(&location.file));
        group = group.element(snippet.annotation(AnnotationKind::Primary.span(span(&text, location.column))));
    }
    for cause in causes {
        group = group.element(Level::NOTE.with_name("because").message(harmless(cause)));
    }
    if let Some(hint) = hint {
        group = group.element(Level::HELP.message(harmless(hint)));
    }
    Renderer::styled().render(&[group])
}

fn harmless_lines(text: &str) -> String {
    text.lines().map(harmless).collect::<Vec<_>>().join("\n")
}

/// The part of the first line to underline: from the column to the end of the word, or the whole line.
fn span(text: &str, column: u32) -> std::ops::Range<usize> {
    let line = text.lines().next().unwrap_or_default();
    let end = line.trim_end().len();
    if column == 0 {
        return 0..end;
    }
    let skip = usize::try_from(column - 1).unwrap_or(0);
    let start = line.char_indices().nth(skip).map_or(end, |(at, _)| at);
    let word = line[start..].find(char::is_whitespace).map_or(end, |length| start + length);
    start..word.max(start)
}

impl From<cooperage_solve::Error> for Failure {
    fn from(error: cooperage_solve::Error) -> Self {
        let exit = match error.kind {
            ErrorKind::Denied => Exit::Refused,
            ErrorKind::Unauthenticated | ErrorKind::Unavailable => Exit::Environment,
            ErrorKind::Cancelled => Exit::Interrupted,
            // A stage, a file, an image or a plugin that is not there was named by the user.
            ErrorKind::InvalidInput | ErrorKind::NotFound if error.exit_code.is_none() => Exit::Usage,
            ErrorKind::Limit if is_full_disk(&error) => Exit::Environment,
            _ => Exit::Failed,
        };
        Self {
            exit,
            message: error.message,
            causes: error.context,
            hint: error.hint,
            location: error.location,
            step: error.step,
            rendered: false,
        }
    }
}

/// A full disk and a limit of ours are the same kind, but only one of them is the environment's fault.
fn is_full_disk(error: &cooperage_solve::Error) -> bool {
    let texts = std::iter::once(&error.message).chain(&error.context);
    texts.map(|text| text.to_lowercase()).any(|text| text.contains("no space"))
}

impl From<cooperage_store::Error> for Failure {
    fn from(error: cooperage_store::Error) -> Self {
        cooperage_solve::Error::from(error).into()
    }
}
