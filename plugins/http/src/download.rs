//! The body of an answer as one stream of bytes, continued where a connection broke (RFC 9110, section 14): the same
//! file, or an error.

use cooperage_sdk::events::Step;
use cooperage_sdk::http::{Headers, Url};
use cooperage_sdk::{Error, ErrorKind, Result};

use crate::client::Client;
use crate::edge::{Answer, Bytes};
use crate::patience::Patience;
use crate::range;

/// A body on its way.
pub struct Download<'a> {
    client: Client<'a>,
    patience: &'a mut Patience,
    answer: Answer,
    /// Header fields of the first answer.
    headers: Headers,
    /// The size, if the far side said so.
    total: Option<u64>,
    done: u64,
    /// Bytes that come again and are there already.
    skip: u64,
    step: Step,
}

impl<'a> Download<'a> {
    /// Sends the call.
    ///
    /// # Errors
    /// Those of the client.
    pub fn begin(client: Client<'a>, patience: &'a mut Patience) -> Result<Self> {
        let mut answer = client.send(patience)?;
        if answer.status == 206 && !asks_for_part(client) {
            return Err(Error::conflict(client.what()).because("a part comes, although all was asked for"));
        }
        let headers = std::mem::take(&mut answer.headers);
        let encoded = headers.get("content-encoding").filter(|encoding| !encoding.eq_ignore_ascii_case("identity"));
        if let (Some(encoding), None) =
            (encoded, client.call.headers.get("accept-encoding").filter(|e| *e != "identity"))
        {
            let why =
                format!("the body comes encoded as {}, although nobody asked for that", crate::faults::clean(encoding));
            return Err(Error::conflict(client.what()).because(why));
        }
        let total = match answer.status {
            204 | 205 => Some(0),
            _ => headers.content_length(),
        };
        let step = Step::new(format!("download {}", crate::url::shown(&answer.url)));
        Ok(Self { client, patience, answer, headers, total, done: 0, skip: 0, step })
    }

    /// Header fields of the first answer.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// For instance 200.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.answer.status
    }

    /// Where it comes from, after redirects.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.answer.url
    }

    /// The size in bytes, if the far side says so.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    fn fault(&self, kind: ErrorKind, why: impl Into<String>) -> Error {
        Error::new(kind, self.client.what()).because(why)
    }

    fn take(&mut self, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skipped as u64;
        bytes.drain(..skipped);
        self.done += bytes.len() as u64;
        if let Some(total) = self.total.filter(|total| self.done > *total || (self.done == *total && self.has_more())) {
            return Err(self.fault(ErrorKind::Conflict, format!("more comes than the announced {total} bytes")));
        }
        if !bytes.is_empty() {
            self.patience.progress(self.done);
            self.step.bytes(self.done, self.total);
        }
        Ok(bytes)
    }

    /// Whether something follows the last byte. A connection that breaks there has broken too late to matter.
    fn has_more(&mut self) -> bool {
        self.answer.body.chunk(1).is_ok_and(|bytes| !bytes.is_empty())
    }

    /// What the connection gave: bytes, the end, or a fault that may pass.
    fn next(&mut self, max: u32) -> Result<Vec<u8>> {
        if self.total == Some(self.done) && self.done > 0 {
            return Ok(Vec::new());
        }
        let bytes = self.answer.body.chunk(max).map_err(|error| error.context(self.client.what()))?;
        match self.total {
            Some(total) if bytes.is_empty() && (self.done < total || self.skip > 0) => {
                let why = format!("it ends after {} of {total} bytes", self.done);
                Err(self.fault(ErrorKind::Unavailable, why))
            }
            _ => Ok(bytes),
        }
    }

    /// Goes on where the transfer broke.
    fn resume(&mut self, error: Error) -> Result<()> {
        let validator = range::validator(&self.headers);
        let is_plain = self.client.call.method == "GET" && !asks_for_part(self.client);
        // Before the first byte there is nothing to continue: whoever reads begins anew, and looks at all of the answer.
        let Some(validator) = validator.filter(|_| is_plain && self.done > 0) else { return Err(error) };
        if error.kind != ErrorKind::Unavailable {
            return Err(error);
        }
        self.client.again(self.patience, error)?;
        let fields = [("range", format!("bytes={}-", self.done)), ("if-range", validator)];
        let expect = &self.client.call.expect;
        let right = |status| expect.has(status) || matches!(status, 206 | 412 | 416);
        let answer = self.client.send_with(self.patience, &fields, &right)?;
        self.skip = match answer.status {
            206 => self.check_part(&answer)?,
            412 | 416 => return Err(self.changed()),
            // The far side does not continue: what is there already comes again.
            _ => self.check_whole(&answer)?,
        };
        self.answer = answer;
        Ok(())
    }

    /// A part must be the rest of the same file; nothing of it is to be skipped.
    fn check_part(&self, answer: &Answer) -> Result<u64> {
        if range::contradict(&self.headers, &answer.headers) {
            return Err(self.changed());
        }
        match answer.headers.content_range() {
            Some((first, size)) if first == self.done => match (size, self.total) {
                (Some(size), Some(total)) if size != total => Err(self.changed()),
                _ => Ok(0),
            },
            _ => Err(self.fault(ErrorKind::Conflict, "it continues at another place than asked for")),
        }
    }

    /// The whole must be the same file; gives what of it is there already.
    fn check_whole(&self, answer: &Answer) -> Result<u64> {
        let same_length = answer.headers.content_length() == self.total;
        let same = range::validator(&answer.headers) == range::validator(&self.headers);
        if same && same_length { Ok(self.done) } else { Err(self.changed()) }
    }

    fn changed(&self) -> Error {
        let why = format!("the file has changed there after {} bytes of it had come", self.done);
        self.fault(ErrorKind::Conflict, why).hint("try again")
    }
}

/// Whether the user wants a part, and counts the bytes of the file.
fn asks_for_part(client: Client) -> bool {
    client.call.headers.get("range").is_some()
}

impl Bytes for Download<'_> {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        loop {
            match self.next(max) {
                Ok(bytes) if bytes.is_empty() => return Ok(bytes),
                Ok(bytes) => {
                    let bytes = self.take(bytes)?;
                    if !bytes.is_empty() {
                        return Ok(bytes);
                    }
                }
                Err(error) => self.resume(error)?,
            }
        }
    }
}
