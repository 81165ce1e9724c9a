//! `sources`: what URLs stand for, as far as the grants name them.

use cooperage_solve::{Error, SourceRequest, SourceVersion};
use serde_json::{Value, json};

use crate::bindings::imports::cooperage::plugin::sources;
use crate::grants::Named;
use crate::host::{answer, elsewhere};
use crate::instance::{Answer, State};

impl sources::Host for State {
    async fn resolve(&mut self, url: String, parameters: String) -> Answer<sources::Version> {
        let (build, request) = (self.build(), self.source_request(url, parameters));
        let resolved = elsewhere(async move { build?.resolve_source(&request?).await });
        answer(resolved.await.map(version_to_wit))
    }
}

impl State {
    /// What a guest wants of a source, if the grants allow it.
    pub(crate) fn source_request(&self, url: String, parameters: String) -> Result<SourceRequest, Error> {
        let request = SourceRequest { url, parameters };
        if !self.grants.scopes().sources.allows(&request.url, &self.named) {
            let shown = request.shown();
            return Err(self.denied(&format!("reach {shown}"), "sources", &json!([shown])));
        }
        let parsed: Result<serde_json::Map<String, Value>, _> = serde_json::from_str(&request.parameters);
        let parsed = parsed
            .map_err(|error| Error::invalid(format!("the parameters of a source are no JSON object: {error}")))?;
        // The source plugin may read the secrets that its parameters name. Here a plugin names them, not the user: it
        // could have one that it may not see itself sent to a place of its choice.
        for name in &Named::in_parameters(&Value::Object(parsed)).secrets {
            if !self.grants.scopes().secrets.allows(name, &self.named) {
                return Err(self.denied(&format!("use the secret `{name}`"), "secrets", &json!([name])));
            }
        }
        Ok(request)
    }
}

pub(crate) fn version_to_wit(version: SourceVersion) -> sources::Version {
    let SourceVersion { value, immutable, annotations } = version;
    sources::Version { value, immutable, annotations }
}

pub(crate) fn version_from_wit(version: sources::Version) -> SourceVersion {
    let sources::Version { value, immutable, annotations } = version;
    SourceVersion { value, immutable, annotations }
}
