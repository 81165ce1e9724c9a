//! Takes `--flags` off the beginning of an instruction's arguments. Does not know which flags exist.

use super::Word;
use super::lines::Logical;

/// The flags without quotes and escapes, and what follows them.
pub fn split<'a>(line: &Logical, text: &'a str, escape: char) -> (Vec<Word>, &'a str) {
    let mut flags = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, rest);
        }
        let (flag, length) = one(rest, escape);
        let word = line.word(flag, rest);
        rest = &rest[length..];
        if word.text == "--" {
            return (flags, rest);
        }
        if !word.text.is_empty() {
            flags.push(word);
        }
    }
}

/// One flag and how many bytes of the text it takes.
fn one(text: &str, escape: char) -> (String, usize) {
    let mut flag = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (flag, at),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape => flag.extend(chars.next().map(|(_, c)| c)),
            _ => flag.push(c),
        }
    }
    (flag, text.len())
}
