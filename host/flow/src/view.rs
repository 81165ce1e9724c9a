//! A plan for people and for machines, as `--dry-run` shows it; changes nothing.

use crate::plan::Plan;
use serde::Serialize;
use serde_json::json;
use std::fmt;

impl fmt::Display for Plan {
    /// One line per step: what it is, what does it, what it waits for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Plan {
    /// What the text shows of each node, in order.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        let width = self.nodes.iter().map(|node| node.id.to_string().chars().count()).max().unwrap_or(0);
        self.nodes.iter().map(move |node| {
            let mut line = format!("{:width$}  {}", node.id.to_string(), node.step.uses.value);
            let after: Vec<String> =
                node.dependencies.iter().map(|edge| self.nodes[edge.node].id.to_string()).collect();
            if !after.is_empty() {
                line += &format!("  after {}", after.join(", "));
            }
            if let Some(condition) = &node.step.condition {
                // A condition may be written on several lines.
                let words: Vec<_> = condition.text().split_whitespace().map(str::to_owned).collect();
                line += &format!("  if {}", words.join(" "));
            }
            line
        })
    }
}

/// `{"steps": [...]}`, each with its id, image, tag, name, plugin, condition, timeout in seconds, attempts,
/// and what it waits for and why.
impl Serialize for Plan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let steps = self.nodes.iter().map(|node| {
            let after = node.dependencies.iter();
            let after = after
                .map(|edge| json!({ "step": self.nodes[edge.node].id, "because": edge.reason, "data": edge.data }));
            json!({
                "id": node.id,
                "image": node.id.image.as_ref().map(|(image, _)| image),
                "tag": node.id.image.as_ref().map(|(_, tag)| tag),
                "step": node.id.step,
                "key": node.id.key(),
                "matrix": node.instance.as_deref(),
                "uses": node.step.uses.value,
                "if": node.step.condition.as_ref().map(|condition| condition.text()),
                "finally": node.step.finally,
                "continue_on_error": node.step.continue_on_error,
                "timeout": node.step.timeout.map(|timeout| timeout.as_secs_f64()),
                "attempts": node.step.retry.attempts,
                "after": after.collect::<Vec<_>>(),
            })
        });
        json!({ "steps": steps.collect::<Vec<_>>() }).serialize(serializer)
    }
}
