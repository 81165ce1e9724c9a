//! Names of images as engines have them: from the routing of Cooperage to the engine's, into paths of requests, and
//! apart again. Knows no requests.

use cooperage_sdk::names::is_digest;
use cooperage_sdk::roles::registry::Repository;
use cooperage_sdk::{Error, Result};

/// The host in names that mean the engine's own names: `docker.local/app:1` is `app:1` there.
pub const OWN_HOST: &str = "docker.local";
const HUB: &str = "docker.io";
/// What the host of Cooperage connects to for images of Docker Hub.
const HUB_REGISTRY: &str = "registry-1.docker.io";

/// The name without a tag that a repository has in the engine.
///
/// # Errors
/// `invalid-input` for a name that no engine takes.
pub fn of_repository(repository: &Repository) -> Result<String> {
    let Repository { host, name, .. } = repository;
    let name = match host.as_str() {
        OWN_HOST => name.clone(),
        HUB_REGISTRY => format!("{HUB}/{name}"),
        host => format!("{host}/{name}"),
    };
    check(&name)?;
    Ok(name)
}

/// Refuses what does not stay within one path of a request, or could mean another one.
///
/// # Errors
/// `invalid-input`.
pub fn check(name: &str) -> Result<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    let parts = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if parts && !name.contains("..") && name.bytes().all(plain) {
        return Ok(name);
    }
    Err(Error::invalid_input(format!("{name:?} is no name of an image")).hint("write `NAME:TAG` or `HOST/NAME:TAG`"))
}

/// The name and the tag, which is `latest` unless there is one.
///
/// # Errors
/// `invalid-input` for a name that no engine takes, or with a digest.
pub fn split(reference: &str) -> Result<(&str, &str)> {
    check(reference)?;
    if reference.contains('@') || is_digest(reference) {
        return Err(Error::invalid_input(format!("{reference} names an image by its digest, which is no new name"))
            .hint("write `NAME:TAG`"));
    }
    if has_capitals(reference) {
        return Err(Error::invalid_input(format!("{reference:?} is no name of an image: it has capitals")));
    }
    let colon = reference.rfind(':').filter(|colon| !reference[*colon..].contains('/'));
    match colon {
        Some(colon) if colon > 0 && colon + 1 < reference.len() => Ok((&reference[..colon], &reference[colon + 1..])),
        Some(_) => Err(Error::invalid_input(format!("{reference:?} is no name of an image"))),
        None => Ok((reference, "latest")),
    }
}

/// Whether there are capitals where only a host and a tag may have them.
fn has_capitals(reference: &str) -> bool {
    let full = full(reference);
    let (_, path) = full.split_once('/').unwrap_or_default();
    path.split(':').next().is_some_and(|path| path.bytes().any(|byte| byte.is_ascii_uppercase()))
}

/// The same name as every engine writes it somewhere: with its host, and with `library/` for the Hub's own images.
#[must_use]
pub fn full(name: &str) -> String {
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    let has_host = first.contains(['.', ':']) || first == "localhost";
    let (host, path) = if has_host { (first, rest) } else { (HUB, name) };
    let host = if host == "index.docker.io" { HUB } else { host };
    if host == HUB && !path.contains('/') { format!("{HUB}/library/{path}") } else { format!("{host}/{path}") }
}

/// The registry that a name leads to, as engines look credentials up by it.
#[must_use]
pub fn registry(name: &str) -> String {
    let full = full(name);
    let host = full.split('/').next().unwrap_or_default();
    credential_host(host)
}

/// The key of a registry's credential.
#[must_use]
pub fn credential_host(host: &str) -> String {
    match host {
        HUB | "index.docker.io" | HUB_REGISTRY => "https://index.docker.io/v1/".to_owned(),
        host => host.to_owned(),
    }
}

/// Whether it is 64 hexadecimal digits.
#[must_use]
pub fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        let repository = |host: &str, name: &str| Repository {
            host: host.into(),
            name: name.into(),
            plain_http: false,
            credential: None,
            options: Vec::new(),
        };
        for (host, name, expected) in [
            ("docker.local", "app", Some("app")),
            ("docker.local", "localhost/app", Some("localhost/app")),
            ("registry-1.docker.io", "library/busybox", Some("docker.io/library/busybox")),
            ("localhost:5000", "team/app", Some("localhost:5000/team/app")),
            ("docker.local", "../x", None),
            ("docker.local", "a//b", None),
            ("docker.local", "a b", None),
            ("docker.local", "", None),
        ] {
            assert_eq!(of_repository(&repository(host, name)).ok().as_deref(), expected, "{host} {name}");
        }
    }

    #[test]
    fn names_and_tags() {
        for (reference, expected) in [
            ("app", Some(("app", "latest"))),
            ("team/app:1", Some(("team/app", "1"))),
            ("localhost:5000/app", Some(("localhost:5000/app", "latest"))),
            ("localhost:5000/app:1", Some(("localhost:5000/app", "1"))),
            ("localhost:5000/app:RC", Some(("localhost:5000/app", "RC"))),
            ("App:1", None),
            ("app:", None),
            (":1", None),
            ("app@sha256:00", None),
            ("a%2fb", None),
            ("a?b", None),
            ("sha256:0000000000000000000000000000000000000000000000000000000000000000", None),
        ] {
            assert_eq!(split(reference).ok(), expected, "{reference}");
        }
    }

    #[test]
    fn names_in_full() {
        for (name, expected) in [
            ("busybox", "docker.io/library/busybox"),
            ("docker.io/busybox", "docker.io/library/busybox"),
            ("team/app", "docker.io/team/app"),
            ("localhost/app", "localhost/app"),
            ("localhost:5000/app", "localhost:5000/app"),
            ("index.docker.io/team/app", "docker.io/team/app"),
        ] {
            assert_eq!(full(name), expected);
        }
        assert_eq!(registry("team/app"), "https://index.docker.io/v1/");
        assert_eq!(registry("localhost:5000/app"), "localhost:5000");
    }
}
