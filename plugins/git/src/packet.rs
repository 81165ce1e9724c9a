//! The framing of git's protocol (gitprotocol-common): lines with their length in front, and three marks. It knows
//! nothing of what the lines mean.

use std::ops::Range;

use cooperage_sdk::{Error, Result};

use crate::edge::Body;

/// The longest line, its length included.
const LONGEST: usize = 65520;
const CHUNK: u32 = 256 << 10;

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet {
    /// A line or a piece of data, which [`Packets::data`] gives.
    Data,
    /// The end of a message.
    Flush,
    /// The end of a section.
    Delimiter,
    /// The end of an answer on a connection that stays open.
    ResponseEnd,
    /// The far side has closed its stream between two packets.
    End,
}

/// Reads packets from the body of an answer.
pub struct Packets {
    body: Box<dyn Body>,
    buffer: Vec<u8>,
    at: usize,
    data: Range<usize>,
}

impl Packets {
    /// Reads from a body.
    #[must_use]
    pub fn new(body: Box<dyn Body>) -> Self {
        Self { body, buffer: Vec::new(), at: 0, data: 0..0 }
    }

    /// What the last packet brought.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.buffer[self.data.clone()]
    }

    /// The next packet.
    ///
    /// # Errors
    /// `unavailable` if the stream ends within a packet, `invalid-input` if it is none.
    pub fn read(&mut self) -> Result<Packet> {
        self.data = 0..0;
        if !self.fill(1)? {
            return Ok(Packet::End);
        }
        if !self.fill(4)? {
            return Err(broken_off());
        }
        let length = &self.buffer[self.at..self.at + 4];
        let length = parse_length(length).ok_or_else(|| {
            Error::invalid_input(format!("the server does not speak git's protocol: {:?}", shown(length)))
        })?;
        if length < 4 {
            self.at += 4;
            return Ok(match length {
                0 => Packet::Flush,
                1 => Packet::Delimiter,
                2 => Packet::ResponseEnd,
                _ => {
                    return Err(Error::invalid_input("the server does not speak git's protocol: a packet of length 3"));
                }
            });
        }
        if length > LONGEST {
            return Err(Error::invalid_input(format!("the server sends a packet of {length} bytes")));
        }
        if !self.fill(length)? {
            return Err(broken_off());
        }
        self.data = self.at + 4..self.at + length;
        self.at += length;
        Ok(Packet::Data)
    }

    /// Has at least so many unread bytes in the buffer; false if there will not be so many.
    fn fill(&mut self, wanted: usize) -> Result<bool> {
        while self.buffer.len() - self.at < wanted {
            let chunk = self.body.chunk(CHUNK)?;
            if chunk.is_empty() {
                return Ok(false);
            }
            if self.at == self.buffer.len() {
                self.buffer = chunk;
            } else {
                self.buffer.drain(..self.at);
                self.buffer.extend_from_slice(&chunk);
            }
            self.at = 0;
        }
        Ok(true)
    }
}

/// A line without the end of line that it may have, made harmless for messages.
#[must_use]
pub fn shown(line: &[u8]) -> String {
    const LONGEST_TEXT: usize = 400;
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    let mut out: String = text.chars().take(LONGEST_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST_TEXT).is_some() {
        out.push('…');
    }
    out
}

/// A line without its end.
#[must_use]
pub fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

fn parse_length(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0, |length, digit| Some(length << 4 | char::from(*digit).to_digit(16)? as usize))
}

fn broken_off() -> Error {
    Error::unavailable("the server ended the transfer in the middle")
}

/// Writes packets.
#[derive(Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// A line. It must be shorter than a packet can be.
    #[must_use]
    pub fn line(mut self, text: &str) -> Self {
        debug_assert!(text.len() + 5 <= LONGEST);
        self.0.extend_from_slice(format!("{:04x}{text}\n", text.len() + 5).as_bytes());
        self
    }

    /// The end of a section.
    #[must_use]
    pub fn delimiter(mut self) -> Self {
        self.0.extend_from_slice(b"0001");
        self
    }

    /// The end, and the bytes.
    #[must_use]
    pub fn flush(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"0000");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::ErrorKind;

    use super::*;

    struct Pieces(Vec<Vec<u8>>);

    impl Body for Pieces {
        fn chunk(&mut self, _: u32) -> Result<Vec<u8>> {
            Ok(if self.0.is_empty() { Vec::new() } else { self.0.remove(0) })
        }
    }

    fn packets(bytes: &[u8], piece: usize) -> Packets {
        Packets::new(Box::new(Pieces(bytes.chunks(piece).map(<[u8]>::to_vec).collect())))
    }

    #[test]
    fn packets_come_whole_however_they_are_cut() {
        let message = Message::default().line("command=ls-refs").delimiter().line("peel").flush();
        assert_eq!(message, b"0014command=ls-refs\n00010009peel\n0000");
        for piece in 1..=message.len() {
            let mut packets = packets(&message, piece);
            assert_eq!(packets.read().unwrap(), Packet::Data);
            assert_eq!(packets.data(), b"command=ls-refs\n");
            assert_eq!(packets.read().unwrap(), Packet::Delimiter);
            assert_eq!(packets.read().unwrap(), Packet::Data);
            assert_eq!(trimmed(packets.data()), b"peel");
            assert_eq!(packets.read().unwrap(), Packet::Flush);
            assert_eq!(packets.read().unwrap(), Packet::End);
        }
    }

    #[test]
    fn what_is_no_packet() {
        for (bytes, kind) in [
            (&b"<html>"[..], ErrorKind::InvalidInput),
            (b"0003", ErrorKind::InvalidInput),
            (b"ffff", ErrorKind::InvalidInput),
            (b"+005x", ErrorKind::InvalidInput),
            (b"00", ErrorKind::Unavailable),
            (b"0009pee", ErrorKind::Unavailable),
        ] {
            assert_eq!(packets(bytes, 3).read().unwrap_err().kind, kind, "{}", shown(bytes));
        }
        assert_eq!(packets(b"0004", 4).read().unwrap(), Packet::Data);
    }

    #[test]
    fn text_of_the_far_side_is_tamed() {
        assert_eq!(shown(b"bad\x1b[2J\xff\n"), "bad [2J\u{fffd}");
        assert_eq!(shown(&[b'x'; 500]).chars().count(), 401);
    }
}
