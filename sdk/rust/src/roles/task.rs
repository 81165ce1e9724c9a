//! The role `task`: one step of a flow.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::task::exports::cooperage::plugin::task as contract;
use crate::plugin::Exported;
use crate::trees::Tree;
use crate::{Error, Result, parameters};

/// A step of a flow.
pub trait Task {
    /// What `with:` of the step takes.
    type Parameters: DeserializeOwned + JsonSchema;

    /// Does the work.
    ///
    /// # Errors
    /// Whatever goes wrong, for the user to read.
    fn run(request: TaskRequest<Self::Parameters>) -> Result<Outputs>;
}

/// What the flow asks for.
#[derive(Debug)]
pub struct TaskRequest<P> {
    /// The parameters.
    pub parameters: P,
    /// Trees by name; the empty name is the step's `in`.
    pub inputs: Vec<(String, Tree)>,
}

impl<P> TaskRequest<P> {
    /// The tree of the step's `in`, if it has one.
    #[must_use]
    pub fn input(&self) -> Option<&Tree> {
        self.named_input("")
    }

    /// A tree by its name.
    #[must_use]
    pub fn named_input(&self, name: &str) -> Option<&Tree> {
        self.inputs.iter().find(|(n, _)| n == name).map(|(_, tree)| tree)
    }

    /// The tree of the step's `in`, for steps that make no sense without one.
    ///
    /// # Errors
    /// `invalid-input` if there is none.
    pub fn required_input(&self) -> Result<&Tree> {
        self.input()
            .ok_or_else(|| Error::invalid_input("the step has no input").hint("name the step it works on with `in:`"))
    }
}

/// What later steps can refer to.
#[derive(Debug, Default)]
pub struct Outputs {
    values: Vec<(String, Value)>,
    tree: Option<Tree>,
}

impl Outputs {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A value: `${{ steps.<step>.<name> }}`.
    #[must_use]
    pub fn value(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.values.push((name.into(), value.into()));
        self
    }

    /// The tree that `in:` of a later step gets.
    #[must_use]
    pub fn tree(mut self, tree: Tree) -> Self {
        self.tree = Some(tree);
        self
    }
}

impl<T: Task> contract::Guest for Exported<T> {
    fn run(request: contract::Request) -> Result<contract::Outputs> {
        let parameters = parameters::read(&request.parameters)?;
        let outputs = T::run(TaskRequest { parameters, inputs: request.inputs })?;
        let values = outputs.values.into_iter().map(|(name, value)| (name, value.to_string())).collect();
        Ok(contract::Outputs { values, tree: outputs.tree })
    }
}
