//! `registries`: images moved through the user's routing, as far as the grants name them.

use cooperage_solve::{Error, ErrorKind, Outcome, Step};
use cooperage_store::Descriptor;
use serde_json::json;
use wasmtime::component::Resource;

use crate::bindings::imports::cooperage::plugin::registries;
use crate::bindings::wit;
use crate::convert::{descriptor_to_wit, platform_from_wit};
use crate::grants::Action;
use crate::host::answer;
use crate::host::content::GuestArchive;
use crate::instance::{Answer, State};
use crate::output::visible;
use crate::ports::Registries;

impl registries::Host for State {
    async fn push(
        &mut self,
        image: String,
        reference: String,
        options: Vec<(String, String)>,
    ) -> Answer<wit::Descriptor> {
        let (port, step) = match self.transfer(Action::Push, &reference, &options) {
            Ok(ready) => ready,
            Err(error) => return answer(Err(error)),
        };
        let pushed = port.push(&image, &reference, &step).await;
        answer(ended(step, pushed))
    }

    async fn pull(
        &mut self,
        reference: String,
        platform: Option<wit::Platform>,
        options: Vec<(String, String)>,
    ) -> Answer<wit::Descriptor> {
        let (port, step) = match self.transfer(Action::Pull, &reference, &options) {
            Ok(ready) => ready,
            Err(error) => return answer(Err(error)),
        };
        let platform = platform.map(platform_from_wit);
        let pulled = port.pull(&reference, platform.as_ref(), &step).await;
        answer(ended(step, pulled))
    }

    async fn save(&mut self, image: String, format: String, name: Option<String>) -> Answer<Resource<GuestArchive>> {
        let docker = match format.as_str() {
            "docker" => true,
            "oci" => false,
            other => {
                let message = format!("there is no archive format `{other}`");
                return answer(Err(Error::new(ErrorKind::Unsupported, message).hint("there are oci and docker")));
            }
        };
        let saved = match self.may_archive().and_then(|()| self.may_move(Action::Pull, &image)) {
            Ok(port) => port.save(&image, docker, name.as_deref()).await,
            Err(error) => Err(error),
        };
        match saved {
            Ok(archive) => Ok(Ok(self.archive(archive)?)),
            Err(error) => answer(Err(error)),
        }
    }

    async fn resolve(&mut self, reference: String) -> Answer<wit::Descriptor> {
        let resolved = match self.may_move(Action::Resolve, &reference) {
            Ok(port) => port.resolve(&reference).await,
            Err(error) => Err(error),
        };
        answer(resolved.map(|descriptor| descriptor_to_wit(&descriptor)))
    }
}

impl State {
    fn may_move(&self, action: Action, reference: &str) -> Result<std::sync::Arc<dyn Registries>, Error> {
        if !self.grants.scopes().registries.allows(action, reference, &self.named) {
            let rule = format!("{} {reference}", action.word());
            return Err(self.denied(&rule, "registries", &json!([rule])));
        }
        self.stand_ins.pass("registries")?;
        let message = "this call has no registries";
        self.registries.clone().ok_or_else(|| Error::new(ErrorKind::Unsupported, message))
    }

    fn transfer(
        &self,
        action: Action,
        reference: &str,
        options: &[(String, String)],
    ) -> Result<(std::sync::Arc<dyn Registries>, Step), Error> {
        let port = self.may_move(action, reference)?;
        if let Some((name, _)) = options.first() {
            return Err(Error::new(ErrorKind::Unsupported, format!("{} has no option `{name}`", action.word())));
        }
        let name = format!("{} {}", action.word(), visible(crate::output::prefix(reference, 1024)));
        Ok((port, self.reporter.step(self.step, name)))
    }
}

fn ended(step: Step, result: Result<Descriptor, Error>) -> Result<wit::Descriptor, Error> {
    match &result {
        Ok(_) => step.finish(Outcome::Done),
        Err(error) => step.finish(Outcome::Failed(error.to_string())),
    }
    result.map(|descriptor| descriptor_to_wit(&descriptor))
}
