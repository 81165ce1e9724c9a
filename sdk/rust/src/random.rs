//! Chance for names that shall not collide and for waits that shall not coincide.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Any number. Not for secrets: it is the seed of the standard library's hash tables, which WASI gives.
#[must_use]
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ() {
        let mut numbers: Vec<_> = (0..100).map(|_| random()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 100);
    }
}
