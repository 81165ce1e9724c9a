//! Reading `WWW-Authenticate` (RFC 9110, section 11.6.1): several challenges may share one field.

/// How a server wants to be convinced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from a token server.
    Bearer {
        /// URL of the token server.
        realm: String,
        /// What the token is for.
        service: Option<String>,
        /// What it must allow, as far as the server says.
        scope: Option<String>,
    },
}

/// More than any server needs.
const MOST: usize = 8;
const LONGEST: usize = 8 << 10;

/// The challenges that this client can meet, in the order of the fields. What cannot be read is left out.
pub fn parse<'a>(fields: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    let mut found = Vec::new();
    for field in fields.take(MOST).filter(|field| field.len() <= LONGEST) {
        for (scheme, parameters) in challenges(field) {
            let get = |name: &str| {
                parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("basic") {
                found.push(Challenge::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = get("realm")
            {
                found.push(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
            }
        }
    }
    found.truncate(MOST);
    found
}

type Parameters = Vec<(String, String)>;

/// Scheme and parameters of each challenge of a field.
fn challenges(field: &str) -> Vec<(String, Parameters)> {
    let mut all: Vec<(String, Parameters)> = Vec::new();
    let mut rest = field;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        if rest.is_empty() {
            return all;
        }
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start_matches([' ', '\t']);
        match after.strip_prefix('=') {
            Some(value) if !word.is_empty() => {
                let (value, after) = quoted_or_token(value.trim_start_matches([' ', '\t']));
                if let Some((_, parameters)) = all.last_mut() {
                    parameters.push((word.to_owned(), value));
                }
                rest = after;
            }
            // A stray `=`: skip it, so that every turn takes something away.
            Some(value) => rest = value,
            None => {
                all.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

/// A quoted string or a token, and what follows it.
fn quoted_or_token(text: &str) -> (String, &str) {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &inner[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.map(Into::into), scope: scope.map(Into::into) }
    }

    fn check(fields: &[&str], expected: &[Challenge]) {
        assert_eq!(parse(fields.iter().copied()), expected, "{fields:?}");
    }

    #[test]
    fn challenges_of_registries() {
        check(
            &[
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#,
            ],
            &[bearer("https://auth.example/token", Some("registry.example"), Some("repository:a/b:pull,push"))],
        );
        check(&[r#"Basic realm="test""#], &[Challenge::Basic]);
        check(&["basic"], &[Challenge::Basic]);
        check(
            &[r#"Negotiate, Basic realm="a, Bearer realm=x", bearer realm="https://t", error="invalid_token""#],
            &[Challenge::Basic, bearer("https://t", None, None)],
        );
        check(&["Basic realm=x", "Bearer realm=https://t/x"], &[Challenge::Basic, bearer("https://t/x", None, None)]);
        check(&[r#"Bearer Realm = "https://t" , SERVICE="a\"b\\c""#], &[bearer("https://t", Some(r#"a"b\c"#), None)]);
    }

    #[test]
    fn nonsense_ends() {
        for nonsense in [
            "",
            ",,,",
            "=",
            "===x",
            "Bearer",
            "Bearer realm",
            r#"Bearer realm="x"#,
            r#"Bearer service="x""#,
            "\"",
            "a=\"\\",
        ] {
            let found = parse([nonsense].into_iter());
            assert!(found.len() <= 1, "{nonsense}: {found:?}");
        }
        let many = vec!["Basic"; 100];
        assert_eq!(parse(many.into_iter()).len(), MOST);
        assert!(parse([format!("Basic realm={}", "x".repeat(LONGEST)).as_str()].into_iter()).is_empty());
    }
}
