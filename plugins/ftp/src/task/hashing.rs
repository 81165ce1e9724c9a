//! Bytes that are hashed while they are sent, so that they need not be read for it alone.

use std::cell::RefCell;
use std::rc::Rc;

use cooperage_sdk::Result;
use cooperage_sdk::events::check_cancelled;
use sha2::{Digest, Sha256};

use crate::edge::{CHUNK, Chunks, Payload};

/// A payload that knows its SHA-256 once it was read. It may be read more than once, from any places on.
pub struct Hashing {
    payload: Box<dyn Payload>,
    hashed: Rc<RefCell<Hashed>>,
}

/// The hash of the first `length` bytes.
#[derive(Default)]
struct Hashed {
    hash: Sha256,
    length: u64,
}

impl Hashed {
    /// Takes what is new of some bytes at `offset`; nothing behind a gap.
    fn update(&mut self, offset: u64, bytes: &[u8]) {
        let known = self.length.checked_sub(offset).and_then(|known| usize::try_from(known).ok());
        if let Some(new) = known.and_then(|known| bytes.get(known..)) {
            self.hash.update(new);
            self.length += new.len() as u64;
        }
    }
}

impl Hashing {
    /// Of a payload.
    #[must_use]
    pub fn new(payload: Box<dyn Payload>) -> Self {
        Self { payload, hashed: Rc::default() }
    }

    /// The digest in hexadecimal digits. What was not read yet is read now.
    ///
    /// # Errors
    /// Those of the payload.
    pub fn digest(&self) -> Result<String> {
        let from = self.hashed.borrow().length;
        if from < self.size() {
            let mut rest = self.open(from)?;
            while !rest.chunk(CHUNK)?.is_empty() {
                check_cancelled()?;
            }
        }
        let hash = self.hashed.borrow().hash.clone().finalize();
        Ok(hash.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
    }
}

impl Payload for Hashing {
    fn size(&self) -> u64 {
        self.payload.size()
    }

    fn open(&self, offset: u64) -> Result<Box<dyn Chunks>> {
        let chunks = self.payload.open(offset)?;
        Ok(Box::new(Reading { chunks, offset, hashed: self.hashed.clone() }))
    }
}

struct Reading {
    chunks: Box<dyn Chunks>,
    offset: u64,
    hashed: Rc<RefCell<Hashed>>,
}

impl Chunks for Reading {
    fn chunk(&mut self, max: usize) -> Result<Vec<u8>> {
        let bytes = self.chunks.chunk(max)?;
        self.hashed.borrow_mut().update(self.offset, &bytes);
        self.offset += bytes.len() as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_all_bytes_however_they_are_read() {
        // `printf 0123456789 | sha256sum`
        let expected = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";
        // Where to begin, and how many pieces of three bytes to read.
        for reads in [&[][..], &[(0, 9)], &[(0, 2), (4, 9)], &[(0, 2), (3, 1), (6, 9)], &[(5, 9)], &[(0, 1), (8, 9)]] {
            let hashing = Hashing::new(Box::new(b"0123456789".to_vec()));
            for (from, pieces) in reads {
                let mut chunks = hashing.open(*from).unwrap();
                (0..*pieces).for_each(|_| drop(chunks.chunk(3).unwrap()));
            }
            assert_eq!(hashing.digest().unwrap(), expected, "{reads:?}");
        }
        assert!(Hashing::new(Box::new(Vec::new())).digest().unwrap().starts_with("e3b0c442"));
    }
}
