//! Lines of text on their way: CR LF on the network (RFC 959, section 3.1.1.1), LF in trees.

/// Makes CR LF of each LF that has no CR before it, over any cut into pieces.
#[derive(Debug, Default)]
pub struct ToNetwork {
    after_return: bool,
}

impl ToNetwork {
    /// The next piece.
    pub fn convert(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 16);
        for byte in bytes {
            if *byte == b'\n' && !self.after_return {
                out.push(b'\r');
            }
            out.push(*byte);
            self.after_return = *byte == b'\r';
        }
        out
    }
}

/// Makes LF of each CR LF, over any cut into pieces.
#[derive(Debug, Default)]
pub struct FromNetwork {
    held: bool,
}

impl FromNetwork {
    /// The next piece.
    pub fn convert(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 1);
        for byte in bytes {
            if std::mem::take(&mut self.held) && *byte != b'\n' {
                out.push(b'\r');
            }
            if *byte == b'\r' {
                self.held = true;
            } else {
                out.push(*byte);
            }
        }
        out
    }

    /// What was held back until the end.
    #[must_use]
    pub fn end(&mut self) -> &'static [u8] {
        if std::mem::take(&mut self.held) { b"\r" } else { b"" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_any_cut() {
        for (local, network) in [
            ("a\nb\n", "a\r\nb\r\n"),
            ("", ""),
            ("\n\n", "\r\n\r\n"),
            ("no end", "no end"),
            ("a\rb", "a\rb"),
            ("a\r", "a\r"),
        ] {
            for size in 1..4 {
                let mut to = ToNetwork::default();
                let sent: Vec<u8> = local.as_bytes().chunks(size).flat_map(|piece| to.convert(piece)).collect();
                assert_eq!(sent, network.as_bytes(), "{local:?}");
                let mut from = FromNetwork::default();
                let mut got: Vec<u8> = sent.chunks(size).flat_map(|piece| from.convert(piece)).collect();
                got.extend(from.end());
                assert_eq!(got, local.as_bytes(), "{network:?}");
            }
        }
        // What has such line ends already keeps them as they are.
        assert_eq!(ToNetwork::default().convert(b"a\r\nb"), b"a\r\nb");
    }
}
