//! Which server, how protected, and who the user is: from URLs, parameters and repositories, checked.

use std::time::Duration;

use cooperage_sdk::secrets::Secret;
use cooperage_sdk::{Error, Result, warn};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::url::Url;

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Not at all.
    None,
    /// By TLS that begins after the greeting (`AUTH TLS`, RFC 4217).
    Explicit,
    /// By TLS from the first byte on, usually on port 990.
    Implicit,
}

/// Who the user is.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Option<String>,
}

impl Login {
    /// What public servers take.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { username: "anonymous".to_owned(), password: Some("cooperage@".to_owned()) }
    }

    /// A user name without a password, or with one. Neither can hold what would end a command.
    ///
    /// # Errors
    /// `invalid-input`, without the value.
    pub fn new(username: &str, password: Option<String>) -> Result<Self> {
        for (name, value) in [("user name", Some(username)), ("password", password.as_deref())] {
            if value.is_some_and(|value| value.contains(['\r', '\n', '\0'])) {
                return Err(Error::invalid_input(format!("the {name} contains a line break, which FTP cannot carry")));
            }
        }
        if username.is_empty() {
            return Err(Error::invalid_input("the user name is empty"));
        }
        if username == "anonymous" && password.is_none() {
            return Ok(Self::anonymous());
        }
        Ok(Self { username: username.to_owned(), password })
    }
}

/// How to reach a server, as parameters say it.
pub struct Access<'p> {
    /// User name.
    pub username: Option<&'p str>,
    /// Password.
    pub password: Option<&'p Secret>,
    /// Protection.
    pub tls: Option<Tls>,
    /// Seconds of patience.
    pub timeout: Option<u32>,
    /// Tries after the first.
    pub retries: Option<u32>,
}

/// Seconds that a read or write may take when nothing is said.
const PATIENCE: u32 = 60;
const LONGEST: u32 = 3600;
const RETRIES: u32 = 3;
const MOST_RETRIES: u32 = 20;

impl Access<'_> {
    /// The server of a URL, and how often to try again. `reveal` gives the value of a secret.
    ///
    /// # Errors
    /// `invalid-input` for what contradicts itself, and those of `reveal`.
    pub fn server(&self, url: &Url, reveal: &dyn Fn(&str) -> Result<String>) -> Result<(Server, u32)> {
        let (port, tls) = url.protection(self.tls)?;
        let username = match (self.username, url.username.as_deref()) {
            (Some(one), Some(other)) if one != other => {
                return Err(Error::invalid_input("the URL and `username` name different users"));
            }
            (one, other) => one.or(other),
        };
        let password = self.password.map(|secret| reveal(&secret.secret)).transpose()?;
        let login = match username {
            Some(username) => Login::new(username, password)?,
            None if password.is_some() => {
                return Err(Error::invalid_input("there is a password but no user name").hint("add `username`"));
            }
            None => Login::anonymous(),
        };
        let server = Server { host: url.host.clone(), port, tls, login, idle: patience(self.timeout)? };
        let retries = self.retries.unwrap_or(RETRIES);
        if retries > MOST_RETRIES {
            return Err(Error::invalid_input(format!("{retries} are too many retries, {MOST_RETRIES} the most")));
        }
        if server.tls == Tls::None && self.password.is_some() && !server.is_near() {
            warn!("the password goes to {} in clear; `tls: explicit` protects it", server.authority());
        }
        Ok((server, retries))
    }
}

/// How long a read or write may take.
///
/// # Errors
/// `invalid-input` if it is nothing or too long.
pub fn patience(seconds: Option<u32>) -> Result<Duration> {
    let seconds = seconds.unwrap_or(PATIENCE);
    if (1..=LONGEST).contains(&seconds) {
        return Ok(Duration::from_secs(seconds.into()));
    }
    Err(Error::invalid_input(format!("`timeout` is {seconds} seconds, and not from 1 to {LONGEST}")))
}

/// A server and how to be let in.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port of the control connection.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// Who the user is.
    pub login: Login,
    /// How long each read and write may take.
    pub idle: Duration,
}

impl Server {
    /// `host` or `host:port`, for messages.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == port(self.tls) { host } else { format!("{host}:{}", self.port) }
    }

    /// Whether what is sent does not leave this machine.
    #[must_use]
    pub fn is_near(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The URL of a path, without user name.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let scheme = match self.tls {
            Tls::None => "ftp",
            Tls::Explicit => "ftpes",
            Tls::Implicit => "ftps",
        };
        format!("{scheme}://{}/{}", self.authority(), path.trim_start_matches('/'))
    }
}

/// The port that is meant when none is named.
#[must_use]
pub fn port(tls: Tls) -> u16 {
    if tls == Tls::Implicit { 990 } else { 21 }
}

/// Host and port of `host`, `host:port`, `[address]:port`.
///
/// # Errors
/// Why it is none of these, without the text: in a URL it may hold a password.
pub fn authority(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("a bracket is open")?;
            let port = match after {
                "" => None,
                after => Some(after.strip_prefix(':').ok_or("no port follows the address")?),
            };
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("brackets are for IPv6 addresses");
            }
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None | Some("") => None,
        Some(port) => {
            let number = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse::<u16>().ok()).flatten();
            Some(number.filter(|port| *port != 0).ok_or("the port is no number from 1 to 65535")?)
        }
    };
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(plain) {
        return Err("it contains what no name of a host has");
    }
    Ok((host.to_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        let host = |name: &str, port| Some((name.to_owned(), port));
        for (text, expected) in [
            ("ftp.example", host("ftp.example", None)),
            ("FTP.Example:2121", host("ftp.example", Some(2121))),
            ("[::1]:21", host("::1", Some(21))),
            ("[::1]", host("::1", None)),
            ("a:", host("a", None)),
            ("", None),
            (":21", None),
            ("a:0", None),
            ("a:+21", None),
            ("a:65536", None),
            ("a:b", None),
            ("a b", None),
            ("a\r\nb", None),
            ("[::1", None),
            ("[a]:21", None),
            ("a/b", None),
            ("u@a", None),
        ] {
            assert_eq!(authority(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn logins_cannot_hold_commands() {
        assert!(Login::new("a\r\nDELE x", None).is_err());
        let error = Login::new("a", Some("geheim\nDELE x".into())).err().unwrap();
        assert!(!error.message.contains("geheim"));
        assert!(Login::new("", None).is_err());
        assert!(Login::new("anonymous", None).unwrap().password.is_some());
    }

    #[test]
    fn urls_for_people() {
        let server = |host: &str, port, tls| Server {
            host: host.into(),
            port,
            tls,
            login: Login::anonymous(),
            idle: Duration::from_secs(1),
        };
        for (server, expected) in [
            (server("a", 21, Tls::None), "ftp://a/x"),
            (server("a", 2121, Tls::Explicit), "ftpes://a:2121/x"),
            (server("::1", 990, Tls::Implicit), "ftps://[::1]/x"),
        ] {
            assert_eq!(server.url("/x"), expected);
        }
    }
}
