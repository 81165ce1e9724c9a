//! The order of a graph, or its cycles with the place of every edge; knows nothing of flows.

use crate::diagnostic::{Code, Diagnostic, Report};
use crate::plan::{Node, Reason};
use crate::source::{Source, Span};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Kahn's algorithm, smallest index first; a cycle is told, taken out and the rest sorted on.
pub(crate) fn sort(source: &Arc<Source>, nodes: &[Node]) -> Result<Vec<usize>, Report> {
    let mut waits: Vec<usize> = nodes.iter().map(|node| node.dependencies.len()).collect();
    let mut dependents = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        node.dependencies.iter().for_each(|edge| dependents[edge.node].push(index));
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..nodes.len()).filter(|index| waits[*index] == 0).map(Reverse).collect();
    let mut done = vec![false; nodes.len()];
    let mut order = Vec::with_capacity(nodes.len());
    let mut cycles = Vec::new();
    loop {
        while let Some(Reverse(index)) = ready.pop() {
            done[index] = true;
            order.push(index);
            for dependent in dependents[index].iter().filter(|dependent| !done[**dependent]) {
                waits[*dependent] -= 1;
                if waits[*dependent] == 0 {
                    ready.push(Reverse(*dependent));
                }
            }
        }
        let Some(start) = done.iter().position(|done| !done) else {
            break;
        };
        let cycle = find_cycle(nodes, &done, start);
        cycles.push(describe_cycle(source, nodes, &cycle));
        cycle.iter().for_each(|index| done[*index] = true);
        ready.extend(cycle.into_iter().map(Reverse));
    }
    if cycles.is_empty() { Ok(order) } else { Err(Report::new(cycles)) }
}

/// Whatever is not done waits for something that is not done, so following such edges must come back.
fn find_cycle(nodes: &[Node], done: &[bool], start: usize) -> Vec<usize> {
    let mut path = vec![start];
    let mut at = start;
    while let Some(edge) = nodes[at].dependencies.iter().find(|edge| !done[edge.node]) {
        at = edge.node;
        if let Some(first) = path.iter().position(|index| *index == at) {
            let mut cycle = path.split_off(first);
            let smallest = cycle.iter().enumerate().min_by_key(|(_, index)| **index).map_or(0, |(place, _)| place);
            cycle.rotate_left(smallest);
            return cycle;
        }
        path.push(at);
    }
    path
}

fn describe_cycle(source: &Arc<Source>, nodes: &[Node], cycle: &[usize]) -> Diagnostic {
    let next = |place: usize| cycle[(place + 1) % cycle.len()];
    let edges: Vec<(Span, String)> = cycle
        .iter()
        .enumerate()
        .filter_map(|(place, index)| {
            let edge = nodes[*index].dependencies.iter().find(|edge| edge.node == next(place))?;
            let why = match edge.reason {
                Reason::Finally => ", as `finally` steps wait for all others",
                Reason::Image => ", as it builds from that image",
                _ => "",
            };
            Some((edge.span.clone(), format!("`{}` waits for `{}`{why}", nodes[*index].id, nodes[edge.node].id)))
        })
        .collect();
    let names: Vec<String> = cycle.iter().chain(cycle.first()).map(|index| nodes[*index].id.to_string()).collect();
    let message = format!("these steps wait for each other: {}", names.join(" -> "));
    let mut edges = edges.into_iter();
    let (span, label) = edges.next().unwrap_or_default();
    let mut diagnostic = Diagnostic::error(source, Code::Cycle, span, message).label(label);
    diagnostic.related = edges.collect();
    diagnostic.hint("remove one of these")
}
