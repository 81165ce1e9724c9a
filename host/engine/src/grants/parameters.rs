//! What the parameters of a step name: secrets, images and places in the network. Whoever writes them into the flow has said
//! yes to this step using them, so a plugin that asks for "what the parameters name" needs no second yes.

use std::collections::BTreeSet;

use cooperage_store::Reference;
use serde_json::Value;

use super::tcp::TcpRule;
use crate::http::Origin;

/// How many names of each sort count; more is no honest flow.
const MOST: usize = 1000;

/// What parameters name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// NAMEs of `{ "secret": NAME }`.
    pub secrets: BTreeSet<String>,
    /// Origins of `http` and `https` URLs.
    pub origins: Vec<Origin>,
    /// Hosts of URLs with another scheme.
    pub hosts: BTreeSet<String>,
    /// Texts of the form `HOST:PORT`, for one port each.
    pub endpoints: Vec<TcpRule>,
    /// `SCHEME://AUTHORITY` of URLs, as they are written.
    pub roots: BTreeSet<String>,
    /// Texts that can be references of images.
    pub references: BTreeSet<String>,
}

impl Named {
    /// Looks through all strings and objects of a document.
    pub fn in_parameters(parameters: &Value) -> Self {
        let mut named = Self::default();
        named.visit(parameters);
        named
    }

    fn visit(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter().for_each(|item| self.visit(item)),
            Value::Object(map) => {
                if map.len() == 1
                    && let Some(Value::String(name)) = map.get("secret")
                    && self.secrets.len() < MOST
                {
                    self.secrets.insert(name.clone());
                    return;
                }
                map.values().for_each(|item| self.visit(item));
            }
            _ => {}
        }
    }

    /// Whether a URL leads to the same scheme and authority as one that is named. Both are compared as text: what is
    /// written differently, user names included, is another place.
    pub fn leads_to(&self, url: &str) -> bool {
        root(url).is_some_and(|root| self.roots.contains(&root))
    }

    /// Whether a reference stands for the same as one that is named.
    pub fn mentions(&self, reference: &str) -> bool {
        reference.parse::<Reference>().is_ok_and(|reference| self.references.contains(&reference.to_string()))
    }

    /// A text with a port that is no URL and no image: the host has a dot, is an address or this machine.
    fn endpoint(&mut self, text: &str) {
        let Some((host, port)) = text.rsplit_once(':') else { return };
        let plain = port.parse::<u16>().is_ok() && (host.contains('.') || host.starts_with('[') || host == "localhost");
        if let (true, Ok(rule)) = (plain && !host.contains('*'), text.parse())
            && self.endpoints.len() < MOST
        {
            self.endpoints.push(rule);
        }
    }

    fn reference(&mut self, text: &str) {
        if self.references.len() < MOST
            && let Ok(reference) = text.parse::<Reference>()
        {
            self.references.insert(reference.to_string());
        }
    }

    /// Only a text that is a URL as a whole counts, not one that mentions a URL.
    fn text(&mut self, text: &str) {
        let Some((scheme, _)) = text.split_once("://") else {
            self.endpoint(text);
            return self.reference(text);
        };
        if !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            || text.contains(char::is_whitespace)
        {
            return;
        }
        let authority = text.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
        let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if let Some(root) = root(text)
            && self.roots.len() < MOST
        {
            self.roots.insert(root);
        }
        // A word before the `+` says what is spoken over HTTP.
        let scheme = scheme.rsplit_once('+').map_or(scheme, |(_, below)| below);
        match scheme {
            "http" | "https" => {
                if let Some(origin) = Origin::of_authority(scheme == "https", host_port)
                    && self.origins.len() < MOST
                    && !self.origins.contains(&origin)
                {
                    self.origins.push(origin);
                }
            }
            _ => {
                if let Some(origin) = Origin::of_authority(false, host_port)
                    && self.hosts.len() < MOST
                {
                    self.hosts.insert(origin.host);
                }
            }
        }
    }
}

/// `SCHEME://AUTHORITY` of a URL; nothing if there is no authority to compare.
fn root(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().filter(|authority| !authority.is_empty())?;
    Some(format!("{}://{}", scheme.to_ascii_lowercase(), authority.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn urls_and_secrets_are_found() {
        let named = Named::in_parameters(&json!({
            "url": "https://user:pw@Git.Example:8443/a.git",
            "more": ["ftp://ftp.example/pub", "git+http://plain.example/c", "see https://not.example/ please", "not a url", "https://git.example:8443/b"],
            "token": { "secret": "TOKEN" },
            "nested": { "secret": "X", "other": 1 },
        }));
        assert_eq!(
            named.origins.iter().map(Origin::to_string).collect::<Vec<_>>(),
            ["http://plain.example", "https://git.example:8443"]
        );
        assert_eq!(named.hosts.iter().collect::<Vec<_>>(), ["ftp.example"]);
        assert_eq!(named.secrets.iter().collect::<Vec<_>>(), ["TOKEN"]);
    }

    #[test]
    fn images_and_ports_are_found() {
        let named = Named::in_parameters(&json!({
            "image": "company/app:1", "same": "docker.io/library/base", "mail": "Mail.Example:25", "v6": "[2001:db8::1]:53",
            "none": ["*.example:1", "app:5432", "a b", "mail.example:x"],
        }));
        assert_eq!(
            named.endpoints.iter().map(TcpRule::to_string).collect::<Vec<_>>(),
            ["mail.example:25", "[2001:db8::1]:53"]
        );
        for (reference, expected) in [
            ("company/app:1", true),
            ("docker.io/company/app:1", true),
            ("base", true),
            ("company/app:2", false),
            ("company/app", false),
            ("registry.example/company/app:1", false),
        ] {
            assert_eq!(named.mentions(reference), expected, "{reference}");
        }
    }

    #[test]
    fn a_url_leads_below_the_place_that_is_named_and_nowhere_else() {
        let named = Named::in_parameters(&json!(["https://Files.Example/a/b.tar", "git+https://me@git.example"]));
        for (url, expected) in [
            ("https://files.example/other?x#y", true),
            ("https://files.example", true),
            ("git+https://me@git.example/x.git", true),
            ("git+https://git.example/x.git", false),
            ("http://files.example/a", false),
            ("https://files.example:8443/a", false),
            ("https://files.example.evil.example/a", false),
            ("https://files.example@evil.example/a", false),
            ("https://files.example\\@evil.example/a", false),
            ("https:///a", false),
            ("files.example/a", false),
        ] {
            assert_eq!(named.leads_to(url), expected, "{url}");
        }
    }

    #[test]
    fn tricks_name_the_host_that_is_reached() {
        let named = Named::in_parameters(&json!([
            "https://good.example@evil.example/x",
            "https://good.example#@evil.example/"
        ]));
        assert_eq!(
            named.origins.iter().map(Origin::to_string).collect::<Vec<_>>(),
            ["https://evil.example", "https://good.example"]
        );
    }
}
