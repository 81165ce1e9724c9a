//! BuildKit's side of a session, as a script of calls. Once the script has ended, the build has its answer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use cooperage_sdk::Result;
use cooperage_sdk::http::Headers;
use h2::client::{Builder, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use prost::Message;

use crate::edge::Body;
use crate::session::messages::{Packet, PacketType};
use crate::session::wire::{MOST_UNSENT, Wire};
use crate::session::{Heard, Session, Talk};

/// What the engine has to say for itself on HTTP/2.
pub fn usual() -> Builder {
    let mut builder = Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
    builder
}

/// Runs a session until a script has ended, and gives what the script came to.
pub fn run<T: 'static, F: Future<Output = T> + 'static>(
    session: Session,
    script: impl FnOnce(Engine) -> F + 'static,
) -> Result<T> {
    run_with(usual(), session, script)
}

/// Runs with settings of the engine's.
pub fn run_with<T: 'static, F: Future<Output = T> + 'static>(
    builder: Builder,
    session: Session,
    script: impl FnOnce(Engine) -> F + 'static,
) -> Result<T> {
    let (wire, outcome) = (Wire::default(), Rc::new(RefCell::new(None)));
    let (far, result) = (wire.clone(), outcome.clone());
    let script = async move {
        let (requests, connection) = builder.handshake(far).await.unwrap();
        let mut connection = Box::pin(connection);
        let mut script = Box::pin(script(Engine { requests }));
        poll_fn(|cx| {
            let _ = connection.as_mut().poll(cx);
            script.as_mut().poll(cx).map(|value| *result.borrow_mut() = Some(value))
        })
        .await;
    };
    let answer = [Heard::Head(200, Headers::default()), Heard::Build(b"{}".to_vec()), Heard::Build(Vec::new())];
    let talk = Scripted { wire, script: Some(Box::pin(script)), answer: answer.into() };
    let mut conversation = session.converse(Box::new(talk));
    assert_eq!(conversation.head()?.0, 200);
    assert_eq!(conversation.chunk(1)?, b"{");
    assert_eq!(conversation.chunk(5)?, b"}");
    assert_eq!(conversation.chunk(5)?, b"");
    Ok(outcome.take().unwrap())
}

struct Scripted {
    wire: Wire,
    script: Option<Pin<Box<dyn Future<Output = ()>>>>,
    answer: VecDeque<Heard>,
}

struct Alarm(AtomicBool);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Talk for Scripted {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        assert!(bytes.len() <= MOST_UNSENT, "{}", bytes.len());
        self.wire.feed(bytes.to_vec());
        Ok(())
    }

    fn hear(&mut self) -> Result<Heard> {
        let alarm = Arc::new(Alarm(AtomicBool::new(true)));
        let waker = Waker::from(alarm.clone());
        while let Some(script) = &mut self.script
            && alarm.0.swap(false, Ordering::Relaxed)
        {
            if script.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Ready(()) {
                self.script = None;
            }
        }
        let said = self.wire.take();
        if !said.is_empty() {
            return Ok(Heard::Session(said));
        }
        assert!(self.script.is_none(), "both sides wait for the other");
        Ok(self.answer.pop_front().unwrap())
    }
}

/// Calls of the engine's.
pub struct Engine {
    requests: SendRequest<Bytes>,
}

/// A call that is under way.
pub struct Ongoing {
    pub send: SendStream<Bytes>,
    receive: RecvStream,
    buffer: BytesMut,
    /// How much of the window is given back.
    pub reads: bool,
}

/// How a call ended.
pub struct Reply {
    pub status: u8,
    pub text: String,
    pub messages: Vec<Bytes>,
}

impl Reply {
    /// The only message.
    pub fn message<M: Message + Default>(&self) -> M {
        assert_eq!(self.messages.len(), 1, "{}", self.text);
        M::decode(self.messages[0].clone()).unwrap()
    }

    pub fn packets(&self) -> Vec<Packet> {
        self.messages.iter().map(|message| Packet::decode(message.clone()).unwrap()).collect()
    }
}

impl Engine {
    /// Begins a call, sends what there is, and waits for the head of the answer.
    pub async fn call(&self, method: &str, headers: &[(&str, &str)], pieces: Vec<Bytes>) -> Ongoing {
        let uri = format!("http://localhost{method}");
        let mut request = Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, value.as_bytes());
        }
        let mut requests = self.requests.clone().ready().await.unwrap();
        let (response, mut send) = requests.send_request(request.body(()).unwrap(), false).unwrap();
        for piece in pieces {
            send.send_data(piece, false).unwrap();
        }
        let response = response.await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"application/grpc".parse().unwrap())
        );
        Ongoing { send, receive: response.into_body(), buffer: BytesMut::new(), reads: true }
    }

    pub async fn unary(&self, method: &str, request: &impl Message) -> Reply {
        let mut call = self.call(method, &[], vec![framed(request)]).await;
        let _ = call.send.send_data(Bytes::new(), true);
        call.rest().await
    }

    pub async fn copy(&self, headers: &[(&str, &str)]) -> Ongoing {
        self.call("/moby.filesync.v1.FileSync/DiffCopy", headers, Vec::new()).await
    }
}

impl Ongoing {
    pub fn say(&mut self, packet: Packet) {
        self.send.send_data(framed(&packet), false).unwrap();
    }

    pub fn ask(&mut self, id: u32) {
        self.say(Packet { id, ..Packet::of(PacketType::Req) });
    }

    /// The next message, none at the end.
    pub async fn hear(&mut self) -> Option<Bytes> {
        loop {
            if let Some(length) =
                self.buffer.get(1..5).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()) as usize)
                && self.buffer.len() >= 5 + length
            {
                let message = self.buffer.split_to(5 + length).freeze();
                return Some(message.slice(5..));
            }
            let Some(bytes) = self.receive.data().await else {
                assert!(self.buffer.is_empty());
                return None;
            };
            let bytes = bytes.unwrap();
            if self.reads {
                self.receive.flow_control().release_capacity(bytes.len()).unwrap();
            }
            self.buffer.put(bytes);
        }
    }

    pub async fn packet(&mut self) -> Packet {
        Packet::decode(self.hear().await.unwrap()).unwrap()
    }

    /// What is left of the call.
    pub async fn rest(mut self) -> Reply {
        let mut messages = Vec::new();
        while let Some(message) = self.hear().await {
            messages.push(message);
        }
        let trailers = self.receive.trailers().await.unwrap().unwrap();
        let text = trailers.get("grpc-message").map_or("", |text| text.to_str().unwrap()).to_owned();
        Reply { status: trailers["grpc-status"].to_str().unwrap().parse().unwrap(), text, messages }
    }
}

/// A message as gRPC has it.
pub fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len().try_into().unwrap());
    bytes.put(message.encode_to_vec().as_slice());
    bytes.freeze()
}
