//! `sources`: what URLs stand for, as far as the grants name them.

use cooperage_solve::{Error, SourceRequest, SourceVersion};
use serde_json::json;

use crate::bindings::imports::cooperage::plugin::sources;
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
        if !self.grants.scopes().sources.allows(&request.url) {
            let shown = request.shown();
            return Err(self.denied(&format!("reach {shown}"), "sources", &json!([shown])));
        }
        let parsed: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(&request.parameters);
        match parsed {
            Ok(_) => Ok(request),
            Err(error) => Err(Error::invalid(format!("the parameters of a source are no JSON object: {error}"))),
        }
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
