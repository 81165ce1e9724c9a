//! Changes the plugins of a flow file as a person would: a line more or an entry less, and everything else as it was.

/// Adds an entry; none if the file has its plugins in a form that is not safely added to.
pub(super) fn add(text: &str, name: &str, value: &str) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match lines.iter().position(|line| is_key(line, "plugins")) {
        None => lines.extend(["plugins:".to_owned(), format!("  {name}: {value}")]),
        Some(at) => {
            let rest = lines[at]["plugins:".len()..].trim();
            if rest == "{}" {
                lines[at] = "plugins:".to_owned();
            } else if !(rest.is_empty() || rest.starts_with('#')) {
                return None;
            }
            let indent = block(&lines, at).next().map_or(2, |(_, indent)| indent);
            lines.insert(at + 1, format!("{:indent$}{name}: {value}", ""));
        }
    }
    Some(lines.join("\n") + "\n")
}

/// Takes an entry out; none if it is not found as a block of its own.
pub(super) fn remove(text: &str, name: &str) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = lines.iter().position(|line| is_key(line, "plugins"))?;
    let entries: Vec<(usize, usize)> = block(&lines, at).collect();
    let indent = entries.first()?.1;
    let starts: Vec<usize> = entries.iter().filter(|(_, deep)| *deep == indent).map(|(number, _)| *number).collect();
    let spelled = [name.to_owned(), format!("'{name}'"), format!("\"{name}\"")];
    let begin = *starts.iter().find(|number| spelled.iter().any(|name| is_key(lines[**number].trim_start(), name)))?;
    let end = starts.iter().find(|number| **number > begin).copied();
    let end = end.unwrap_or_else(|| entries.last().map_or(begin, |(number, _)| *number) + 1);
    lines.drain(begin..end);
    if starts.len() == 1 {
        lines.remove(at);
    }
    Some(lines.join("\n") + "\n")
}

fn is_key(line: &str, name: &str) -> bool {
    line.strip_prefix(name).is_some_and(|rest| rest == ":" || rest.starts_with(": "))
}

/// The lines below a key that say something, with their indentation.
fn block(lines: &[String], at: usize) -> impl Iterator<Item = (usize, usize)> {
    let below = lines.iter().enumerate().skip(at + 1);
    let below = below.filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    let indented = |line: &String| line.len() - line.trim_start_matches(' ').len();
    below.map(move |(number, line)| (number, indented(line))).take_while(|(_, indent)| *indent > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_more() {
        for (text, expected) in [
            ("version: 1\n", Some("version: 1\nplugins:\n  chat: X\n")),
            ("version: 1", Some("version: 1\nplugins:\n  chat: X\n")),
            ("plugins: {}\nflow: {}\n", Some("plugins:\n  chat: X\nflow: {}\n")),
            ("plugins: # mine\n    a: { from: b }\n", Some("plugins: # mine\n    chat: X\n    a: { from: b }\n")),
            (
                "plugins:\n\n# them\n   a:\n     from: b\n",
                Some("plugins:\n   chat: X\n\n# them\n   a:\n     from: b\n"),
            ),
            ("plugins: { a: { from: b } }\n", None),
        ] {
            assert_eq!(add(text, "chat", "X").as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn an_entry_less() {
        for (text, expected) in [
            ("plugins:\n  chat: X\nflow: {}\n", Some("flow: {}\n")),
            (
                "plugins:\n  a: Y\n  chat:\n    from: X\n    # why\n    allow: {}\n  b: Z\n",
                Some("plugins:\n  a: Y\n  b: Z\n"),
            ),
            ("plugins:\n  a: Y\n  'chat':\n    from: X\nflow: {}\n", Some("plugins:\n  a: Y\nflow: {}\n")),
            ("plugins:\n  chatter: Y\n", None),
            ("plugins: { chat: X }\n", None),
            ("flow:\n  chat: {}\n", None),
        ] {
            assert_eq!(remove(text, "chat").as_deref(), expected, "{text}");
        }
    }
}
