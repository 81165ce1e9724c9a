//! The service itself: what it is made of and what its parts share. Decides which plugin is asked, with which
//! credential; moves nothing itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cooperage_solve::{Error, ErrorKind, Reporter, Step};
use cooperage_store::{Descriptor, Digest, Reference, Store};
use tokio::sync::Semaphore;

use super::backend::{Backends, Repository};
use super::fetch::Flights;
use super::route::{Destination, HUB, HUB_NAME, Routing};
use super::site::Site;
use crate::credentials::{Credential, Credentials};

/// When a registry is asked for an image that is at hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Only for what is not at hand.
    #[default]
    Missing,
    /// Each time, what the name stands for now.
    Always,
    /// Never.
    Never,
}

/// Transfers at a time unless the user says otherwise; registries limit connections per client.
pub const PARALLEL_TRANSFERS: usize = 6;

/// What the service needs.
pub struct ServiceOptions {
    /// Where images lie.
    pub store: Store,
    /// Which registry has what.
    pub routing: Routing,
    /// The registry plugins.
    pub backends: Arc<dyn Backends>,
    /// The user's logins; none is anonymous everywhere.
    pub credentials: Option<Arc<Credentials>>,
    /// Is told of transfers that belong to no step.
    pub reporter: Reporter,
    /// When registries are asked.
    pub policy: PullPolicy,
    /// Blobs on their way at a time, at least one.
    pub parallel: usize,
}

/// Images from and to registries, through the user's routing and registry plugins. Clones share everything.
#[derive(Clone)]
pub struct RegistryService(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub store: Store,
    pub routing: Routing,
    backends: Arc<dyn Backends>,
    credentials: Option<Arc<Credentials>>,
    known: Mutex<HashMap<(String, String), Option<Credential>>>,
    pub reporter: Reporter,
    pub policy: PullPolicy,
    pub parallel: usize,
    pub transfers: Semaphore,
    pub flights: Flights,
}

impl RegistryService {
    /// Asks nobody anything yet.
    pub fn new(options: ServiceOptions) -> Self {
        let parallel = options.parallel.max(1);
        Self(Arc::new(Inner {
            store: options.store,
            routing: options.routing,
            backends: options.backends,
            credentials: options.credentials,
            known: Mutex::default(),
            reporter: options.reporter,
            policy: options.policy,
            parallel,
            transfers: Semaphore::new(parallel),
            flights: Flights::default(),
        }))
    }

    /// The routing table.
    pub fn routing(&self) -> &Routing {
        &self.0.routing
    }

    /// The tags of the repository of `name`, sorted.
    pub async fn tags(&self, name: &str, step: &Step) -> Result<Vec<String>, Error> {
        let name: Reference = name.parse()?;
        let site = self.0.pull_site(&name).await?;
        site.backend.tags(&site.at, step).await.map_err(|e| explain(e, &site.at, "listing the tags", &name))
    }

    /// Manifests that refer to a manifest of the repository of `name`.
    pub async fn referrers(&self, name: &str, digest: &Digest, step: &Step) -> Result<Vec<Descriptor>, Error> {
        let name: Reference = name.parse()?;
        let site = self.0.pull_site(&name).await?;
        site.backend
            .referrers(&site.at, digest, step)
            .await
            .map_err(|e| explain(e, &site.at, "listing referrers", &name))
    }

    /// Deletes a tag or digest at the registry that `name` is pushed to.
    pub async fn delete(&self, name: &str, step: &Step) -> Result<(), Error> {
        let name: Reference = name.parse()?;
        let site = self.0.push_site(&name).await?;
        site.backend
            .delete(&site.at, &name.identifier(), step)
            .await
            .map_err(|e| explain(e, &site.at, "deleting", &name))
    }

    /// Proves a credential against a registry, before it is stored.
    pub async fn login(&self, host: &str, credential: Credential, step: &Step) -> Result<(), Error> {
        let destination = self.0.routing.for_host(host);
        let backend = self.0.backends.backend(&destination.plugin).await?;
        let at = repository(destination, Some(credential));
        backend.login(&at, step).await.map_err(|e| e.context(format!("logging in to {host}")))
    }
}

impl Inner {
    pub async fn pull_site(&self, name: &Reference) -> Result<Site, Error> {
        self.site(self.routing.for_pull(name)).await
    }

    pub async fn push_site(&self, name: &Reference) -> Result<Site, Error> {
        self.site(self.routing.for_push(name)).await
    }

    async fn site(&self, destination: Destination) -> Result<Site, Error> {
        let backend = self.backends.backend(&destination.plugin).await?;
        let credential = self.credential(&destination).await?;
        Ok(Site { backend, at: repository(destination, credential) })
    }

    /// Asked once per repository: a helper is a process, and some ask the user each time.
    async fn credential(&self, destination: &Destination) -> Result<Option<Credential>, Error> {
        let Some(credentials) = self.credentials.clone() else { return Ok(None) };
        let key = (destination.host.clone(), destination.repository.clone());
        if let Some(known) = self.known.lock().expect("not poisoned").get(&key) {
            return Ok(known.clone());
        }
        let (host, repository) = key.clone();
        let found = tokio::task::spawn_blocking(move || credentials.get(&host, Some(&repository))).await;
        let found = found.map_err(|e| Error::internal(e.to_string()))?.map_err(|e| {
            Error::new(ErrorKind::Unauthenticated, e.to_string())
                .context(format!("looking for the credentials of {}", destination.host))
        })?;
        self.known.lock().expect("not poisoned").insert(key, found.clone());
        Ok(found)
    }

    /// Runs store calls where they may block.
    pub async fn with_store<T, F>(&self, f: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || f(&store)).await.map_err(|e| Error::internal(e.to_string()))?
    }
}

fn repository(destination: Destination, credential: Option<Credential>) -> Repository {
    Repository {
        host: destination.host,
        name: destination.repository,
        plain_http: destination.plain_http,
        credential,
        options: destination.options,
    }
}

/// Says what was being done, and what the user can do where the plugin did not.
pub(super) fn explain(error: Error, at: &Repository, action: &str, name: &Reference) -> Error {
    let host = if at.host == HUB { HUB_NAME } else { &at.host };
    let hint = match error.kind {
        _ if error.hint.is_some() => None,
        ErrorKind::Unauthenticated if at.credential.is_none() => {
            Some(format!("log in with `coop registry login {host}`"))
        }
        ErrorKind::Unauthenticated => Some(format!("the stored login of {host} is refused; log in again")),
        ErrorKind::Denied => Some(format!("check that your account may use {host}/{}", at.name)),
        ErrorKind::NotFound => Some(format!("check the name and the tag; {host}/{} was asked", at.name)),
        _ => None,
    };
    let error = error.context(format!("{action} {name}"));
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
