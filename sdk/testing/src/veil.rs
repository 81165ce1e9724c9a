//! Takes out of recorded texts what nobody may see and what nobody can repeat: secrets, and the random names that servers
//! give to uploads.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Query values of at least this length are states that servers keep with the client.
const STATE: usize = 40;
const UUID: usize = 36;

/// What is hidden, and what was named anew so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Veil {
    secrets: Vec<(String, String)>,
    names: BTreeMap<String, String>,
}

impl Veil {
    /// Hides these values behind these names.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let named = secrets.into_iter().filter(|(_, value)| !value.is_empty());
        let mut secrets: Vec<_> = named.map(|(name, value)| (value.to_owned(), format!("***{name}***"))).collect();
        // A secret may contain another one.
        secrets.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        Self { secrets, names: BTreeMap::new() }
    }

    /// The text without secrets, for comparing with a recording.
    pub(crate) fn secrets(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, (value, name)| text.replace(value, name))
    }

    /// The same of anything, which need not be text.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let hide =
            |bytes: Vec<u8>, (value, name): &(String, String)| replaced(&bytes, value.as_bytes(), name.as_bytes());
        self.secrets.iter().fold(bytes.to_vec(), hide)
    }

    /// What a recording hides, back in its place.
    pub(crate) fn lifted(&self, bytes: &[u8]) -> Vec<u8> {
        let show =
            |bytes: Vec<u8>, (value, name): &(String, String)| replaced(&bytes, name.as_bytes(), value.as_bytes());
        self.secrets.iter().fold(bytes.to_vec(), show)
    }

    /// The text without secrets and with the same random names in every recording.
    pub(crate) fn text(&mut self, text: &str) -> String {
        let text = self.secrets(text);
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let length = random(rest, out.ends_with('='));
            let at = match length {
                0 => rest.chars().next().map_or(1, char::len_utf8),
                length => length,
            };
            match length {
                0 => out.push_str(&rest[..at]),
                _ => out.push_str(&self.name(&rest[..at])),
            }
            rest = &rest[at..];
        }
        out
    }

    /// The same for each value of a map.
    pub(crate) fn fields(&mut self, map: &Map<String, Value>) -> Value {
        let field =
            |(name, value): (&String, &Value)| (name.clone(), json!(self.text(value.as_str().unwrap_or_default())));
        Value::Object(map.iter().map(field).collect())
    }

    fn name(&mut self, random: &str) -> String {
        let number = self.names.len() + 1;
        let name = || match random.len() {
            UUID => format!("00000000-0000-4000-8000-{number:012}"),
            _ => format!("state-{number}"),
        };
        self.names.entry(random.to_owned()).or_insert_with(name).clone()
    }
}

fn replaced(bytes: &[u8], value: &[u8], name: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some(at) = rest.windows(value.len()).position(|window| window == value) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(name);
        rest = &rest[at + value.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// The length of what a server made up at the beginning of a text: a UUID, or the long value of a query parameter.
fn random(text: &str, is_value: bool) -> usize {
    let bytes = text.as_bytes();
    let dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let fits = |(at, byte): (usize, &u8)| if dash(at) { *byte == b'-' } else { byte.is_ascii_hexdigit() };
    if bytes.len() >= UUID && bytes[..UUID].iter().enumerate().all(fits) {
        return UUID;
    }
    // Long too, and the same whenever it is asked for.
    if text.starts_with("sha256") {
        return 0;
    }
    let plain = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-_%.".contains(byte);
    let length = bytes.iter().take_while(plain).count();
    if is_value && length >= STATE {
        length + bytes[length..].iter().take_while(|byte| **byte == b'=').count()
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_in_what_is_no_text_too() {
        let veil = Veil::new([("TOKEN", "hunter22"), ("LONG", "hunter22-and-more")]);
        let hidden = veil.bytes(b"\xff\0hunter22-and-more\0hunter2hunter22");
        assert_eq!(hidden, b"\xff\0***LONG***\0hunter2***TOKEN***");
        for text in ["", "nothing", "hunter22 hunter22"] {
            assert_eq!(veil.bytes(text.as_bytes()), veil.secrets(text).into_bytes());
        }
    }

    #[test]
    fn what_differs_from_run_to_run_gets_the_same_name() {
        let state = "A".repeat(60);
        let text = |uuid: &str, state: &str| {
            let mut veil = Veil::new([("TOKEN", "hunter22"), ("LONG", "hunter22-and-more"), ("NONE", "")]);
            let first = veil.text(&format!("/uploads/{uuid}?_state={state}==&x=1"));
            let again = veil.text(&format!("{uuid} hunter22-and-more hunter22"));
            (first, again)
        };
        let one = text("9f0e4f0a-0000-4a4a-8b8b-0123456789ab", &state);
        assert_eq!(one, text("11111111-2222-4333-8444-555555555555", &"B".repeat(50)));
        assert_eq!(one.0, "/uploads/00000000-0000-4000-8000-000000000001?_state=state-2&x=1");
        assert_eq!(one.1, "00000000-0000-4000-8000-000000000001 ***LONG*** ***TOKEN***");
        let digest = format!("sha256:{}", "a".repeat(64));
        for text in [format!("/blobs/{digest}"), format!("?digest={}", digest.replace(':', "%3A"))] {
            assert_eq!(Veil::default().text(&text), text);
        }
    }
}
