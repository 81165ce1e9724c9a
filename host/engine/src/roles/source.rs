//! The role `source`: files behind URLs.

use cooperage_solve::{SourceRequest, SourceVersion, Tree};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use wasmtime::Store;

use crate::bindings::source::SourcePlugin as Instance;
use crate::bindings::source::exports::cooperage::plugin::source as wit_source;
use crate::bindings::wit;
use crate::call::{CallContext, CallError, Special, call};
use crate::host::sources::{version_from_wit, version_to_wit};
use crate::host::trees::GuestTree;
use crate::instance::State;
use crate::plugin::Plugin;

/// One function of the role.
type Function<R> = Box<
    dyn for<'a> FnOnce(
            &'a Instance,
            &'a mut Store<State>,
            &'a wit_source::Request,
        ) -> BoxFuture<'a, wasmtime::Result<Result<R, wit::Error>>>
        + Send,
>;

impl Plugin {
    /// Finds out what a URL stands for.
    ///
    /// # Errors
    /// [`CallError`] tells wrong parameters, the plugin's own failure, a crash and a limit apart.
    pub async fn resolve_source(
        &self,
        context: &CallContext,
        request: &SourceRequest,
    ) -> Result<SourceVersion, CallError> {
        let resolve: Function<wit_source::Version> = Box::new(|plugin, store, request| {
            Box::pin(async move { plugin.cooperage_plugin_source().call_resolve(store, request).await })
        });
        Ok(version_from_wit(self.source(context, request, resolve).await?))
    }

    /// Brings the files of a version that [`resolve_source`](Self::resolve_source) gave.
    ///
    /// # Errors
    /// As there.
    pub async fn fetch_source(
        &self,
        context: &CallContext,
        request: &SourceRequest,
        version: &SourceVersion,
    ) -> Result<Tree, CallError> {
        let version = version_to_wit(version.clone());
        let fetch: Function<GuestTree> = Box::new(move |plugin, store, request| {
            Box::pin(async move {
                match plugin.cooperage_plugin_source().call_fetch(&mut *store, request, &version).await? {
                    Ok(tree) => Ok(Ok(store.data_mut().table.delete(tree)?)),
                    Err(error) => Ok(Err(error)),
                }
            })
        });
        self.source(context, request, fetch).await?.into_tree().map_err(CallError::Failed)
    }

    async fn source<R: Send + 'static>(
        &self,
        context: &CallContext,
        request: &SourceRequest,
        function: Function<R>,
    ) -> Result<R, CallError> {
        let role = || CallError::Role { plugin: self.name().to_owned(), role: "source" };
        let pre = self.pres().source.clone().ok_or_else(role)?;
        let parameters: Value = serde_json::from_str(&request.parameters).unwrap_or(Value::Null);
        let complete = self.complete_parameters("source", &parameters)?.to_string();
        // The URL is among what the user names: it says where the plugin may go.
        let special = Special {
            parameters: json!({ "url": request.url.split('#').next().unwrap_or_default(), "parameters": parameters }),
            ..Special::default()
        };
        let request = wit_source::Request { url: request.url.clone(), parameters: complete };
        call(
            (self.engine(), self.name()),
            context,
            special,
            Box::new(move |store| {
                Box::pin(async move {
                    let instance = pre.instantiate_async(&mut *store).await?;
                    function(&instance, store, &request).await
                })
            }),
        )
        .await
    }
}
