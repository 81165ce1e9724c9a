//! Brings components and asks the policies whether they may be used: before anything of them is compiled.

use std::path::PathBuf;

use cooperage_engine::artifact::{Artifact, Bytes, PluginReference, RegistryReference};
use cooperage_engine::trust::{Decision, Policies, Policy, Refusal, Signer};

use super::{Plugins, artifact_failure};
use crate::app::App;
use crate::error::{Exit, Failure};
use crate::output::directory_of;

/// A component that may be loaded.
pub(crate) struct Obtained {
    pub(crate) artifact: Artifact,
    /// Who signed it, if that is what allows it.
    pub(crate) signer: Option<Signer>,
}

/// The policies of the machine and of the user, in the order in which they count.
pub(super) fn trust(app: &App) -> [(Policy, PathBuf); 2] {
    [(app.policy.trust.clone(), app.policy_path.clone()), (app.config.trust.clone(), app.config_path.clone())]
}

impl Plugins {
    /// The component behind a name or reference, whoever made it.
    pub(crate) async fn fetch(&self, reference: &str, refresh: bool) -> Result<Artifact, Failure> {
        self.sources.load(&self.exact(reference)?, refresh).await.map_err(artifact_failure)
    }

    /// The bytes of a component.
    pub(crate) async fn component(&self, artifact: &Artifact) -> Result<Bytes, Failure> {
        self.sources.component(artifact).await.map_err(artifact_failure)
    }

    /// The component behind a name or reference, if it is on this machine.
    pub(crate) async fn at_hand(&self, reference: &str) -> Result<Option<Artifact>, Failure> {
        match self.exact(reference)? {
            PluginReference::Registry(reference) => Ok(self.sources.at_hand(&reference)),
            other => self.sources.load(&other, false).await.map(Some).map_err(artifact_failure),
        }
    }

    /// Where a name or reference leads: to the locked bytes, if they are locked.
    fn exact(&self, reference: &str) -> Result<PluginReference, Failure> {
        match self.locked(reference) {
            Some((lock, config)) => lock.reference(reference, &config),
            None => self.written(reference),
        }
    }

    /// What the user wrote for a plugin: the digest in it is the user's own.
    fn written(&self, reference: &str) -> Result<PluginReference, Failure> {
        let from = self.named.get(reference).map_or(reference, |plugin| &plugin.from);
        from.parse().map_err(artifact_failure)
    }

    /// The component behind a name or reference, if the policies let it be used.
    pub(crate) async fn obtain(&self, reference: &str, refresh: bool) -> Result<Obtained, Failure> {
        let artifact = self.fetch(reference, refresh).await?;
        match self.judge(None, reference, &artifact).await? {
            Decision::Allowed { signer } => Ok(Obtained { artifact, signer }),
            Decision::Refused(refusal) => {
                let [(_, machine), (_, user)] = &self.trust;
                let files = format!("the policy is `trust` in {} and {}", machine.display(), user.display());
                Err(refused(reference, &refusal).cause(files))
            }
        }
    }

    /// What the policies say of a component that was fetched, for whoever only wants to know.
    pub(crate) async fn judged(&self, reference: &str, artifact: &Artifact) -> Result<Decision, Failure> {
        self.judge(None, reference, artifact).await
    }

    /// The component that a reference stands for now, if other policies let it be used.
    pub(crate) async fn obtain_by(&self, policies: &Policies, reference: &str) -> Result<Obtained, Failure> {
        let artifact = self.fetch(reference, true).await?;
        match self.judge(Some(policies), reference, &artifact).await? {
            Decision::Allowed { signer } => Ok(Obtained { artifact, signer }),
            Decision::Refused(refusal) => Err(refused(reference, &refusal)),
        }
    }

    /// What the policies say of a component that was fetched, or others in their place. Files and what is bundled are
    /// the user's own choice.
    async fn judge(
        &self,
        others: Option<&Policies>,
        reference: &str,
        artifact: &Artifact,
    ) -> Result<Decision, Failure> {
        let (PluginReference::Registry(written), Some(manifest)) = (self.written(reference)?, artifact.manifest) else {
            return Ok(Decision::Allowed { signer: None });
        };
        let policies = match others {
            Some(others) => others,
            None => self.policies()?,
        };
        let pinned = written.digest.is_some();
        let exact = RegistryReference { digest: Some(manifest), ..written };
        let judged = self.sources.judge(policies, &exact, pinned, &manifest).await;
        judged.map_err(|error| artifact_failure(error).context(format!("who signed {exact} cannot be found out")))
    }

    /// The policies, read when first needed.
    fn policies(&self) -> Result<&Policies, Failure> {
        if let Some(policies) = self.policies.get() {
            return Ok(policies);
        }
        let ready = |(policy, file): &(Policy, PathBuf)| {
            let ready = policy.clone().ready(|path| std::fs::read(directory_of(file).join(path)));
            ready.map_err(|error| Failure::usage(format!("`trust` in {} cannot be used: {error}", file.display())))
        };
        let ready = self.trust.iter().map(ready).collect::<Result<_, _>>()?;
        Ok(self.policies.get_or_init(|| Policies::new(ready)))
    }
}

/// A plugin that the policies do not let in.
fn refused(name: &str, refusal: &Refusal) -> Failure {
    let message = format!("the plugin {name} is refused: {}", refusal.found);
    let failure = Failure::new(Exit::Refused, message).cause(format!("wanted is {}", refusal.wanted));
    failure.hint(refusal.advice.join("; or "))
}
