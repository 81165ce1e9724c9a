//! What names may look like; knows no other names.

/// Whether it can be the name of a step or plugin: it stands in expressions and in `IMAGE:TAG/STEP`.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && name.len() <= 64
}

/// Words that CEL's grammar refuses as a field, so that `steps.NAME` would not parse
/// (github.com/google/cel-spec, langdef.md, "Syntax").
pub(super) const RESERVED: [&str; 20] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "while",
];

/// As in the distribution specification: lower-case parts between slashes.
pub(super) fn image_name_problem(name: &str) -> Option<&'static str> {
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, name),
    };
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
    };
    if name.len() > 255 {
        return Some("it is longer than 255 bytes");
    }
    if host.is_some_and(|host| !host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:".contains(c)))
        || !path.split('/').all(part)
    {
        return Some("it consists of lower-case letters, digits, `.`, `_` and `-`, in parts between `/`");
    }
    None
}

/// The form of a tag in the same specification.
pub(super) fn tag_problem(tag: &str) -> Option<&'static str> {
    let valid = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        && tag.len() <= 128;
    (!valid).then_some("it is at most 128 letters, digits, `.`, `_` and `-`, and does not begin with `.` or `-`")
}
