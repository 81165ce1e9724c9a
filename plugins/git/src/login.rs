//! What proves to a server who asks: a header for one origin, known from the start or looked for once the server wants
//! it. It goes to no other origin, wherever redirects and submodules lead.

use std::cell::RefCell;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cooperage_sdk::http::Url;
use cooperage_sdk::{Error, Result};

/// The name that goes with a token where the token is all that counts.
const TOKEN_USER: &str = "x-access-token";

/// Looks for the value of the header `authorization`.
pub type Ask<'a> = dyn Fn() -> Result<Option<String>> + 'a;

/// The value of the header `authorization` for one origin.
pub struct Login<'a> {
    origin: Url,
    header: RefCell<Option<String>>,
    ask: Option<Box<Ask<'a>>>,
}

impl<'a> Login<'a> {
    /// With what is known: a header, or that there is none.
    ///
    /// # Errors
    /// `invalid-input` if the value cannot be that of a header.
    pub fn known(origin: &Url, header: Option<String>) -> Result<Self> {
        header.as_deref().map_or(Ok(()), checked)?;
        Ok(Self { origin: origin.clone(), header: RefCell::new(header), ask: None })
    }

    /// With what is looked for once the server asks.
    pub fn on_demand(origin: &Url, ask: impl Fn() -> Result<Option<String>> + 'a) -> Self {
        Self { origin: origin.clone(), header: RefCell::new(None), ask: Some(Box::new(ask)) }
    }

    /// Whether requests to this URL may carry it.
    #[must_use]
    pub fn is_for(&self, url: &Url) -> bool {
        self.origin.same_origin(url)
    }

    /// The header for a request to this URL.
    #[must_use]
    pub fn header(&self, url: &Url) -> Option<String> {
        self.header.borrow().clone().filter(|_| self.is_for(url))
    }

    /// Whether there is a header now that was not there before.
    ///
    /// # Errors
    /// Those of looking for it.
    pub fn look(&self, url: &Url) -> Result<bool> {
        let Some(ask) = self.ask.as_deref().filter(|_| self.is_for(url) && self.header.borrow().is_none()) else {
            return Ok(false);
        };
        let header = ask()?;
        header.as_deref().map_or(Ok(()), checked)?;
        *self.header.borrow_mut() = header;
        Ok(self.header.borrow().is_some())
    }
}

/// The header for a name and a password.
#[must_use]
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// The header for a token, as the large forges take it.
#[must_use]
pub fn token(token: &str) -> String {
    basic(TOKEN_USER, token)
}

fn checked(header: &str) -> Result<()> {
    // The value itself must not be told.
    if header.is_empty() || header.chars().any(|c| c.is_control() || !c.is_ascii()) {
        return Err(Error::invalid_input("a secret cannot be the value of an `authorization` header")
            .because("it is empty, or has line ends or other characters that are not printable ASCII"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn headers_stay_at_their_origin() {
        let login = Login::known(&url("https://git.example/a.git"), Some(basic("alice", "s3cret"))).unwrap();
        assert_eq!(login.header(&url("https://git.example/b")).unwrap(), "Basic YWxpY2U6czNjcmV0");
        for other in ["http://git.example/a.git", "https://git.example:8443/a.git", "https://evil.example/a.git"] {
            assert_eq!(login.header(&url(other)), None, "{other}");
            assert!(!login.look(&url(other)).unwrap());
        }
    }

    #[test]
    fn what_is_asked_for_is_asked_for_once() {
        let times = std::cell::Cell::new(0);
        let origin = url("https://git.example/a.git");
        let login = Login::on_demand(&origin, || {
            times.set(times.get() + 1);
            Ok(Some(token("t")))
        });
        assert_eq!(login.header(&origin), None);
        assert!(login.look(&origin).unwrap());
        assert!(!login.look(&origin).unwrap());
        assert_eq!(times.get(), 1);
        assert_eq!(login.header(&origin).unwrap(), basic("x-access-token", "t"));
    }

    #[test]
    fn headers_are_one_line() {
        let origin = url("https://git.example/a.git");
        for header in ["", "Bearer a\r\nHost: b", "Bearer \u{e9}"] {
            let error = Login::known(&origin, Some(header.to_owned())).err().unwrap();
            assert!(!error.message.contains("Bearer"));
        }
    }
}
