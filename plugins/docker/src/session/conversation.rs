//! Serves a session while the answer to its build comes. Knows the two streams and who is to be woken, not what is
//! asked on them.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use cooperage_sdk::http::Headers;
use cooperage_sdk::{Error, ErrorKind, Result};

use super::wire::Wire;
use super::{Fault, Heard, Offers, Talk, methods};
use crate::edge::Body;

/// The answer to a build. Waiting for it serves the session of the build.
///
/// Everything runs on one thread, within [`Self::head`] and [`Body::chunk`]: the session goes as far as it can without
/// the engine, what it wrote is sent, and then the engine is waited for. So whoever takes the answer has to go on
/// taking it, or the session stands still.
pub struct Conversation {
    talk: Box<dyn Talk>,
    wire: Wire,
    fault: Fault,
    /// None once the session has ended.
    server: Option<Pin<Box<Server>>>,
    alarm: Arc<Alarm>,
    head: Option<(u16, Headers)>,
    answered: bool,
    body: Vec<u8>,
    ended: bool,
}

type Server = dyn Future<Output = Result<(), h2::Error>>;

/// Whether something can go on.
struct Alarm(AtomicBool);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Conversation {
    pub(super) fn new(offers: Offers, talk: Box<dyn Talk>) -> Self {
        let (wire, fault) = (Wire::default(), offers.fault.clone());
        Self {
            talk,
            server: Some(Box::pin(methods::serve(wire.clone(), Rc::new(offers)))),
            wire,
            fault,
            alarm: Arc::new(Alarm(AtomicBool::new(true))),
            head: None,
            answered: false,
            body: Vec::new(),
            ended: false,
        }
    }

    /// Status and header fields of the answer, once. The body comes after them.
    ///
    /// # Errors
    /// `unavailable` if the engine is gone, `cancelled` once the call is, `internal` if it does not speak HTTP/2 on the
    /// session.
    pub fn head(&mut self) -> Result<(u16, Headers)> {
        loop {
            if let Some(head) = self.head.take() {
                return Ok(head);
            }
            if self.answered {
                return Err(Error::internal("the head of an answer was asked for twice"));
            }
            self.step()?;
        }
    }

    /// What goes wrong on this side, also after the conversation was given away.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault.clone()
    }

    /// Does all that can be done, then waits for the engine once.
    fn step(&mut self) -> Result<()> {
        self.serve()?;
        match self.talk.hear()? {
            Heard::Session(bytes) if bytes.is_empty() => self.wire.close(),
            // Nobody reads them once the session has ended.
            Heard::Session(_) if self.server.is_none() => {}
            Heard::Session(bytes) => self.wire.feed(bytes),
            Heard::Head(status, headers) if !self.answered => {
                (self.answered, self.head) = (true, Some((status, headers)));
            }
            Heard::Build(bytes) if self.answered => (self.ended, self.body) = (bytes.is_empty(), bytes),
            Heard::Head(..) | Heard::Build(_) => {
                return Err(Error::internal("the answer to the build comes out of order"));
            }
        }
        Ok(())
    }

    /// Lets the session go as far as it can without the engine.
    fn serve(&mut self) -> Result<()> {
        loop {
            let outcome = self.run();
            let unsent = self.wire.take();
            if !unsent.is_empty() {
                match self.talk.send(&unsent) {
                    Ok(()) => {}
                    Err(error) if error.kind == ErrorKind::Cancelled => return Err(error),
                    // It has closed the session, perhaps since the build is over: the answer will tell.
                    Err(_) => self.wire.close(),
                }
            }
            match outcome {
                Err(error) if error.is_library() && !self.wire.is_closed() => {
                    return Err(Error::internal("the engine does not speak HTTP/2 on the session of the build")
                        .because(error.to_string()));
                }
                _ if unsent.is_empty() => return Ok(()),
                _ => {}
            }
        }
    }

    fn run(&mut self) -> Result<(), h2::Error> {
        let waker = Waker::from(self.alarm.clone());
        while let Some(server) = &mut self.server
            && self.alarm.0.swap(false, Ordering::Relaxed)
        {
            if let Poll::Ready(outcome) = server.as_mut().poll(&mut Context::from_waker(&waker)) {
                self.server = None;
                return outcome;
            }
        }
        Ok(())
    }
}

impl Body for Conversation {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        while self.body.is_empty() && !self.ended {
            self.step()?;
        }
        let rest = self.body.split_off(self.body.len().min(max as usize));
        Ok(std::mem::replace(&mut self.body, rest))
    }
}
