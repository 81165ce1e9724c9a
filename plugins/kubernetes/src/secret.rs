//! The secret with which a cluster pulls images: type `kubernetes.io/dockerconfigjson`, whose value is what Docker keeps
//! in `config.json`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cooperage_sdk::{Error, Result, secrets};
use serde_json::{Value, json};

use crate::names;
use crate::parameters::{PullSecret, Text};

/// The name under which Docker and the kubelet know the default registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The object; `reveal` gives the value of a secret.
///
/// # Errors
/// `invalid-input` if registry, user name or password cannot be; those of `reveal`.
pub fn object(wanted: &PullSecret, image: Option<&str>, reveal: impl Fn(&str) -> Result<Vec<u8>>) -> Result<Value> {
    let registry = match (&wanted.registry, image) {
        (Some(registry), _) => key(registry)?,
        (None, Some(image)) => key(names::registry(image))?,
        (None, None) => {
            return Err(Error::invalid_input("`pull_secret` does not say for which registry it is")
                .hint("give `registry` in `pull_secret`, or `image`"));
        }
    };
    let revealed = |name: &str| line(reveal(name)?, name);
    let username = match &wanted.username {
        Text::Plain(username) => username.clone(),
        Text::Secret(name) => revealed(&name.secret)?,
    };
    if username.is_empty() || username.contains(':') || username.chars().any(char::is_control) {
        return Err(Error::invalid_input("the user name of `pull_secret` is empty or has a colon in it"));
    }
    let password = revealed(&wanted.password.secret)?;
    let auth = STANDARD.encode(format!("{username}:{password}"));
    let config = json!({ "auths": { registry: { "username": username, "password": password, "auth": auth } } });
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": wanted.name },
        "type": "kubernetes.io/dockerconfigjson",
        "data": { ".dockerconfigjson": STANDARD.encode(config.to_string()) },
    }))
}

/// The registry as the kubelet looks it up: `host`, `host:port`, or a path below.
fn key(registry: &str) -> Result<String> {
    let name = registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
    let name = name.trim_end_matches('/');
    if matches!(name, "docker.io" | "index.docker.io" | "registry-1.docker.io" | "index.docker.io/v1") {
        return Ok(DOCKER_HUB.to_owned());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:/[]*".contains(c);
    if name.is_empty() || name.starts_with('/') || !name.chars().all(plain) {
        return Err(
            Error::invalid_input(format!("{registry:?} is no registry")).hint("write it like `registry.example:5000`")
        );
    }
    Ok(name.to_owned())
}

/// A value without the line end that files have; there must be one.
fn line(bytes: Vec<u8>, name: &str) -> Result<String> {
    let text = secrets::text(name, bytes)?;
    if text.is_empty() {
        return Err(Error::invalid_input(format!("the secret {name} is empty")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::ErrorKind;

    use super::*;

    fn make(wanted: Value, image: Option<&str>) -> Result<Value> {
        object(&serde_json::from_value(wanted).unwrap(), image, |name| match name {
            "P" => Ok(b"p:w\"d\n".to_vec()),
            "U" => Ok(b"robot".to_vec()),
            "EMPTY" => Ok(b"\n".to_vec()),
            "BYTES" => Ok(vec![0xff]),
            _ => Err(Error::not_found("no such secret")),
        })
    }

    fn config(secret: &Value) -> Value {
        let data = secret["data"][".dockerconfigjson"].as_str().unwrap();
        serde_json::from_slice(&STANDARD.decode(data).unwrap()).unwrap()
    }

    #[test]
    fn it_is_what_docker_keeps() {
        let secret = make(
            json!({ "name": "pull", "registry": "https://r.example:5000/", "username": "me", "password": { "secret": "P" } }),
            Some("other.example/app"),
        )
        .unwrap();
        assert_eq!(secret["type"], "kubernetes.io/dockerconfigjson");
        assert_eq!(secret["metadata"], json!({ "name": "pull" }));
        let expected = json!({ "auths": { "r.example:5000": {
            "username": "me", "password": "p:w\"d", "auth": STANDARD.encode("me:p:w\"d") } } });
        assert_eq!(config(&secret), expected);
    }

    #[test]
    fn the_registry_is_that_of_the_image() {
        for (image, registry) in [
            ("r.example/team/app:1", "r.example"),
            ("localhost:5000/app", "localhost:5000"),
            ("team/app", DOCKER_HUB),
            ("docker.io/team/app", DOCKER_HUB),
        ] {
            let wanted = json!({ "name": "pull", "username": { "secret": "U" }, "password": { "secret": "P" } });
            let config = config(&make(wanted, Some(image)).unwrap());
            assert_eq!(config["auths"][registry]["username"], "robot", "{image}: {config}");
        }
    }

    #[test]
    fn what_cannot_be() {
        for (wanted, kind, says) in [
            (json!({ "username": "a", "password": { "secret": "P" } }), ErrorKind::InvalidInput, "which registry"),
            (
                json!({ "registry": "a b", "username": "a", "password": { "secret": "P" } }),
                ErrorKind::InvalidInput,
                "no registry",
            ),
            (
                json!({ "registry": "r", "username": "a:b", "password": { "secret": "P" } }),
                ErrorKind::InvalidInput,
                "colon",
            ),
            (
                json!({ "registry": "r", "username": "", "password": { "secret": "P" } }),
                ErrorKind::InvalidInput,
                "user name",
            ),
            (
                json!({ "registry": "r", "username": "a", "password": { "secret": "EMPTY" } }),
                ErrorKind::InvalidInput,
                "empty",
            ),
            (
                json!({ "registry": "r", "username": "a", "password": { "secret": "BYTES" } }),
                ErrorKind::InvalidInput,
                "not text",
            ),
            (
                json!({ "registry": "r", "username": "a", "password": { "secret": "X" } }),
                ErrorKind::NotFound,
                "no such",
            ),
        ] {
            let mut wanted = wanted;
            wanted["name"] = "pull".into();
            let error = make(wanted, None).unwrap_err();
            assert_eq!(error.kind, kind);
            assert!(error.message.contains(says), "{}", error.message);
        }
    }
}
