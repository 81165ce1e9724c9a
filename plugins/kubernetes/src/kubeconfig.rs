//! What of a kubeconfig matters here: the server, the token and the namespace of one context. Certificates are the
//! host's, programs are not run, and files that it names are not there.

use cooperage_sdk::{Error, Result};
use serde::Deserialize;

use crate::names;

/// What a kubeconfig gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// The address of the API server.
    pub server: String,
    /// The bearer token.
    pub token: String,
    /// The namespace.
    pub namespace: Option<String>,
    /// Whether it brings an authority of its own, or wants none.
    pub has_authority: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    current_context: Option<String>,
    clusters: Option<Vec<Named<Cluster>>>,
    contexts: Option<Vec<Named<Context>>>,
    users: Option<Vec<Named<User>>>,
}

/// An entry of a list: its name, and the rest under a key of its own, which differs from list to list.
#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "context", alias = "user")]
    value: Option<T>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default, rename_all = "kebab-case")]
struct Cluster {
    server: Option<String>,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    proxy_url: Option<String>,
    tls_server_name: Option<String>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct Context {
    cluster: Option<String>,
    user: Option<String>,
    namespace: Option<String>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default, rename_all = "kebab-case")]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    username: Option<String>,
    exec: Option<serde::de::IgnoredAny>,
    auth_provider: Option<serde::de::IgnoredAny>,
}

impl Kubeconfig {
    /// Reads the current context. No message of it has anything of its secrets.
    ///
    /// # Errors
    /// `invalid-input` if it is no kubeconfig, `unsupported` if it logs in by other means than a token.
    pub fn parse(text: &str) -> Result<Self> {
        let options = serde_saphyr::options! { with_snippet: false };
        let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            // The parser may quote what it read.
            let place = error.location().map(|at| format!(" (line {})", at.line())).unwrap_or_default();
            Error::invalid_input(format!("the kubeconfig cannot be read{place}"))
                .hint("the secret must have the text of the file, not its path")
        })?;
        let context = match &file.current_context {
            Some(name) if !name.is_empty() => find(file.contexts.as_deref(), name, "context")?,
            _ => {
                return Err(Error::invalid_input("the kubeconfig has no current context")
                    .hint("make a file with one context: `kubectl config view --minify --flatten`"));
            }
        };
        let cluster = find(file.clusters.as_deref(), context.cluster.as_deref().unwrap_or_default(), "cluster")?;
        let user = find(file.users.as_deref(), context.user.as_deref().unwrap_or_default(), "user")?;
        let server = cluster.server.clone().filter(|server| !server.is_empty());
        let server = server.ok_or_else(|| Error::invalid_input("the cluster of the kubeconfig has no server"))?;
        if cluster.proxy_url.is_some() || cluster.tls_server_name.is_some() {
            return Err(Error::unsupported("the kubeconfig wants a proxy or another TLS name for its cluster").hint(
                "connections are the host's: set its proxy by the usual variables, and use the server's own name",
            ));
        }
        let namespace = context.namespace.clone().filter(|namespace| !namespace.is_empty());
        if let Some(namespace) = &namespace {
            names::check_label("namespace", namespace)?;
        }
        let has_authority = cluster.certificate_authority.is_some()
            || cluster.certificate_authority_data.is_some()
            || cluster.insecure_skip_tls_verify == Some(true);
        Ok(Self { server, token: token(&user)?, namespace, has_authority })
    }
}

fn token(user: &User) -> Result<String> {
    if let Some(token) = user.token.as_ref().filter(|token| !token.trim().is_empty()) {
        return Ok(token.trim().to_owned());
    }
    let by = |how: &str| Error::unsupported(format!("the kubeconfig logs in with {how}"));
    let use_token = "make a service account with a token, and give it with `token: { secret: NAME }`";
    Err(if user.client_certificate.is_some() || user.client_certificate_data.is_some() {
        by("a client certificate, which only the host can show").hint(
            "put certificate and key as `client.cert` and `client.key` into `certs.d/HOST:PORT` of the configuration \
             directory and leave `kubeconfig` out, or use a service account's token",
        )
    } else if user.exec.is_some() || user.auth_provider.is_some() {
        by("a program, and plugins run none").hint(use_token)
    } else if user.token_file.is_some() {
        by("a file, and plugins see none").hint(use_token)
    } else if user.username.is_some() {
        by("a password, which API servers have not taken since version 1.19").hint(use_token)
    } else {
        Error::invalid_input("the user of the kubeconfig has no token").hint(use_token)
    })
}

fn find<T: Clone + Default>(all: Option<&[Named<T>]>, name: &str, what: &str) -> Result<T> {
    let found = all.unwrap_or_default().iter().find(|entry| entry.name == name);
    found
        .map(|entry| entry.value.clone().unwrap_or_default())
        .ok_or_else(|| Error::invalid_input(format!("the kubeconfig has no {what} {name:?}, which it refers to")))
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::ErrorKind;

    use super::*;

    fn config(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\npreferences: {{}}\n\
             contexts:\n- name: there\n  context: {{ cluster: other, user: other }}\n\
             - name: here\n  context: {{ cluster: one, user: me, namespace: shop }}\n\
             clusters:\n- name: one\n  cluster: {{ server: 'https://c.example:6443', {cluster} }}\n\
             users:\n- name: me\n  user: {{ {user} }}\n"
        )
    }

    #[test]
    fn the_current_context_counts() {
        let found = Kubeconfig::parse(&config("certificate-authority-data: QUJD", "token: ' abc '")).unwrap();
        let expected = Kubeconfig {
            server: "https://c.example:6443".into(),
            token: "abc".into(),
            namespace: Some("shop".into()),
            has_authority: true,
        };
        assert_eq!(found, expected);
        assert!(!Kubeconfig::parse(&config("", "token: a")).unwrap().has_authority);
    }

    #[test]
    fn other_logins_are_explained() {
        for (user, says) in [
            ("client-certificate-data: QUJD, client-key-data: QUJD", "client certificate"),
            ("client-certificate: /a, client-key: /b", "client certificate"),
            ("exec: { command: aws }", "a program"),
            ("auth-provider: { name: oidc }", "a program"),
            ("tokenFile: /var/run/token", "a file"),
            ("username: a, password: b", "a password"),
            ("", "no token"),
            ("token: ''", "no token"),
        ] {
            let error = Kubeconfig::parse(&config("", user)).unwrap_err();
            assert!(error.message.contains(says), "{user}: {}", error.message);
            assert!(error.hint.is_some());
        }
        let error = Kubeconfig::parse(&config("proxy-url: 'http://p'", "token: a")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
    }

    #[test]
    fn what_is_no_kubeconfig() {
        for text in [
            "",
            "~/.kube/config",
            "[]",
            "a: [",
            "current-context: x",
            "current-context: x\ncontexts: [{ name: x }]",
            "current-context: x\ncontexts: [{ name: x, context: { cluster: c, user: u } }]\nclusters: [{ name: c, cluster: {} }]\nusers: [{ name: u, user: { token: hunter2 } }]",
            "users: [{ name: hunter2, user: hunter2 }]",
            "users: hunter2",
        ] {
            let error = Kubeconfig::parse(text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidInput, "{text}: {error:?}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
