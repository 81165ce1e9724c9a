//! Expands variables and splits words as BuildKit's shell lexer does: quotes, escapes, `$v` and the `${v...}`
//! forms. Knows nothing of instructions or of where values come from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod run;

use run::Run;

/// What one expansion may produce, in bytes: `ENV a=$a$a` on many lines doubles every time.
const MAX_LENGTH: usize = 1 << 20;

/// Where values of variables come from.
pub trait Lookup {
    /// The value, or none if the variable is not set.
    fn get(&self, name: &str) -> Option<&str>;
}

impl Lookup for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        BTreeMap::get(self, name).map(String::as_str)
    }
}

/// No variable is set.
pub struct Unset;

impl Lookup for Unset {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WordError {
    /// A quote is never closed.
    Unterminated(char),
    /// `${` without its end, or without the `/` of a replacement.
    Missing(char),
    /// `${}` and the like.
    BadSubstitution,
    /// `${v=x}` and other forms that a Dockerfile does not have.
    UnsupportedModifier(String),
    /// `${v#\x}`: only `*`, `?` and `\` can be escaped in a pattern.
    InvalidPattern(String),
    /// `${v:?message}` and the variable is not there.
    Required {
        /// The variable.
        name: String,
        /// The message of the Dockerfile, or ours.
        message: String,
    },
    /// Substitutions nest too deep.
    TooDeep,
    /// The result is longer than anybody needs.
    TooLong,
}

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unterminated(quote) => write!(f, "the quote {quote} is never closed"),
            Self::Missing(what) => write!(f, "missing {what} in a ${{}} substitution"),
            Self::BadSubstitution => f.write_str("bad substitution: ${ needs the name of a variable"),
            Self::UnsupportedModifier(modifier) => {
                write!(f, "unsupported modifier {modifier:?} in a ${{}} substitution")
            }
            Self::InvalidPattern(pattern) => {
                write!(f, "invalid pattern {pattern:?} in a ${{}} substitution")
            }
            Self::Required { name, message } => write!(f, "{name}: {message}"),
            Self::TooLong => write!(f, "variables expand to more than {MAX_LENGTH} bytes"),
            Self::TooDeep => f.write_str("${} substitutions nest too deep"),
        }
    }
}

impl std::error::Error for WordError {}

/// A word after expansion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The result.
    pub text: String,
    /// Variables that were asked for and set.
    pub matched: BTreeSet<String>,
    /// Variables that were asked for and not set.
    pub unmatched: BTreeSet<String>,
}

/// How to expand.
#[derive(Debug, Clone, Copy)]
pub struct Lexer {
    /// `\` or, with the `escape` directive, a backtick.
    pub escape: char,
    /// Keep quotes in the result.
    pub raw_quotes: bool,
    /// Keep escape characters in the result.
    pub raw_escapes: bool,
    /// Take quotes as ordinary characters: bodies of heredocs.
    pub ignore_quotes: bool,
    /// Leave variables that are not set as they are written.
    pub keep_unset: bool,
}

impl Lexer {
    /// The lexer of instructions.
    pub fn new(escape: char) -> Self {
        Self { escape, raw_quotes: false, raw_escapes: false, ignore_quotes: false, keep_unset: false }
    }

    /// Expands without splitting.
    pub fn word(&self, word: &str, env: &dyn Lookup) -> Result<Expanded, WordError> {
        let mut run = Run::new(self, word, env);
        let (text, _) = run.until(None, self.raw_escapes, 0)?;
        Ok(Expanded { text, matched: run.matched, unmatched: run.unmatched })
    }

    /// Expands, then splits at blanks outside of quotes.
    pub fn words(&self, word: &str, env: &dyn Lookup) -> Result<Vec<String>, WordError> {
        Ok(Run::new(self, word, env).until(None, self.raw_escapes, 0)?.1)
    }
}

#[cfg(test)]
mod tests;
