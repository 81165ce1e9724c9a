//! How large a layer from outside may get before reading it is given up. Knows nothing of how it is read.

/// Bounds on what one archive may make us do. The defaults are far above every honest image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of one archive.
    pub entries: u64,
    /// Bytes of one path or link target. The kernel takes no more than 4095.
    pub path: usize,
    /// Bytes of one extension header (PAX or GNU long name). Extended attributes travel in them, 64 KiB each at most.
    pub extension: u64,
    /// Bytes of all names, link targets and extended attributes of one archive: what the table of contents needs.
    pub table: u64,
    /// Bytes of one archive after decompression.
    pub unpacked: u64,
    /// Decompressed bytes per compressed byte, counted from the first GiB on. Deflate cannot exceed 1032; zstd can.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 4 << 20, path: 4095, extension: 1 << 20, table: 512 << 20, unpacked: 256 << 30, ratio: 1100 }
    }
}

impl Limits {
    /// The most bytes that `compressed` bytes may become.
    pub fn unpacked_from(&self, compressed: u64) -> u64 {
        self.unpacked.min(compressed.saturating_mul(self.ratio).max(1 << 30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_archives_may_grow_to_a_gibibyte() {
        let limits = Limits::default();
        assert_eq!(limits.unpacked_from(10), 1 << 30);
        assert_eq!(limits.unpacked_from(10 << 20), (10 << 20) * 1100);
        assert_eq!(limits.unpacked_from(u64::MAX), 256 << 30);
    }
}
