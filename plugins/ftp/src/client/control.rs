//! The control connection: one command, one reply. It knows no command but in what must not be logged.

use cooperage_sdk::{Error, Result, trace};

use super::reply::{Reader, Reply};
use crate::edge::Link;

/// Preliminary replies before one that counts.
const MOST_PRELIMINARY: usize = 16;

/// A control connection.
pub struct Control {
    link: Box<dyn Link>,
    reader: Reader,
    /// What it is called in messages.
    server: String,
    /// Nothing more can be said on it.
    broken: bool,
}

impl Control {
    /// Over a connection; `server` is what it is called in messages.
    pub fn new(link: Box<dyn Link>, server: String) -> Self {
        Self { link, reader: Reader::default(), server, broken: false }
    }

    /// Whether this connection is of no more use.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The address of the server.
    pub fn peer(&self) -> String {
        self.link.peer()
    }

    /// Begins TLS. What the server said in clear before must have been read.
    pub fn start_tls(&mut self, name: &str) -> Result<()> {
        if self.reader.has_more() {
            // Whoever sits in between could have put it there, to be taken for what the server says under TLS.
            return self.fail(Error::conflict("the server went on in clear where TLS should begin"));
        }
        match self.link.start_tls(name) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(error),
        }
    }

    /// Sends a command and gives its first reply, preliminary or not.
    pub fn command(&mut self, verb: &str, argument: Option<&str>) -> Result<Reply> {
        let line = match argument {
            Some(argument) => format!("{verb} {argument}"),
            None => verb.to_owned(),
        };
        if let Some(bad) = line.chars().find(|c| matches!(c, '\r' | '\n' | '\0')) {
            let message = format!("{:?} contains {bad:?}, which would end the command", argument.unwrap_or_default());
            return Err(Error::invalid_input(message));
        }
        self.settle()?;
        trace!("> {}", if verb == "PASS" { "PASS ..." } else { &line });
        if let Err(error) = self.link.write(format!("{line}\r\n").as_bytes()) {
            return self.fail(error);
        }
        self.reply()
    }

    /// Sends a command and gives the reply that counts.
    pub fn complete(&mut self, verb: &str, argument: Option<&str>) -> Result<Reply> {
        let first = self.command(verb, argument)?;
        if first.is_preliminary() { self.last() } else { Ok(first) }
    }

    /// The reply that counts after preliminary ones.
    pub fn last(&mut self) -> Result<Reply> {
        for _ in 0..MOST_PRELIMINARY {
            let reply = self.reply()?;
            if !reply.is_preliminary() {
                return Ok(reply);
            }
        }
        self.fail(Error::conflict("the server goes on announcing replies"))
    }

    /// The next reply.
    pub fn reply(&mut self) -> Result<Reply> {
        loop {
            match self.reader.take_next() {
                Ok(Some(reply)) => return self.heard(reply),
                Ok(None) => {}
                Err(error) => return self.fail(error),
            }
            let bytes = match self.link.read(16 << 10) {
                Ok(bytes) if bytes.is_empty() => {
                    return self.fail(Error::unavailable("the server closed the connection"));
                }
                Ok(bytes) => bytes,
                Err(error) => return self.fail(error),
            };
            if let Err(error) = self.reader.feed(&bytes) {
                return self.fail(error);
            }
        }
    }

    /// Says goodbye, without waiting for an answer.
    pub fn quit(&mut self) {
        if !self.broken {
            self.broken = true;
            let _ = self.link.write(b"QUIT\r\n");
        }
    }

    /// What came unasked would be taken for the reply to the next command.
    fn settle(&mut self) -> Result<()> {
        if self.broken {
            return Err(Error::unavailable(format!("the connection to {} is gone", self.server)));
        }
        if !self.reader.has_more() {
            return Ok(());
        }
        let reply = self.reply()?;
        self.fail(Error::conflict(format!("the server says {} though nothing was asked", reply.shown())))
    }

    fn heard(&mut self, reply: Reply) -> Result<Reply> {
        trace!("< {}", reply.shown());
        if reply.code == 421 {
            return self.fail(Error::unavailable(format!("the server answers {}", reply.shown())));
        }
        Ok(reply)
    }

    fn fail<T>(&mut self, error: Error) -> Result<T> {
        self.broken = true;
        Err(error.context(format!("the connection to {} failed", self.server)))
    }
}
