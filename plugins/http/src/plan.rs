//! From parameters to a request that can be sent, an expectation and a use for the answer. Whatever contradicts itself is
//! found here, before anything is sent.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cooperage_sdk::http::{Headers, Url};
use cooperage_sdk::{Error, Result};

use crate::edge::Edge;
use crate::outputs::Wanted;
use crate::parameters::Parameters;
use crate::payload::{self, Payload};
use crate::poll::Waiting;
use crate::save::Target;
use crate::status::Statuses;
use crate::url;
use crate::value::{Text, Texts};

const USER_AGENT: &str = concat!("cooperage-http/", env!("CARGO_PKG_VERSION"));
/// Tries after the first one.
pub const RETRIES: u32 = 3;
const MOST_RETRIES: u32 = 20;
/// Redirects followed unless something else is asked for.
pub const REDIRECTS: u32 = 10;
const MOST_REDIRECTS: u32 = 50;
/// A day, in seconds.
const LONGEST_TIMEOUT: u64 = 86_400;
/// What the host writes, because it frames requests and keeps connections.
const OF_THE_HOST: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// A request that can be sent, more than once if need be.
pub struct Call {
    /// In capitals.
    pub method: String,
    /// Where to.
    pub url: Url,
    /// Header fields.
    pub headers: Headers,
    /// Names of the fields that no other origin may see.
    pub private: BTreeSet<String>,
    /// Whether it proves who the user is.
    pub has_credential: bool,
    /// What to send.
    pub payload: Payload,
    /// The statuses that are right.
    pub expect: Statuses,
    /// Tries after the first one.
    pub retries: u32,
    /// Whether it may be sent again after a fault that left open if it was done.
    pub repeatable: bool,
    /// For one try.
    pub timeout: Option<Duration>,
    /// How many to follow.
    pub redirects: u32,
}

/// A call and what becomes of its answer.
pub struct Plan {
    /// The call.
    pub call: Call,
    /// Values for later steps.
    pub wanted: Vec<(String, Wanted)>,
    /// The file to make of the body.
    pub target: Option<Target>,
    /// What to wait for.
    pub waiting: Option<Waiting>,
}

impl Call {
    /// A GET with nothing special about it.
    #[must_use]
    pub fn get(url: Url) -> Self {
        let mut headers = Headers::default();
        defaults(&mut headers);
        Self {
            method: "GET".to_owned(),
            url,
            headers,
            private: BTreeSet::new(),
            has_credential: false,
            payload: Payload::default(),
            expect: Statuses::success(),
            retries: RETRIES,
            repeatable: true,
            timeout: None,
            redirects: REDIRECTS,
        }
    }
}

impl Plan {
    /// Checks the parameters, reveals the secrets and opens what is to be sent.
    ///
    /// # Errors
    /// `invalid-input` for parameters that contradict each other, and those of secrets, files and images.
    pub fn new(parameters: &Parameters, edge: &Edge) -> Result<Self> {
        let read = |(name, from): (&String, &String)| Ok((name.clone(), Wanted::read(name, from)?));
        let wanted = parameters.outputs.iter().map(read).collect::<Result<_>>()?;
        let target = Target::read(parameters)?;
        let waiting = parameters.until.as_ref().map(Waiting::read).transpose()?;
        let mut plan = Self { call: call(parameters, edge)?, wanted, target, waiting };
        plan.check(parameters)?;
        if let Some(statuses) = plan.waiting.as_ref().and_then(Waiting::statuses) {
            plan.call.expect = statuses.clone();
        }
        Ok(plan)
    }

    fn check(&self, parameters: &Parameters) -> Result<()> {
        let wrong = |why: String| Err(Error::invalid_input(why));
        let method = &self.call.method;
        if let Some(waiting) = &self.waiting {
            if waiting.statuses().is_some() && parameters.expect.is_some() {
                return wrong(
                    "`expect` has no meaning beside the `status` of `until`, which says what is right".into(),
                );
            }
            if self.target.is_some() {
                return wrong("`until` and `save` do not go together: wait in one step, and save in the next".into());
            }
            if parameters.retries.is_some() {
                return wrong("`until` asks again anyway; say how often with its `every` and `at_most`".into());
            }
            if !self.call.repeatable {
                return Err(Error::invalid_input(format!("`until` would send a {method} again and again"))
                    .hint("add `retry_unsafe: true` if that does no harm"));
            }
        }
        if self.target.is_some() {
            if method == "HEAD" {
                return wrong("the answer to a HEAD has no body to save".into());
            }
            if let Some((name, _)) = self.wanted.iter().find(|(_, wanted)| wanted.needs_body()) {
                return wrong(format!("output `{name}` is in the body of the answer, which `save` makes a file of"));
            }
        }
        Ok(())
    }
}

fn call(parameters: &Parameters, edge: &Edge) -> Result<Call> {
    payload::check(parameters)?;
    let mut url = url::parse(&parameters.url)?;
    let (headers, private) = headers(parameters, edge)?;
    let named = method(parameters)?;
    for (name, texts) in &parameters.query {
        for text in texts.all() {
            url = url.with_parameter(name, &text.reveal(edge.vault)?);
        }
    }
    if parameters.timeout.is_some_and(|seconds| !(1..=LONGEST_TIMEOUT).contains(&seconds)) {
        return Err(Error::invalid_input(format!("`timeout` is not between 1 and {LONGEST_TIMEOUT} seconds")));
    }
    if parameters.redirects.is_some_and(|redirects| redirects > MOST_REDIRECTS) {
        return Err(Error::invalid_input(format!("`redirects` is more than {MOST_REDIRECTS}")));
    }
    let payload = payload::of(parameters, edge)?;
    let method = named.unwrap_or_else(|| default_method(&payload).to_owned());
    if matches!(method.as_str(), "HEAD" | "TRACE") && !payload.materials.is_empty() {
        return Err(Error::invalid_input(format!("a {method} has no body")));
    }
    let repeatable = parameters.retry_unsafe || is_idempotent(&method) || headers.get("idempotency-key").is_some();
    let headers = with_media_type(headers, &payload)?;
    let secret_query = parameters.query.values().flat_map(Texts::all).any(Text::is_secret);
    Ok(Call {
        retries: retries(parameters, &method, repeatable)?,
        url,
        headers,
        has_credential: !private.is_empty() || secret_query,
        private,
        payload,
        expect: parameters.expect.as_ref().map_or_else(|| Ok(Statuses::success()), Statuses::read)?,
        repeatable,
        timeout: parameters.timeout.map(Duration::from_secs),
        redirects: parameters.redirects.unwrap_or(REDIRECTS),
        method,
    })
}

/// What RFC 9110 calls idempotent.
fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

fn method(parameters: &Parameters) -> Result<Option<String>> {
    let Some(method) = &parameters.method else { return Ok(None) };
    let is_token =
        !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !is_token {
        return Err(Error::invalid_input(format!("{method:?} is no method")));
    }
    let method = method.to_ascii_uppercase();
    if method == "CONNECT" {
        return Err(Error::invalid_input("the method CONNECT is for proxies"));
    }
    Ok(Some(method))
}

fn default_method(payload: &Payload) -> &'static str {
    match payload {
        Payload { is_upload: true, .. } => "PUT",
        Payload { materials, .. } if !materials.is_empty() => "POST",
        _ => "GET",
    }
}

fn retries(parameters: &Parameters, method: &str, repeatable: bool) -> Result<u32> {
    match parameters.retries {
        None if repeatable => Ok(RETRIES),
        None => Ok(0),
        Some(retries) if retries > MOST_RETRIES => {
            Err(Error::invalid_input(format!("`retries` is more than {MOST_RETRIES}")))
        }
        Some(retries) if retries > 0 && !repeatable => Err(Error::invalid_input(format!(
            "a {method} is not sent twice, because it could be done twice"
        ))
        .hint("add `retry_unsafe: true` if that does no harm, or a header `idempotency-key` if the far side knows it")),
        Some(retries) => Ok(retries),
    }
}

/// The header fields, and the names of those that are for this origin alone.
fn headers(parameters: &Parameters, edge: &Edge) -> Result<(Headers, BTreeSet<String>)> {
    let Parameters { headers: named, bearer, basic, .. } = parameters;
    let mut headers = Headers::default();
    let mut private = BTreeSet::new();
    let mut add = |name: &str, value: String, secret: bool| {
        check_field(name, &value)?;
        let name = name.to_ascii_lowercase();
        if headers.get(&name).is_some() {
            return Err(Error::invalid_input(format!("the header `{name}` is given twice")));
        }
        if secret || matches!(name.as_str(), "authorization" | "cookie" | "proxy-authorization") {
            private.insert(name.clone());
        }
        headers.append(name, value);
        Ok(())
    };
    for (name, text) in named {
        add(name, text.reveal(edge.vault)?, text.is_secret())?;
    }
    let both = bearer.is_some() && basic.is_some();
    let twice =
        (bearer.is_some() || basic.is_some()) && named.keys().any(|name| name.eq_ignore_ascii_case("authorization"));
    if both || twice {
        return Err(Error::invalid_input("a request has one of `bearer`, `basic` and the header `authorization`"));
    }
    if let Some(token) = bearer {
        add("authorization", format!("Bearer {}", token.reveal(edge.vault)?), true)?;
    }
    if let Some(basic) = basic {
        let (username, password) = (basic.username.reveal(edge.vault)?, basic.password.reveal(edge.vault)?);
        if username.contains(':') {
            return Err(Error::invalid_input("a `username` has no colon"));
        }
        add("authorization", format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))), true)?;
    }
    defaults(&mut headers);
    Ok((headers, private))
}

fn defaults(headers: &mut Headers) {
    // Bytes as they are: a compressed answer could neither be continued nor be read.
    for (name, value) in [("accept", "*/*"), ("accept-encoding", "identity"), ("user-agent", USER_AGENT)] {
        if headers.get(name).is_none() {
            headers.append(name, value);
        }
    }
}

fn with_media_type(mut headers: Headers, payload: &Payload) -> Result<Headers> {
    let Some(media_type) = &payload.media_type else { return Ok(headers) };
    if headers.get("content-type").is_none() {
        headers.append("content-type", media_type.clone());
    } else if payload.media_type_is_fixed {
        return Err(Error::invalid_input("the header `content-type` of a `multipart` is made with its body"));
    }
    Ok(headers)
}

/// The value is not shown: it may be secret.
fn check_field(name: &str, value: &str) -> Result<()> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(Error::invalid_input(format!("{name:?} is no name of a header")));
    }
    if OF_THE_HOST.iter().any(|of_host| name.eq_ignore_ascii_case(of_host)) {
        return Err(Error::invalid_input(format!(
            "the header `{name}` cannot be set, because it belongs to the connection"
        )));
    }
    if value.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control()) {
        let why = format!("the value of the header `{name}` has a line end or another control character");
        return Err(Error::invalid_input(why));
    }
    Ok(())
}
