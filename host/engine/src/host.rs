//! The host's side of every interface that a plugin may import, one file each, and the one place that links them.
//! Thin on purpose: checks the grant, converts, calls `cooperage-solve`, `cooperage-store` or a port.

pub(crate) mod connections;
pub(crate) mod content;
pub(crate) mod events;
pub(crate) mod images;
pub(crate) mod operation;
pub(crate) mod registries;
pub(crate) mod secrets;
pub(crate) mod sources;
pub(crate) mod trees;

use wasmtime::component::{HasSelf, Linker, Resource, ResourceTableError};

use crate::bindings::imports::cooperage::plugin;
use crate::bindings::wit;
use crate::grants::{Quota, Side, allow_line};
use crate::instance::{Answer, State};
use crate::limits::{Amount, Limit, LimitHit};
use crate::state::Full;

/// Links all of `cooperage:plugin@0.1.0`. What it takes of WASI is linked with the rest of WASI.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type Own = HasSelf<State>;
    plugin::types::add_to_linker::<_, Own>(linker, |state| state)?;
    plugin::events::add_to_linker::<_, Own>(linker, |state| state)?;
    plugin::secrets::add_to_linker::<_, Own>(linker, |state| state)?;
    plugin::content::add_to_linker::<_, Own>(linker, |state| state)?;
    plugin::images::add_to_linker::<_, Own>(linker, |state| state)?;
    plugin::trees::add_to_linker::<_, Own>(linker, |state| state)?;
    plugin::registries::add_to_linker::<_, Own>(linker, |state| state)?;
    plugin::sources::add_to_linker::<_, Own>(linker, |state| state)?;
    plugin::connections::add_to_linker::<_, Own>(linker, |state| state)?;
    plugin::state::add_to_linker::<_, Own>(linker, |state| state)
}

impl wit::Host for State {}

impl plugin::state::Host for State {
    async fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        if let Err(error) = self.may_keep_state() {
            return Ok(Err(error));
        }
        let kept = self.kept.clone();
        answer(blocking(move || kept.get(&key)).await)
    }

    async fn set(&mut self, key: String, value: Vec<u8>, keep_seconds: Option<u32>) -> Answer<()> {
        let quota = match self.may_keep_state() {
            Ok(quota) => quota,
            Err(error) => return Ok(Err(error)),
        };
        let kept = self.kept.clone();
        let keep = keep_seconds.map(|seconds| std::time::Duration::from_secs(seconds.into()));
        let set = blocking(move || match kept.set_within(&key, &value, keep, quota) {
            Err(Full::Other(error)) => Err(error),
            other => Ok(other),
        });
        answer(set.await.and_then(|set| set.map_err(|full| self.state_full(full))))
    }
}

impl State {
    fn may_keep_state(&self) -> Result<Quota, wit::Error> {
        if let Some(quota) = self.grants.scopes().state.quota() {
            return self.stand_ins.pass("state").map(|()| quota).map_err(crate::convert::error_to_wit);
        }
        Err(crate::convert::error_to_wit(self.denied("keep values from call to call", "state", &true.into())))
    }

    /// The plugin has kept all that it may; says who would have to let it keep more.
    fn state_full(&self, full: Full) -> cooperage_solve::Error {
        let state = &self.grants.scopes().state;
        let (sides, more) = match &full {
            Full::Bytes(most) => {
                let twice = Amount::Size(most.saturating_mul(2)).to_string();
                (state.tightest(|quota| quota.bytes), serde_json::json!({ "quota": twice }))
            }
            Full::Entries(most) => {
                (state.tightest(|quota| quota.entries), serde_json::json!({ "entries": most.saturating_mul(2) }))
            }
            Full::Other(_) => (Vec::new(), serde_json::Value::Null),
        };
        let who = |side| match side {
            Side::Request => format!("in the plugin's description `state` asks for {more}"),
            Side::Allow => format!("the flow file has `{}`", allow_line(&self.plugin, "state", &more)),
            Side::Policy => {
                format!("{} permits {more}", self.grants.scopes().restricted("state").unwrap_or_default())
            }
        };
        let needed: Vec<String> = sides.into_iter().map(who).collect();
        cooperage_solve::Error::from(full).hint(format!("it may keep more once {}", needed.join(", and ")))
    }

    /// Puts a resource into the call's table; more than the limit ends the call.
    pub(crate) fn push<T: Send + 'static>(&mut self, entry: T) -> wasmtime::Result<Resource<T>> {
        let limit = self.limits.handles;
        self.table.push(entry).map_err(|error| match error {
            ResourceTableError::Full => {
                LimitHit::error(Limit::Handles, format!("it holds more than {limit} resources at a time"))
            }
            other => other.into(),
        })
    }
}

/// A result of ours as one for the guest.
pub(crate) fn answer<T>(result: Result<T, cooperage_solve::Error>) -> Answer<T> {
    Ok(result.map_err(crate::convert::error_to_wit))
}

/// Runs what waits for the disk off the threads that run guests.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, cooperage_solve::Error> + Send + 'static,
) -> Result<T, cooperage_solve::Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => {
            Err(cooperage_solve::Error::internal("a worker thread died").hint("this is a defect; please report it"))
        }
    }
}

/// Runs an evaluation on a task of its own: host functions are polled on the guest's stack, which is small, and an
/// evaluation goes as deep as the tree. Ends with the call that waits for it.
pub(crate) async fn elsewhere<T: Send + 'static>(
    work: impl Future<Output = Result<T, cooperage_solve::Error>> + Send + 'static,
) -> Result<T, cooperage_solve::Error> {
    struct Abort(tokio::task::AbortHandle);
    impl Drop for Abort {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let task = tokio::spawn(work);
    let _abort_with_us = Abort(task.abort_handle());
    match task.await {
        Ok(result) => result,
        Err(_) => {
            Err(cooperage_solve::Error::internal("an evaluation died").hint("this is a defect; please report it"))
        }
    }
}
