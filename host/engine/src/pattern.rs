//! Patterns of references, URLs and names: `*` stands for any characters but `/`, `**` for any. The work grows with the
//! product of the lengths, whatever the pattern: a rule that refuses must not be missed because matching takes
//! too long.

/// Whether a text fits a pattern.
pub(crate) fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    // `reached[i]`: the part of the pattern that was read so far fits the first `i` bytes of the text.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    let mut rest = pattern;
    while let Some((first, tail)) = rest.split_first() {
        let across = *first == b'*' && tail.first() == Some(&b'*');
        if *first == b'*' {
            for i in 0..text.len() {
                reached[i + 1] |= reached[i] && (across || text[i] != b'/');
            }
        } else {
            for i in (0..text.len()).rev() {
                reached[i + 1] = reached[i] && text[i] == *first;
            }
            reached[0] = false;
        }
        rest = if across { &tail[1..] } else { tail };
    }
    reached[text.len()]
}

/// Whether some text fits both patterns.
pub(crate) fn overlap(one: &str, two: &str) -> bool {
    let (one, two) = (parts(one), parts(two));
    // `seen[i][j]`: some text fits the first `i` parts of the one and the first `j` parts of the other.
    let mut seen = vec![vec![false; two.len() + 1]; one.len() + 1];
    seen[0][0] = true;
    for i in 0..=one.len() {
        for j in 0..=two.len() {
            if !seen[i][j] {
                continue;
            }
            let (here, there) = (one.get(i), two.get(j));
            // A star stands for nothing, or for one more character that the other side wants.
            if here.is_some_and(|part| part.star()) {
                seen[i + 1][j] = true;
            }
            if there.is_some_and(|part| part.star()) {
                seen[i][j + 1] = true;
            }
            if let (Some(here), Some(there)) = (here, there) {
                match (here.takes(*there), there.takes(*here)) {
                    (true, true) => seen[i + 1][j + 1] = true,
                    (true, false) => seen[i][j + 1] = true,
                    (false, true) => seen[i + 1][j] = true,
                    (false, false) => {}
                }
            }
        }
    }
    seen[one.len()][two.len()]
}

/// A part of a pattern.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Byte(u8),
    Star,
    Stars,
}

impl Part {
    fn star(self) -> bool {
        !matches!(self, Self::Byte(_))
    }

    /// Whether this may stand for the byte that the other one is; two equal bytes take each other.
    fn takes(self, other: Self) -> bool {
        match (self, other) {
            (_, Self::Star | Self::Stars) => false,
            (Self::Stars, _) => true,
            (Self::Star, Self::Byte(byte)) => byte != b'/',
            (one, other) => one == other,
        }
    }
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = pattern.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let across = *first == b'*' && tail.first() == Some(&b'*');
        parts.push(match *first {
            b'*' if across => Part::Stars,
            b'*' => Part::Star,
            byte => Part::Byte(byte),
        });
        rest = if across { &tail[1..] } else { tail };
    }
    parts
}

/// The pattern of what fits both, none if that is nothing. Two different patterns with wildcards share nothing as far as
/// this can tell, which errs on the side of refusing; one that is `**` allows what the other does.
pub(crate) fn narrower(one: &str, two: &str) -> Option<String> {
    if one == two || two == "**" || (!one.contains('*') && fits(two, one)) {
        return Some(one.to_owned());
    }
    (one == "**" || (!two.contains('*') && fits(one, two))).then(|| two.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stop_at_slashes_and_pairs_do_not() {
        for (pattern, text, expected) in [
            ("registry.example/acme/**", "registry.example/acme/tools/chat", true),
            ("registry.example/acme/**", "registry.example/acmes/chat", false),
            ("registry.example/acme/*", "registry.example/acme/tools/chat", false),
            ("*@acme.example", "anna@acme.example", true),
            ("*@acme.example", "anna@acme.example.evil.example", false),
            ("https://ci.example/*/x@refs/**", "https://ci.example/a/x@refs/tags/v1", true),
            ("https://a.example/**", "https://a.example/x/y", true),
            ("https://a.example/*", "https://a.example/x/y", false),
            ("https://*/x", "https://a.example/x", true),
            ("**", "", true),
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("a*b*c", "axxbc", true),
            ("***", "a/b", true),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!fits(&"*a".repeat(500), &("a".repeat(4000) + "b")));
    }

    #[test]
    fn patterns_overlap_if_a_text_fits_both() {
        for (one, two, expected) in [
            ("**", "https://a.example/**", true),
            ("https://a.example/**", "https://a.example/x", true),
            ("https://a.example/*", "https://*/x", true),
            ("https://a.example/*", "https://b.example/**", false),
            ("r.example/team/**", "r.example/**", true),
            ("a*c", "ab*", true),
            ("a*c", "a/c", false),
            ("a*/c", "a**c", true),
            ("*", "", true),
            ("*a", "b*", true),
            ("*a", "*b", false),
            ("a", "b", false),
            ("a", "ab", false),
        ] {
            assert_eq!(overlap(one, two), expected, "{one} {two}");
            assert_eq!(overlap(two, one), expected, "{two} {one}");
        }
    }

    #[test]
    fn the_narrower_pattern_wins() {
        for (one, two, expected) in [
            ("**", "https://a.example/**", Some("https://a.example/**")),
            ("https://a.example/**", "https://a.example/x", Some("https://a.example/x")),
            ("https://a.example/*", "https://*/x", None),
            ("a", "b", None),
        ] {
            assert_eq!(narrower(one, two).as_deref(), expected, "{one} {two}");
            assert_eq!(narrower(two, one).as_deref(), expected, "{two} {one}");
        }
    }
}
