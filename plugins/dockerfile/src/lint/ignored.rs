//! Rule CopyIgnoredFile: whether an ignore file leaves out what COPY names, by the patterns alone.

/// Whether the patterns leave out this path of the context, or a directory above it. With exceptions (`!`) among them
/// nothing can be said without looking at files, and nothing is. The root counts as left out only where everything is.
pub fn leaves_out(patterns: &[String], path: &str) -> bool {
    if patterns.iter().any(|pattern| pattern.starts_with('!')) {
        return false;
    }
    let path = clean(path);
    if path.is_empty() {
        return patterns.iter().any(|pattern| matches!(clean(pattern).as_str(), "*" | "**" | "**/*"));
    }
    let path: Vec<char> = path.chars().collect();
    patterns.iter().any(|pattern| Pattern::new(&clean(pattern)).is_some_and(|pattern| pattern.fits(&path)))
}

/// A path without `.`, `..` and doubled or outer slashes.
fn clean(path: &str) -> String {
    crate::paths::join("/", path).trim_matches('/').to_owned()
}

enum Token {
    /// `**` before something: any directories, or none.
    Directories,
    /// `**` at the end: anything.
    Anything,
    /// `*`: anything within a name.
    Star,
    /// `?`
    One,
    /// `[...]`
    Class(bool, Vec<(char, char)>),
    Char(char),
}

/// One line of an ignore file.
struct Pattern(Vec<Token>);

impl Pattern {
    /// Reads a pattern; none if it is malformed.
    fn new(text: &str) -> Option<Self> {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' if chars.next_if_eq(&'*').is_some() => {
                    let _ = chars.next_if_eq(&'/');
                    if chars.peek().is_none() { Token::Anything } else { Token::Directories }
                }
                '*' => Token::Star,
                '?' => Token::One,
                '\\' => Token::Char(chars.next()?),
                '[' => {
                    let negated = chars.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    loop {
                        let first = match chars.next()? {
                            ']' => break,
                            '\\' => chars.next()?,
                            c => c,
                        };
                        let last = if chars.next_if_eq(&'-').is_some() { chars.next()? } else { first };
                        ranges.push((first, last));
                    }
                    Token::Class(negated, ranges)
                }
                c => Token::Char(c),
            });
        }
        (!tokens.is_empty()).then_some(Self(tokens))
    }

    /// Whether it fits the path or a directory above it. All states are followed at once, so the time is the product
    /// of both lengths.
    fn fits(&self, path: &[char]) -> bool {
        let mut states = vec![false; self.0.len() + 1];
        self.enter(&mut states, 0);
        for c in path {
            if *c == '/' && states[self.0.len()] {
                return true;
            }
            states = self.step(&states, *c);
        }
        states[self.0.len()]
    }

    /// Reaches a token, and what follows it if it may stand for nothing.
    fn enter(&self, states: &mut [bool], index: usize) {
        let nothing = |token: &&Token| matches!(token, Token::Directories | Token::Anything | Token::Star);
        let passed = self.0[index..].iter().take_while(nothing).count();
        states[index..=index + passed].fill(true);
    }

    fn step(&self, states: &[bool], c: char) -> Vec<bool> {
        let mut next = vec![false; states.len()];
        for (index, token) in self.0.iter().enumerate().filter(|(index, _)| states[*index]) {
            let (stays, goes_on) = match token {
                Token::Directories => (true, c == '/'),
                Token::Anything => (true, true),
                Token::Star => (c != '/', c != '/'),
                Token::One => (false, c != '/'),
                Token::Class(negated, ranges) => {
                    let within = ranges.iter().any(|(first, last)| (*first..=*last).contains(&c));
                    (false, c != '/' && within != *negated)
                }
                Token::Char(expected) => (false, c == *expected),
            };
            next[index] |= stays;
            if goes_on {
                self.enter(&mut next, index + 1);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_ignore_files() {
        for (pattern, path, expected) in [
            ("a", "a", true),
            ("a", "a/b/c", true),
            ("a", "b/a", false),
            ("/a/", "./a", true),
            ("*.o", "x.o", true),
            ("*.o", "d/x.o", false),
            ("**/*.o", "d/e/x.o", true),
            ("**/*.o", "x.o", true),
            ("d/**", "d/e", true),
            ("d/**", "d", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b/c", true),
            ("a/**/b", "a/xb", false),
            ("a?", "ab", true),
            ("a?", "a/", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("*", ".", true),
            (".*", ".", false),
            ("[a", "[a", false),
            ("", "a", false),
        ] {
            assert_eq!(leaves_out(&[pattern.to_owned()], path), expected, "{pattern} {path}");
        }
        assert!(!leaves_out(&["*".to_owned(), "!a".to_owned()], "b"));
        let stars = "*a".repeat(500);
        assert!(!leaves_out(&[stars], &"a".repeat(499)), "it ends in time");
    }
}
