//! Patterns of references and URLs: `*` stands for any characters but `/`, `**` for any.

/// Whether a text fits a pattern. Patterns are written by hand and short; texts are cut at a length that no registry and
/// no server takes.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    fn go(pattern: &[u8], text: &[u8], fuel: &mut u32) -> bool {
        *fuel = fuel.saturating_sub(1);
        if *fuel == 0 {
            return false;
        }
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*'] => true,
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|skip| go(rest, &text[skip..], fuel)),
            [b'*', rest @ ..] => {
                let most = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
                (0..=most).any(|skip| go(rest, &text[skip..], fuel))
            }
            [byte, rest @ ..] => text.first() == Some(byte) && go(rest, &text[1..], fuel),
        }
    }
    go(pattern.as_bytes(), text.as_bytes(), &mut 100_000)
}

/// The pattern of what fits both, none if that is nothing. Two different patterns with wildcards share nothing as far as
/// this can tell, which errs on the side of refusing; one that is `**` allows what the other does.
pub(super) fn narrower(one: &str, two: &str) -> Option<String> {
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
            ("https://a.example/**", "https://a.example/x/y", true),
            ("https://a.example/*", "https://a.example/x/y", false),
            ("https://*/x", "https://a.example/x", true),
            ("**", "", true),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
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
