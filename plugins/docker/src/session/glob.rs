//! Patterns for paths as BuildKit asks for them: `*`, `?`, `[a-z]` and `\` within a name, `**` for any number of names.
//! The rules are those of `path/filepath.Match` of Go, and of moby/patternmatcher.

/// A pattern for one name.
#[derive(Debug, Clone)]
struct Name(Vec<Token>);

#[derive(Debug, Clone)]
enum Token {
    Exactly(char),
    AnyOne,
    AnyNumber,
    OneOf { ranges: Vec<(char, char)>, negated: bool },
}

#[derive(Debug, Clone)]
enum Part {
    Name(Name),
    /// `**`
    Names,
}

/// A pattern for a path.
#[derive(Debug, Clone)]
pub struct Pattern(Vec<Part>);

/// What a pattern has to do with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// Neither it nor anything below can match.
    Apart,
    /// Something below may match.
    Leads,
    /// It matches, and with it all that is below.
    Matches,
}

/// The names of a path, without `.` and `..`: nothing is above the root.
pub fn names(path: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names
}

/// Whether a name is a pattern.
pub fn is_pattern(name: &str) -> bool {
    Name::parse(name).0.iter().any(|token| !matches!(token, Token::Exactly(_)))
}

/// Whether a pattern matches a name.
pub fn matches(pattern: &str, name: &str) -> bool {
    Name::parse(pattern).matches(name)
}

impl Pattern {
    /// A pattern of these names.
    pub fn of(names: &[&str]) -> Self {
        let part = |name: &&str| if *name == "**" { Part::Names } else { Part::Name(Name::parse(name)) };
        Self(names.iter().map(part).collect())
    }

    /// The path of these names, whatever signs are in them.
    pub fn exactly(names: &[&str]) -> Self {
        Self(names.iter().map(|name| Part::Name(Name(name.chars().map(Token::Exactly).collect()))).collect())
    }

    /// Compares with a path. Keeps all the ways in which the pattern can be read side by side, so that no pattern takes
    /// long.
    pub fn look(&self, path: &[&str]) -> Look {
        // Whether so many parts can be behind what was read.
        let mut ways = vec![false; self.0.len() + 1];
        ways[0] = true;
        self.skip(&mut ways);
        for name in path {
            let mut next = vec![false; ways.len()];
            for (at, part) in self.0.iter().enumerate().filter(|(at, _)| ways[*at]) {
                match part {
                    Part::Names => next[at] = true,
                    Part::Name(one) => next[at + 1] |= one.matches(name),
                }
            }
            self.skip(&mut next);
            ways = next;
        }
        match ways.split_last() {
            Some((true, _)) => Look::Matches,
            Some((false, earlier)) if earlier.contains(&true) => Look::Leads,
            _ => Look::Apart,
        }
    }

    /// `**` may stand for no name.
    fn skip(&self, ways: &mut [bool]) {
        for (at, part) in self.0.iter().enumerate() {
            ways[at + 1] |= ways[at] && matches!(part, Part::Names);
        }
    }
}

impl Name {
    fn parse(text: &str) -> Self {
        let (mut tokens, mut rest) = (Vec::new(), text.chars());
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' => Token::AnyNumber,
                '?' => Token::AnyOne,
                '\\' => Token::Exactly(rest.next().unwrap_or(c)),
                '[' => match class(rest.as_str()) {
                    Some((class, after)) => {
                        rest = after.chars();
                        class
                    }
                    None => Token::Exactly(c),
                },
                c => Token::Exactly(c),
            });
        }
        Self(tokens)
    }

    /// Goes back to the last `*` only, which is enough and takes at most the product of both lengths.
    fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut token, mut at, mut back) = (0, 0, None);
        loop {
            match (self.0.get(token), name.get(at)) {
                (Some(Token::AnyNumber), _) => {
                    back = Some((token + 1, at));
                    token += 1;
                }
                (Some(one), Some(c)) if one.matches(*c) => (token, at) = (token + 1, at + 1),
                (None, None) => return true,
                _ => match back {
                    Some((after, from)) if from < name.len() => {
                        (token, at) = (after, from + 1);
                        back = Some((after, from + 1));
                    }
                    _ => return false,
                },
            }
        }
    }
}

impl Token {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Exactly(wanted) => *wanted == c,
            Self::AnyOne => true,
            Self::AnyNumber => false,
            Self::OneOf { ranges, negated } => ranges.iter().any(|(from, to)| (from..=to).contains(&&c)) != *negated,
        }
    }
}

/// What is between `[` and `]`, and what comes after; none if it has no end.
fn class(text: &str) -> Option<(Token, &str)> {
    let negated = text.starts_with('^');
    let mut rest = text[usize::from(negated)..].chars();
    let mut ranges = Vec::new();
    loop {
        let from = match rest.next()? {
            ']' if !ranges.is_empty() => return Some((Token::OneOf { ranges, negated }, rest.as_str())),
            '\\' => rest.next()?,
            c => c,
        };
        let to = match rest.as_str().strip_prefix('-') {
            Some(after) => {
                rest = after.chars();
                match rest.next()? {
                    '\\' => rest.next()?,
                    c => c,
                }
            }
            None => from,
        };
        ranges.push((from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match() {
        for (pattern, name, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*.txt", "a.txt", true),
            ("*.txt", "a.txt.txt", true),
            ("*.txt", "a.txd", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("?", "ä", true),
            ("?", "", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[a\\]]", "]", true),
            ("[a", "[a", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(!matches(&"*a".repeat(100), &"a".repeat(5000).replace("aa", "ab")));
    }

    #[test]
    fn paths_match_or_lead() {
        for (pattern, path, expected) in [
            ("a/b", "", Look::Leads),
            ("a/b", "a", Look::Leads),
            ("a/b", "a/b", Look::Matches),
            ("a/b", "a/c", Look::Apart),
            ("a/b", "b", Look::Apart),
            ("**/b", "a", Look::Leads),
            ("**/b", "b", Look::Matches),
            ("**/b", "a/x/b", Look::Matches),
            ("a/**", "a/x", Look::Matches),
            ("a/**/c", "a/c", Look::Matches),
            ("a/**/c", "a/b/d", Look::Leads),
            ("*/x", "a", Look::Leads),
            ("*/x", "a/y", Look::Apart),
        ] {
            assert_eq!(Pattern::of(&names(pattern)).look(&names(path)), expected, "{pattern} {path}");
        }
        assert_eq!(Pattern::exactly(&["*"]).look(&["a"]), Look::Apart);
        assert_eq!(names("/a/./b/../../../c/"), ["c"]);
    }
}
