//! One pass of the lexer over one text.

use std::collections::BTreeSet;

use super::{Lexer, Lookup, MAX_LENGTH, WordError};
use crate::glob::Pattern;

/// `${a:-${b:-...}}` may nest this deep. Nobody writes that, and the guest's stack is small.
const MAX_DEPTH: usize = 64;

/// Collects words while characters come.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    fn split(&mut self, text: &str) {
        for c in text.chars() {
            if !c.is_whitespace() {
                self.current.push(c);
            } else if !self.current.is_empty() {
                self.done.push(std::mem::take(&mut self.current));
            }
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

/// A text and how far it is read.
pub struct Run<'a> {
    /// Variables that were asked for and set.
    pub matched: BTreeSet<String>,
    /// Variables that were asked for and not set.
    pub unmatched: BTreeSet<String>,
    lexer: &'a Lexer,
    env: &'a dyn Lookup,
    input: Vec<char>,
    at: usize,
    produced: usize,
}

impl<'a> Run<'a> {
    /// Nothing read yet.
    pub fn new(lexer: &'a Lexer, word: &str, env: &'a dyn Lookup) -> Self {
        Self {
            lexer,
            env,
            input: word.chars().collect(),
            at: 0,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
            produced: 0,
        }
    }

    fn peek(&self) -> Option<char> {
        self.input.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    /// Reads to the end, or to a character that ends a part of `${}`. Gives the text, and its words.
    pub fn until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
        depth: usize,
    ) -> Result<(String, Vec<String>), WordError> {
        if depth > MAX_DEPTH {
            return Err(WordError::TooDeep);
        }
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.at += 1;
                return Ok((text, words.finish()));
            }
            match c {
                '$' => {
                    let value = self.dollar(depth)?;
                    text.push_str(&value);
                    words.split(&value);
                }
                '\'' | '"' if !self.lexer.ignore_quotes => {
                    let value = if c == '\'' { self.single()? } else { self.double(raw_escapes, depth)? };
                    text.push_str(&value);
                    words.current.push_str(&value);
                }
                '<' => {
                    let value = self.angle();
                    text.push_str(&value);
                    words.current.push_str(&value);
                }
                c if c == self.lexer.escape => {
                    self.at += 1;
                    if raw_escapes {
                        text.push(c);
                        words.current.push(c);
                    }
                    let Some(escaped) = self.next() else { break };
                    text.push(escaped);
                    words.current.push(escaped);
                }
                c => {
                    self.at += 1;
                    text.push(c);
                    words.split(c.encode_utf8(&mut [0; 4]));
                }
            }
        }
        match stop {
            Some(stop) => Err(WordError::Missing(stop)),
            None => Ok((text, words.finish())),
        }
    }

    /// `'...'`: everything as it is; nothing can be escaped.
    fn single(&mut self) -> Result<String, WordError> {
        let mut text = String::new();
        let quote = self.next();
        if self.lexer.raw_quotes {
            text.extend(quote);
        }
        loop {
            match self.next() {
                None => return Err(WordError::Unterminated('\'')),
                Some('\'') => {
                    if self.lexer.raw_quotes {
                        text.push('\'');
                    }
                    return Ok(text);
                }
                Some(c) => text.push(c),
            }
        }
    }

    /// `"..."`: variables, and the escape character only before `"`, `$` and itself.
    fn double(&mut self, raw_escapes: bool, depth: usize) -> Result<String, WordError> {
        let mut text = String::new();
        let quote = self.next();
        if self.lexer.raw_quotes {
            text.extend(quote);
        }
        loop {
            match self.peek() {
                None => return Err(WordError::Unterminated('"')),
                Some('"') => {
                    self.at += 1;
                    if self.lexer.raw_quotes {
                        text.push('"');
                    }
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar(depth)?),
                Some(c) if c == self.lexer.escape => {
                    self.at += 1;
                    if raw_escapes {
                        text.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(e) if e == '"' || e == '$' || e == self.lexer.escape => {
                            self.at += 1;
                            text.push(e);
                        }
                        Some(_) if !raw_escapes => text.push(c),
                        Some(_) => {}
                    }
                }
                Some(c) => {
                    self.at += 1;
                    text.push(c);
                }
            }
        }
    }

    /// `<<` takes blanks up to its word along, so that `<< EOF` is one word.
    fn angle(&mut self) -> String {
        self.at += 1;
        if self.peek() != Some('<') {
            return "<".into();
        }
        self.at += 1;
        let mut text = String::from("<<");
        while let Some(c @ ('\t' | '\r' | ' ')) = self.peek() {
            self.at += 1;
            text.push(c);
        }
        text
    }

    fn lookup(&mut self, name: &str) -> Result<Option<String>, WordError> {
        let Some(value) = self.env.get(name) else {
            self.unmatched.insert(name.to_owned());
            return Ok(None);
        };
        self.produce(value.len())?;
        self.matched.insert(name.to_owned());
        Ok(Some(value.to_owned()))
    }

    fn produce(&mut self, bytes: usize) -> Result<(), WordError> {
        self.produced = self.produced.saturating_add(bytes);
        if self.produced > MAX_LENGTH { Err(WordError::TooLong) } else { Ok(()) }
    }

    /// A name of letters, digits and `_`; digits alone if it starts with one; or one special parameter.
    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(c) if c.is_ascii_digit() => {
                while self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    self.at += 1;
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => {
                while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    self.at += 1;
                }
            }
        }
        self.input[start..self.at].iter().collect()
    }

    fn dollar(&mut self, depth: usize) -> Result<String, WordError> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return Ok(match self.lookup(&name)? {
                None if self.lexer.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.at += 1;
        match self.peek() {
            None => return Err(WordError::Missing('}')),
            Some('{' | '}' | ':') => return Err(WordError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => Ok(match self.lookup(&name)? {
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some(':') => match self.next() {
                Some(c @ ('+' | '-' | '?')) => self.conditional(&name, c, true, depth),
                Some(c) => Err(WordError::UnsupportedModifier(format!(":{c}"))),
                None => Err(WordError::Missing('}')),
            },
            Some(c @ ('+' | '-' | '?')) => self.conditional(&name, c, false, depth),
            Some(c @ ('#' | '%')) => self.trim(&name, c, depth),
            Some('/') => self.replace(&name, depth),
            Some(c) => Err(WordError::UnsupportedModifier(c.into())),
            None => Err(WordError::Missing('}')),
        }
    }

    fn conditional(
        &mut self,
        name: &str,
        modifier: char,
        null_is_unset: bool,
        depth: usize,
    ) -> Result<String, WordError> {
        let (word, _) = self.until(Some('}'), false, depth + 1)?;
        let value = self.lookup(name)?;
        if value.is_none() && self.lexer.keep_unset {
            let colon = if null_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let unset = value.is_none();
        let given = value.filter(|value| !(null_is_unset && value.is_empty()));
        match (modifier, given) {
            ('+', given) => Ok(if given.is_some() { word } else { String::new() }),
            (_, Some(value)) => Ok(value),
            ('-', None) => Ok(word),
            (_, None) => {
                let message = match (word.is_empty(), unset) {
                    (false, _) => word,
                    (true, true) => "is not allowed to be unset".into(),
                    (true, false) => "is not allowed to be empty".into(),
                };
                Err(WordError::Required { name: name.into(), message })
            }
        }
    }

    fn trim(&mut self, name: &str, modifier: char, depth: usize) -> Result<String, WordError> {
        let (word, _) = self.until(Some('}'), true, depth + 1)?;
        let Some(value) = self.lookup(name)? else {
            let kept = format!("${{{name}{modifier}{word}}}");
            return Ok(if self.lexer.keep_unset { kept } else { String::new() });
        };
        let (greedy, pattern) = match word.strip_prefix(modifier) {
            Some(rest) => (true, rest),
            None => (false, word.as_str()),
        };
        let pattern = Pattern::new(pattern).ok_or_else(|| WordError::InvalidPattern(pattern.into()))?;
        Ok(if modifier == '#' { pattern.trim_start(&value, greedy) } else { pattern.trim_end(&value, greedy) })
    }

    fn replace(&mut self, name: &str, depth: usize) -> Result<String, WordError> {
        let all = self.peek() == Some('/');
        if all {
            self.at += 1;
        }
        let (pattern, _) = self.until(Some('/'), true, depth + 1)?;
        let (replacement, _) = self.until(Some('}'), true, depth + 1)?;
        let Some(value) = self.lookup(name)? else {
            let kept = format!("${{{name}/{pattern}/{replacement}}}");
            return Ok(if self.lexer.keep_unset { kept } else { String::new() });
        };
        let compiled = Pattern::new(&pattern).ok_or(WordError::InvalidPattern(pattern))?;
        let matches = if all { value.len() + 1 } else { 1 };
        self.produce(matches.saturating_mul(replacement.len()))?;
        Ok(compiled.replace(&value, &replacement, all))
    }
}
