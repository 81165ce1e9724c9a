//! Requests to an API server: with the token, again after passing faults, answers as JSON. It knows the protocol and none
//! of the kinds.

use std::time::Duration;

use cooperage_sdk::http::{Headers, Url};
use cooperage_sdk::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::access::Access;
use crate::edge::{Answer, Edge, Exchange};
use crate::faults::{Refusal, Situation};
use crate::retry::persistently;

const USER_AGENT: &str = concat!("cooperage-kubernetes/", env!("CARGO_PKG_VERSION"));
/// The media type of server-side apply. JSON is YAML, too.
const APPLY: &str = "application/apply-patch+yaml";
/// Objects are smaller by far: etcd keeps none above 1.5 MiB.
const LARGEST: usize = 16 << 20;
/// A shorter text is in many words.
const SHORTEST_TOKEN: usize = 6;
/// How long a server may think.
const SILENCE: Duration = Duration::from_secs(60);

/// An API server.
pub struct Client<'a> {
    edge: Edge<'a>,
    access: &'a Access,
    manager: &'a str,
    force: bool,
    dry_run: bool,
}

/// What became of an apply.
#[derive(Debug)]
pub enum Applied {
    /// The object as it is now.
    Done(Value),
    /// The object has changed since it was read.
    Stale(Refusal),
}

impl<'a> Client<'a> {
    /// For a server.
    #[must_use]
    pub fn new(edge: Edge<'a>, access: &'a Access, manager: &'a str) -> Self {
        Self { edge, access, manager, force: false, dry_run: false }
    }

    /// The same, taking over fields of others.
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// The same, changing nothing.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// The outside.
    #[must_use]
    pub fn edge(&self) -> Edge<'a> {
        self.edge
    }

    /// What everything that names no namespace belongs to.
    #[must_use]
    pub fn namespace(&self) -> &'a str {
        &self.access.namespace
    }

    /// Who sets fields here.
    #[must_use]
    pub fn manager(&self) -> &'a str {
        self.manager
    }

    /// Reads an object; `what` names it.
    ///
    /// # Errors
    /// `not-found`, and those of the server.
    pub fn get(&self, path: &str, what: &str) -> Result<Value> {
        self.read(self.persistently("GET", path, &[], &[]), what)
    }

    /// The same with a single try, for who comes back anyway.
    ///
    /// # Errors
    /// `not-found`, and those of the server.
    pub fn glance(&self, path: &str, what: &str) -> Result<Value> {
        let exchange = self.exchange("GET", path, &[], &[], SILENCE)?;
        self.read(self.edge.http.send(&exchange).map_err(|error| self.unreachable(error)), what)
    }

    fn read(&self, answer: Result<Answer>, what: &str) -> Result<Value> {
        let task = || format!("cannot read {what}");
        let mut answer = answer.map_err(|error| error.context(task()))?;
        if answer.status != 200 {
            return Err(self.refused(&self.refusal(&mut answer), &task()));
        }
        self.json(&mut answer).map_err(|error| error.context(task()))
    }

    /// Reads an object that may not be there.
    ///
    /// # Errors
    /// Those of the server.
    pub fn look(&self, path: &str, what: &str) -> Result<Option<Value>> {
        match self.get(path, what) {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a list.
    ///
    /// # Errors
    /// Those of the server.
    pub fn list(&self, path: &str, parameters: &[(&str, &str)], what: &str) -> Result<Vec<Value>> {
        let task = || format!("cannot list {what}");
        let mut answer = self.persistently("GET", path, parameters, &[]).map_err(|error| error.context(task()))?;
        if answer.status != 200 {
            return Err(self.refused(&self.refusal(&mut answer), &task()));
        }
        let mut list = self.json(&mut answer).map_err(|error| error.context(task()))?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Server-side apply: the object shall have these fields, and of those that this manager has set before, only these.
    ///
    /// # Errors
    /// `conflict` if others have set one of them to something else, and those of the server.
    pub fn apply(&self, path: &str, object: &Value, what: &str) -> Result<Applied> {
        let task = || format!("cannot apply {what}");
        let force = if self.force { "true" } else { "false" };
        let mut parameters = vec![("fieldManager", self.manager), ("force", force), ("fieldValidation", "Strict")];
        if self.dry_run {
            parameters.push(("dryRun", "All"));
        }
        let body = object.to_string().into_bytes();
        let mut answer = self.persistently("PATCH", path, &parameters, &body).map_err(|error| error.context(task()))?;
        if matches!(answer.status, 200 | 201) {
            return self.json(&mut answer).map(Applied::Done).map_err(|error| error.context(task()));
        }
        let refusal = self.refusal(&mut answer);
        if refusal.is_stale() { Ok(Applied::Stale(refusal)) } else { Err(self.refused(&refusal, &task())) }
    }

    /// Begins to watch; the answer may be of any status. Sent once: whoever watches must be able to do without.
    ///
    /// # Errors
    /// `unavailable` if there is no answer.
    pub fn watch(&self, path: &str, parameters: &[(&str, &str)], time: Duration) -> Result<Answer> {
        let seconds = time.as_secs().max(1).to_string();
        let mut all = vec![("watch", "1"), ("timeoutSeconds", seconds.as_str())];
        all.extend_from_slice(parameters);
        // A little longer than the server was asked to take.
        let silence = time + Duration::from_secs(10);
        self.edge.http.send(&self.exchange("GET", path, &all, &[], silence)?)
    }

    fn refusal(&self, answer: &mut Answer) -> Refusal {
        Refusal::of(answer, self.edge.clock.now())
    }

    /// The error for a refusal; `what` could not be done.
    #[must_use]
    pub fn refused(&self, refusal: &Refusal, what: &str) -> Error {
        let situation = Situation { host: &self.access.host, has_token: self.access.token.is_some() };
        let mut error = refusal.error(what, &situation);
        // The host blacks out whole secrets. A token that comes from within a kubeconfig it does not know.
        if let Some(token) = self.access.token.as_deref().filter(|token| token.len() >= SHORTEST_TOKEN) {
            error.context.iter_mut().for_each(|text| *text = text.replace(token, "***"));
        }
        error
    }

    fn persistently(
        &self,
        method: &'static str,
        path: &str,
        parameters: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        let exchange = self.exchange(method, path, parameters, body, SILENCE)?;
        persistently(self.edge.clock, || self.edge.http.send(&exchange)).map_err(|error| self.unreachable(error))
    }

    fn exchange(
        &self,
        method: &'static str,
        path: &str,
        parameters: &[(&str, &str)],
        body: &[u8],
        silence: Duration,
    ) -> Result<Exchange> {
        let mut url: Url = format!("{}{path}", self.access.base).parse()?;
        for (name, value) in parameters {
            url = url.with_parameter(name, value);
        }
        let mut headers = Headers::default();
        headers.append("accept", "application/json");
        headers.append("user-agent", USER_AGENT);
        if let Some(token) = &self.access.token {
            headers.append("authorization", format!("Bearer {token}"));
        }
        if method == "PATCH" {
            headers.append("content-type", APPLY);
        }
        Ok(Exchange { method, url, headers, body: body.to_vec(), silence })
    }

    fn unreachable(&self, error: Error) -> Error {
        let denied = error.kind == ErrorKind::Denied;
        let error = error.context(format!("the API server {} cannot be reached", self.access.host));
        if denied && self.access.has_authority {
            let host = &self.access.host;
            return error.hint(format!(
                "TLS is the host's, which does not see the kubeconfig's authority: write it to a file and name it as \
                 `registries: {{ \"{host}\": {{ ca: FILE }} }}` in config.yaml"
            ));
        }
        error
    }

    fn json(&self, answer: &mut Answer) -> Result<Value> {
        let host = &self.access.host;
        let (bytes, more) = answer.read(LARGEST)?;
        if more {
            return Err(Error::limit(format!("the answer of {host} has more than {LARGEST} bytes")));
        }
        let object: Option<Value> = serde_json::from_slice(&bytes).ok().filter(Value::is_object);
        object.ok_or_else(|| {
            Error::unsupported(format!("{host} answers {}, but not as an API server does", answer.status))
                .hint("check the address; a proxy or a login page may stand in front of the server")
        })
    }
}
