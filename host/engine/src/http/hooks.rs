//! `wasi:http` for one plugin call: checks each request against what was granted, then sends it with the client.
//! Redirects are answers like others; the guest follows them, and each hop is a request that is checked.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use ::http::{Request, Response, StatusCode, header};
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpHooks};

use super::Error;
use super::client::{Client, SendOptions};
use super::learned::{Learned, Redirects};
use super::rule::{Origin, Rule, allows_path};
use super::transport::Transport;
use crate::grants::HttpCap;

/// A name that stands for a unix socket of this machine, for instance a container engine's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Host of the URLs that mean it, for instance `docker.local`; always plain `http`, any port.
    pub authority: String,
    /// The socket.
    pub socket: PathBuf,
    /// Lists that each must allow a request: in it methods (empty is any) with a path pattern (none is any). No list
    /// allows all.
    pub requests: Vec<Vec<(Vec<String>, Option<String>)>>,
}

/// What one call may reach over HTTP.
#[derive(Debug, Clone, Default)]
pub struct HttpGrants {
    /// The plugin's name, for messages.
    pub plugin: String,
    /// The allow-list.
    pub rules: Vec<Rule>,
    /// Unix sockets by name.
    pub services: Vec<Service>,
    /// For a registry plugin: the registry of this call, `host[:port]`, and whether it is reached without TLS.
    pub registry: Option<(String, bool)>,
    /// Whether GET and HEAD may follow redirections to public places that no grant names.
    pub redirects: bool,
    /// For a registry plugin: what its call finds out about TLS.
    pub tls_trouble: Arc<OnceLock<TlsTrouble>>,
    /// What the host's policy permits of all this, and where it says so; none if it restricts nothing.
    pub cap: Option<(HttpCap, String)>,
}

/// TLS stood in the way of a call. A guest gets no more than a text, from which nobody could tell it from a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsTrouble {
    /// What the user can do, where that is known.
    pub hint: Option<String>,
}

/// The hooks of one call.
#[derive(Clone)]
pub struct Hooks {
    client: Client,
    grants: Arc<HttpGrants>,
    learned: Option<Arc<Mutex<Learned>>>,
    redirects: Option<Arc<Mutex<Redirects>>>,
}

type Answer = (Response<WasiBody>, Sent);
type Sent = Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>;

impl Hooks {
    /// Grants nothing beyond `grants`.
    pub fn new(client: Client, grants: HttpGrants) -> Self {
        let learned = grants.registry.as_ref().and_then(|(host, plain_http)| Learned::new(host, *plain_http));
        let redirects = grants.redirects.then(|| Arc::new(Mutex::default()));
        Self { client, grants: Arc::new(grants), learned: learned.map(|l| Arc::new(Mutex::new(l))), redirects }
    }

    /// Sends a request if a grant covers it.
    pub async fn send(
        &self,
        request: Request<WasiBody>,
        timeouts: Option<RequestOptions>,
    ) -> Result<Response<WasiBody>, Error> {
        let origin = Origin::of(request.uri()).ok_or_else(|| Error::not_a_url(request.uri()))?;
        let method = request.method().clone();
        let mut options = self.allowed(&origin, &request)?;
        if let Some(timeouts) = timeouts {
            options.connect_timeout = timeouts.connect_timeout;
            options.first_byte_timeout = timeouts.first_byte_timeout;
            options.between_bytes_timeout = timeouts.between_bytes_timeout;
        }
        let sent = self.client.carry(request, &options).await;
        let odd = is_odd(&sent);
        let answer = match odd && self.only_tls(&origin, &options).await {
            true => Err(Error::OnlyTls { peer: origin.authority() }),
            false => sent,
        };
        let answer = answer.map_err(|error| self.note_trouble(error))?;
        if let Some(learned) = &self.learned
            && options.socket.is_none()
        {
            let mut learned = learned.lock().expect("not poisoned");
            // What another grant allows must not widen what the registry's answers may.
            if learned.reach(&origin).is_some() {
                learned.note(&origin, &answer);
            }
        }
        if let Some(redirects) = self.redirects.as_ref().filter(|_| options.socket.is_none()) {
            redirects.lock().expect("not poisoned").note(&origin, &method, &answer);
        }
        Ok(answer)
    }

    /// Whether this is the registry of the call, asked without TLS, and it turns out to speak it.
    async fn only_tls(&self, origin: &Origin, options: &SendOptions) -> bool {
        let registry = self.grants.registry.as_ref().filter(|(_, plain_http)| *plain_http);
        let own = registry.and_then(|(host, _)| Origin::of_authority(false, host)).is_some_and(|own| own == *origin);
        own && options.socket.is_none() && self.client.ask_for_tls(origin, options.reach).await
    }

    /// Keeps of an error with TLS what the guest cannot be told.
    fn note_trouble(&self, error: Error) -> Error {
        let (hint, error) = match error {
            Error::Tls { peer, reason, hint } if self.grants.registry.is_some() => {
                (hint, Error::Tls { peer, reason, hint: None })
            }
            error @ (Error::NoTls { .. } | Error::OnlyTls { .. }) => (None, error),
            other => return other,
        };
        // The first one is the one that matters.
        let _ = self.grants.tls_trouble.set(TlsTrouble { hint });
        error
    }

    fn allowed<B>(&self, origin: &Origin, request: &Request<B>) -> Result<SendOptions, Error> {
        let (method, path) = (request.method(), request.uri().path());
        if let Some(service) = self.service(origin) {
            let fits = |(methods, pattern): &(Vec<String>, Option<String>)| {
                allows_path(methods, pattern.as_deref(), method, path)
            };
            if !service.requests.iter().all(|list| list.iter().any(fits)) {
                return Err(self.denied_service(service, method, path));
            }
            // The socket's side sees no address, so nothing is reached through the network.
            let reach = super::address::Reach::LOOPBACK;
            return Ok(SendOptions { socket: Some(service.socket.clone()), ..SendOptions::to(reach) });
        }
        let permitted = |by_word: fn(&HttpCap) -> bool| match &self.grants.cap {
            Some((cap, policy)) if !by_word(cap) => cap
                .rules
                .iter()
                .find(|rule| rule.allows(origin, method, path))
                .map(|rule| rule.local)
                .ok_or_else(|| Error::Denied(not_permitted(origin, method, path, policy))),
            _ => Ok(true),
        };
        if let Some(rule) = self.grants.rules.iter().find(|rule| rule.allows(origin, method, path)) {
            // The policy is asked first: `local` alone must not decide whether it is.
            let local = permitted(|_| false)? && rule.local;
            return Ok(SendOptions::to(Rule { local, ..rule.clone() }.reach()));
        }
        if let Some(reach) = self.learned.as_ref().and_then(|l| l.lock().expect("not poisoned").reach(origin)) {
            return permitted(|cap| cap.registry).map(|_| SendOptions::to(reach));
        }
        let pointed = || self.redirects.as_ref()?.lock().expect("not poisoned").reach(origin, method);
        let reach = pointed().ok_or_else(|| self.denied(origin, method, path))?;
        permitted(|cap| cap.redirects).map(|_| SendOptions::to(reach))
    }

    fn denied(&self, origin: &Origin, method: &::http::Method, path: &str) -> Error {
        let plugin = &self.grants.plugin;
        if let Some((host, _)) = &self.grants.registry {
            return Error::Denied(format!(
                "{method} {origin}{path}: registry plugin `{plugin}` may reach {host} and what {host} points at by https, \
                 not this; if the registry needs it, allow it with `plugins: {{ {plugin}: {{ allow: {{ http: [\"{origin}\"] }} }} }}`"
            ));
        }
        let near: Vec<_> =
            self.grants.rules.iter().filter(|rule| rule.matches_origin(origin)).map(Rule::to_string).collect();
        let (why, line) = if near.is_empty() {
            let all: Vec<_> = self.grants.rules.iter().map(Rule::to_string).collect();
            let list = if all.is_empty() { "nothing".to_owned() } else { all.join(", ") };
            (format!("plugin `{plugin}` is allowed {list}"), origin.to_string())
        } else {
            let why = format!("plugin `{plugin}` is allowed only {} there", near.join(", "));
            (why, format!("{method} {origin}{path}"))
        };
        Error::Denied(format!(
            "{method} {origin}{path}: {why}; to allow it, write `plugins: {{ {plugin}: {{ allow: {{ http: [\"{line}\"] }} }} }}`"
        ))
    }

    /// The service that an origin stands for.
    pub(super) fn service(&self, origin: &Origin) -> Option<&Service> {
        self.grants.services.iter().find(|service| !origin.https && service.authority == origin.host)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn header_limit(&self) -> usize {
        self.client.settings().header_limit
    }

    pub(super) fn denied_service(&self, service: &Service, method: &::http::Method, path: &str) -> Error {
        let plugin = &self.grants.plugin;
        let form = |(methods, pattern): &(Vec<String>, Option<String>)| {
            let methods = if methods.is_empty() { "*".to_owned() } else { methods.join(",") };
            format!("{methods} {}", pattern.as_deref().unwrap_or("/**"))
        };
        let list: Vec<_> = service.requests.iter().flatten().map(form).collect();
        Error::Denied(format!(
            "{method} {path} on service {}: plugin `{plugin}` is allowed only {} there; to allow it, add `{method} {path}` \
             to that service's grant",
            service.authority,
            list.join(", ")
        ))
    }
}

fn not_permitted(origin: &Origin, method: &::http::Method, path: &str, policy: &str) -> String {
    format!(
        "{method} {origin}{path}: the policy of this host does not permit it, whatever a flow file allows: {policy}"
    )
}

/// Whether a server may have been asked without TLS that speaks it. Such servers answer 400 (Go, nginx, Apache), close
/// the connection or send a TLS alert.
fn is_odd<B>(sent: &Result<Response<B>, Error>) -> bool {
    match sent {
        Ok(answer) => answer.status() == StatusCode::BAD_REQUEST && !is_of_a_registry(answer),
        Err(Error::Closed { .. } | Error::Protocol { .. }) => true,
        Err(_) => false,
    }
}

/// Whether a registry wrote this answer, and not the TLS layer in front of it: the errors of registries are JSON.
fn is_of_a_registry<B>(answer: &Response<B>) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.contains("json") || answer.headers().contains_key("docker-distribution-api-version")
}

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Sent,
    ) -> Box<dyn Future<Output = Result<Answer, wasmtime_wasi_http::Error>> + Send> {
        let hooks = self.clone();
        Box::new(async move {
            let answer = hooks.send(request, options).await?;
            // The connection's own task drives it; there is nothing left to wait for.
            let sent: Sent = Box::new(std::future::ready(Ok(())));
            Ok((answer, sent))
        })
    }
}
