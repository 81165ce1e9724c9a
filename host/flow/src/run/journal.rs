//! What lets a later run go on after a failure: a key per step, and the port that keeps what succeeded.
//!
//! A step is not done again if its key is that of the entry that was kept, and nothing that it waits for was done
//! again. The key has what the step is and what it works on; an entry has a stamp that no other has, and the key of a
//! step has the stamps of those that it waits for. So a step is done again after one that was, also if everything was
//! killed between the two.

use super::ports::{Runner, StepCall, StepOutputs};
use crate::plan::StepId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

/// Part of every key: entries of another form are not understood.
const FORM: &str = "cooperage step 1";

/// What is left of a step that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// [`StepId::key`] of the step.
    pub step: String,
    /// What the step was and worked on, as a SHA-256.
    pub key: String,
    /// No other entry has the same.
    pub stamp: String,
    /// The outputs.
    pub values: Map<String, Value>,
    /// What else there is of the result, in a form that only its runner knows.
    pub saved: Value,
}

/// Port: keeps entries for a later run. Calls may block.
pub trait Journal: Send + Sync + 'static {
    /// The entry of a step.
    fn find(&self, step: &StepId) -> Option<Entry>;

    /// Keeps an entry in place of an older one of the same step. It must last when this returns; one that must not be
    /// kept, because of a secret in it, is left out without an error.
    ///
    /// # Errors
    /// Why it cannot be kept, for the user.
    fn keep(&self, step: &StepId, entry: &Entry) -> Result<(), String>;

    /// Drops the entry of a step that is about to be done.
    ///
    /// # Errors
    /// Why it cannot be dropped, for the user.
    fn forget(&self, step: &StepId) -> Result<(), String>;
}

/// What a step has to do with the journal.
pub(super) struct Keeping {
    pub journal: Arc<dyn Journal>,
    /// What each step that it waits for was: the stamp of its entry, or how it ended.
    pub before: Vec<String>,
    /// Whether none of them was done in this run.
    pub unchanged: bool,
}

/// Whether a step has to be done.
pub(super) enum Recalled {
    /// It was done: its outputs, and the stamp of its entry.
    Done(StepOutputs, String),
    /// It has to be done, and can be kept under this key; None if it cannot.
    Open(Option<String>),
}

/// A stamp that no other step has, in no run.
pub(super) fn stamp() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

impl Keeping {
    /// Looks for what an earlier run left; what does not fit is dropped.
    pub async fn recall(&self, call: &StepCall, runner: &dyn Runner) -> Recalled {
        let fingerprint = runner.fingerprint(call).await;
        let key = fingerprint.map(|fingerprint| key(call, &fingerprint, &self.before));
        if let Some(key) = key.as_ref().filter(|_| self.unchanged)
            && let Some(entry) = self.blocking(call, |journal, id| journal.find(id)).await
            && entry.key == *key
        {
            // Whoever cleared the store took the tree with it.
            if let Ok(tree) = runner.restore(call, &entry.saved).await {
                return Recalled::Done(StepOutputs { values: entry.values, tree }, entry.stamp);
            }
        }
        Recalled::Open(key)
    }

    /// Drops what an earlier run left of a step that is about to be done.
    pub async fn forget(&self, call: &StepCall) -> Result<(), String> {
        self.blocking(call, |journal, id| journal.forget(id)).await
    }

    /// Keeps what succeeded under a stamp, if it can be kept.
    pub async fn keep(
        &self,
        call: &StepCall,
        runner: &dyn Runner,
        key: String,
        stamp: String,
        outputs: &StepOutputs,
    ) -> Result<(), String> {
        let Some(saved) = runner.save(call, outputs).await else { return Ok(()) };
        let entry = Entry { step: call.id.key(), key, stamp, values: outputs.values.clone(), saved };
        self.blocking(call, move |journal, id| journal.keep(id, &entry)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: &StepCall,
        work: impl FnOnce(&dyn Journal, &StepId) -> T + Send + 'static,
    ) -> T {
        let (journal, id) = (self.journal.clone(), call.id.clone());
        match tokio::task::spawn_blocking(move || work(journal.as_ref(), &id)).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// Each part framed by its length, so that no two lists of parts look the same.
fn key(call: &StepCall, fingerprint: &str, before: &[String]) -> String {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    part(FORM);
    part(&call.id.key());
    part(&call.uses);
    part(&call.parameters.to_string());
    part(&call.secrets.len().to_string());
    for secret in &call.secrets {
        part(&secret.pointer);
        part(&secret.name);
    }
    part(&call.inputs.len().to_string());
    call.inputs.iter().for_each(|(name, _)| part(name));
    part(if call.input.is_some() { "in" } else { "" });
    part(fingerprint);
    before.iter().for_each(|text| part(text));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretRef;
    use serde_json::json;

    fn call(parameters: Value) -> StepCall {
        let id = StepId { image: None, step: "a".into(), instance: None };
        StepCall::for_test(id, parameters)
    }

    #[test]
    fn every_part_counts() {
        let before = ["x".to_string()];
        let plain = key(&call(json!({ "a": 1 })), "f", &before);
        let secret = SecretRef { pointer: "/a".into(), name: "N".into() };
        let others = [
            key(&call(json!({ "a": 2 })), "f", &before),
            key(&call(json!({ "a": 1 })), "g", &before),
            key(&call(json!({ "a": 1 })), "f", &[]),
            key(&call(json!({ "a": 1 })), "fx", &[]),
            key(&StepCall { uses: "other".into(), ..call(json!({ "a": 1 })) }, "f", &before),
            key(&StepCall { secrets: vec![secret], ..call(json!({ "a": 1 })) }, "f", &before),
            key(&StepCall { input: Some(Arc::new(1)), ..call(json!({ "a": 1 })) }, "f", &before),
            key(&StepCall { inputs: vec![("b".into(), Arc::new(1))], ..call(json!({ "a": 1 })) }, "f", &before),
        ];
        assert!(others.iter().all(|other| *other != plain));
        assert_eq!(plain, key(&call(json!({ "a": 1 })), "f", &before));
        assert_eq!(plain.len(), 64);
    }
}
