//! Both streams of a build with a session, as the contract gives them: whichever says something first is heard.

use cooperage_sdk::events::check_cancelled;
use cooperage_sdk::http::{Pending, Response};
use cooperage_sdk::net::{self, Connection};
use cooperage_sdk::{Context, Result};

use crate::session::{Heard, Talk};

/// The most that one look at a stream takes.
const PIECE: u32 = 256 << 10;

/// A build whose answer comes while its session is served.
pub struct Streams {
    /// None once the engine has closed it.
    session: Option<Connection>,
    build: Answer,
}

enum Answer {
    Asked(Pending),
    Begun(Response),
    /// The whole body has been read.
    Over,
}

/// Which stream is ready.
enum Ready {
    Session,
    Build,
}

impl Streams {
    pub fn new(session: Connection, build: Pending) -> Self {
        Self { session: Some(session), build: Answer::Asked(build) }
    }

    fn wait(&self) -> Ready {
        let session = self.session.as_ref().map(Connection::subscribe);
        let build = match &self.build {
            Answer::Asked(pending) => Some(pending.subscribe()),
            Answer::Begun(response) => response.subscribe(),
            Answer::Over => None,
        };
        match (&session, &build) {
            // A build that says much must not keep its own session waiting.
            (Some(session), Some(build)) if net::wait(&[session, build])[0] == 0 => Ready::Session,
            (Some(_), Some(_)) => Ready::Build,
            (Some(session), None) => {
                session.block();
                Ready::Session
            }
            (None, Some(build)) => {
                build.block();
                Ready::Build
            }
            (None, None) => Ready::Build,
        }
    }
}

impl Talk for Streams {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        check_cancelled()?;
        self.session.as_ref().map_or(Ok(()), |session| session.write(bytes))
    }

    fn hear(&mut self) -> Result<Heard> {
        loop {
            let ready = self.wait();
            check_cancelled()?;
            if let (Ready::Session, Some(session)) = (&ready, &self.session) {
                let bytes = session.read(PIECE).unwrap_or_default();
                // An engine that ends the session of a build says why in the answer to the build.
                if bytes.is_empty() {
                    self.session = None;
                }
                return Ok(Heard::Session(bytes));
            }
            match std::mem::replace(&mut self.build, Answer::Over) {
                Answer::Asked(pending) => {
                    let mut response = pending.answer()?;
                    let headers = std::mem::take(&mut response.headers);
                    let status = response.status;
                    self.build = Answer::Begun(response);
                    return Ok(Heard::Head(status, headers));
                }
                Answer::Begun(mut response) => {
                    let piece = response.try_chunk(PIECE).context("the engine broke off its answer")?;
                    if piece.as_ref().is_none_or(|bytes| !bytes.is_empty()) {
                        self.build = Answer::Begun(response);
                    }
                    if let Some(bytes) = piece {
                        return Ok(Heard::Build(bytes));
                    }
                }
                Answer::Over => return Ok(Heard::Build(Vec::new())),
            }
        }
    }
}
