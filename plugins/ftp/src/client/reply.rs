//! Replies of a server (RFC 959, section 4.2), read within bounds. It knows their form, not what they answer.

use cooperage_sdk::{Error, Result};

/// More than any server says at once; help texts and banners are the longest.
const MOST_BYTES: usize = 256 << 10;
const LONGEST_LINE: usize = 16 << 10;

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits; the first one says if it is good.
    pub code: u16,
    /// The lines without the codes. What is not UTF-8 is replaced.
    pub lines: Vec<String>,
}

impl Reply {
    /// Whether another reply follows.
    #[must_use]
    pub fn is_preliminary(&self) -> bool {
        self.code < 200
    }

    /// Whether what was asked for is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Whether the server waits for the next command of a sequence.
    #[must_use]
    pub fn is_intermediate(&self) -> bool {
        (300..400).contains(&self.code)
    }

    /// Whether the server does not know the command, or not in this form.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self.code, 500..=504)
    }

    /// The last line, which is where the result of a command stands.
    #[must_use]
    pub fn text(&self) -> &str {
        self.lines.last().map_or("", String::as_str)
    }

    /// For people: code and text on one line, without control characters, and not too long.
    #[must_use]
    pub fn shown(&self) -> String {
        const MOST: usize = 300;
        let words = self.lines.iter().flat_map(|line| line.split_whitespace()).collect::<Vec<_>>().join(" ");
        let clean: String = words.chars().filter(|c| !c.is_control()).take(MOST).collect();
        format!("{} {clean}", self.code).trim_end().to_owned()
    }
}

/// Puts replies together from bytes as they come.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Where the first line that was not looked at begins.
    seen: usize,
    code: Option<u16>,
    lines: Vec<String>,
}

impl Reader {
    /// Takes what came.
    ///
    /// # Errors
    /// `limit` if a reply does not end.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() > MOST_BYTES {
            return Err(endless());
        }
        Ok(())
    }

    /// The next reply, if all of it is there.
    ///
    /// # Errors
    /// `conflict` if what came is no reply, `limit` if it does not end.
    pub fn take_next(&mut self) -> Result<Option<Reply>> {
        while let Some(length) = self.buffer[self.seen..].iter().position(|byte| *byte == b'\n') {
            if length > LONGEST_LINE {
                return Err(endless());
            }
            let line = &self.buffer[self.seen..self.seen + length];
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
            self.seen += length + 1;
            if let Some(reply) = self.line(line)? {
                self.buffer.drain(..self.seen);
                self.seen = 0;
                return Ok(Some(reply));
            }
        }
        if self.buffer.len() - self.seen > LONGEST_LINE {
            return Err(endless());
        }
        Ok(None)
    }

    /// Whether something came that was not taken.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn line(&mut self, line: String) -> Result<Option<Reply>> {
        match (self.code, parse(&line)) {
            (None, Some((code, last, text))) => {
                self.lines.push(text.to_owned());
                self.code = Some(code);
                Ok(last.then(|| self.take(code)))
            }
            (None, None) => {
                let shown: String = line.chars().filter(|c| !c.is_control()).take(80).collect();
                Err(Error::conflict(format!("{shown:?} is no reply of an FTP server")))
            }
            // Within a reply of several lines only its own code and a space end it.
            (Some(code), Some((found, last, text))) if found == code => {
                self.lines.push(text.to_owned());
                Ok(last.then(|| self.take(code)))
            }
            (Some(_), _) => {
                self.lines.push(line);
                Ok(None)
            }
        }
    }

    fn take(&mut self, code: u16) -> Reply {
        self.code = None;
        Reply { code, lines: std::mem::take(&mut self.lines) }
    }
}

fn endless() -> Error {
    Error::limit("the reply of the server does not end")
}

/// Code, whether it is the last line, and text.
fn parse(line: &str) -> Option<(u16, bool, &str)> {
    let code = line.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()))?;
    let code: u16 = code.parse().ok().filter(|code| (100..600).contains(code))?;
    match line.as_bytes().get(3) {
        None => Some((code, true, "")),
        Some(b' ') => Some((code, true, &line[4..])),
        Some(b'-') => Some((code, false, &line[4..])),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::ErrorKind;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(u16, &[&str])]) {
        // Byte by byte and at once must be the same.
        for size in [1, text.len().max(1)] {
            let (mut reader, mut found) = (Reader::default(), Vec::new());
            for chunk in text.as_bytes().chunks(size) {
                reader.feed(chunk).unwrap();
                while let Some(reply) = reader.take_next().unwrap() {
                    found.push((reply.code, reply.lines));
                }
            }
            let found: Vec<_> = found.iter().map(|(code, lines)| (*code, lines.clone())).collect();
            let expected: Vec<_> =
                expected.iter().map(|(code, lines)| (*code, lines.iter().map(|l| (*l).to_owned()).collect())).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn replies_of_servers() {
        check("220 ready\r\n", &[(220, &["ready"])]);
        check("220\n", &[(220, &[""])]);
        check("220-a\r\n220 b\r\n331 c\r\n", &[(220, &["a", "b"]), (331, &["c"])]);
        check("211-Features:\r\n MDTM\r\n 999 x\r\n211 End\r\n", &[(211, &["Features:", " MDTM", " 999 x", "End"])]);
        check("220-a\r\n221 no end\r\n220-b\r\n220 c\r\n", &[(220, &["a", "221 no end", "b", "c"])]);
        check("220 half", &[]);
        check("220-a\r\n22", &[]);
    }

    #[test]
    fn what_is_no_reply() {
        for text in ["SSH-2.0-x\r\n", "HTTP/1.1 400\r\n", "22\r\n", "2200 a\r\n", "999 x\r\n", "\r\n", "000 a\r\n"] {
            let mut reader = Reader::default();
            reader.feed(text.as_bytes()).unwrap();
            assert_eq!(reader.take_next().unwrap_err().kind, ErrorKind::Conflict, "{text:?}");
        }
    }

    #[test]
    fn replies_that_do_not_end() {
        let mut reader = Reader::default();
        reader.feed(&[b'2'; LONGEST_LINE + 1]).unwrap();
        assert_eq!(reader.take_next().unwrap_err().kind, ErrorKind::Limit);
        let mut reader = Reader::default();
        reader.feed(b"220-\r\n").unwrap();
        let error = (0..MOST_BYTES).find_map(|_| reader.feed(b" more and more\r\n").and(reader.take_next()).err());
        assert_eq!(error.unwrap().kind, ErrorKind::Limit);
    }

    #[test]
    fn texts_for_people_are_tame() {
        let reply = Reply { code: 550, lines: vec!["a\x1b[31m".into(), "b\tc".into(), "x".repeat(1000)] };
        assert!(reply.shown().starts_with("550 a[31m b c xxx"));
        assert!(reply.shown().len() < 320);
    }
}
