//! The graph of all steps of a file in an order that they can run in; runs nothing.

use crate::diagnostic::{Code, Diagnostic, Report};
use crate::file::check::{is_image, references, split_image};
use crate::file::{Flow, FlowFile, Step};
use crate::graph::sort;
use crate::references::Use;
use crate::source::{Source, Span};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
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
}

impl fmt::Display for StepId {
    /// `IMAGE:TAG/STEP`, or `STEP` at the top level.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.image {
            Some((image, tag)) => write!(f, "{image}:{tag}/{}", self.step),
            None => f.write_str(&self.step),
        }
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
    /// What it waits for, each other step once.
    pub dependencies: Vec<Dependency>,
}

/// Steps in an order that they can run in: the order of the file wherever edges allow it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Every node after those it waits for.
    pub nodes: Vec<Node>,
    pub(crate) source: Arc<Source>,
    pub(crate) variables: Arc<BTreeMap<String, String>>,
}

/// What a step looks like from outside, before any expression has a value.
#[derive(Debug)]
pub struct StepView<'a> {
    /// Which one.
    pub id: &'a StepId,
    /// The plugin, as written.
    pub uses: &'a str,
    /// The parameters as written: expressions as text, secrets as `{"secret": NAME}`.
    pub with: serde_json::Value,
    /// The step whose tree it gets; None if it gets the project itself.
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
    /// Every cycle, with the place of each of its edges; too many steps.
    pub fn plan(&self, images: &dyn ImageDependencies) -> Result<Plan, Report> {
        let count: usize = self.flows.iter().map(|flow| flow.steps.len()).sum();
        if count > MAX_STEPS {
            let message = format!("the file has {count} steps, more than {MAX_STEPS}");
            return Err(Report::new(vec![Diagnostic::error(&self.source, Code::InvalidValue, 0..0, message)]));
        }
        let nodes = Builder::new(self).build(images);
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

struct Builder<'a> {
    file: &'a FlowFile,
    /// Index of the first step of each flow.
    starts: Vec<usize>,
    images: HashMap<(&'a str, &'a str), usize>,
}

impl<'a> Builder<'a> {
    fn new(file: &'a FlowFile) -> Builder<'a> {
        let lengths = file.flows.iter().scan(0, |next, flow| {
            let start = *next;
            *next += flow.steps.len();
            Some(start)
        });
        let starts = lengths.collect();
        let named = file.flows.iter().enumerate();
        let images = named
            .filter_map(|(index, flow)| flow.image.as_ref().map(|(name, tag)| ((name.as_str(), tag.as_str()), index)));
        Builder { file, starts, images: images.collect() }
    }

    fn build(&self, images: &dyn ImageDependencies) -> Vec<Node> {
        let mut nodes = Vec::new();
        for (index, flow) in self.file.flows.iter().enumerate() {
            for step in &flow.steps {
                let id = StepId { image: flow.image.clone(), step: step.name.value.clone() };
                let mut edges = Edges::default();
                self.own_edges(index, flow, step, &mut edges);
                let view = StepView {
                    id: &id,
                    uses: &step.uses.value,
                    with: step.with.raw(),
                    input: step.input.as_ref().map(|input| input.value.as_str()),
                };
                for reference in images.image_dependencies(&view) {
                    if let Some(other) = self.built_here(&reference).filter(|other| *other != index) {
                        self.flow_edges(other, Reason::Image, &step.with.span_of(""), &mut edges);
                    }
                }
                nodes.push(Node { id, step: Arc::new(step.clone()), dependencies: edges.0 });
            }
        }
        nodes
    }

    fn own_edges(&self, index: usize, flow: &Flow, step: &Step, edges: &mut Edges) {
        let node =
            |name: &str| flow.steps.iter().position(|other| other.name.value == name).map(|at| self.starts[index] + at);
        if let Some(input) = &step.input {
            edges.add(node(&input.value), Reason::Input, true, &input.span);
        }
        for reference in references(step) {
            edges.add(node(&reference.step), Reason::Reference, reference.usage == Use::Output, &reference.span);
        }
        for need in &step.needs {
            if !is_image(&need.value) {
                edges.add(node(&need.value), Reason::Needs, false, &need.span);
            } else if let Some(other) = self.images.get(&split_image(&need.value)) {
                self.flow_edges(*other, Reason::Needs, &need.span, edges);
            }
        }
        if step.finally {
            self.flow_edges(index, Reason::Finally, &step.name.span, edges);
        }
    }

    /// Waits for every step of a flow but its `finally` ones.
    fn flow_edges(&self, flow: usize, reason: Reason, span: &Span, edges: &mut Edges) {
        for (at, _) in self.file.flows[flow].steps.iter().enumerate().filter(|(_, step)| !step.finally) {
            edges.add(Some(self.starts[flow] + at), reason, false, span);
        }
    }

    /// The flow that builds what a reference means; one pinned by digest means an image that exists already.
    fn built_here(&self, reference: &str) -> Option<usize> {
        if reference.contains('@') {
            return None;
        }
        let pull = self.file.registries.pull.as_ref().map(|pull| pull.value.trim_end_matches('/'));
        let prefixes = [pull, Some("docker.io/library"), Some("docker.io"), Some("index.docker.io")];
        let stripped =
            prefixes.into_iter().flatten().filter_map(|prefix| reference.strip_prefix(prefix)?.strip_prefix('/'));
        std::iter::once(reference).chain(stripped).find_map(|name| self.images.get(&split_image(name)).copied())
    }
}

/// Edges of one step: the first reason is kept, a use of data is never forgotten.
#[derive(Default)]
struct Edges(Vec<Dependency>);

impl Edges {
    fn add(&mut self, node: Option<usize>, reason: Reason, data: bool, span: &Span) {
        let Some(node) = node else { return };
        match self.0.iter_mut().find(|edge| edge.node == node) {
            Some(edge) => edge.data |= data,
            None => self.0.push(Dependency { node, reason, data, span: span.clone() }),
        }
    }
}

impl Plan {
    /// A mistake in a step's parameters, shown in the file. `pointer` is a JSON pointer into `with`.
    pub fn parameter_error(&self, node: usize, pointer: &str, message: &str) -> Option<Diagnostic> {
        let span = self.nodes.get(node)?.step.with.span_of(pointer);
        Some(Diagnostic::error(&self.source, Code::Parameter, span, message))
    }

    /// The index of a step.
    pub fn find(&self, id: &StepId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == *id)
    }
}
