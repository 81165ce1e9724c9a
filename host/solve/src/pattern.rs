//! Path patterns: Go's `filepath.Match` for sources of COPY, and Docker's ignore lines. Knows no file system.
//!
//! Both work on bytes, for names of Linux need not be UTF-8. An ignore line matches a path if it matches the
//! path itself or one of its parents; of several lines the last that matches decides, and `!` turns a line around.

use crate::Error;

/// Lexical clean-up as Go's `path.Clean`: no `.`, no `//`, `..` resolved; relative results lose leading `..`
/// because a tree's root is its own parent. The empty result stands for the root.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join(&b'/')
}

/// Whether a path has characters that only a pattern gives a meaning.
pub(crate) fn is_pattern(path: &[u8]) -> bool {
    path.iter().any(|b| matches!(b, b'*' | b'?' | b'['))
}

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// Any character but `/`; characters are UTF-8 sequences where the name is UTF-8.
    AnyChar,
    /// Any run without `/`.
    Star,
    /// Any run at all: `**`.
    DoubleStar,
    /// `**/`: nothing, or any number of whole directories.
    Directories,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    /// Go's `filepath.Match`: `*` and `?` stop at `/`, and `**` is no more than `*`.
    pub(crate) fn glob(text: &[u8]) -> Result<Self, Error> {
        Self::compile(text, false)
    }

    /// A line of an ignore file, where `**` crosses directories.
    fn ignore(text: &[u8]) -> Result<Self, Error> {
        Self::compile(text, true)
    }

    fn compile(text: &[u8], double_star: bool) -> Result<Self, Error> {
        let bad = |why: &str| {
            Error::invalid(format!("bad pattern {:?}: {why}", String::from_utf8_lossy(text)))
                .hint("`[` needs a closing `]`; put a backslash before a character that is meant literally")
        };
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            match byte {
                b'*' if double_star && rest.first() == Some(&b'*') => {
                    rest = &rest[1..];
                    if rest.first() == Some(&b'/') {
                        rest = &rest[1..];
                        tokens.push(Token::Directories);
                    } else {
                        tokens.push(Token::DoubleStar);
                    }
                }
                b'*' => tokens.push(Token::Star),
                b'?' => tokens.push(Token::AnyChar),
                b'\\' => {
                    let (&escaped, tail) = rest.split_first().ok_or_else(|| bad("it ends with a backslash"))?;
                    rest = tail;
                    tokens.push(Token::Byte(escaped));
                }
                b'[' => {
                    let (class, used) = parse_class(rest).ok_or_else(|| bad("a character class is not well formed"))?;
                    rest = &rest[used..];
                    tokens.push(class);
                }
                other => tokens.push(Token::Byte(other)),
            }
        }
        Ok(Self { tokens })
    }

    /// Whether the whole path matches.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        matches_from(&self.tokens, path, true)
    }
}

/// Parses what follows `[`; gives the class and how many bytes it took, with the closing `]`.
fn parse_class(rest: &[u8]) -> Option<(Token, usize)> {
    let end = class_end(rest)?;
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    let (negated, mut chars) = match text.strip_prefix('^') {
        Some(tail) => (true, tail.chars().peekable()),
        None => (false, text.chars().peekable()),
    };
    let mut ranges = Vec::new();
    while let Some(first) = next_in_class(&mut chars)? {
        if chars.peek() == Some(&'-') {
            chars.next();
            let last = next_in_class(&mut chars)??;
            ranges.push((first, last));
        } else {
            ranges.push((first, first));
        }
    }
    (!ranges.is_empty()).then_some((Token::Class { negated, ranges }, end + 1))
}

fn class_end(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b']' if at > 0 && rest[..at] != *b"^" => return Some(at),
            _ => at += 1,
        }
    }
    None
}

fn next_in_class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Option<char>> {
    match chars.next() {
        Some('\\') => chars.next().map(Some),
        Some('-' | ']') => None,
        other => Some(other),
    }
}

fn first_char(path: &[u8]) -> Option<(char, usize)> {
    let head = &path[..path.len().min(4)];
    match std::str::from_utf8(head) {
        Ok(text) => text.chars().next().map(|c| (c, c.len_utf8())),
        Err(error) if error.valid_up_to() > 0 => {
            let text = std::str::from_utf8(&head[..error.valid_up_to()]).ok()?;
            text.chars().next().map(|c| (c, c.len_utf8()))
        }
        Err(_) => Some((char::REPLACEMENT_CHARACTER, 1)),
    }
}

/// Backtracking match. `boundary` says that `path` begins at a directory boundary, which `**/` needs.
fn matches_from(tokens: &[Token], path: &[u8], boundary: bool) -> bool {
    let Some((token, rest)) = tokens.split_first() else { return path.is_empty() };
    match token {
        Token::Byte(byte) => path.first() == Some(byte) && matches_from(rest, &path[1..], *byte == b'/'),
        Token::AnyChar => first_char(path).is_some_and(|(c, len)| c != '/' && matches_from(rest, &path[len..], false)),
        Token::Class { negated, ranges } => first_char(path).is_some_and(|(c, len)| {
            let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
            c != '/' && inside != *negated && matches_from(rest, &path[len..], false)
        }),
        Token::Star => {
            let stop = path.iter().position(|b| *b == b'/').unwrap_or(path.len());
            (0..=stop).any(|n| matches_from(rest, &path[n..], boundary && n == 0))
        }
        Token::DoubleStar => (0..=path.len()).any(|n| matches_from(rest, &path[n..], n == 0 && boundary)),
        Token::Directories => {
            let starts = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at + 1);
            (boundary && matches_from(rest, path, true))
                || starts.into_iter().any(|n| matches_from(rest, &path[n..], true))
        }
    }
}

/// One line of an ignore file.
#[derive(Debug, Clone)]
struct Line {
    pattern: Pattern,
    negated: bool,
}

/// The lines of an ignore file in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ignore {
    lines: Vec<Line>,
}

/// Which lines match a directory, so that its children inherit the matches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inherited(Vec<bool>);

impl Ignore {
    /// Compiles lines; comments and empty lines are passed over, as Docker reads them.
    pub(crate) fn new<S: AsRef<str>>(lines: &[S]) -> Result<Self, Error> {
        let mut compiled = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            let mut text = line.as_ref();
            if number == 0 {
                text = text.trim_start_matches('\u{feff}');
            }
            if text.starts_with('#') {
                continue;
            }
            text = text.trim();
            let negated = text.starts_with('!');
            if negated {
                text = text[1..].trim();
            }
            if text.is_empty() {
                continue;
            }
            let cleaned = clean(text.as_bytes());
            if cleaned.is_empty() {
                continue;
            }
            compiled.push(Line { pattern: Pattern::ignore(&cleaned)?, negated });
        }
        Ok(Self { lines: compiled })
    }

    /// Whether nothing is ignored.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether some line takes paths back in, so that ignored directories must be looked into.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.lines.iter().any(|line| line.negated)
    }

    /// Whether `path` is ignored, and what its children inherit; `parent` is what its directory gave.
    pub(crate) fn check(&self, path: &[u8], parent: &Inherited) -> (bool, Inherited) {
        let mut ignored = false;
        let mut matched = Vec::with_capacity(self.lines.len());
        for (at, line) in self.lines.iter().enumerate() {
            let hit = parent.0.get(at).copied().unwrap_or(false) || line.pattern.matches(path);
            if hit {
                ignored = !line.negated;
            }
            matched.push(hit);
        }
        (ignored, Inherited(matched))
    }

    /// Whether `path` is ignored, by itself or through a parent.
    pub(crate) fn ignores(&self, path: &[u8]) -> bool {
        let mut inherited = Inherited::default();
        for (at, byte) in path.iter().enumerate() {
            if *byte == b'/' {
                inherited = self.check(&path[..at], &inherited).1;
            }
        }
        self.check(path, &inherited).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_is_lexical_and_stays_inside() {
        for (given, expected) in [("", ""), ("/", ""), ("./a/../b//c/", "b/c"), ("../../x", "x"), ("a/./b", "a/b")] {
            assert_eq!(clean(given.as_bytes()), expected.as_bytes(), "{given}");
        }
    }

    #[test]
    fn globs_match_as_go_does() {
        for (pattern, path, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
        ] {
            let compiled = Pattern::glob(pattern.as_bytes()).unwrap();
            assert_eq!(compiled.matches(path.as_bytes()), expected, "{pattern} {path}");
        }
        for bad in ["[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "a\\"] {
            assert!(Pattern::glob(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn ignore_lines_match_as_docker_does() {
        for (lines, path, expected) in [
            (&["**"][..], "file", true),
            (&["**/"], "dir/file", true),
            (&["**/file"], "file", true),
            (&["**/file"], "a/b/file", true),
            (&["**/a/b"], "x/a/b/c", true),
            (&["dir/**"], "dir/file", true),
            (&["dir/**"], "dir", false),
            (&["**/dir2/*"], "dir/dir2/file", true),
            (&["**/*.go"], "a/b.go", true),
            (&["**file"], "dir/file", true),
            (&["**file"], "dirfile", true),
            (&["dir"], "dir/sub/file", true),
            (&["*.md", "!README.md"], "README.md", false),
            (&["*.md", "!README.md", "README.md"], "README.md", true),
            (&["docs", "!docs/keep"], "docs/keep/x", false),
            (&["docs", "!docs/keep"], "docs/lose", true),
            (&["/abs"], "abs", true),
            (&["a/b/.."], "a/x", true),
            (&["# comment", "", "  spaced  "], "spaced", true),
            (&["*/foo"], "foo", false),
            (&["*/foo"], "x/foo", true),
            (&["a[b-d]e"], "ace", true),
        ] {
            assert_eq!(Ignore::new(lines).unwrap().ignores(path.as_bytes()), expected, "{lines:?} {path}");
        }
    }
}
