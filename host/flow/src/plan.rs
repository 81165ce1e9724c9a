//! The graph of all steps of a file in an order that they can run in; runs nothing.

use crate::diagnostic::{Code, Diagnostic, Report};
use crate::expand::expand;
use crate::expression::Scope;
use crate::file::{FlowFile, Step};
use crate::graph::sort;
use crate::matrix::Instance;
use crate::run::StepError;
use crate::source::{Source, Span};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// More steps are refused: edges between whole flows grow with the square of their size.
const MAX_STEPS: usize = 2000;

/// Which step of which flow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId {
    /// Image and tag; None at the top level.
    pub image: Option<(String, String)>,
    /// Name of the step.
    pub step: String,
    /// The values of its matrix that it runs for, as [`Instance::label`] has them; None without a matrix.
    pub instance: Option<String>,
}

impl StepId {
    /// `IMAGE:TAG/STEP`, or `STEP` at the top level, whatever values of a matrix it runs for.
    pub fn base(&self) -> String {
        match &self.image {
            Some((image, tag)) => format!("{image}:{tag}/{}", self.step),
            None => self.step.clone(),
        }
    }

    /// The same as one word for programs, `IMAGE:TAG/STEP.1-a`: it stays the same as long as the values do, whatever
    /// else the matrix has. Values that are not words get a part of their SHA-256 behind them.
    pub fn key(&self) -> String {
        let Some(label) = &self.instance else { return self.base() };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let words = label.replace(", ", "-");
        let slug: String = words.chars().map(|c| if plain(c) { c } else { '-' }).collect();
        let lossless = label.split(", ").all(|value| !value.is_empty() && value.chars().all(plain));
        if lossless {
            return format!("{}.{slug}", self.base());
        }
        let hash = Sha256::digest(label.as_bytes());
        let hash: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("{}.{}-{hash}", self.base(), slug.trim_matches('-'))
    }
}

impl fmt::Display for StepId {
    /// As [`StepId::base`], followed by the values of the matrix: `IMAGE:TAG/STEP (1, a)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base())?;
        self.instance.as_ref().map_or(Ok(()), |label| write!(f, " ({label})"))
    }
}

impl Serialize for StepId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a step waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// `in` names it.
    Input,
    /// An expression mentions it.
    Reference,
    /// `needs` names it, or the image it belongs to.
    Needs,
    /// The step builds from an image that the other one belongs to.
    Image,
    /// A `finally` step waits for all others.
    Finally,
}

/// One edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Index of the other node in [`Plan::nodes`], always smaller than that of this one.
    pub node: usize,
    /// Why.
    pub reason: Reason,
    /// Whether something of its result is used, so that it must have succeeded.
    pub data: bool,
    /// Where the file says so.
    pub span: Span,
}

/// One step and what it waits for.
#[derive(Debug, Clone)]
pub struct Node {
    /// Which one.
    pub id: StepId,
    /// What it does.
    pub step: Arc<Step>,
    /// The values of its matrix that it runs for.
    pub instance: Option<Arc<Instance>>,
    /// What it waits for, each other step once.
    pub dependencies: Vec<Dependency>,
    /// Whose trees it gets.
    pub inputs: Vec<Input>,
    /// What the names of other steps mean in its expressions.
    pub(crate) meanings: Arc<BTreeMap<String, Meaning>>,
}

/// A tree that a step gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The name that the plugin knows it under; empty for that of `in`.
    pub name: String,
    /// Whose it is.
    pub step: StepId,
    /// Where the file says so.
    pub span: Span,
}

/// What the name of a step means in an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// This one: it has no matrix, or is the partner of the one that mentions it.
    One(StepId),
    /// All instances of a matrix, in its order: an output is the list of theirs.
    All(Vec<StepId>),
}

impl Node {
    /// Steps of the same matrix have the same group.
    pub(crate) fn group(&self) -> Option<(&Option<(String, String)>, &str)> {
        self.instance.as_ref().map(|_| (&self.id.image, self.id.step.as_str()))
    }
}

/// Steps in an order that they can run in: the order of the file wherever edges allow it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Every node after those it waits for.
    pub nodes: Vec<Node>,
    pub(crate) source: Arc<Source>,
    pub(crate) variables: Arc<BTreeMap<String, String>>,
}

/// What a step looks like from outside, before any other step has run.
#[derive(Debug, Clone)]
pub struct StepView<'a> {
    /// Which one.
    pub id: &'a StepId,
    /// The plugin, as written.
    pub uses: &'a str,
    /// The parameters: expressions that need other steps as text, secrets as `{"secret": NAME}`.
    pub with: serde_json::Value,
    /// The step whose tree it gets without a name; None if it gets the project itself.
    pub input: Option<&'a str>,
}

/// Port: which images a step will need, such as those of a Dockerfile's FROM lines.
pub trait ImageDependencies {
    /// References as the user wrote them; those that the file does not build are ignored.
    fn image_dependencies(&self, step: &StepView<'_>) -> Vec<String>;
}

/// Knows of no images.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoImageDependencies;

impl ImageDependencies for NoImageDependencies {
    fn image_dependencies(&self, _: &StepView<'_>) -> Vec<String> {
        Vec::new()
    }
}

impl FlowFile {
    /// The graph of all flows of the file.
    ///
    /// # Errors
    /// Every cycle, with the place of each of its edges; steps with a matrix that do not fit together; too many steps.
    pub fn plan(&self, images: &dyn ImageDependencies) -> Result<Plan, Report> {
        let steps = self.flows.iter().flat_map(|flow| &flow.steps);
        let count: usize = steps.map(|step| step.matrix.as_ref().map_or(1, |matrix| matrix.instances.len())).sum();
        if count > MAX_STEPS {
            let message = format!("the file has {count} steps, more than {MAX_STEPS}");
            return Err(Report::new(vec![Diagnostic::error(&self.source, Code::InvalidValue, 0..0, message)]));
        }
        let nodes = expand(self, images)?;
        let order = sort(&self.source, &nodes)?;
        let mut place = vec![0; nodes.len()];
        order.iter().enumerate().for_each(|(new, old)| place[*old] = new);
        let mut nodes: Vec<(usize, Node)> =
            nodes.into_iter().enumerate().map(|(old, node)| (place[old], node)).collect();
        nodes.sort_by_key(|(new, _)| *new);
        let nodes = nodes.into_iter().map(|(_, mut node)| {
            node.dependencies.iter_mut().for_each(|dependency| dependency.node = place[dependency.node]);
            node.dependencies.sort_by_key(|dependency| dependency.node);
            node
        });
        Ok(Plan { nodes: nodes.collect(), source: self.source.clone(), variables: self.variables.clone() })
    }
}

impl Plan {
    /// The parameters of a step as far as they are known before any other has run.
    pub(crate) fn known(&self, node: &Node) -> serde_json::Value {
        node.step.with.known(&constants(&node.id, &node.instance, &self.variables))
    }

    /// A mistake in a step's parameters, shown in the file: at the value, or at the name if that is wrong.
    pub fn parameter_error(&self, node: usize, error: &StepError) -> Option<Diagnostic> {
        let (with, pointer) = (&self.nodes.get(node)?.step.with, error.pointer.as_deref()?);
        let name = error.known.as_ref().and_then(|_| with.span_of_name(pointer));
        let span = name.unwrap_or_else(|| with.span_of(pointer));
        Some(Diagnostic::error(&self.source, Code::Parameter, span, &error.message).maybe_hint(error.parameter_hint()))
    }

    /// The index of a step.
    pub fn find(&self, id: &StepId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == *id)
    }
}

/// What expressions see before anything has run.
pub(crate) fn constants(
    id: &StepId,
    instance: &Option<Arc<Instance>>,
    variables: &Arc<BTreeMap<String, String>>,
) -> Scope {
    Scope {
        env: variables.clone(),
        matrix: instance.clone(),
        image: id.image.clone(),
        success: true,
        ..Scope::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_words_and_do_not_meet() {
        let key = |label: &str| StepId { image: None, step: "test".into(), instance: Some(label.into()) }.key();
        assert_eq!(key("1, a"), "test.1-a");
        assert_eq!(key("1.20"), "test.1.20");
        let odd = ["1-a", "", "a b", "a/b", "é", "{\"k\":1}", ", "].map(key);
        for (index, one) in odd.iter().enumerate() {
            assert!(one.strip_prefix("test.").unwrap().chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)));
            assert!(!odd[..index].contains(one) && *one != key("1, a"), "{one}");
        }
        let image = Some(("company/os".to_string(), "1".to_string()));
        assert_eq!(StepId { image, step: "a".into(), instance: Some("x".into()) }.key(), "company/os:1/a.x");
    }
}
