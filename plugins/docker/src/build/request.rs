//! The request that begins a build: what was asked for as parameters of `POST /build`.

use std::collections::BTreeMap;

use cooperage_sdk::{Error, Platform, Result};
use serde_json::Value;

use super::choose::Backend;
use super::parameters::Parameters;
use crate::credentials::Credentials;
use crate::engine::{Engine, Request};
use crate::names;

/// A build for one platform.
pub struct Plan<'a> {
    /// What the user set.
    pub parameters: &'a Parameters,
    /// Who builds.
    pub backend: Backend,
    /// Path of the Dockerfile in what is sent.
    pub dockerfile: &'a str,
    /// For what.
    pub platform: &'a Platform,
    /// Build arguments in order; the last of a name counts.
    pub arguments: &'a [(String, String)],
    /// Labels in order.
    pub labels: &'a [(String, String)],
    /// SOURCE_DATE_EPOCH.
    pub epoch: Option<u64>,
    /// Whether every step is run.
    pub no_cache: bool,
    /// Names for the image beside those that the user set.
    pub tags: &'a [String],
    /// For the registries that base images come from.
    pub credentials: &'a Credentials,
    /// Whether the builder is to look for newer base images.
    pub pull: bool,
    /// Names of the files in the context that hold the secrets, by their ids.
    pub secrets: &'a [(String, String)],
    /// The session over which the builder asks for the context.
    pub session: Option<&'a str>,
}

/// Makes the request, without the context.
///
/// # Errors
/// `invalid-input` for names that no engine takes.
pub fn request(engine: &Engine<'_>, plan: &Plan<'_>) -> Result<Request> {
    let Plan { parameters, backend, .. } = plan;
    let mut request = Request::post("/build").with("dockerfile", plan.dockerfile).with("rm", "1").with("forcerm", "1");
    match backend {
        Backend::Classic => request = request.with("version", "1"),
        Backend::BuildKit { .. } => request = request.with("version", "2"),
        // Steps are kept from build to build as Docker does it.
        Backend::Podman => request = request.with("layers", "1"),
    }
    if let Some(session) = plan.session {
        request = request.with("remote", "client-session").with("session", session);
    }
    for tag in parameters.tag.iter().chain(plan.tags) {
        names::split(tag)?;
        request = request.with("t", tag);
    }
    let optional = [("target", &parameters.target), ("networkmode", &parameters.network)];
    for (name, value) in optional {
        request = request.with_all(value.clone().map(|value| (name, value)));
    }
    for (name, wanted) in [("nocache", plan.no_cache), ("pull", plan.pull)] {
        request = request.with_all(wanted.then(|| (name, "1".to_owned())));
    }
    let epoch = matches!(backend, Backend::BuildKit { .. }).then_some(plan.epoch).flatten();
    let epoch = epoch.map(|epoch| ("SOURCE_DATE_EPOCH".to_owned(), epoch.to_string()));
    let arguments = map(epoch.into_iter().chain(parameters.args.clone()).chain(plan.arguments.iter().cloned()));
    let labels = map(parameters.labels.clone().into_iter().chain(plan.labels.iter().cloned()));
    for (name, values) in [("buildargs", arguments), ("labels", labels)] {
        request = request.with_all((!values.is_empty()).then(|| (name, Value::from_iter(values).to_string())));
    }
    if !parameters.cache_from.is_empty() {
        request = request.with("cachefrom", Value::from(parameters.cache_from.clone()).to_string());
    }
    request = request.with_all(foreign(engine, plan.platform).map(|platform| ("platform", platform)));
    if !plan.secrets.is_empty() {
        let secrets = plan.secrets.iter().map(|(id, file)| format!("id={id},src={file}"));
        request = request.with("secrets", Value::from_iter(secrets).to_string());
    }
    if !plan.credentials.is_empty() && plan.session.is_none() {
        request = request.hidden("x-registry-config", plan.credentials);
    }
    Ok(request)
}

/// The last of a name counts.
fn map(pairs: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    pairs.collect()
}

/// The platform, unless it is the engine's own: old engines take no other, and refuse to be asked.
#[must_use]
pub fn foreign(engine: &Engine<'_>, platform: &Platform) -> Option<String> {
    let traits = engine.traits();
    let Platform { os, architecture, variant } = platform;
    let usual = variant.as_deref().is_none_or(|variant| architecture == "arm64" && variant == "v8");
    if *os == traits.os && *architecture == traits.architecture && usual {
        return None;
    }
    Some(match variant {
        Some(variant) => format!("{os}/{architecture}/{variant}"),
        None => format!("{os}/{architecture}"),
    })
}

/// Refuses parameters that contradict each other or cannot be sent.
///
/// # Errors
/// `invalid-input`.
pub fn check(parameters: &Parameters) -> Result<()> {
    let wrong = |text: String| Err(Error::invalid_input(text));
    if parameters.dockerfile.is_some() && parameters.dockerfile_inline.is_some() {
        return wrong("`dockerfile` and `dockerfile_inline` exclude each other".to_owned());
    }
    if parameters.keep == Some(false) && !parameters.tag.is_empty() {
        return wrong("`tag` names an image in the engine that `keep: false` takes out of it".to_owned());
    }
    let plain = |id: &str| {
        !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) && !id.starts_with('.')
    };
    if let Some(id) = parameters.secrets.keys().find(|id| !plain(id)) {
        return wrong(format!("{id:?} is no id of a secret: letters, digits and `._-` make one"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    fn sent(json: &str, change: impl FnOnce(&mut Plan<'_>)) -> String {
        let script = Script::engine();
        let engine = Engine::connect(script.edge()).unwrap();
        let parameters: Parameters = serde_json::from_str(json).unwrap();
        check(&parameters).unwrap();
        let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        let mut plan = Plan {
            parameters: &parameters,
            backend: Backend::Classic,
            dockerfile: "Dockerfile",
            platform: &platform,
            arguments: &[],
            labels: &[],
            epoch: Some(7),
            no_cache: parameters.no_cache,
            tags: &[],
            credentials: &Credentials::default(),
            pull: parameters.pull,
            secrets: &[],
            session: None,
        };
        change(&mut plan);
        // There is no answer; the request is what counts.
        let _ = engine.send(request(&engine, &plan).unwrap());
        let request = script.requests().pop().unwrap();
        request
            .replace("%22", "'")
            .replace("%3A", ":")
            .replace("%2C", ",")
            .replace("%7B", "{")
            .replace("%7D", "}")
            .replace("%2F", "/")
            .replace("%5B", "[")
            .replace("%5D", "]")
            .replace("%3D", "=")
    }

    #[test]
    fn what_is_asked_for_is_sent() {
        const PLAIN: &str = "POST /v1.41/build?dockerfile=Dockerfile&rm=1&forcerm=1";
        assert_eq!(sent("{}", |_| {}), format!("{PLAIN}&version=1"));
        assert_eq!(
            sent(
                r#"{"target":"t","network":"host","no_cache":true,"pull":true,"tag":["a:1","b"],"cache_from":["c"]}"#,
                |_| {}
            ),
            format!("{PLAIN}&version=1&t=a:1&t=b&target=t&networkmode=host&nocache=1&pull=1&cachefrom=['c']")
        );
        let arguments = [("A".to_owned(), "2".to_owned())];
        let buildkit = |plan: &mut Plan<'_>| plan.backend = Backend::BuildKit { session: false };
        assert_eq!(
            sent(r#"{"args":{"A":"1","B":"1"},"labels":{"l":"x"}}"#, |plan| {
                buildkit(plan);
                plan.arguments = Box::leak(Box::new(arguments));
            }),
            format!("{PLAIN}&version=2&buildargs={{'A':'2','B':'1','SOURCE_DATE_EPOCH':'7'}}&labels={{'l':'x'}}")
        );
        assert_eq!(
            sent("{}", |plan| {
                buildkit(plan);
                plan.epoch = None;
                plan.session = Some("one");
            }),
            format!("{PLAIN}&version=2&remote=client-session&session=one")
        );
        let other = Platform { os: "linux".into(), architecture: "arm".into(), variant: Some("v7".into()) };
        assert_eq!(
            sent("{}", |plan| plan.platform = Box::leak(Box::new(other))),
            format!("{PLAIN}&version=1&platform=linux/arm/v7")
        );
        let secrets = [("npm".to_owned(), "file".to_owned())];
        assert_eq!(
            sent("{}", |plan| {
                plan.backend = Backend::Podman;
                plan.secrets = Box::leak(Box::new(secrets));
            }),
            format!("{PLAIN}&layers=1&secrets=['id=npm,src=file']")
        );
    }

    #[test]
    fn contradictions_are_refused() {
        for json in [
            r#"{"dockerfile":"a","dockerfile_inline":"b"}"#,
            r#"{"keep":false,"tag":["a"]}"#,
            r#"{"secrets":{"a,b":{"secret":"X"}}}"#,
            r#"{"secrets":{"../a":{"secret":"X"}}}"#,
        ] {
            assert!(check(&serde_json::from_str(json).unwrap()).is_err(), "{json}");
        }
        assert!(serde_json::from_str::<Parameters>(r#"{"secrets":{"a":"plain"}}"#).is_err());
    }
}
