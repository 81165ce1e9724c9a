//! The role `task`: one step of a flow.

use std::collections::BTreeMap;

use cooperage_solve::Tree;
use serde_json::Value;

use crate::bindings::task::exports::cooperage::plugin::task as wit_task;
use crate::call::{CallContext, CallError, Special, call};
use crate::host::trees::GuestTree;
use crate::plugin::Plugin;

/// What a step asks for.
#[derive(Debug, Clone, Default)]
pub struct TaskRequest {
    /// Parameters.
    pub parameters: Value,
    /// Trees by name; the empty name is the step's `in`.
    pub inputs: Vec<(String, Tree)>,
}

/// What later steps can refer to.
#[derive(Debug, Clone, Default)]
pub struct TaskOutputs {
    /// Values by name.
    pub values: BTreeMap<String, Value>,
    /// The tree that `in:` of a later step gets.
    pub tree: Option<Tree>,
}

type Raw = (Vec<(String, String)>, Option<GuestTree>);

impl Plugin {
    /// Runs the task.
    ///
    /// # Errors
    /// [`CallError`] tells wrong parameters, the plugin's own failure, a crash and a limit apart.
    pub async fn run_task(&self, context: &CallContext, request: TaskRequest) -> Result<TaskOutputs, CallError> {
        let role = || CallError::Role { plugin: self.name().to_owned(), role: "task" };
        let pre = self.pres().task.clone().ok_or_else(role)?;
        let parameters = self.complete_parameters("task", &request.parameters)?.to_string();
        let special = Special { parameters: request.parameters, ..Special::default() };
        let inputs = request.inputs;
        let (values, tree): Raw = call(
            (self.engine(), self.name()),
            context,
            special,
            Box::new(move |store| {
                Box::pin(async move {
                    let instance = pre.instantiate_async(&mut *store).await?;
                    let mut trees = Vec::with_capacity(inputs.len());
                    for (name, tree) in inputs {
                        trees.push((name, store.data_mut().push(GuestTree::given(tree))?));
                    }
                    let request = wit_task::Request { parameters, inputs: trees };
                    match instance.cooperage_plugin_task().call_run(&mut *store, &request).await? {
                        Ok(outputs) => {
                            let tree = outputs.tree.map(|tree| store.data_mut().table.delete(tree)).transpose()?;
                            Ok(Ok((outputs.values, tree)))
                        }
                        Err(error) => Ok(Err(error)),
                    }
                })
            }),
        )
        .await?;
        self.task_outputs(values, tree)
    }

    fn task_outputs(&self, values: Vec<(String, String)>, tree: Option<GuestTree>) -> Result<TaskOutputs, CallError> {
        let tree = tree.map(|tree| tree.into_tree().map_err(CallError::Failed)).transpose()?;
        let value = |(name, text): (String, String)| match serde_json::from_str(&text) {
            Ok(value) => Ok((name, value)),
            Err(error) => Err(CallError::Contract {
                plugin: self.name().to_owned(),
                message: format!("its output `{name}` is no JSON: {error}"),
            }),
        };
        Ok(TaskOutputs { values: values.into_iter().map(value).collect::<Result<_, _>>()?, tree })
    }
}
