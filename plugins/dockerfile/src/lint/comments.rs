//! Comments above an instruction: those that describe a name, and `# check=` for that instruction alone.

use super::Check;
use crate::fault::Span;
use crate::parser::{Node, Warning};

/// What `# check=` above single instructions says. One that is malformed is a comment like any other.
pub fn checks(nodes: &[Node]) -> Vec<(Span, Check)> {
    let of = |node: &Node| {
        let value = node.comments.iter().find_map(|comment| check_value(comment))?;
        // What follows a blank is an explanation.
        let options = value.split(' ').next().unwrap_or_default();
        Some((node.span, Check::read(options).ok()?))
    };
    nodes.iter().filter_map(of).collect()
}

fn check_value(comment: &str) -> Option<&str> {
    let (name, value) = comment.split_once('=')?;
    name.trim().eq_ignore_ascii_case("check").then_some(value.trim())
}

/// Rule InvalidDefinitionDescription: the last comment right above an ARG or a named stage begins with the name.
pub fn description(node: &Node, warnings: &mut Vec<Warning>) {
    let mut comments = node.comments.iter().filter(|comment| check_value(comment).is_none());
    let Some(comment) = comments.next_back().filter(|comment| !comment.is_empty()) else { return };
    let keyword = node.keyword.to_ascii_uppercase();
    let names: Vec<String> = match keyword.as_str() {
        "ARG" => node.args.iter().map(|word| word.text.split('=').next().unwrap_or_default().to_owned()).collect(),
        "FROM" => node.args.get(2).map(|word| word.text.to_lowercase()).into_iter().collect(),
        _ => return,
    };
    let first = comment.split(' ').next().unwrap_or_default();
    if names.is_empty() || names.iter().any(|name| name == first) {
        return;
    }
    let message = format!("the comment above {keyword} should begin with {}", names.join(" or "));
    warnings.push(Warning { rule: "InvalidDefinitionDescription", message, span: node.span });
}
