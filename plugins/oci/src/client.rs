//! Requests to one registry: with its authorization, along its redirects, again after passing faults. It knows nothing
//! of manifests and blobs.

use cooperage_sdk::http::{Headers, Url};
use cooperage_sdk::names;
use cooperage_sdk::roles::registry::{Credential, Repository};
use cooperage_sdk::{Error, Result};

use crate::challenge;
use crate::edge::{Answer, Edge, Exchange, Payload};
use crate::faults::{self, Situation};
use crate::retry::persistently;
use crate::tokens::Tokens;

const USER_AGENT: &str = concat!("cooperage-oci/", env!("CARGO_PKG_VERSION"));
const MOST_REDIRECTS: usize = 8;
const LONGEST_LOCATION: usize = 16 << 10;

/// What a call wants to do in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actions {
    /// Read.
    Pull,
    /// Read and write.
    Push,
    /// Delete.
    Delete,
}

/// A registry, seen from one repository.
pub struct Client<'a> {
    edge: Edge<'a>,
    repository: &'a Repository,
    base: Url,
    tokens: Tokens<'a>,
}

/// What to ask.
pub struct Request {
    /// In capitals.
    pub method: &'static str,
    /// Where.
    pub url: Url,
    /// Beyond those of every request.
    pub headers: Headers,
    /// What to send.
    pub payload: Payload,
    /// Whether it may be sent again after a fault that left open if it was done.
    pub again: bool,
}

impl Request {
    /// One that may be sent again.
    #[must_use]
    pub fn new(method: &'static str, url: Url) -> Self {
        Self { method, url, headers: Headers::default(), payload: Payload::Empty, again: true }
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Sets what to send.
    #[must_use]
    pub fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// Sent once only.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.again = false;
        self
    }
}

impl<'a> Client<'a> {
    /// For a repository.
    ///
    /// # Errors
    /// `invalid-input` if host or name are malformed.
    pub fn new(edge: Edge<'a>, repository: &'a Repository, actions: Actions) -> Result<Self> {
        names::check_repository(&repository.name)?;
        let actions = match actions {
            Actions::Pull => "pull",
            Actions::Push => "pull,push",
            Actions::Delete => "delete,pull,push",
        };
        let scope = format!("repository:{}:{actions}", repository.name);
        Self::with_scopes(edge, repository, vec![scope], true)
    }

    /// For the registry as a whole, with the credential proved anew.
    ///
    /// # Errors
    /// `invalid-input` if the host is malformed.
    pub fn without_repository(edge: Edge<'a>, repository: &'a Repository) -> Result<Self> {
        Self::with_scopes(edge, repository, Vec::new(), false)
    }

    fn with_scopes(edge: Edge<'a>, repository: &'a Repository, scopes: Vec<String>, remember: bool) -> Result<Self> {
        let Repository { host, plain_http, credential, .. } = repository;
        let scheme = if *plain_http { "http" } else { "https" };
        let base: Url = format!("{scheme}://{host}/").parse()?;
        if base.path() != "/" || base.query().is_some() || host.contains(['/', '?', '#']) {
            return Err(Error::invalid_input(format!("{host:?} is no host")));
        }
        let credential: Option<&Credential> = credential.as_ref();
        let situation = Situation {
            host,
            repository: &repository.name,
            has_credential: credential.is_some(),
            now: edge.clock.now(),
        };
        let tokens = Tokens::new(edge, base.clone(), credential, scopes, situation, remember);
        Ok(Self { edge, repository, base, tokens })
    }

    /// The same, allowed to read other repositories of the registry too.
    #[must_use]
    pub fn also_pull_from(self, names: &[String]) -> Self {
        for name in names.iter().filter(|name| names::check_repository(name).is_ok()) {
            if *name != self.repository.name {
                self.tokens.add_scope(format!("repository:{name}:pull"));
            }
        }
        self
    }

    /// The outside.
    #[must_use]
    pub fn edge(&self) -> Edge<'a> {
        self.edge
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &'a Repository {
        self.repository
    }

    /// The value of a setting of this registry.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&'a str> {
        self.repository.options.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// `host/name`, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.repository.host, self.repository.name)
    }

    /// Whether a URL belongs to the registry itself.
    #[must_use]
    pub fn is_own(&self, url: &Url) -> bool {
        url.same_origin(&self.base)
    }

    /// The URL of something in the repository, for instance `manifests/latest`.
    ///
    /// # Errors
    /// `invalid-input` if `path` has characters that no URL has.
    pub fn url(&self, path: &str) -> Result<Url> {
        format!("{}v2/{}/{path}", self.base, self.repository.name).parse()
    }

    /// Sends a request. An answer of any status is no error; passing faults have been waited out as far as sensible.
    ///
    /// # Errors
    /// `unavailable` if there was no answer, `unauthenticated` if the token server refuses.
    pub fn send(&self, request: &Request) -> Result<Answer> {
        if request.again { persistently(self.edge.clock, || self.follow(request)) } else { self.follow(request) }
    }

    /// The error for an answer; `what` could not be done.
    pub fn fault(&self, what: &str, answer: Answer) -> Error {
        let situation = Situation {
            host: &self.repository.host,
            repository: &self.repository.name,
            has_credential: self.repository.credential.is_some(),
            now: self.edge.clock.now(),
        };
        faults::of_answer(what, answer, &situation)
    }

    fn follow(&self, request: &Request) -> Result<Answer> {
        let follows = matches!(request.method, "GET" | "HEAD");
        let mut url = request.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.authorized(request, &url)?;
            if !(follows && matches!(answer.status, 301 | 302 | 303 | 307 | 308)) {
                return Ok(answer);
            }
            url = self.location(&answer)?;
        }
        Err(Error::conflict(format!("{} redirects in circles", request.url.authority())))
    }

    fn authorized(&self, request: &Request, url: &Url) -> Result<Answer> {
        // The registry's authorization is for the registry alone.
        let own = self.is_own(url);
        let exchange = |authorization: Option<String>| {
            let mut headers = request.headers.clone();
            headers.append("user-agent", USER_AGENT);
            if let Some(value) = authorization.filter(|_| own) {
                headers.append("authorization", value);
            }
            Exchange { method: request.method, url: url.clone(), headers, payload: request.payload.clone() }
        };
        let answer = self.edge.http.send(&exchange(self.tokens.header()))?;
        if answer.status != 401 || !own {
            return Ok(answer);
        }
        let challenges = challenge::parse(answer.headers.all("www-authenticate"));
        if !self.tokens.meet(&challenges)? {
            return Ok(answer);
        }
        drop(answer);
        self.edge.http.send(&exchange(self.tokens.header()))
    }

    /// Where an answer points at, for a redirect or an upload.
    ///
    /// # Errors
    /// `conflict` if it points nowhere, `denied` if it gives up encryption.
    pub fn location(&self, answer: &Answer) -> Result<Url> {
        let from = &answer.url;
        let location = answer.headers.get("location").unwrap_or_default();
        if location.is_empty() || location.len() > LONGEST_LOCATION {
            return Err(Error::conflict(format!("{} does not say where to go on", from.authority())));
        }
        let to = from.join(location).map_err(|error| error.context(format!("{} points astray", from.authority())))?;
        if !from.is_https() || to.is_https() {
            return Ok(to);
        }
        // A registry behind a proxy that does TLS for it often believes that it is reached without.
        if to.authority() == from.authority() {
            return format!("https://{}{}", from.authority(), to.path_and_query()).parse();
        }
        let (from, to) = (from.authority(), to.authority());
        Err(Error::denied(format!("{from} points at {to} without encryption")))
    }
}

/// Proves the credential.
///
/// # Errors
/// `unauthenticated` if it is refused, `not-found` if there is no registry.
pub fn login(client: &Client) -> Result<()> {
    let host = client.base.authority();
    let url = format!("{}v2/", client.base).parse()?;
    let answer = client.send(&Request::new("GET", url))?;
    match answer.status {
        200 => Ok(()),
        404 => Err(client.fault(&format!("{host} does not look like a registry"), answer).hint("check host and port")),
        _ => Err(client.fault(&format!("cannot log in to {host}"), answer)),
    }
}
