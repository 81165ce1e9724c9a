//! What the parameters of a step name: secrets and places in the network. Whoever writes them into the flow has said
//! yes to this step using them, so a plugin that asks for "what the parameters name" needs no second yes.

use std::collections::BTreeSet;

use serde_json::Value;

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

    /// Only a text that is a URL as a whole counts, not one that mentions a URL.
    fn text(&mut self, text: &str) {
        let Some((scheme, _)) = text.split_once("://") else { return };
        if !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            || text.contains(char::is_whitespace)
        {
            return;
        }
        let authority = text.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
        let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
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
