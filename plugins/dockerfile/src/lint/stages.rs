//! Names of stages: each once, and none that has a meaning already.

use std::collections::BTreeSet;

use super::casing::is_from;
use crate::parser::{Node, Warning};

/// Names that `FROM` and `--from` understand without a stage.
const RESERVED: [&str; 2] = ["context", "scratch"];

/// Rules DuplicateStageName and ReservedStageName.
pub fn check(nodes: &[Node], warnings: &mut Vec<Warning>) {
    let mut seen = BTreeSet::new();
    for node in nodes.iter().filter(|node| is_from(node)) {
        let Some(word) = node.args.get(2) else { continue };
        let name = word.text.to_lowercase();
        let mut warn = |rule, message| warnings.push(Warning { rule, message, span: word.span });
        if RESERVED.contains(&name.as_str()) {
            warn("ReservedStageName", format!("the stage name {name} is reserved"));
        }
        if seen.contains(&name) {
            warn("DuplicateStageName", format!("an earlier stage is called {name}, too"));
        }
        seen.insert(name);
    }
}
