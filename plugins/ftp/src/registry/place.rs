//! Where a repository is: from what the host says of it, and the settings that the user gave its registry.

use cooperage_sdk::roles::registry::Repository;
use cooperage_sdk::{Error, Result};

use super::layout;
use crate::paths;
use crate::server::{self, Login, Server, Tls};

/// More than a task has: pushes and pulls have nobody who would try again.
const RETRIES: u32 = 5;

/// A repository on a server.
pub struct Place {
    /// The server.
    pub server: Server,
    /// How often to try again.
    pub retries: u32,
    root: String,
    repository: String,
}

impl Place {
    /// Of a repository. An empty name is the server as a whole, for logging in.
    ///
    /// # Errors
    /// `invalid-input` for what is malformed, `unsupported` for settings that are not known.
    pub fn new(repository: &Repository) -> Result<Self> {
        if !repository.name.is_empty() {
            layout::check_repository(&repository.name)?;
        }
        let (host, port) = server::authority(&repository.host)
            .map_err(|why| Error::invalid_input(format!("{:?} is no host: {why}", repository.host)))?;
        let settings = Settings::read(repository)?;
        let tls = settings.tls.unwrap_or(match (port, repository.plain_http) {
            (Some(990), _) => Tls::Implicit,
            (_, true) => Tls::None,
            (_, false) => Tls::Explicit,
        });
        let login = match &repository.credential {
            None => Login::anonymous(),
            Some(credential) if credential.identity_token => {
                return Err(Error::unsupported(format!("FTP knows no identity tokens, and {host} has one"))
                    .hint("log in with a user name and a password"));
            }
            Some(credential) => Login::new(&credential.username, Some(credential.password.clone()))?,
        };
        let idle = server::patience(settings.timeout)?;
        let server = Server { host, port: port.unwrap_or(server::port(tls)), tls, login, idle };
        Ok(Self {
            server,
            retries: settings.retries.unwrap_or(RETRIES),
            root: settings.root,
            repository: repository.name.clone(),
        })
    }

    /// The directory of the layout: below the user's own, unless `root` is absolute.
    #[must_use]
    pub fn directory(&self) -> String {
        let slash = if self.root.starts_with('/') { "/" } else { "" };
        let joined = paths::join(&self.root, &self.repository);
        format!("{slash}{}", joined.trim_start_matches('/'))
    }

    /// `host/name`, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.server.authority(), self.repository)
    }
}

#[derive(Default)]
struct Settings {
    tls: Option<Tls>,
    root: String,
    timeout: Option<u32>,
    retries: Option<u32>,
}

impl Settings {
    fn read(repository: &Repository) -> Result<Self> {
        let mut settings = Self::default();
        for (name, value) in &repository.options {
            let wrong = |expected: &str| {
                Error::invalid_input(format!("{name} of {} is {value:?}, and not {expected}", repository.host))
            };
            let number = || value.parse::<u32>().map_err(|_| wrong("a number"));
            match name.as_str() {
                "tls" => {
                    settings.tls = Some(match value.as_str() {
                        "none" => Tls::None,
                        "explicit" => Tls::Explicit,
                        "implicit" => Tls::Implicit,
                        _ => return Err(wrong("none, explicit or implicit")),
                    });
                }
                "root" => {
                    paths::check(value)?;
                    settings.root.clone_from(value);
                }
                "timeout" => settings.timeout = Some(number()?),
                "retries" => settings.retries = Some(number()?.min(20)),
                _ => {
                    return Err(Error::unsupported(format!("{} has the setting {name}", repository.host))
                        .hint("a registry on an FTP server knows `tls`, `root`, `timeout` and `retries`"));
                }
            }
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::roles::registry::Credential;

    use super::*;

    fn repository(host: &str, plain_http: bool, options: &[(&str, &str)]) -> Repository {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Repository { host: host.into(), name: "team/app".into(), plain_http, credential: None, options }
    }

    #[test]
    fn places() {
        for (host, plain, options, expected) in [
            ("ftp.example", false, &[][..], ("ftpes://ftp.example/", "team/app")),
            ("ftp.example", true, &[], ("ftp://ftp.example/", "team/app")),
            ("ftp.example:990", false, &[], ("ftps://ftp.example/", "team/app")),
            ("localhost:2121", true, &[("tls", "explicit")], ("ftpes://localhost:2121/", "team/app")),
            ("a", false, &[("tls", "none"), ("root", "images/")], ("ftp://a/", "images/team/app")),
            ("a", false, &[("tls", "implicit"), ("root", "/srv/oci")], ("ftps://a/", "/srv/oci/team/app")),
        ] {
            let place = Place::new(&repository(host, plain, options)).unwrap();
            assert_eq!((place.server.url("/").as_str(), place.directory().as_str()), expected, "{host}");
        }
    }

    #[test]
    fn settings_that_make_no_sense() {
        for options in [("tls", "yes"), ("root", "../x"), ("timeout", "0"), ("retries", "-1"), ("chunk-size", "5")] {
            assert!(Place::new(&repository("a", false, &[options])).is_err(), "{options:?}");
        }
        let mut token = repository("a", false, &[]);
        token.credential = Some(Credential { username: String::new(), password: "t".into(), identity_token: true });
        assert!(Place::new(&token).is_err());
        let mut name = repository("a", false, &[]);
        name.name = "../x".into();
        assert!(Place::new(&name).is_err());
    }
}
