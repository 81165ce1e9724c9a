//! DER (X.690) as far as keys, certificates and time stamps need it: elements with tag and length, read front to back
//! and never copied. Knows no structure. Lengths must be the shortest ones, so that bytes have one meaning only.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The tag of a constructed element `[number]`.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// What is wrong with some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(pub &'static str);

/// One element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    /// Tag, length and content.
    pub whole: &'a [u8],
}

/// Elements one after another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, whatever it is.
    pub fn any(&mut self) -> Result<Element<'a>, Broken> {
        const CUT: Broken = Broken("it is cut off");
        let (&tag, rest) = self.0.split_first().ok_or(CUT)?;
        if tag & 0x1f == 0x1f {
            return Err(Broken("it has a tag of more than one byte"));
        }
        let (&first, rest) = rest.split_first().ok_or(CUT)?;
        let (length, header) = if first < 0x80 {
            (usize::from(first), 2)
        } else {
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) {
                return Err(Broken("it has a length that DER does not allow"));
            }
            let bytes = rest.get(..count).ok_or(CUT)?;
            let length = bytes.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
            if bytes[0] == 0 || length < 0x80 {
                return Err(Broken("it has a length that is not the shortest"));
            }
            (length, 2 + count)
        };
        let end = header.checked_add(length).ok_or(CUT)?;
        let whole = self.0.get(..end).ok_or(CUT)?;
        self.0 = &self.0[end..];
        Ok(Element { tag, content: &whole[header..], whole })
    }

    /// The next element, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Result<Element<'a>, Broken> {
        let element = self.any()?;
        if element.tag == tag { Ok(element) } else { Err(Broken("it has another structure")) }
    }

    /// The next element if it has this tag.
    pub fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Broken> {
        if self.0.first() == Some(&tag) { self.any().map(Some) } else { Ok(None) }
    }

    /// Fails if something follows.
    pub fn end(&self) -> Result<(), Broken> {
        if self.0.is_empty() { Ok(()) } else { Err(Broken("something follows after its end")) }
    }
}

impl<'a> Element<'a> {
    /// The elements in a constructed one.
    pub fn inside(&self) -> Reader<'a> {
        Reader(self.content)
    }

    /// The bytes of a bit string that has whole bytes.
    pub fn bits(&self) -> Result<&'a [u8], Broken> {
        match self.content.split_first() {
            Some((0, bytes)) => Ok(bytes),
            _ => Err(Broken("it has a bit string of no whole bytes")),
        }
    }

    /// Seconds since 1970 of a time in the only forms that X.509 allows: with seconds and in UTC.
    pub fn time(&self) -> Result<i64, Broken> {
        let wrong = Broken("it has a time in a form that X.509 does not allow");
        let text = std::str::from_utf8(self.content).map_err(|_| wrong)?;
        let text = match (self.tag, text.len()) {
            // X.509 gives years of two digits the meaning 1950 to 2049.
            (UTC_TIME, 13) if text.as_bytes()[0] >= b'5' => format!("19{text}"),
            (UTC_TIME, 13) => format!("20{text}"),
            (GENERALIZED_TIME, 15..) => text.to_owned(),
            _ => return Err(wrong),
        };
        // A time stamp may have a fraction of a second, which does not matter here.
        let digits = text.strip_suffix('Z').ok_or(wrong)?;
        let digits = digits.split_once('.').map_or(digits, |(seconds, _)| seconds);
        if digits.len() != 14 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong);
        }
        let number = |range: std::ops::Range<usize>| digits[range].parse::<i16>().map_err(|_| wrong);
        let small = |range| number(range).and_then(|n| i8::try_from(n).map_err(|_| wrong));
        let (hour, minute, second) = (small(8..10)?, small(10..12)?, small(12..14)?);
        let time = jiff::civil::DateTime::new(number(0..4)?, small(4..6)?, small(6..8)?, hour, minute, second, 0);
        let time = time.and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC)).map_err(|_| wrong)?;
        Ok(time.timestamp().as_second())
    }
}

/// One whole DER value and nothing after it.
pub(super) fn single(bytes: &[u8], tag: u8) -> Result<Element<'_>, Broken> {
    let mut reader = Reader::new(bytes);
    let element = reader.expect(tag)?;
    reader.end()?;
    Ok(element)
}

/// The bytes of an element.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let significant = &bytes[length.leading_zeros() as usize / 8..];
        out.push(0x80 | significant.len() as u8);
        out.extend_from_slice(significant);
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let bytes = element(OCTET_STRING, &[&content]);
            assert_eq!(single(&bytes, OCTET_STRING).unwrap().content, content);
            for end in [0, 1, bytes.len() - 1] {
                assert!(single(&bytes[..end], OCTET_STRING).is_err());
            }
        }
    }

    #[test]
    fn only_der_is_read() {
        for bytes in [&[0x30, 0x80, 0, 0][..], &[0x04, 0x81, 1, 0], &[0x1f, 1, 0], &[0x04, 0x85, 0, 0, 0, 0, 1, 9]] {
            assert!(Reader::new(bytes).any().is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn times() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000001Z", Some(1)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (GENERALIZED_TIME, "20231114221320.5Z", Some(1_700_000_000)),
            (GENERALIZED_TIME, "20231314221320Z", None),
            (GENERALIZED_TIME, "20231114221320+0100", None),
            (UTC_TIME, "7001010000Z", None),
        ] {
            let bytes = element(tag, &[text.as_bytes()]);
            assert_eq!(single(&bytes, tag).unwrap().time().ok(), expected, "{text}");
        }
    }
}
