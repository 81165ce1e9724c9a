//! An FTP client (RFC 959, 2228, 2428, 3659, 4217): one server, sessions that are begun again where they broke, and
//! what is done with files there. It knows neither flows nor images.

pub mod control;
pub mod directories;
pub mod download;
pub mod faults;
pub mod listing;
pub mod passive;
pub mod reply;
pub mod retry;
pub mod session;
pub mod text;
pub mod upload;

use cooperage_sdk::time::Clock;
use cooperage_sdk::{Error, ErrorKind, Result, debug};

use crate::edge::Network;
use crate::server::Server;
use retry::Tries;
use session::Session;

/// A server, and the session with it.
pub struct Client<'a> {
    network: &'a dyn Network,
    clock: &'a dyn Clock,
    server: &'a Server,
    retries: u32,
    session: Option<Session<'a>>,
}

impl<'a> Client<'a> {
    /// Connects when it is first needed; what broke is tried again so many times.
    pub fn new(network: &'a dyn Network, clock: &'a dyn Clock, server: &'a Server, retries: u32) -> Self {
        Self { network, clock, server, retries, session: None }
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &'a Server {
        self.server
    }

    /// Time.
    #[must_use]
    pub fn clock(&self) -> &'a dyn Clock {
        self.clock
    }

    /// Does what may be done twice: again in a new session as long as it breaks.
    ///
    /// # Errors
    /// The last one.
    pub fn again<T>(&mut self, mut work: impl FnMut(&mut Session<'a>) -> Result<T>) -> Result<T> {
        let mut tries = self.tries();
        loop {
            match self.once(&mut work) {
                Err(error) if error.kind == ErrorKind::Unavailable => self.wait(&mut tries, error, false)?,
                result => return result,
            }
        }
    }

    /// Does what must not be done twice, in the session that there is or in a new one. Nothing is tried again.
    ///
    /// # Errors
    /// Those of `work`; `unavailable` may leave open whether it was done.
    pub fn once<T>(&mut self, work: impl FnOnce(&mut Session<'a>) -> Result<T>) -> Result<T> {
        let session = self.session()?;
        let result = work(session);
        if session.is_broken() {
            self.session = None;
        }
        result
    }

    /// The session, begun if there is none.
    fn session(&mut self) -> Result<&mut Session<'a>> {
        if self.session.is_none() {
            self.session = Some(Session::open(self.network, self.server)?);
        }
        self.session.as_mut().ok_or_else(|| Error::internal("a session that was begun is gone"))
    }

    /// Leaves a session in the middle of something, so that the server forgets it too.
    pub fn abandon(&mut self) {
        self.session = None;
    }

    /// Says goodbye.
    pub fn quit(&mut self) {
        if let Some(session) = self.session.take() {
            session.quit();
        }
    }

    /// How often to try.
    #[must_use]
    pub fn tries(&self) -> Tries {
        Tries::new(self.retries)
    }

    /// Waits before another try, in another session; gives the error back when there is to be none.
    ///
    /// # Errors
    /// The error given, and `cancelled`.
    pub fn wait(&mut self, tries: &mut Tries, error: Error, progress: bool) -> Result<()> {
        self.abandon();
        let Some(pause) = tries.next(progress) else { return Err(error) };
        debug!("trying again in {} ms: {}", pause.as_millis(), error.message);
        self.clock.pause(pause)
    }

    /// The absolute path of one that is relative to where the user is after the login.
    ///
    /// # Errors
    /// Those of connecting.
    pub fn absolute(&mut self, path: &str) -> Result<String> {
        self.again(|session| Ok(session.absolute(path)))
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.quit();
    }
}
