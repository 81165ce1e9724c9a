//! Cache keys: what an operation depends on, as named parts, and the digest over them.
//!
//! Every part is framed by the lengths of its name and value before it is hashed, so that no two lists of
//! parts collide by moving a character from one part to the next. The parts stay readable beside the digest:
//! they are what `coop explain` compares. No time, no label and no secret is ever a part.

use cooperage_store::{Digest, Hasher};
use serde::{Deserialize, Serialize};

/// A version of the key format: a change of what an operation does is a change of this number.
const FORMAT: &str = "1";

/// One named part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What the value is, for instance `environment PATH`.
    pub name: String,
    /// The value itself, or the digest of a long one.
    pub value: String,
}

/// A key with its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Digest over all parts.
    pub digest: Digest,
    /// The parts, in order.
    pub parts: Vec<Part>,
}

/// Collects parts.
pub(crate) struct KeyBuilder {
    hasher: Hasher,
    parts: Vec<Part>,
}

impl KeyBuilder {
    /// Begins the key of an operation. `purpose` keeps definition keys and content keys apart.
    pub(crate) fn new(purpose: &str, operation: &str) -> Self {
        let mut hasher = Hasher::new();
        for text in [FORMAT, purpose, operation] {
            frame(&mut hasher, text.as_bytes());
        }
        Self { hasher, parts: Vec::new() }
    }

    /// Adds a part that explanations show.
    pub(crate) fn part(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.push(name, value);
        self
    }

    pub(crate) fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let part = Part { name: name.into(), value: value.into() };
        frame(&mut self.hasher, part.name.as_bytes());
        frame(&mut self.hasher, part.value.as_bytes());
        self.parts.push(part);
    }

    /// Adds a list; its length is framed too.
    pub(crate) fn list<S: AsRef<str>>(mut self, name: &str, values: &[S]) -> Self {
        frame(&mut self.hasher, &(values.len() as u64).to_be_bytes());
        let mut joined = Vec::new();
        for value in values {
            frame(&mut self.hasher, value.as_ref().as_bytes());
            joined.push(value.as_ref());
        }
        let value = serde_json::to_string(&joined).unwrap_or_default();
        self.parts.push(Part { name: name.to_owned(), value });
        self
    }

    pub(crate) fn finish(self) -> Key {
        Key { digest: self.hasher.finish(), parts: self.parts }
    }
}

/// Feeds `bytes` with its length in front.
pub(crate) fn frame(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_framed() {
        let key = |a: &str, b: &str| KeyBuilder::new("definition", "copy").part(a, b).finish().digest;
        assert_ne!(key("ab", "c"), key("a", "bc"));
        let list = |values: &[&str]| KeyBuilder::new("definition", "run").list("args", values).finish().digest;
        assert_ne!(list(&["a b"]), list(&["a", "b"]));
        assert_ne!(list(&["a", ""]), list(&["a"]));
    }

    #[test]
    fn purpose_and_operation_separate() {
        let key = |purpose, operation| KeyBuilder::new(purpose, operation).part("x", "y").finish().digest;
        assert_ne!(key("definition", "run"), key("content", "run"));
        assert_ne!(key("definition", "run"), key("definition", "copy"));
    }
}
