//! Asks a plugin what it is: with no grants, little memory and little time, once per component and machine.

use std::time::Duration;

use crate::call::{CallContext, CallError, Special, call};
use crate::engine::Engine;
use crate::grants::Request;
use crate::limits::Limits;
use crate::plugin::{Description, LoadError, Pres};

/// The record as a role's world has it: each has a type of its own for it.
macro_rules! raw_description {
    ($description:expr) => {{
        let description = $description;
        let capabilities = description.capabilities.into_iter().map(|c| (c.class, c.request, c.reason)).collect();
        $crate::roles::RawDescription {
            name: description.name,
            version: description.version,
            summary: description.summary,
            parameters: description.parameters,
            capabilities,
            provides: description.provides,
            annotations: description.annotations,
        }
    }};
}
pub(crate) use raw_description;

/// What a plugin said, its JSON unread.
pub(crate) struct Raw {
    pub name: String,
    pub version: String,
    pub summary: String,
    pub parameters: Vec<(String, String)>,
    pub capabilities: Vec<(String, String, String)>,
    pub provides: Vec<String>,
    pub annotations: Vec<(String, String)>,
}

pub(crate) async fn describe(engine: &Engine, name: &str, pres: &Pres) -> Result<Description, LoadError> {
    let limits = Limits {
        memory: 64 << 20,
        time: Duration::from_secs(10),
        cpu: Duration::from_secs(5),
        grace: Duration::ZERO,
        ..Limits::default()
    };
    let context = CallContext { limits: Some(limits), ..CallContext::bare() };
    let pres = pres.clone();
    let raw = call(
        (engine, name),
        &context,
        Special::default(),
        Box::new(move |store| {
            Box::pin(async move {
                Ok(Ok(if let Some(builder) = pres.builder {
                    builder.describe(store).await?
                } else if let Some(pre) = pres.task {
                    let instance = pre.instantiate_async(&mut *store).await?;
                    raw_description!(instance.cooperage_plugin_plugin().call_describe(&mut *store).await?)
                } else if let Some(pre) = pres.registry {
                    let instance = pre.instantiate_async(&mut *store).await?;
                    raw_description!(instance.cooperage_plugin_plugin().call_describe(&mut *store).await?)
                } else if let Some(pre) = pres.source {
                    let instance = pre.instantiate_async(&mut *store).await?;
                    raw_description!(instance.cooperage_plugin_plugin().call_describe(&mut *store).await?)
                } else {
                    wasmtime::bail!("the component has no role")
                }))
            })
        }),
    );
    raw.await.map_err(|error: CallError| LoadError::Describe(Box::new(error))).and_then(Raw::read)
}

impl Raw {
    fn read(self) -> Result<Description, LoadError> {
        let json = |what: String, text: &str| {
            serde_json::from_str(text).map_err(|error| LoadError::Description(format!("{what} is no JSON: {error}")))
        };
        let mut parameters = std::collections::BTreeMap::new();
        for (role, schema) in self.parameters {
            let schema = json(format!("the schema of `{role}`"), &schema)?;
            parameters.insert(role, schema);
        }
        let mut capabilities = Vec::new();
        for (class, request, reason) in self.capabilities {
            let request = json(format!("the request for `{class}`"), &request)?;
            capabilities.push(Request { class, request, reason });
        }
        Ok(Description {
            name: self.name,
            version: self.version,
            summary: self.summary,
            parameters,
            capabilities,
            provides: self.provides,
            annotations: self.annotations.into_iter().collect(),
        })
    }
}
