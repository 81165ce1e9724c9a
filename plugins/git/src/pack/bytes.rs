//! The bytes of a pack as they came, kept in pieces of equal size: growing copies nothing.

const SEGMENT: usize = 1 << 20;

/// Bytes that only grow.
#[derive(Debug, Default)]
pub struct Bytes {
    segments: Vec<Vec<u8>>,
    length: usize,
}

impl Bytes {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Appends.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len();
        while !bytes.is_empty() {
            if self.segments.last().is_none_or(|last| last.len() == SEGMENT) {
                self.segments.push(Vec::with_capacity(SEGMENT));
            }
            let last = self.segments.last_mut().expect("a segment with room");
            let (now, later) = bytes.split_at(bytes.len().min(SEGMENT - last.len()));
            last.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Some bytes from a position on; empty if there are none yet.
    #[must_use]
    pub fn from(&self, at: usize) -> &[u8] {
        self.segments.get(at / SEGMENT).and_then(|segment| segment.get(at % SEGMENT..)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_again() {
        let all: Vec<u8> = (0..3 * SEGMENT + 5).map(|at| (at % 251) as u8).collect();
        let mut bytes = Bytes::default();
        all.chunks(65_515).for_each(|chunk| bytes.push(chunk));
        assert_eq!(bytes.len(), all.len());
        for at in [0, 1, SEGMENT - 1, SEGMENT, 2 * SEGMENT + 7, all.len() - 1] {
            let found = bytes.from(at);
            assert!(!found.is_empty());
            assert_eq!(found, &all[at..at + found.len()]);
        }
        assert_eq!(bytes.from(all.len()), b"");
        assert_eq!(bytes.from(all.len() + SEGMENT), b"");
        assert_eq!(Bytes::default().from(0), b"");
    }
}
