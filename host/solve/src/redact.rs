//! Blacks out the values of secrets in a stream of bytes, also when a value is cut across chunks.

use crate::Secrets;

const MASK: &[u8] = b"***";
/// Shorter values stand everywhere by chance; to black them out would only tell where they are.
const SHORTEST: usize = 4;

/// Passes bytes on without the values of secrets.
#[derive(Debug)]
pub struct Redactor {
    values: Vec<Vec<u8>>,
    held: Vec<u8>,
}

impl Redactor {
    /// Blacks out the values of `secrets`, with and without a line end.
    pub fn new(secrets: &Secrets) -> Self {
        let mut values: Vec<Vec<u8>> = secrets
            .values()
            .map(|value| value.trim_ascii_end().to_vec())
            .filter(|value| value.len() >= SHORTEST)
            .collect();
        values.extend(values.iter().flat_map(|value| disguises(value)).collect::<Vec<_>>());
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self { values, held: Vec::new() }
    }

    /// Takes a chunk, gives what can be shown already. Holds back only what may be the beginning of a value.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        if self.values.is_empty() {
            return chunk.to_vec();
        }
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(chunk);
        let (mut shown, rest) = self.replace(&bytes);
        let keep = (0..rest.len()).find(|at| self.values.iter().any(|value| value.starts_with(&rest[*at..])));
        let keep = keep.unwrap_or(rest.len());
        shown.extend_from_slice(&rest[..keep]);
        self.held = rest[keep..].to_vec();
        shown
    }

    /// Gives what was held back.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// A whole text at once.
    pub fn text(&self, text: &str) -> String {
        let (mut shown, rest) = self.replace(text.as_bytes());
        shown.extend_from_slice(rest);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Everything up to the end of the last value, replaced, and what follows it.
    fn replace<'a>(&self, bytes: &'a [u8]) -> (Vec<u8>, &'a [u8]) {
        let mut shown = Vec::new();
        let mut rest = bytes;
        while let Some((at, length)) = self.first(rest) {
            shown.extend_from_slice(&rest[..at]);
            shown.extend_from_slice(MASK);
            rest = &rest[at + length..];
        }
        (shown, rest)
    }

    fn first(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        self.values
            .iter()
            .filter_map(|value| {
                bytes.windows(value.len()).position(|window| window == value).map(|at| (at, value.len()))
            })
            .min_by_key(|(at, length)| (*at, std::cmp::Reverse(*length)))
    }
}

/// Other forms in which a value travels: in base64, plain and for URLs, and with `%` for what URLs cannot have.
fn disguises(value: &[u8]) -> Vec<Vec<u8>> {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escaped = value.iter().flat_map(|byte| match plain(*byte) {
        true => vec![*byte],
        false => format!("%{byte:02X}").into_bytes(),
    });
    vec![STANDARD_NO_PAD.encode(value).into_bytes(), URL_SAFE_NO_PAD.encode(value).into_bytes(), escaped.collect()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn values_are_blacked_out_across_chunks() {
        let secrets = Secrets::new(BTreeMap::from([("t".to_owned(), b"hunter22\n".to_vec())]));
        for cut in 0..=b"say hunter22 twice hunter22!".len() {
            let text = b"say hunter22 twice hunter22!";
            let mut redactor = Redactor::new(&secrets);
            let mut shown = redactor.push(&text[..cut]);
            shown.extend(redactor.push(&text[cut..]));
            shown.extend(redactor.finish());
            assert_eq!(shown, b"say *** twice ***!", "{cut}");
        }
    }

    #[test]
    fn disguised_values_are_blacked_out() {
        let secrets = Secrets::new(BTreeMap::from([("t".to_owned(), b"hunter 22/x".to_vec())]));
        let redactor = Redactor::new(&secrets);
        assert_eq!(redactor.text("a=hunter%2022%2Fx&b=aHVudGVyIDIyL3g= hunter 22/x"), "a=***&b=***= ***");
    }

    #[test]
    fn nothing_else_is_held_back() {
        let secrets = Secrets::new(BTreeMap::from([("t".to_owned(), b"hunter22".to_vec())]));
        let mut redactor = Redactor::new(&secrets);
        assert_eq!(redactor.push(b"progress 10%\r"), b"progress 10%\r");
        assert_eq!(redactor.push(b"hunt"), b"");
        assert_eq!(redactor.push(b"ing"), b"hunting");
    }
}
