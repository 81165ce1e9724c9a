//! One engine: which it is, which version of its API is spoken, and requests to it. Knows no builds and no archives.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use cooperage_sdk::http::{Headers, Url};
use cooperage_sdk::{Context, Error, Result};
use serde::{Deserialize, Serialize};

use crate::edge::{Answer, Edge, Exchange, Opened, Payload};
use crate::faults;
use crate::session::Session;

/// Where the host connects the granted service.
const ORIGIN: &str = "http://docker.local";
/// The newest version of the API that this client was written for. Older engines get their own version.
const NEWEST: Version = Version { major: 1, minor: 51 };
/// The oldest: with it the answer to a build has the digest of the image (Docker 17.06).
const OLDEST: Version = Version { major: 1, minor: 29 };
/// For what an engine answers at once.
const SOON: Duration = Duration::from_secs(60);
/// For work of unknown length, in which an engine may be silent. The user's own limits apply besides.
pub const EVER: Duration = Duration::from_secs(24 * 60 * 60);
/// What an engine writes about one image, or about all of them.
const LARGEST_DOCUMENT: usize = 64 << 20;

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Always 1 so far.
    pub major: u32,
    /// Counts the changes.
    pub minor: u32,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traits {
    /// For people, for instance `Docker 20.10.24`.
    pub name: String,
    /// The version of the API that is spoken.
    pub api: Version,
    /// The major version of Podman, which answers to Docker's API, too.
    pub podman: Option<u32>,
    /// `linux` or `windows`.
    pub os: String,
    /// With Go's names.
    pub architecture: String,
}

/// An engine that answers.
#[derive(Clone)]
pub struct Engine<'a> {
    edge: Edge<'a>,
    traits: Traits,
}

/// A request to an engine.
pub struct Request {
    method: &'static str,
    path: String,
    query: Vec<(&'static str, String)>,
    headers: Headers,
    payload: Payload,
    patience: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct About {
    #[serde(default)]
    version: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    arch: String,
}

impl<'a> Engine<'a> {
    /// Asks the engine what it is.
    ///
    /// # Errors
    /// `unavailable` if it does not answer, `unsupported` if it is too old.
    pub fn connect(edge: Edge<'a>) -> Result<Self> {
        let ask = |path: &str| edge.http.send(exchange(Request::get(path), path)?);
        let ping = ask("/_ping")?;
        let ping = faults::expect(ping, "the engine does not answer")?;
        let theirs = ping.headers.get("api-version").and_then(Version::parse).ok_or_else(|| {
            Error::unsupported("what listens on the socket of the service `docker` is no Docker engine")
                .because("its answer to GET /_ping has no Api-Version")
        })?;
        if theirs < OLDEST {
            return Err(Error::unsupported(format!(
                "the engine speaks version {theirs} of Docker's API, and at least {OLDEST} is needed"
            ))
            .hint("Docker 17.06 and Podman 3 are new enough"));
        }
        let podman = ping
            .headers
            .get("libpod-api-version")
            .map(|version| version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0));
        let api = theirs.min(NEWEST);
        let about: About = read(faults::expect(ask("/version")?, "the engine does not say what it is")?)?;
        let kind = if podman.is_some() { "Podman" } else { "Docker" };
        let name = format!("{kind} {}", faults::said(&about.version));
        Ok(Self { edge, traits: Traits { name, api, podman, os: about.os, architecture: about.arch } })
    }

    /// What it is.
    #[must_use]
    pub fn traits(&self) -> &Traits {
        &self.traits
    }

    /// What else is outside.
    #[must_use]
    pub fn edge(&self) -> Edge<'a> {
        self.edge
    }

    /// Sends a request; an answer of any status is no error.
    ///
    /// # Errors
    /// `unavailable` if the engine cannot be reached.
    pub fn send(&self, request: Request) -> Result<Answer> {
        self.edge.http.send(self.exchange(request)?)
    }

    /// Opens the stream over which BuildKit asks for what a build needs.
    ///
    /// # Errors
    /// `denied` if the grants do not allow it, `unavailable` if the engine does not do it.
    pub fn open(&self, session: &Session) -> Result<Opened> {
        let mut request = Request::post("/session");
        request.headers = session.headers();
        self.edge.http.upgrade(self.exchange(request)?, "h2c")
    }

    /// What is to be sent for a request.
    ///
    /// # Errors
    /// `invalid-input` if its path is none.
    pub fn exchange(&self, request: Request) -> Result<Exchange> {
        let path = format!("/v{}{}", self.traits.api, request.path);
        exchange(request, &path)
    }

    /// Sends a request and reads its answer of JSON; `what` says what is tried.
    ///
    /// # Errors
    /// The engine's.
    pub fn ask<T: for<'de> Deserialize<'de>>(&self, request: Request, what: &str) -> Result<T> {
        let answer = faults::expect(self.send(request)?, what)?;
        read(answer).with_context(|| what.to_owned())
    }
}

fn exchange(request: Request, path: &str) -> Result<Exchange> {
    let Request { method, query, headers, payload, patience, .. } = request;
    let mut url: Url = format!("{ORIGIN}{path}").parse()?;
    for (name, value) in query {
        url = url.with_parameter(name, &value);
    }
    Ok(Exchange { method, url, headers, payload, patience })
}

fn read<T: for<'de> Deserialize<'de>>(mut answer: Answer) -> Result<T> {
    let bytes = answer.read(LARGEST_DOCUMENT)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::internal(format!("the engine's answer cannot be read: {error}")))
}

impl Request {
    /// A request without a body. The path has no version; what stands in it must have been checked.
    #[must_use]
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        let (headers, payload) = (Headers::default(), Payload::Empty);
        Self { method, path: path.into(), query: Vec::new(), headers, payload, patience: SOON }
    }

    /// A GET.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    /// A POST.
    #[must_use]
    pub fn post(path: impl Into<String>) -> Self {
        Self::new("POST", path)
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Adds parameters.
    #[must_use]
    pub fn with_all(mut self, parameters: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        self.query.extend(parameters);
        self
    }

    /// Sends JSON.
    #[must_use]
    pub fn json(mut self, value: &impl Serialize) -> Self {
        self.headers.set("content-type", "application/json");
        self.payload = Payload::Bytes(serde_json::to_vec(value).expect("a value that is JSON"));
        self
    }

    /// Sends an archive.
    #[must_use]
    pub fn archive(mut self, payload: Payload) -> Self {
        self.headers.set("content-type", "application/x-tar");
        self.payload = payload;
        self
    }

    /// Adds a header whose value is JSON in base64, as engines take credentials.
    #[must_use]
    pub fn hidden(mut self, name: &'static str, value: &impl Serialize) -> Self {
        let json = serde_json::to_vec(value).expect("a value that is JSON");
        self.headers.set(name, URL_SAFE.encode(json));
        self
    }

    /// Waits for work that takes its time.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.patience = EVER;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    const ABOUT: &str = r#"{"Version":"20.10.24","Os":"linux","Arch":"amd64"}"#;

    #[test]
    fn engines_say_what_they_are() {
        for (headers, expected) in [
            (&[("Api-Version", "1.41")][..], Ok(("1.41", None))),
            (&[("Api-Version", "1.60")], Ok(("1.51", None))),
            (&[("Api-Version", "1.41"), ("Libpod-Api-Version", "4.3.1")], Ok(("1.41", Some(4)))),
            (&[("Api-Version", "1.24")], Err("at least 1.29")),
            (&[("Api-Version", "x")], Err("no Docker engine")),
            (&[], Err("no Docker engine")),
        ] {
            let script =
                Script::new().answers("GET /_ping", 200, headers, "OK").answers("GET /version", 200, &[], ABOUT);
            match (Engine::connect(script.edge()), expected) {
                (Ok(engine), Ok((api, podman))) => {
                    assert_eq!((engine.traits().api.to_string().as_str(), engine.traits().podman), (api, podman));
                }
                (Err(error), Err(text)) => assert!(error.message.contains(text), "{}", error.message),
                (got, _) => panic!("{headers:?}: {:?}", got.map(|engine| engine.traits().clone())),
            }
        }
    }

    #[test]
    fn requests_carry_the_version_and_escaped_parameters() {
        let script = Script::new()
            .answers("GET /_ping", 200, &[("Api-Version", "1.41")], "OK")
            .answers("GET /version", 200, &[], ABOUT)
            .answers("POST /v1.41/images/a/tag?repo=b%26c", 201, &[], "");
        let engine = Engine::connect(script.edge()).unwrap();
        assert_eq!(engine.send(Request::post("/images/a/tag").with("repo", "b&c")).unwrap().status, 201);
    }
}
