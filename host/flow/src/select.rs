//! Narrowing a plan to what was asked for; knows names and edges, not what steps do.

use crate::diagnostic::nearest;
use crate::plan::{Node, Plan};
use crate::references::list;
use std::collections::BTreeSet;

/// A target that names nothing, or too much.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nothing has that name. The hint names something near, or all there is.
    #[error("there is no image, tag or step `{target}`: {hint}")]
    Unknown {
        /// As given.
        target: String,
        /// What to write instead.
        hint: String,
    },
    /// A step's name alone, and several flows have such a step.
    #[error("`{target}` is a step of several flows: write one of {}", list(candidates.iter().map(String::as_str)))]
    Ambiguous {
        /// As given.
        target: String,
        /// The full names.
        candidates: Vec<String>,
    },
}

impl Plan {
    /// The part of the plan that the targets need. A target is `IMAGE` (all its tags), `IMAGE:TAG`,
    /// `IMAGE:TAG/STEP` or `STEP`: at the top level, or wherever there is only one of that name. No targets at
    /// all means everything. The name of a step with a matrix means all of them; one is `STEP (1, a)` or `STEP.1-a`.
    ///
    /// `finally` steps of a flow that is touched come along, and so do steps that wait for a chosen one with
    /// `always()` or `failure()`. They bring nothing else with them: what they mention and is not chosen
    /// counts as skipped.
    ///
    /// # Errors
    /// The first target that names nothing, or too much.
    pub fn select<S: AsRef<str>>(&self, targets: &[S]) -> Result<Plan, TargetError> {
        if targets.is_empty() {
            return Ok(self.clone());
        }
        let mut chosen = BTreeSet::new();
        for target in targets {
            chosen.extend(self.resolve(target.as_ref())?);
        }
        let mut open: Vec<usize> = chosen.iter().copied().collect();
        while let Some(index) = open.pop() {
            for edge in &self.nodes[index].dependencies {
                if chosen.insert(edge.node) {
                    open.push(edge.node);
                }
            }
        }
        self.add_survivors(&mut chosen);
        Ok(self.keep(&chosen))
    }

    /// Dependencies come first in a plan, so one pass sees chains of survivors.
    fn add_survivors(&self, chosen: &mut BTreeSet<usize>) {
        let touched: Vec<_> = chosen.iter().map(|index| self.nodes[*index].id.image.clone()).collect();
        for (index, node) in self.nodes.iter().enumerate() {
            let waits = node.dependencies.iter().any(|edge| chosen.contains(&edge.node));
            if touched.contains(&node.id.image) && (node.step.finally || (node.step.survives_failure() && waits)) {
                chosen.insert(index);
            }
        }
    }

    fn keep(&self, chosen: &BTreeSet<usize>) -> Plan {
        let place = |old: usize| chosen.iter().position(|index| *index == old);
        let nodes = chosen.iter().map(|index| {
            let node = &self.nodes[*index];
            let kept = node.dependencies.iter().filter_map(|edge| {
                let mut edge = edge.clone();
                edge.node = place(edge.node)?;
                Some(edge)
            });
            Node { dependencies: kept.collect(), ..node.clone() }
        });
        Plan { nodes: nodes.collect(), source: self.source.clone(), variables: self.variables.clone() }
    }

    fn resolve(&self, target: &str) -> Result<Vec<usize>, TargetError> {
        let matching = |test: &dyn Fn(&Node) -> bool| -> Vec<usize> {
            self.nodes.iter().enumerate().filter(|(_, node)| test(node)).map(|(index, _)| index).collect()
        };
        let exact = matching(&|node| node.id.to_string() == target || node.id.key() == target);
        if !exact.is_empty() {
            return Ok(exact);
        }
        let whole = matching(&|node| node.id.image.is_some() && node.id.base() == target);
        if !whole.is_empty() {
            return Ok(whole);
        }
        let image = matching(&|node| {
            node.id.image.as_ref().is_some_and(|(image, tag)| image == target || format!("{image}:{tag}") == target)
        });
        if !image.is_empty() {
            return Ok(image);
        }
        let named = matching(&|node| node.id.step == target);
        let mut candidates: Vec<String> = named.iter().map(|index| self.nodes[*index].id.base()).collect();
        candidates.dedup();
        if let Some(top) = candidates.iter().position(|candidate| candidate == target) {
            return Ok(matching(&|node| node.id.base() == candidates[top]));
        }
        match candidates.len() {
            0 => Err(TargetError::Unknown { target: target.to_string(), hint: self.hint(target) }),
            1 => Ok(named),
            _ => Err(TargetError::Ambiguous { target: target.to_string(), candidates }),
        }
    }

    fn hint(&self, target: &str) -> String {
        let mut names = BTreeSet::new();
        let mut short = BTreeSet::new();
        for node in &self.nodes {
            names.insert(node.id.to_string());
            names.insert(node.id.base());
            names.insert(node.id.step.clone());
            match &node.id.image {
                Some((image, tag)) => {
                    names.insert(image.clone());
                    names.insert(format!("{image}:{tag}"));
                    short.insert(format!("{image}:{tag}"));
                }
                None => {
                    short.insert(node.id.step.clone());
                }
            }
        }
        match nearest(target, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", list(short.iter().map(String::as_str))),
        }
    }
}
