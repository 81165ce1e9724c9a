//! Where the API server is, who asks it, and for which namespace: from the parameters and the values of their secrets.

use cooperage_sdk::http::Url;
use cooperage_sdk::{Error, Result, secrets};

use crate::kubeconfig::Kubeconfig;
use crate::parameters::Parameters;

/// The namespace of those who name none.
const NAMESPACE: &str = "default";
const LONGEST_TOKEN: usize = 64 << 10;

/// How a cluster is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// The address, without a `/` at its end.
    pub base: String,
    /// `host` or `host:port`, for messages.
    pub host: String,
    /// The bearer token.
    pub token: Option<String>,
    /// What everything that names no namespace belongs to.
    pub namespace: String,
    /// Whether a kubeconfig brings an authority, which the host does not see.
    pub has_authority: bool,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Access to {} as {}", self.base, if self.token.is_some() { "somebody" } else { "nobody" })
    }
}

impl Access {
    /// Joins what the parameters say; `reveal` gives the value of a secret.
    ///
    /// # Errors
    /// `invalid-input` if the server is not named or named wrongly; those of `reveal`.
    pub fn new(parameters: &Parameters, reveal: impl Fn(&str) -> Result<Vec<u8>>) -> Result<Self> {
        let Parameters { server, kubeconfig, token, namespace, .. } = parameters;
        let kubeconfig = match kubeconfig {
            None => None,
            Some(_) if token.is_some() => {
                return Err(Error::invalid_input("there are both `token` and `kubeconfig`")
                    .hint("leave one of them out; `server` and `token` are enough"));
            }
            Some(name) => Some(Kubeconfig::parse(&secrets::text(&name.secret, reveal(&name.secret)?)?)?),
        };
        let url = match (server, &kubeconfig) {
            (Some(server), kubeconfig) => {
                let url = address(server)?;
                if let Some(kubeconfig) = kubeconfig {
                    same_server(&url, kubeconfig)?;
                }
                url
            }
            (None, Some(Kubeconfig { server, .. })) => {
                let what = "the flow does not name the server of the kubeconfig";
                return Err(Error::denied(what)
                    .because("what a plugin may reach is written in the flow, not in a secret")
                    .hint(format!("write `server: \"{server}\"` beside `kubeconfig`")));
            }
            (None, None) => {
                return Err(Error::invalid_input("the step does not say where the cluster is").hint(
                    "give `server` and `token`, or `write: DIRECTORY` to write the manifests instead of applying them",
                ));
            }
        };
        let token = match (token, &kubeconfig) {
            (Some(name), _) => Some(bearer(&secrets::text(&name.secret, reveal(&name.secret)?)?, &name.secret)?),
            (None, Some(kubeconfig)) => Some(bearer(&kubeconfig.token, "kubeconfig")?),
            (None, None) => None,
        };
        let own = kubeconfig.as_ref().and_then(|kubeconfig| kubeconfig.namespace.clone());
        Ok(Self {
            base: url.to_string().trim_end_matches('/').to_owned(),
            host: url.authority().to_owned(),
            token,
            namespace: namespace.clone().or(own).unwrap_or_else(|| NAMESPACE.to_owned()),
            has_authority: kubeconfig.is_some_and(|kubeconfig| kubeconfig.has_authority),
        })
    }
}

fn address(server: &str) -> Result<Url> {
    let url: Url = server.parse().map_err(|error: Error| {
        error.context("`server` is no address of an API server").hint("write it like `https://cluster.example:6443`")
    })?;
    if url.query().is_some() {
        return Err(Error::invalid_input(format!("`server`: {server:?} has a query")));
    }
    if !url.is_https() && !is_this_machine(&url) {
        return Err(Error::denied(format!("{} would get tokens and secrets without encryption", url.authority()))
            .hint("use https; http is for this machine only, as `kubectl proxy` offers it"));
    }
    Ok(url)
}

fn is_this_machine(url: &Url) -> bool {
    let authority = url.authority();
    let after_address = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let host = authority[after_address..].find(':').map_or(authority, |colon| &authority[..after_address + colon]);
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A token is for the server that its kubeconfig names. Sent to another one, it would be lost.
fn same_server(url: &Url, kubeconfig: &Kubeconfig) -> Result<()> {
    let own: Url =
        kubeconfig.server.parse().map_err(|error: Error| error.context("the kubeconfig's server is no address"))?;
    if own.same_origin(url) {
        return Ok(());
    }
    let what = format!("`server` is {}, and the kubeconfig is for {}", url.authority(), own.authority());
    Err(Error::invalid_input(what).hint("write the kubeconfig's server, or give the token itself with `token`"))
}

fn bearer(text: &str, name: &str) -> Result<String> {
    let token = text.trim();
    if token.is_empty() || token.len() > LONGEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::invalid_input(format!("the secret {name} is no token"))
            .hint("a token is one line without spaces, as `kubectl create token NAME` prints it"));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::ErrorKind;
    use serde_json::{Value, json};

    use super::*;

    const KUBECONFIG: &str = "current-context: a\ncontexts: [{ name: a, context: { cluster: a, user: a, namespace: shop } }]\n\
        clusters: [{ name: a, cluster: { server: 'https://c.example:6443/' } }]\nusers: [{ name: a, user: { token: abc } }]\n";

    fn access(value: Value) -> Result<Access> {
        let parameters: Parameters = serde_json::from_value(value).unwrap();
        Access::new(&parameters, |name| match name {
            "T" => Ok(b"abc\n".to_vec()),
            "K" => Ok(KUBECONFIG.into()),
            "BAD" => Ok(b"two words".to_vec()),
            "BYTES" => Ok(vec![0xff]),
            _ => Err(Error::not_found("no such secret")),
        })
    }

    #[test]
    fn servers_tokens_and_namespaces() {
        for (value, base, token, namespace) in [
            (json!({ "server": "https://c.example" }), "https://c.example", None, "default"),
            (
                json!({ "server": "https://C.Example:6443/k8s/c-1/", "token": { "secret": "T" }, "namespace": "x" }),
                "https://c.example:6443/k8s/c-1",
                Some("abc"),
                "x",
            ),
            (json!({ "server": "http://localhost:8001" }), "http://localhost:8001", None, "default"),
            (json!({ "server": "http://127.0.0.2" }), "http://127.0.0.2", None, "default"),
            (json!({ "server": "http://[::1]:1" }), "http://[::1]:1", None, "default"),
            (
                json!({ "server": "https://c.example:6443", "kubeconfig": { "secret": "K" } }),
                "https://c.example:6443",
                Some("abc"),
                "shop",
            ),
        ] {
            let found = access(value).unwrap();
            assert_eq!(
                (found.base.as_str(), found.token.as_deref(), found.namespace.as_str()),
                (base, token, namespace)
            );
            assert!(!format!("{found:?}").contains("abc"));
        }
    }

    #[test]
    fn what_would_go_astray() {
        for (value, kind, says) in [
            (json!({}), ErrorKind::InvalidInput, "where the cluster is"),
            (json!({ "server": "c.example" }), ErrorKind::InvalidInput, "no address"),
            (json!({ "server": "https://u:p@c.example" }), ErrorKind::InvalidInput, "no address"),
            (json!({ "server": "https://c.example/?x" }), ErrorKind::InvalidInput, "query"),
            (json!({ "server": "http://c.example" }), ErrorKind::Denied, "without encryption"),
            (json!({ "server": "http://localhost.evil.example" }), ErrorKind::Denied, "without encryption"),
            (json!({ "kubeconfig": { "secret": "K" } }), ErrorKind::Denied, "does not name the server"),
            (
                json!({ "server": "https://d.example", "kubeconfig": { "secret": "K" } }),
                ErrorKind::InvalidInput,
                "d.example, and the kubeconfig is for c.example:6443",
            ),
            (
                json!({ "server": "https://c.example", "token": { "secret": "T" }, "kubeconfig": { "secret": "K" } }),
                ErrorKind::InvalidInput,
                "both",
            ),
            (
                json!({ "server": "https://c.example", "token": { "secret": "BAD" } }),
                ErrorKind::InvalidInput,
                "no token",
            ),
            (
                json!({ "server": "https://c.example", "token": { "secret": "BYTES" } }),
                ErrorKind::InvalidInput,
                "not text",
            ),
            (
                json!({ "server": "https://c.example", "token": { "secret": "X" } }),
                ErrorKind::NotFound,
                "no such secret",
            ),
        ] {
            let error = access(value.clone()).unwrap_err();
            assert_eq!(error.kind, kind, "{value}");
            assert!(error.message.contains(says), "{value}: {}", error.message);
        }
    }
}
