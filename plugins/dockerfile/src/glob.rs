//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and `\`, no brackets. Never exponential.

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Pattern(Vec<Token>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Any,
    Star,
    Char(char),
}

impl Pattern {
    /// Reads a pattern; none if it escapes something that needs no escape.
    pub fn new(pattern: &str) -> Option<Self> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::Any,
                // `}` and `/` end a part of `${}`; their escape is not part of the pattern.
                '\\' => match chars.next()? {
                    c @ ('*' | '?' | '\\' | '}' | '/') => Token::Char(c),
                    _ => return None,
                },
                c => Token::Char(c),
            });
        }
        Some(Self(tokens))
    }

    /// Where a match that begins at `start` may end: the longest end if greedy, else the shortest.
    /// All states are followed at once, so the time is the product of both lengths at worst.
    fn end(&self, text: &[char], start: usize, greedy: bool) -> Option<usize> {
        let tokens = &self.0;
        let mut states = vec![false; tokens.len() + 1];
        states[0] = true;
        let mut found = None;
        let mut at = start;
        loop {
            for i in 0..tokens.len() {
                if states[i] && tokens[i] == Token::Star {
                    states[i + 1] = true;
                }
            }
            if states[tokens.len()] {
                found = Some(at);
                if !greedy {
                    break;
                }
            }
            let Some(&c) = text.get(at) else { break };
            let mut next = vec![false; tokens.len() + 1];
            for (i, token) in tokens.iter().enumerate().filter(|(i, _)| states[*i]) {
                match token {
                    // A line break is no character for wildcards, as in the regular expressions of BuildKit.
                    Token::Star if c != '\n' => next[i] = true,
                    Token::Any if c != '\n' => next[i + 1] = true,
                    Token::Char(wanted) if *wanted == c => next[i + 1] = true,
                    _ => {}
                }
            }
            if !next.contains(&true) {
                break;
            }
            states = next;
            at += 1;
        }
        found
    }

    /// The text without the shortest or longest beginning that matches.
    pub fn trim_start(&self, text: &str, greedy: bool) -> String {
        let chars: Vec<char> = text.chars().collect();
        let end = self.end(&chars, 0, greedy).unwrap_or(0);
        chars[end..].iter().collect()
    }

    /// The text without the shortest or longest end that matches.
    pub fn trim_end(&self, text: &str, greedy: bool) -> String {
        let reversed = Self(self.0.iter().rev().copied().collect());
        let chars: Vec<char> = text.chars().rev().collect();
        let end = reversed.end(&chars, 0, greedy).unwrap_or(0);
        chars[end..].iter().rev().collect()
    }

    /// The text with the first or every longest match replaced.
    pub fn replace(&self, text: &str, replacement: &str, all: bool) -> String {
        let chars: Vec<char> = text.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        let mut last_end = None;
        while at <= chars.len() {
            match self.end(&chars, at, true) {
                // An empty match right after a match counts as part of that one.
                Some(end) if !(end == at && last_end == Some(at)) => {
                    out.push_str(replacement);
                    last_end = Some(end);
                    if !all {
                        out.extend(&chars[end..]);
                        return out;
                    }
                    if end > at {
                        at = end;
                        continue;
                    }
                }
                _ => {}
            }
            out.extend(chars.get(at));
            at += 1;
        }
        out
    }
}
