//! One call of gRPC, as its server sees it: messages in, messages out, and the status in the trailers.
//! From `doc/PROTOCOL-HTTP2.md` of grpc/grpc.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response};
use prost::Message;

/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Of a message of the engine's. It asks for things by name; only files are large, and they go the other way.
const LONGEST: usize = 1 << 20;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    code: u8,
    message: String,
}

macro_rules! statuses {
    ($($name:ident => $code:literal,)+) => {
        impl Status {
            $(pub fn $name(message: impl Into<String>) -> Self {
                Self { code: $code, message: message.into() }
            })+
        }
    };
}

statuses! {
    cancelled => 1,
    unknown => 2,
    invalid_argument => 3,
    not_found => 5,
    resource_exhausted => 8,
    unimplemented => 12,
    internal => 13,
}

/// It was reset, or the session is gone: nobody will hear the status.
impl From<h2::Error> for Status {
    fn from(error: h2::Error) -> Self {
        Self::cancelled(error.to_string())
    }
}

impl Status {
    fn trailers(outcome: &Result<(), Self>) -> HeaderMap {
        let (code, message) = outcome.as_ref().err().map_or((0, ""), |status| (status.code, &*status.message));
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(u16::from(code)));
        if let Some(message) = HeaderValue::from_str(&escaped(message)).ok().filter(|_| !message.is_empty()) {
            trailers.insert("grpc-message", message);
        }
        trailers
    }
}

/// As gRPC has messages in trailers: what is no printable ASCII is `%XX`.
fn escaped(message: &str) -> String {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'%';
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    message.bytes().map(one).collect()
}

/// A call of the engine's.
pub struct Call {
    /// What it says.
    pub inbox: Inbox,
    /// What it is told.
    pub outbox: Outbox,
}

impl Call {
    /// Takes a call on.
    pub fn accept(body: RecvStream, respond: &mut SendResponse<Bytes>) -> Result<Self, Status> {
        let mut response = Response::new(());
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        let stream = respond.send_response(response, false)?;
        let inbox = Inbox { body, buffer: BytesMut::new() };
        Ok(Self { inbox, outbox: Outbox { stream, unsent: VecDeque::new() } })
    }

    /// Answers a call of one message with one.
    pub async fn unary<Q: Message + Default, A: Message>(
        &mut self,
        reply: impl FnOnce(Q) -> Result<A, Status>,
    ) -> Result<(), Status> {
        let request = poll_fn(|cx| self.inbox.poll_message(cx)).await?;
        let request = request.ok_or_else(|| Status::invalid_argument("the call has no message"))?;
        self.outbox.push(&reply(request)?);
        Ok(())
    }

    /// Ends a call, once all that was pushed is sent.
    pub async fn end(mut self, outcome: Result<(), Status>) -> Result<(), Status> {
        poll_fn(|cx| self.outbox.poll_sent(cx)).await?;
        Ok(self.outbox.stream.send_trailers(Status::trailers(&outcome))?)
    }
}

/// The messages of the engine.
pub struct Inbox {
    body: RecvStream,
    buffer: BytesMut,
}

impl Inbox {
    /// The next message; none at the end.
    pub fn poll_message<M: Message + Default>(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<M>, Status>> {
        loop {
            if let Some(message) = self.buffered()? {
                let wrong = |error| Status::internal(format!("a message cannot be read: {error}"));
                return Poll::Ready(M::decode(message).map(Some).map_err(wrong));
            }
            let Some(bytes) = ready!(self.body.poll_data(cx)) else {
                let whole = self.buffer.is_empty();
                return Poll::Ready(if whole { Ok(None) } else { Err(Status::internal("a message has no end")) });
            };
            let bytes = bytes?;
            self.buffer.extend_from_slice(&bytes);
            self.body.flow_control().release_capacity(bytes.len())?;
        }
    }

    /// The first message of the buffer, if it is whole.
    fn buffered(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((&compressed, rest)) = self.buffer.split_first() else { return Ok(None) };
        if compressed != 0 {
            return Err(Status::unimplemented("compressed messages are not read here"));
        }
        let Some(length) = rest.first_chunk().map(|length| u32::from_be_bytes(*length) as usize) else {
            return Ok(None);
        };
        if length > LONGEST {
            return Err(Status::resource_exhausted(format!("a message of {length} bytes is too long")));
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// The messages for the engine.
pub struct Outbox {
    stream: SendStream<Bytes>,
    unsent: VecDeque<Bytes>,
}

impl Outbox {
    /// Adds a message. It is sent by [`Self::poll_sent`].
    pub fn push(&mut self, message: &impl Message) {
        let mut bytes = BytesMut::with_capacity(PREFIX + message.encoded_len());
        append(message, &mut bytes);
        self.push_all(bytes);
    }

    /// Adds messages that [`append`] made.
    pub fn push_all(&mut self, messages: BytesMut) {
        self.unsent.push_back(messages.freeze());
    }

    /// Sends as much as the engine has room for; ready once nothing is left.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        while let Some(front) = self.unsent.front_mut() {
            if front.is_empty() {
                self.unsent.pop_front();
                continue;
            }
            self.stream.reserve_capacity(front.len());
            if self.stream.capacity() == 0 {
                // It tells when room was added, so it is asked only when there is none.
                ready!(self.stream.poll_capacity(cx)).ok_or_else(|| Status::cancelled("the call is over"))??;
                continue;
            }
            let length = front.len().min(self.stream.capacity());
            self.stream.send_data(front.split_to(length), false)?;
        }
        Poll::Ready(Ok(()))
    }
}

/// Appends a message as gRPC has it.
pub fn append(message: &impl Message, to: &mut BytesMut) {
    let length = message.encoded_len();
    to.reserve(PREFIX + length);
    to.put_u8(0);
    to.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // A buffer that grows has room for it.
    let _ = message.encode(to);
}
