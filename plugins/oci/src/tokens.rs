//! Proving who the user is: Basic, and Bearer tokens from the token server that a registry names
//! (distribution's `spec/auth/token.md` and `oauth.md`).
//!
//! Tokens are remembered between calls by registry, user and scope. A password is sent to the registry itself and to
//! the token server it names, and nowhere else.

use std::cell::RefCell;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cooperage_sdk::http::{Headers, Url};
use cooperage_sdk::roles::registry::Credential;
use cooperage_sdk::{Error, Result};
use serde::Deserialize;

use crate::challenge::Challenge;
use crate::edge::{Answer, Edge, Exchange, Payload};
use crate::faults::{self, Situation};
use crate::retry::persistently;

const CLIENT_ID: &str = "cooperage";
/// What a token server that says nothing means, and the least it may mean.
const SHORTEST_LIFE: u32 = 60;
const LONGEST_LIFE: u32 = 3600;
/// A token that ends within this time is as good as none.
const MARGIN: u32 = 15;
const LARGEST_ANSWER: usize = 1 << 20;
const LONGEST_TOKEN: usize = 64 << 10;
const MOST_SCOPES: usize = 16;

/// The `Authorization` of one registry for one call.
pub struct Tokens<'a> {
    edge: Edge<'a>,
    registry: Url,
    situation: Situation<'a>,
    credential: Option<&'a Credential>,
    scopes: RefCell<Vec<String>>,
    header: RefCell<Option<String>>,
    /// Whether tokens of earlier calls are good enough.
    remember: bool,
}

#[derive(Deserialize)]
struct Issued {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<f64>,
}

impl<'a> Tokens<'a> {
    /// For a registry. Without `remember`, the credential is proved anew.
    pub fn new(
        edge: Edge<'a>,
        registry: Url,
        credential: Option<&'a Credential>,
        scopes: Vec<String>,
        situation: Situation<'a>,
        remember: bool,
    ) -> Self {
        let (scopes, header) = (RefCell::new(scopes), RefCell::new(None));
        let this = Self { edge, registry, situation, credential, scopes, header, remember };
        this.recall();
        this
    }

    /// What goes along with a request to the registry, as far as it is known.
    pub fn header(&self) -> Option<String> {
        self.header.borrow().clone()
    }

    /// Asks for more with the next token.
    pub fn add_scope(&self, scope: String) {
        let mut scopes = self.scopes.borrow_mut();
        if !scopes.contains(&scope) && scopes.len() < MOST_SCOPES {
            scopes.push(scope);
        }
        drop(scopes);
        self.recall();
    }

    /// Meets one of the challenges; false if none of them can be met.
    ///
    /// # Errors
    /// `unauthenticated` if the token server refuses the credential, `denied` if it must not be trusted with it.
    pub fn meet(&self, challenges: &[Challenge]) -> Result<bool> {
        for challenge in challenges {
            if let Challenge::Bearer { realm, service, scope } = challenge {
                // A scope names no spaces; several in one parameter are separated by them.
                let asked = scope.as_deref().unwrap_or_default().split_ascii_whitespace();
                for scope in asked.take(MOST_SCOPES).filter(|scope| scope.len() <= 1024) {
                    self.want(scope);
                }
                let (token, seconds) = self.fetch(realm, service.as_deref())?;
                self.keep(format!("Bearer {token}"), seconds);
                return Ok(true);
            }
        }
        if challenges.contains(&Challenge::Basic)
            && let Some(header) = self.basic()
        {
            let known = self.header.borrow().as_ref() == Some(&header);
            self.edge.memory.set(&self.basic_key(), b"basic", LONGEST_LIFE);
            *self.header.borrow_mut() = Some(header);
            return Ok(!known);
        }
        Ok(false)
    }

    fn want(&self, scope: &str) {
        let mut scopes = self.scopes.borrow_mut();
        // `repository:a:pull` is part of `repository:a:pull,push`.
        let covered = scopes.iter().any(|have| covers(have, scope));
        if !covered && scopes.len() < MOST_SCOPES {
            scopes.push(scope.to_owned());
        }
    }

    fn basic(&self) -> Option<String> {
        let credential = self.credential.filter(|credential| !credential.identity_token)?;
        let Credential { username, password, .. } = credential;
        Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
    }

    fn fetch(&self, realm: &str, service: Option<&str>) -> Result<(String, u32)> {
        let host = self.registry.authority();
        let realm: Url = realm.parse().map_err(|error: Error| error.context(format!("the token server of {host}")))?;
        if self.registry.is_https() && !realm.is_https() {
            return Err(Error::denied(format!(
                "{host} wants a credential sent without encryption to {}",
                realm.authority()
            )));
        }
        let scopes = self.scopes.borrow().clone();
        let what = format!("cannot get a token for {host}");
        let answer = match self.credential {
            Some(credential) if credential.identity_token => {
                let grant = [("grant_type", "refresh_token"), ("refresh_token", &credential.password)];
                self.post(&realm, service, &scopes, &grant)?
            }
            credential => {
                let answer = self.get(&realm, service, &scopes)?;
                match credential {
                    Some(credential) if answer.status == 405 => {
                        let grant = [
                            ("grant_type", "password"),
                            ("username", credential.username.as_str()),
                            ("password", &credential.password),
                        ];
                        self.post(&realm, service, &scopes, &grant)?
                    }
                    _ => answer,
                }
            }
        };
        self.issued(answer, &what)
    }

    fn get(&self, realm: &Url, service: Option<&str>, scopes: &[String]) -> Result<Answer> {
        let mut url = realm.clone();
        if let Some(service) = service {
            url = url.with_parameter("service", service);
        }
        for scope in scopes {
            url = url.with_parameter("scope", scope);
        }
        let mut headers = Headers::default();
        if let Some(basic) = self.basic() {
            headers.append("authorization", basic);
        }
        self.send(&Exchange { method: "GET", url, headers, payload: Payload::Empty })
    }

    fn post(&self, realm: &Url, service: Option<&str>, scopes: &[String], grant: &[(&str, &str)]) -> Result<Answer> {
        // A URL of its own escapes the form's fields.
        let mut form: Url = "http://form/".parse()?;
        for (name, value) in grant {
            form = form.with_parameter(name, value);
        }
        form = form.with_parameter("service", service.unwrap_or_default());
        form = form.with_parameter("client_id", CLIENT_ID).with_parameter("scope", &scopes.join(" "));
        let payload = Payload::Bytes(Rc::from(form.query().unwrap_or_default().as_bytes()));
        let mut headers = Headers::default();
        headers.append("content-type", "application/x-www-form-urlencoded");
        self.send(&Exchange { method: "POST", url: realm.clone(), headers, payload })
    }

    fn send(&self, exchange: &Exchange) -> Result<Answer> {
        persistently(self.edge.clock, || self.edge.http.send(exchange))
    }

    fn issued(&self, mut answer: Answer, what: &str) -> Result<(String, u32)> {
        if answer.status != 200 {
            // OAuth2 says 400 where the credential is wrong.
            let refused = matches!(answer.status, 400 | 401 | 403);
            let mut error = faults::of_answer(what, answer, &self.situation);
            if refused {
                let refused = Error::unauthenticated("");
                error.kind = refused.kind;
                let host = self.situation.host;
                error.hint = Some(match self.credential {
                    Some(_) => {
                        format!("the stored credential is not accepted; renew it with `coop registry login {host}`")
                    }
                    None => format!("log in with `coop registry login {host}`"),
                });
            }
            return Err(error);
        }
        let server = answer.url.authority().to_owned();
        let wrong = |why: &str| Error::conflict(what.to_owned()).because(format!("{server} {why}"));
        let (bytes, more) = answer.read(LARGEST_ANSWER)?;
        let issued: Issued = match serde_json::from_slice(&bytes) {
            Ok(issued) if !more => issued,
            _ => return Err(wrong("answers something that is no token")),
        };
        let token = if issued.token.is_empty() { issued.access_token } else { issued.token };
        if token.is_empty() || token.len() > LONGEST_TOKEN || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(wrong("answers a token that cannot be sent"));
        }
        let seconds = issued.expires_in.unwrap_or(SHORTEST_LIFE.into());
        // A cast saturates, so that what is not sensible becomes a bound.
        Ok((token, (seconds as u32).clamp(0, LONGEST_LIFE)))
    }

    fn keep(&self, header: String, seconds: u32) {
        if let Some(seconds) = seconds.checked_sub(MARGIN).filter(|seconds| *seconds > 0) {
            self.edge.memory.set(&self.token_key(), header.as_bytes(), seconds);
        }
        *self.header.borrow_mut() = Some(header);
    }

    fn recall(&self) {
        if !self.remember {
            return;
        }
        let known = if self.edge.memory.get(&self.basic_key()).is_some() {
            self.basic()
        } else {
            self.edge.memory.get(&self.token_key()).and_then(|bytes| String::from_utf8(bytes).ok())
        };
        *self.header.borrow_mut() = known;
    }

    /// No part can contain the separator: URLs and scopes have no control characters, and a user name is escaped.
    fn token_key(&self) -> String {
        let mut scopes = self.scopes.borrow().clone();
        scopes.sort();
        let user = self.credential.map_or_else(String::new, |c| format!("{:?}{}", c.username, c.identity_token));
        format!("token\n{}\n{user}\n{}", self.registry, scopes.join("\n"))
    }

    fn basic_key(&self) -> String {
        format!("basic\n{}", self.registry)
    }
}

/// Whether the scope `have` allows all that `wanted` does.
fn covers(have: &str, wanted: &str) -> bool {
    let split = |scope: &str| scope.rsplit_once(':').map(|(what, actions)| (what.to_owned(), actions.to_owned()));
    match (split(have), split(wanted)) {
        (Some((have, allowed)), Some((what, actions))) if have == what => {
            actions.split(',').all(|action| allowed.split(',').any(|a| a == action))
        }
        _ => have == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn scopes_cover_scopes() {
        for (have, wanted, expected) in [
            ("repository:a:pull,push", "repository:a:pull", true),
            ("repository:a:pull,push", "repository:a:push,pull", true),
            ("repository:a:pull", "repository:a:pull,push", false),
            ("repository:ab:pull", "repository:a:pull", false),
            ("x", "x", true),
            ("x", "y", false),
        ] {
            assert_eq!(covers(have, wanted), expected, "{have} {wanted}");
        }
    }
}
