//! The role `registry`: a place that keeps images, as the orchestration in `crate::registries` sees it.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use cooperage_solve::{Error, ErrorKind, Step};
use cooperage_store::{Descriptor, Digest};
use futures::future::BoxFuture;
use wasmtime::Store;

use crate::bindings::registry::RegistryPlugin as Instance;
use crate::bindings::registry::exports::cooperage::plugin::registry as wit_registry;
use crate::bindings::wit;
use crate::call::{CallContext, CallError, Special, call};
use crate::convert::{descriptor_from_wit, descriptor_to_wit};
use crate::http::TlsTrouble;
use crate::instance::State;
use crate::plugin::Plugin;
use crate::registries::{BlobOutcome, RegistryBackend, Repository};

/// A registry plugin with the context of its calls.
#[derive(Clone)]
pub struct RegistryPlugin {
    plugin: Plugin,
    context: CallContext,
}

/// One function of the role. It is called again when the first call shows that the registry speaks TLS.
type Function<R> = Arc<
    dyn for<'a> Fn(
            &'a Instance,
            &'a mut Store<State>,
            &'a wit_registry::Repository,
        ) -> BoxFuture<'a, wasmtime::Result<Result<R, wit::Error>>>
        + Send
        + Sync,
>;

impl RegistryPlugin {
    /// Calls go to `plugin` with what `context` has; the step of each call replaces the context's.
    ///
    /// # Errors
    /// [`CallError::Role`] if the plugin is no registry.
    pub fn new(plugin: Plugin, context: CallContext) -> Result<Self, CallError> {
        if plugin.pres().registry.is_none() {
            return Err(CallError::Role { plugin: plugin.name().to_owned(), role: "registry" });
        }
        Ok(Self { plugin, context })
    }

    /// A registry that is asked without TLS (one of this machine, unless the user says otherwise) and speaks TLS has
    /// understood nothing of a call, so the call is made again with TLS, and later ones begin with it.
    async fn call<R: Send + 'static>(&self, at: &Repository, step: &Step, function: Function<R>) -> Result<R, Error> {
        let http = &self.plugin.engine().config().http;
        let secured = || Repository { plain_http: false, ..at.clone() };
        if at.plain_http && http.is_only_tls(&at.host) {
            return self.call_once(&secured(), step, function).await;
        }
        let result = self.call_once(at, step, function.clone()).await;
        match result {
            Err(_) if at.plain_http && http.is_only_tls(&at.host) => self.call_once(&secured(), step, function).await,
            result => result,
        }
    }

    async fn call_once<R: Send + 'static>(
        &self,
        at: &Repository,
        step: &Step,
        function: Function<R>,
    ) -> Result<R, Error> {
        let role = || CallError::Role { plugin: self.plugin.name().to_owned(), role: "registry" };
        let pre = self.plugin.pres().registry.clone().ok_or_else(role)?;
        let context = CallContext { reporter: step.reporter().clone(), step: Some(step.id()), ..self.context.clone() };
        let tls_trouble = Arc::<OnceLock<TlsTrouble>>::default();
        let special = Special {
            registry: Some((at.host.clone(), at.plain_http)),
            tls_trouble: tls_trouble.clone(),
            sensitive: at.credential.iter().map(|credential| credential.password.clone()).collect(),
            ..Special::default()
        };
        let repository = repository_to_wit(at);
        let result = call(
            (self.plugin.engine(), self.plugin.name()),
            &context,
            special,
            Box::new(move |store| {
                Box::pin(async move {
                    let instance = pre.instantiate_async(&mut *store).await?;
                    function(&instance, store, &repository).await
                })
            }),
        );
        result.await.map_err(|error| match (Error::from(error), tls_trouble.get()) {
            // To a guest a handshake that failed looks like a refusal; here it is known to be none.
            (error, Some(trouble)) if error.kind == ErrorKind::Denied => {
                Error { kind: ErrorKind::Unavailable, hint: trouble.hint.clone().or(error.hint), ..error }
            }
            (error, _) => error,
        })
    }

    fn descriptor(&self, descriptor: wit::Descriptor) -> Result<Descriptor, Error> {
        descriptor_from_wit(descriptor).map_err(|error| {
            CallError::Contract { plugin: self.plugin.name().to_owned(), message: error.to_string() }.into()
        })
    }
}

fn repository_to_wit(at: &Repository) -> wit_registry::Repository {
    wit_registry::Repository {
        host: at.host.clone(),
        name: at.name.clone(),
        plain_http: at.plain_http,
        credential: at.credential.as_ref().map(|credential| wit_registry::Credential {
            username: credential.username.clone(),
            password: credential.password.clone(),
            identity_token: credential.identity_token,
        }),
        options: at.options.clone(),
    }
}

#[async_trait]
impl RegistryBackend for RegistryPlugin {
    async fn resolve(&self, at: &Repository, reference: &str, step: &Step) -> Result<Descriptor, Error> {
        let reference = reference.to_owned();
        let found = self.call(
            at,
            step,
            Arc::new(move |plugin, store, at| {
                let reference = reference.clone();
                Box::pin(async move { plugin.cooperage_plugin_registry().call_resolve(store, at, &reference).await })
            }),
        );
        self.descriptor(found.await?)
    }

    async fn get_manifest(&self, at: &Repository, reference: &str, step: &Step) -> Result<Descriptor, Error> {
        let reference = reference.to_owned();
        let found = self.call(
            at,
            step,
            Arc::new(move |plugin, store, at| {
                let reference = reference.clone();
                Box::pin(
                    async move { plugin.cooperage_plugin_registry().call_get_manifest(store, at, &reference).await },
                )
            }),
        );
        self.descriptor(found.await?)
    }

    async fn put_manifest(
        &self,
        at: &Repository,
        manifest: &Descriptor,
        tag: Option<&str>,
        step: &Step,
    ) -> Result<(), Error> {
        let (manifest, tag) = (descriptor_to_wit(manifest), tag.map(str::to_owned));
        let sent = self.call(
            at,
            step,
            Arc::new(move |plugin, store, at| {
                let (manifest, tag) = (manifest.clone(), tag.clone());
                Box::pin(async move {
                    plugin.cooperage_plugin_registry().call_put_manifest(store, at, &manifest, tag.as_deref()).await
                })
            }),
        );
        sent.await
    }

    async fn has_blob(&self, at: &Repository, digest: &Digest, step: &Step) -> Result<bool, Error> {
        let digest = digest.to_string();
        let found = self.call(
            at,
            step,
            Arc::new(move |plugin, store, at| {
                let digest = digest.clone();
                Box::pin(async move { plugin.cooperage_plugin_registry().call_has_blob(store, at, &digest).await })
            }),
        );
        found.await
    }

    async fn get_blob(&self, at: &Repository, blob: &Descriptor, step: &Step) -> Result<(), Error> {
        let blob = descriptor_to_wit(blob);
        let got = self.call(
            at,
            step,
            Arc::new(move |plugin, store, at| {
                let blob = blob.clone();
                Box::pin(async move { plugin.cooperage_plugin_registry().call_get_blob(store, at, &blob).await })
            }),
        );
        got.await
    }

    async fn put_blob(
        &self,
        at: &Repository,
        blob: &Descriptor,
        mount_from: &[String],
        step: &Step,
    ) -> Result<BlobOutcome, Error> {
        let (blob, mount_from) = (descriptor_to_wit(blob), mount_from.to_vec());
        let put = self.call(
            at,
            step,
            Arc::new(move |plugin, store, at| {
                let (blob, mount_from) = (blob.clone(), mount_from.clone());
                Box::pin(async move {
                    plugin.cooperage_plugin_registry().call_put_blob(store, at, &blob, &mount_from).await
                })
            }),
        );
        let word: String = put.await?;
        BlobOutcome::parse(&word).ok_or_else(|| {
            let message = format!("a blob got there by `{word}`, which is none of exists, mounted, uploaded");
            CallError::Contract { plugin: self.plugin.name().to_owned(), message }.into()
        })
    }

    async fn tags(&self, at: &Repository, step: &Step) -> Result<Vec<String>, Error> {
        let tags = self.call(
            at,
            step,
            Arc::new(move |plugin, store, at| {
                Box::pin(async move { plugin.cooperage_plugin_registry().call_tags(store, at).await })
            }),
        );
        tags.await
    }

    async fn referrers(&self, at: &Repository, digest: &Digest, step: &Step) -> Result<Vec<Descriptor>, Error> {
        let digest = digest.to_string();
        let found = self.call(
            at,
            step,
            Arc::new(move |plugin, store, at| {
                let digest = digest.clone();
                Box::pin(async move { plugin.cooperage_plugin_registry().call_referrers(store, at, &digest).await })
            }),
        );
        let found: Vec<wit::Descriptor> = found.await?;
        found.into_iter().map(|descriptor| self.descriptor(descriptor)).collect()
    }

    async fn delete(&self, at: &Repository, reference: &str, step: &Step) -> Result<(), Error> {
        let reference = reference.to_owned();
        let deleted = self.call(
            at,
            step,
            Arc::new(move |plugin, store, at| {
                let reference = reference.clone();
                Box::pin(async move { plugin.cooperage_plugin_registry().call_delete(store, at, &reference).await })
            }),
        );
        deleted.await
    }

    async fn login(&self, at: &Repository, step: &Step) -> Result<(), Error> {
        let proved = self.call(
            at,
            step,
            Arc::new(move |plugin, store, at| {
                Box::pin(async move { plugin.cooperage_plugin_registry().call_login(store, at).await })
            }),
        );
        proved.await
    }
}
