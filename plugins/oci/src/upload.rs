//! Sending blobs (OCI distribution 1.1, "Pushing Blobs"): not at all if the registry has it or can mount it, in one
//! request if it is small, else as a stream that goes on where it broke.
//!
//! A large blob goes into one PATCH, as Docker's own client sends it, because every registry knows that; only what
//! is left after a fault, or what the setting `chunk-size` cuts, is sent as chunks with `Content-Range`.

use std::rc::Rc;

use cooperage_sdk::events::Step;
use cooperage_sdk::http::Url;
use cooperage_sdk::names;
use cooperage_sdk::retry::wish;
use cooperage_sdk::roles::registry::Arrival;
use cooperage_sdk::{Descriptor, Error, ErrorKind, Result};

use crate::blobs::has;
use crate::client::{Client, Request};
use crate::edge::{Answer, Payload};
use crate::{range, retry};

/// Up to this size one request is cheaper than the chance to go on after a fault is worth.
const SMALL: u64 = 8 << 20;
/// Mounts tried; each that fails costs the registry an upload.
const MOST_MOUNTS: usize = 3;
/// Faults in a row without a byte in between.
const MOST_IN_VAIN: u32 = retry::TRIES;
/// Faults in all.
const MOST_BROKEN: u32 = 50;
/// The setting for the size of a chunk in bytes; the default is no chunks.
const CHUNK_SIZE: &str = "chunk-size";

/// An upload that the registry has begun.
struct Session {
    url: Url,
    /// Bytes that the registry has.
    done: u64,
    /// The least that a chunk may have, unless it is the last.
    least: u64,
}

struct Upload<'a> {
    client: &'a Client<'a>,
    blob: &'a Descriptor,
    step: Rc<Step>,
    what: String,
}

/// Sends a blob of the store.
///
/// # Errors
/// Those of the registry; `not-found` if the store lacks it.
pub fn put(client: &Client, blob: &Descriptor, mount_from: &[String]) -> Result<Arrival> {
    names::check_digest(&blob.digest)?;
    let what = format!("cannot push {} to {}", blob.digest, client.name());
    if has(client, &blob.digest)? {
        return Ok(Arrival::Exists);
    }
    let mut session = None;
    for from in candidates(client, mount_from) {
        match mount(client, blob, from)? {
            Mount::Done => return Ok(Arrival::Mounted),
            Mount::Begun(begun) => {
                if let Some(Session { url, .. }) = session.replace(begun) {
                    abandon(client, url);
                }
            }
            Mount::Refused => {}
        }
    }
    // Only now: a layer of a base image may be at the registry without ever having been here.
    if let Err(error) = check_at_hand(client, blob, &what) {
        if let Some(Session { url, .. }) = session {
            abandon(client, url);
        }
        return Err(error);
    }
    let step = Rc::new(Step::new(format!("upload {}", names::short(&blob.digest))));
    let upload = Upload { client, blob, step, what };
    upload.run(session).inspect_err(|error| upload.step.fail(&error.message))?;
    Ok(Arrival::Uploaded)
}

/// Whether the store has the blob to send.
fn check_at_hand(client: &Client, blob: &Descriptor, what: &str) -> Result<()> {
    match client.edge().store.stat(&blob.digest)? {
        Some(size) if size == blob.size => Ok(()),
        Some(size) => Err(Error::conflict(what).because(format!("it has {size} bytes instead of {}", blob.size))),
        None => Err(Error::not_found(what).because("the store does not have it")),
    }
}

fn candidates<'n>(client: &Client, names: &'n [String]) -> impl Iterator<Item = &'n String> {
    let own = client.repository().name.clone();
    let sound = names.iter().filter(move |name| **name != own && names::check_repository(name).is_ok());
    sound.take(MOST_MOUNTS)
}

enum Mount {
    Done,
    /// The registry does not have it there, and waits for the bytes.
    Begun(Session),
    Refused,
}

fn mount(client: &Client, blob: &Descriptor, from: &str) -> Result<Mount> {
    let url = client.url("blobs/uploads/")?.with_parameter("mount", &blob.digest).with_parameter("from", from);
    let answer = client.send(&Request::new("POST", url))?;
    Ok(match answer.status {
        201 => Mount::Done,
        202 => Mount::Begun(session(client, &answer)?),
        // Whatever is wrong with the mount need not be wrong with an upload.
        _ => Mount::Refused,
    })
}

fn session(client: &Client, answer: &Answer) -> Result<Session> {
    let least = answer.headers.get("oci-chunk-min-length").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    Ok(Session { url: client.location(answer)?, done: 0, least })
}

/// Frees what the registry keeps for an upload; if that fails, the registry does so itself one day.
fn abandon(client: &Client, url: Url) {
    let _ = client.send(&Request::new("DELETE", url).once());
}

impl Upload<'_> {
    fn run(&self, begun: Option<Session>) -> Result<()> {
        let chunk = match self.client.option(CHUNK_SIZE) {
            None => None,
            Some(text) => Some(text.parse::<u64>().ok().filter(|size| *size > 0).ok_or_else(|| {
                Error::invalid_input(format!("{CHUNK_SIZE} of {} is no size: {text:?}", self.client.repository().host))
            })?),
        };
        if self.blob.size <= chunk.unwrap_or(SMALL).min(SMALL) {
            return self.at_once(begun);
        }
        match self.in_parts(begun, chunk)? {
            true => Ok(()),
            false => {
                cooperage_sdk::debug!("{} takes no parts; sending {} whole", self.client.name(), self.blob.digest);
                self.at_once(None)
            }
        }
    }

    fn begin(&self) -> Result<Session> {
        let answer = self.client.send(&Request::new("POST", self.client.url("blobs/uploads/")?))?;
        if answer.status != 202 {
            return Err(self.client.fault(&self.what, answer));
        }
        session(self.client, &answer)
    }

    /// In one PUT, again from the start after a fault.
    fn at_once(&self, mut begun: Option<Session>) -> Result<()> {
        let mut failures = 0;
        loop {
            let session = match begun.take() {
                Some(session) => session,
                None => self.begin()?,
            };
            match self.finish(&session, self.payload(0, self.blob.size)) {
                Err(error) if error.kind == ErrorKind::Unavailable => {
                    failures += 1;
                    self.wait(error, failures, failures)?;
                }
                result => return result,
            }
            // The fault may have hit the answer only.
            if has(self.client, &self.blob.digest)? {
                return Ok(());
            }
        }
    }

    /// In PATCHes; false if the registry knows none.
    fn in_parts(&self, mut begun: Option<Session>, chunk: Option<u64>) -> Result<bool> {
        let size = self.blob.size;
        let (mut vain, mut broken) = (0, 0);
        loop {
            let mut session = match begun.take() {
                Some(session) => session,
                None => self.begin()?,
            };
            // As far as this session goes.
            let error = loop {
                let before = session.done;
                let result = if session.done < size { self.part(&mut session, chunk) } else { self.end(&session) };
                match result {
                    Ok(Part::Went) => {}
                    Ok(Part::Whole) => return Ok(true),
                    Ok(Part::Unknown) => {
                        abandon(self.client, session.url);
                        return Ok(false);
                    }
                    Err(error) if error.kind == ErrorKind::Unavailable => {
                        if session.done < size || before == size {
                            break error;
                        }
                    }
                    Err(error) => return Err(error),
                }
                if session.done > before {
                    vain = 0;
                }
            };
            vain += 1;
            broken += 1;
            self.wait(error, vain, broken)?;
            if session.done == size && has(self.client, &self.blob.digest)? {
                return Ok(true);
            }
            let before = session.done;
            begun = self.status(session)?;
            if begun.as_ref().is_some_and(|session| session.done > before) {
                vain = 0;
            }
        }
    }

    /// Sends the next part; afterwards `session` says how far it is.
    fn part(&self, session: &mut Session, chunk: Option<u64>) -> Result<Part> {
        let (size, start) = (self.blob.size, session.done);
        let end = chunk.map_or(size, |chunk| start.saturating_add(chunk.max(session.least)).min(size));
        let mut request = Request::new("PATCH", session.url.clone())
            .header("content-type", "application/octet-stream")
            .payload(self.payload(start, end - start))
            .once();
        if start > 0 || end < size {
            request = request.header("content-range", format!("{start}-{}", end - 1));
        }
        let answer = self.client.send(&request)?;
        match answer.status {
            201 | 202 | 204 => {}
            400 | 404 | 405 | 411 | 413 | 415 | 501 if start == 0 => return Ok(Part::Unknown),
            // The registry and we disagree over how far it is: a passing fault, cured by asking.
            404 | 416 => return Err(Error::unavailable(&self.what).because("the registry has lost count")),
            _ => return Err(self.client.fault(&self.what, answer)),
        }
        let done = answer.headers.get("range").and_then(range::received).unwrap_or(end);
        if done <= start || done > end {
            let (start, end) = (start + 1, end);
            return Err(Error::conflict(&self.what)
                .because(format!("the registry has {done} bytes instead of {start} to {end}")));
        }
        session.url = self.client.location(&answer)?;
        session.done = done;
        Ok(Part::Went)
    }

    fn end(&self, session: &Session) -> Result<Part> {
        self.finish(session, Payload::Empty).map(|()| Part::Whole)
    }

    fn finish(&self, session: &Session, payload: Payload) -> Result<()> {
        let request = Request::new("PUT", session.url.clone().with_parameter("digest", &self.blob.digest))
            .header("content-type", "application/octet-stream")
            .payload(payload)
            .once();
        let answer = self.client.send(&request)?;
        if !matches!(answer.status, 201 | 204) {
            return Err(self.client.fault(&self.what, answer));
        }
        match answer.headers.get("docker-content-digest") {
            Some(stored) if names::is_digest(stored) && stored != self.blob.digest => {
                Err(Error::conflict(&self.what).because(format!("the registry stored {stored}")))
            }
            _ => Ok(()),
        }
    }

    /// How far the registry is; none if it has forgotten the upload.
    fn status(&self, session: Session) -> Result<Option<Session>> {
        let answer = self.client.send(&Request::new("GET", session.url))?;
        if !answer.is_success() {
            return Ok(None);
        }
        let done = answer.headers.get("range").and_then(range::received).unwrap_or(0);
        // Nothing arrived, or more than there is: a new upload is as good, and certainly empty.
        if done == 0 || done > self.blob.size {
            return Ok(None);
        }
        let url = if answer.headers.get("location").is_some() { self.client.location(&answer)? } else { answer.url };
        Ok(Some(Session { url, done, least: session.least }))
    }

    fn payload(&self, offset: u64, length: u64) -> Payload {
        let progress = Some((self.step.clone(), self.blob.size));
        Payload::Blob { digest: self.blob.digest.clone(), offset, length, progress }
    }

    /// Waits before another try, if there is to be one.
    fn wait(&self, error: Error, vain: u32, broken: u32) -> Result<()> {
        let wish = wish(&error).unwrap_or_default();
        if vain >= MOST_IN_VAIN || broken >= MOST_BROKEN || wish > retry::PATIENCE {
            return Err(error);
        }
        cooperage_sdk::debug!("{}, trying again: {}", self.what, error.message);
        self.client.edge().clock.pause(wish.max(retry::backoff(vain)))
    }
}

enum Part {
    /// It is further than before.
    Went,
    /// All of it is there, and checked.
    Whole,
    /// The registry knows no parts.
    Unknown,
}
