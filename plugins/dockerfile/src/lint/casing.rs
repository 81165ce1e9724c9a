//! Upper and lower case: of instructions, of AS, of stage names.

use crate::parser::{Node, Warning};

/// Rules ConsistentInstructionCasing, FromAsCasing and StageNameCasing.
pub fn check(nodes: &[Node], warnings: &mut Vec<Warning>) {
    instructions(nodes, warnings);
    for node in nodes.iter().filter(|node| is_from(node)) {
        let [_, keyword, name, ..] = &node.args[..] else { continue };
        if name.text != name.text.to_lowercase() {
            let message = format!("the stage name {} should be in lower case", name.text);
            warnings.push(Warning { rule: "StageNameCasing", message, span: name.span });
        }
        // A FROM that is neither is a matter of the other rule.
        let as_expected = match case_of(&node.keyword) {
            Some(Case::Lower) => keyword.text == keyword.text.to_lowercase(),
            Some(Case::Upper) => keyword.text == keyword.text.to_uppercase(),
            None => true,
        };
        if !as_expected {
            let message = format!("{} and {} differ in case", node.keyword, keyword.text);
            warnings.push(Warning { rule: "FromAsCasing", message, span: keyword.span });
        }
    }
}

/// Whether an instruction begins a stage.
pub fn is_from(node: &Node) -> bool {
    node.keyword.eq_ignore_ascii_case("from")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
}

fn case_of(word: &str) -> Option<Case> {
    if word == word.to_lowercase() {
        Some(Case::Lower)
    } else if word == word.to_uppercase() {
        Some(Case::Upper)
    } else {
        None
    }
}

/// The majority decides, upper case if there is none. What stands before the first FROM does not count.
fn instructions(nodes: &[Node], warnings: &mut Vec<Warning>) {
    let first = nodes.iter().position(is_from).unwrap_or(nodes.len());
    let counted = &nodes[first..];
    let count = |case| counted.iter().filter(|node| case_of(&node.keyword) == Some(case)).count();
    let (case, shown) = match count(Case::Lower) > count(Case::Upper) {
        true => (Case::Lower, "lower"),
        false => (Case::Upper, "upper"),
    };
    for node in counted.iter().filter(|node| case_of(&node.keyword) != Some(case)) {
        let message = format!("{} should be in {shown} case, as most instructions here are", node.keyword);
        warnings.push(Warning { rule: "ConsistentInstructionCasing", message, span: node.span });
    }
}
