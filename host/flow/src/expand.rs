//! From a file to nodes: one for each step, or for each combination of its matrix, with all edges; sorts nothing.

use crate::diagnostic::{Code, Diagnostic, Report};
use crate::file::check::{is_image, references, split_image};
use crate::file::{Flow, FlowFile, Step};
use crate::matrix::Instance;
use crate::plan::{Dependency, ImageDependencies, Input, Meaning, Node, Reason, StepId, StepView, constants};
use crate::references::Use;
use crate::source::Span;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// The nodes of all flows in the order of the file.
///
/// # Errors
/// Steps with a matrix that are not each other's partners where they must be.
pub(crate) fn expand(file: &FlowFile, images: &dyn ImageDependencies) -> Result<Vec<Node>, Report> {
    let mut builder = Builder::new(file);
    let nodes = builder.build(images);
    if builder.found.is_empty() { Ok(nodes) } else { Err(Report::new(builder.found)) }
}

struct Builder<'a> {
    file: &'a FlowFile,
    /// The nodes of each step of each flow.
    places: Vec<Vec<Range<usize>>>,
    images: HashMap<(&'a str, &'a str), usize>,
    found: Vec<Diagnostic>,
}

/// What the name of a step means to one instance of another.
enum Target {
    One(usize),
    All,
}

/// The step that is being made into nodes.
#[derive(Clone, Copy)]
struct Site<'a> {
    index: usize,
    flow: &'a Flow,
    step: &'a Step,
}

impl<'a> Builder<'a> {
    fn new(file: &'a FlowFile) -> Builder<'a> {
        let mut next = 0;
        let mut place = |step: &Step| {
            let start = next;
            next += step.matrix.as_ref().map_or(1, |matrix| matrix.instances.len());
            start..next
        };
        let places = file.flows.iter().map(|flow| flow.steps.iter().map(&mut place).collect()).collect();
        let named = file.flows.iter().enumerate();
        let images = named
            .filter_map(|(index, flow)| flow.image.as_ref().map(|(name, tag)| ((name.as_str(), tag.as_str()), index)));
        Builder { file, places, images: images.collect(), found: Vec::new() }
    }

    fn build(&mut self, images: &dyn ImageDependencies) -> Vec<Node> {
        let mut nodes = Vec::new();
        let file = self.file;
        for (index, flow) in file.flows.iter().enumerate() {
            for step in &flow.steps {
                let site = Site { index, flow, step };
                let shared = Arc::new(step.clone());
                match &step.matrix {
                    None => nodes.push(self.node(site, &shared, None, images)),
                    Some(matrix) => {
                        let instances = matrix.instances.iter();
                        nodes.extend(instances.map(|one| self.node(site, &shared, Some(one.clone()), images)));
                    }
                }
            }
        }
        nodes
    }

    fn node(
        &mut self,
        site: Site<'_>,
        shared: &Arc<Step>,
        instance: Option<Arc<Instance>>,
        images: &dyn ImageDependencies,
    ) -> Node {
        let id = id_of(site.flow, site.step, instance.as_deref());
        let mut edges = Edges::default();
        let inputs = self.inputs(site, instance.as_deref(), &mut edges);
        let meanings = self.meanings(site, instance.as_deref(), &mut edges);
        self.orders(site, &mut edges);
        let with = site.step.with.known(&constants(&id, &instance, &self.file.variables));
        let input = site.step.input.as_ref().map(|input| input.value.as_str());
        let view = StepView { id: &id, uses: &site.step.uses.value, with, input };
        for reference in images.image_dependencies(&view) {
            if let Some(other) = self.built_here(&reference).filter(|other| *other != site.index) {
                self.flow_edges(other, Reason::Image, &site.step.with.span_of(""), &mut edges);
            }
        }
        Node { id, step: shared.clone(), instance, dependencies: edges.0, inputs, meanings: Arc::new(meanings) }
    }

    /// The trees it gets: each of one node.
    fn inputs(&mut self, site: Site<'_>, instance: Option<&Instance>, edges: &mut Edges) -> Vec<Input> {
        let mut inputs = Vec::new();
        for (name, step) in site.step.trees() {
            let Some(at) = position(site.flow, &step.value) else { continue };
            match self.target(site, at, instance) {
                Target::One(node) => {
                    edges.add(node, Reason::Input, true, &step.span);
                    let id = self.id(site, at, node);
                    inputs.push(Input { name: name.to_string(), step: id, span: step.span.clone() });
                }
                Target::All => {
                    let many = self.places[site.index][at].len();
                    let message = match instance {
                        None => format!("`{}` is {many} steps, and this one needs the files of one", step.value),
                        Some(own) => format!(
                            "of the {many} steps `{}` no single one has the values of `{} ({})`",
                            step.value,
                            site.step.name.value,
                            own.label()
                        ),
                    };
                    let wrong = Diagnostic::error(&self.file.source, Code::Matrix, step.span.clone(), message);
                    self.found
                        .push(wrong.hint("steps with the same `matrix` are paired: each gets the files of its own"));
                }
            }
        }
        inputs
    }

    /// What the names in its expressions mean.
    fn meanings(
        &mut self,
        site: Site<'_>,
        instance: Option<&Instance>,
        edges: &mut Edges,
    ) -> BTreeMap<String, Meaning> {
        let mut meanings = BTreeMap::new();
        for reference in references(site.step) {
            let Some(at) = position(site.flow, &reference.step) else { continue };
            let data = reference.usage == Use::Output;
            let meaning = match self.target(site, at, instance) {
                Target::One(node) => {
                    edges.add(node, Reason::Reference, data, &reference.span);
                    Meaning::One(self.id(site, at, node))
                }
                Target::All => {
                    let nodes = self.places[site.index][at].clone();
                    nodes.clone().for_each(|node| edges.add(node, Reason::Reference, data, &reference.span));
                    Meaning::All(nodes.map(|node| self.id(site, at, node)).collect())
                }
            };
            if matches!(meaning, Meaning::All(_)) && instance.is_some() {
                self.check_pairs(site, at, &reference.span);
            }
            meanings.insert(reference.step.clone(), meaning);
        }
        meanings
    }

    /// Either all instances have a partner or none: else a value would be a list for some and none for others.
    fn check_pairs(&mut self, site: Site<'_>, at: usize, span: &Span) {
        let (Some(own), Some(other)) = (&site.step.matrix, &site.flow.steps[at].matrix) else { return };
        let paired = own.instances.iter().filter(|instance| other.partner(instance).is_some()).count();
        if paired == 0 {
            return;
        }
        let lonely = own.instances.iter().find(|instance| other.partner(instance).is_none());
        let names =
            (&site.step.name.value, lonely.map_or("", |lonely| lonely.label()), &site.flow.steps[at].name.value);
        let message = format!("`{} ({})` has no partner in `{}`, while others have one", names.0, names.1, names.2);
        let wrong = Diagnostic::error(&self.file.source, Code::Matrix, span.clone(), message);
        self.found.push(wrong.hint("give both steps the same `matrix`"));
    }

    fn orders(&self, site: Site<'_>, edges: &mut Edges) {
        for need in &site.step.needs {
            if !is_image(&need.value) {
                let nodes = position(site.flow, &need.value).map(|at| self.places[site.index][at].clone());
                nodes.into_iter().flatten().for_each(|node| edges.add(node, Reason::Needs, false, &need.span));
            } else if let Some(other) = self.images.get(&split_image(&need.value)) {
                self.flow_edges(*other, Reason::Needs, &need.span, edges);
            }
        }
        if site.step.finally {
            self.flow_edges(site.index, Reason::Finally, &site.step.name.span, edges);
        }
    }

    /// Waits for every step of a flow but its `finally` ones.
    fn flow_edges(&self, flow: usize, reason: Reason, span: &Span, edges: &mut Edges) {
        let steps = self.file.flows[flow].steps.iter().zip(&self.places[flow]);
        for (_, nodes) in steps.filter(|(step, _)| !step.finally) {
            nodes.clone().for_each(|node| edges.add(node, reason, false, span));
        }
    }

    /// The node that a step of the same flow means to an instance.
    fn target(&self, site: Site<'_>, at: usize, instance: Option<&Instance>) -> Target {
        let nodes = &self.places[site.index][at];
        match (&site.flow.steps[at].matrix, instance) {
            (None, _) => Target::One(nodes.start),
            (Some(matrix), Some(own)) => {
                matrix.partner(own).map_or(Target::All, |partner| Target::One(nodes.start + partner))
            }
            (Some(_), None) => Target::All,
        }
    }

    fn id(&self, site: Site<'_>, at: usize, node: usize) -> StepId {
        let step = &site.flow.steps[at];
        let which = node - self.places[site.index][at].start;
        let instance = step.matrix.as_ref().map(|matrix| matrix.instances[which].as_ref());
        id_of(site.flow, step, instance)
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

fn id_of(flow: &Flow, step: &Step, instance: Option<&Instance>) -> StepId {
    let instance = instance.map(|instance| instance.label().to_string());
    StepId { image: flow.image.clone(), step: step.name.value.clone(), instance }
}

fn position(flow: &Flow, name: &str) -> Option<usize> {
    flow.steps.iter().position(|step| step.name.value == name)
}

/// Edges of one step: the first reason is kept, a use of data is never forgotten.
#[derive(Default)]
struct Edges(Vec<Dependency>);

impl Edges {
    fn add(&mut self, node: usize, reason: Reason, data: bool, span: &Span) {
        match self.0.iter_mut().find(|edge| edge.node == node) {
            Some(edge) => edge.data |= data,
            None => self.0.push(Dependency { node, reason, data, span: span.clone() }),
        }
    }
}
