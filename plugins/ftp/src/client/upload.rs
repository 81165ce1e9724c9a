//! Sending a file: under a temporary name, on where it broke, checked by its size, and only then under its own name.

use cooperage_sdk::events::check_cancelled;
use cooperage_sdk::random;
use cooperage_sdk::{Context, Error, ErrorKind, Result, debug, warn};

use super::Client;
use super::retry::Tries;
use super::session::{Data, Mode, Session};
use super::text::ToNetwork;
use crate::edge::{CHUNK, Payload};
use crate::paths;

/// The most of a name that a temporary one repeats, in bytes.
const LONGEST_NAME: usize = 200;

/// What is sent, and how.
pub struct Upload<'p> {
    /// The bytes.
    pub payload: &'p dyn Payload,
    /// The absolute path that they shall have.
    pub path: &'p str,
    /// How they are sent.
    pub mode: Mode,
    /// Whether they get their name only when all of them are there.
    pub atomic: bool,
    /// What was left by an earlier try of the same content is continued: something that is equal for equal content.
    pub resume: Option<&'p str>,
    /// For `SITE CHMOD`.
    pub permissions: Option<&'p str>,
}

/// How an upload that is under way is going.
struct Progress {
    /// What was there when the last connection began.
    done: u64,
    /// The same for the connection before.
    mark: u64,
    tries: Tries,
    /// The server knows no REST before STOR.
    append: bool,
    /// The server has begun to write the file.
    begun: bool,
    /// Bytes on the network over the last connection.
    sent: u64,
}

impl Upload<'_> {
    /// Sends it. `report` hears how many bytes are there.
    ///
    /// # Errors
    /// Those of the server. Unless it is to be resumed, nothing of a file remains that did not arrive as a whole.
    pub fn run(&self, client: &mut Client, report: &mut dyn FnMut(u64)) -> Result<()> {
        self.run_if(client, report, &|_| Ok(()))
    }

    /// The same; `may` is asked when all is there, right before the file gets its name.
    ///
    /// # Errors
    /// As for [`run`](Self::run), and those of `may`.
    pub fn run_if(
        &self,
        client: &mut Client,
        report: &mut dyn FnMut(u64),
        may: &dyn Fn(&mut Client) -> Result<()>,
    ) -> Result<()> {
        let target = self.target()?;
        let mut progress = Progress { done: 0, mark: 0, tries: client.tries(), append: false, begun: false, sent: 0 };
        let result = self.send(client, &target, &mut progress, report);
        let result = result.and_then(|()| self.settle(client, &target, may));
        match result {
            // What was not begun is what was there before, and not ours to remove.
            Err(error) if progress.begun => Err(self.clean(client, &target, error)),
            result => result,
        }
    }

    /// Removes what is left of an upload that failed, or says that it stays.
    fn clean(&self, client: &mut Client, target: &str, error: Error) -> Error {
        if self.resume.is_some() && matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Cancelled) {
            return error.because(format!("what arrived is kept as {target}, and continued next time"));
        }
        let mut remove = || client.once(|session| session.must("DELE", target));
        // Once more in another session, if this one is gone: nobody else can mean this file.
        let removed =
            remove().or_else(|error| if error.kind == ErrorKind::Unavailable { remove() } else { Err(error) });
        match removed {
            Err(trouble) if trouble.kind != ErrorKind::NotFound => {
                error.because(format!("a part of it may be left as {target}: {}", trouble.message))
            }
            _ => error,
        }
    }

    /// The path while it is sent.
    fn target(&self) -> Result<String> {
        if !self.atomic {
            return Ok(self.path.to_owned());
        }
        let (directory, name) = paths::split(self.path)
            .ok_or_else(|| Error::invalid_input(format!("{} is no path of a file", self.path)))?;
        let mark = match self.resume {
            Some(identity) => identity.to_owned(),
            // Two that send the same file at once must not write into one.
            None => format!("{:016x}", random()),
        };
        // With the rest of it, the name must not become longer than file systems take.
        let name = &name[..name.floor_char_boundary(LONGEST_NAME)];
        Ok(paths::join(directory, &format!(".{name}.{mark}.coop-part")))
    }

    fn send(
        &self,
        client: &mut Client,
        target: &str,
        progress: &mut Progress,
        report: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let size = self.payload.size();
        if self.resume.is_some() {
            progress.done = self.arrived(client, target)?;
            progress.begun = progress.done > 0;
        }
        while !(progress.done > 0 && progress.done == size) {
            let Err(error) = self.attempt(client, target, progress, report) else { break };
            match error.kind {
                ErrorKind::Unavailable => {
                    let gained = progress.done > progress.mark;
                    progress.mark = progress.done;
                    client.wait(&mut progress.tries, error, gained)?;
                    progress.done = if progress.begun { self.arrived(client, target)? } else { 0 };
                }
                ErrorKind::Unsupported | ErrorKind::Denied if progress.done > 0 && !progress.append => {
                    progress.append = true;
                }
                ErrorKind::Unsupported | ErrorKind::Denied if progress.done > 0 => progress.done = 0,
                _ => return Err(error),
            }
        }
        self.verify(client, target, progress.sent)
    }

    /// How much of it is there; nothing if that cannot be told.
    fn arrived(&self, client: &mut Client, target: &str) -> Result<u64> {
        if self.mode == Mode::Ascii {
            return Ok(0);
        }
        match client.again(|session| session.size(target)) {
            Ok(size) => Ok(size.filter(|size| *size <= self.payload.size()).unwrap_or(0)),
            Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Cancelled) => Err(error),
            Err(_) => Ok(0),
        }
    }

    /// One connection's worth.
    fn attempt(
        &self,
        client: &mut Client,
        target: &str,
        progress: &mut Progress,
        report: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let from = progress.done;
        // Before anything is begun on the server: a fault of our own would look there like the end of the file.
        let mut source = self.payload.open(from)?;
        let mut text = ToNetwork::default();
        let (verb, offset) = if progress.append && from > 0 { ("APPE", 0) } else { ("STOR", from) };
        let announced = client.once(|session| session.announce(self.mode, offset, verb, Some(target)));
        // A lost answer leaves it open, and a temporary name is nobody else's.
        progress.begun |= announced.as_ref().err().is_none_or(|e| self.atomic && e.kind == ErrorKind::Unavailable);
        progress.sent = 0;
        let announced = announced?;
        let mut data = client.once(|session| session.protect(announced))?;
        let mut done = from;
        loop {
            let bytes = check_cancelled().and_then(|()| source.chunk(CHUNK)).inspect_err(|_| client.abandon())?;
            if bytes.is_empty() {
                break;
            }
            done += bytes.len() as u64;
            let bytes = if self.mode == Mode::Ascii { text.convert(&bytes) } else { bytes };
            if let Err(error) = data.write(&bytes) {
                return Err(told(client, data, error));
            }
            progress.sent += bytes.len() as u64;
            report(done);
        }
        match data.finish() {
            Ok(()) => client.once(|session| session.end(data)),
            Err(error) => Err(told(client, data, error)),
        }
    }

    fn verify(&self, client: &mut Client, target: &str, sent: u64) -> Result<()> {
        let size = self.payload.size();
        match client.again(|session| session.size(target)) {
            Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Cancelled) => Err(error),
            Ok(Some(there)) if self.mode == Mode::Ascii => {
                if there == sent && sent != size {
                    warn!(
                        "the server keeps lines with CR LF at their ends, as if `ascii` were not meant: {}",
                        self.path
                    );
                }
                Ok(())
            }
            Ok(Some(there)) if there != size => {
                Err(Error::conflict(format!("the server has {there} bytes of it instead of {size}")))
            }
            Ok(Some(_)) => Ok(()),
            // Also where what was sent may not be looked at.
            _ => {
                debug!("the server does not tell the size of {target}");
                Ok(())
            }
        }
    }

    /// Permissions and name.
    fn settle(&self, client: &mut Client, target: &str, may: &dyn Fn(&mut Client) -> Result<()>) -> Result<()> {
        if let Some(permissions) = self.permissions {
            let chmod = format!("CHMOD {permissions} {target}");
            client
                .again(|session| session.must("SITE", &chmod))
                .context("cannot set the permissions")
                .hint("leave `permissions` out if the server knows no `SITE CHMOD`")?;
        }
        may(client)?;
        if self.atomic {
            client
                .once(|session| rename(session, target, self.path))
                .context("cannot give the file its name")
                .hint("with `atomic: false` the file is written under its own name at once")?;
        }
        Ok(())
    }
}

fn told(client: &mut Client, data: Data, error: Error) -> Error {
    client.once(|session| Ok(session.why(data, error))).unwrap_or_else(|error| error)
}

/// Gives a file another name, replacing what has it.
///
/// # Errors
/// Those of the server; `unavailable` leaves open whether it was done.
pub fn rename(session: &mut Session, from: &str, to: &str) -> Result<()> {
    let reply = session.command("RNFR", Some(from))?;
    if !reply.is_intermediate() {
        return Err(super::faults::fault(&reply));
    }
    session.must("RNTO", to).map(drop)
}
