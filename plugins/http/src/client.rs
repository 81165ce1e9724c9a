//! Sends a call: along its redirects, again after passing faults, until an answer has a status that was expected. It
//! knows nothing of what becomes of the answer.

use std::rc::Rc;

use cooperage_sdk::http::{Headers, Url};
use cooperage_sdk::{Error, ErrorKind, Result};

use crate::edge::{Answer, Deadline, Edge, Exchange, Material};
use crate::faults;
use crate::patience::Patience;
use crate::plan::Call;
use crate::url::shown;

const LONGEST_LOCATION: usize = 16 << 10;

/// One call, which may take several exchanges.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    /// The outside.
    pub edge: Edge<'a>,
    /// The call.
    pub call: &'a Call,
}

/// What a redirect may have changed.
struct Hop<'a> {
    method: String,
    url: Url,
    headers: Headers,
    payload: &'a [Rc<dyn Material>],
}

impl<'a> Client<'a> {
    /// For a call.
    #[must_use]
    pub fn new(edge: Edge<'a>, call: &'a Call) -> Self {
        Self { edge, call }
    }

    /// What could not be done, for messages.
    #[must_use]
    pub fn what(&self) -> String {
        format!("{} {} failed", self.call.method, shown(&self.call.url))
    }

    /// Sends until there is an answer with a right status.
    ///
    /// # Errors
    /// Those of the network, and that of the last answer.
    pub fn send(&self, patience: &mut Patience) -> Result<Answer> {
        self.send_with(patience, &[], &|status| self.call.expect.has(status))
    }

    /// The same with further header fields, and other right statuses.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub fn send_with(
        &self,
        patience: &mut Patience,
        fields: &[(&str, String)],
        right: &dyn Fn(u16) -> bool,
    ) -> Result<Answer> {
        loop {
            let error = match self.attempt_with(fields) {
                Ok(answer) if right(answer.status) => return Ok(answer),
                Ok(answer) => self.fault(answer),
                Err(error) => error,
            };
            self.again(patience, error)?;
        }
    }

    /// Waits before the next try, if there may be one.
    ///
    /// # Errors
    /// The error itself, if there may not.
    pub fn again(&self, patience: &mut Patience, error: Error) -> Result<()> {
        if self.call.repeatable { patience.again(self.edge.clock, error) } else { Err(error) }
    }

    /// One try. An answer of any status is no error.
    ///
    /// # Errors
    /// Those of the network; `denied` for a redirect that leads astray.
    pub fn attempt(&self) -> Result<Answer> {
        self.attempt_with(&[])
    }

    fn attempt_with(&self, fields: &[(&str, String)]) -> Result<Answer> {
        self.follow(fields).map_err(|error| error.context(self.what()))
    }

    /// The error for an answer that is not a right one.
    pub fn fault(&self, answer: Answer) -> Error {
        let redirect = is_redirect(answer.status).then(|| self.why_not_followed(&answer));
        let mut error = faults::of_answer(&self.what(), answer, self.call.has_credential, self.edge.clock.now());
        if let Some((cause, hint)) = redirect {
            error = error.because(cause);
            error.hint = hint;
        }
        error
    }

    fn why_not_followed(&self, answer: &Answer) -> (String, Option<String>) {
        let to = match location(answer) {
            Ok(to) => shown(&to),
            Err(error) => return (error.message, None),
        };
        let hint = match self.call.redirects {
            0 => "allow it with `redirects`, or call the new URL",
            _ => "call the new URL: only a GET or HEAD follows this kind of redirect",
        };
        (format!("it redirects to {to}"), Some(hint.to_owned()))
    }

    fn follow(&self, fields: &[(&str, String)]) -> Result<Answer> {
        let call = self.call;
        let mut headers = call.headers.clone();
        fields.iter().for_each(|(name, value)| headers.set(name, value.clone()));
        let payload = &call.payload.materials[..];
        let mut hop = Hop { method: call.method.clone(), url: call.url.clone(), headers, payload };
        let deadline = call.timeout.map(Deadline::after);
        let mut left = call.redirects;
        loop {
            let exchange = Exchange {
                method: hop.method.clone(),
                url: hop.url.clone(),
                headers: hop.headers.clone(),
                payload: hop.payload.to_vec(),
                deadline,
            };
            let answer = self.edge.http.send(&exchange).map_err(|error| self.after_redirects(error, &hop.url))?;
            if call.expect.has(answer.status) || !follows(&hop.method, answer.status) || call.redirects == 0 {
                return Ok(answer);
            }
            if left == 0 {
                let why = format!("it redirects more than {} times, last to {}", call.redirects, shown(&hop.url));
                return Err(Error::conflict(why).hint("allow more with `redirects`"));
            }
            left -= 1;
            self.redirect(&mut hop, &answer)?;
        }
    }

    /// Says how the request got to a place that the user has not named.
    fn after_redirects(&self, error: Error, url: &Url) -> Error {
        if *url == self.call.url {
            return error;
        }
        let mut error = error.context(format!("it redirects to {}", shown(url)));
        if error.kind == ErrorKind::Denied && error.hint.is_none() {
            error.hint = Some("if it is right to go there, name that place in `url`".to_owned());
        }
        error
    }

    fn redirect(&self, hop: &mut Hop, answer: &Answer) -> Result<()> {
        let to = location(answer)?;
        if answer.status == 303 && hop.method != "HEAD" {
            "GET".clone_into(&mut hop.method);
            hop.payload = &[];
            hop.headers.remove("content-type");
        }
        if !to.same_origin(&hop.url) {
            if !hop.payload.is_empty() && self.call.payload.is_secret {
                return Err(Error::denied(format!("it redirects to {}, but the body has a secret", shown(&to)))
                    .hint("call the new URL, if it may know the secret"));
            }
            // What proves who the user is, is for the origin that the user named.
            self.call.private.iter().for_each(|name| hop.headers.remove(name));
        }
        hop.url = to;
        Ok(())
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// A 301 or 302 leaves open whether the method stays, so it is followed only where that makes no difference.
fn follows(method: &str, status: u16) -> bool {
    match status {
        303 | 307 | 308 => true,
        301 | 302 => matches!(method, "GET" | "HEAD"),
        _ => false,
    }
}

/// Where an answer points at.
fn location(answer: &Answer) -> Result<Url> {
    let from = &answer.url;
    let location = answer.headers.get("location").unwrap_or_default();
    if location.is_empty() || location.len() > LONGEST_LOCATION {
        return Err(Error::conflict(format!("{} redirects without saying where to", from.authority())));
    }
    let to = from.join(location).map_err(|error| error.context(format!("{} redirects astray", from.authority())))?;
    if from.is_https() && !to.is_https() {
        return Err(Error::denied(format!("{} redirects to {} without encryption", from.authority(), shown(&to)))
            .hint("if that is right, call the new URL"));
    }
    Ok(to)
}
