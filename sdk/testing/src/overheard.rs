//! Overhears the TCP connections of a run that is recorded, and writes them down in the form in which a case has them.

use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use cooperage_engine::http::{Error, Line, Stream};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listing::{LONGEST, body};
use crate::veil::Veil;

/// What was said on one connection.
#[derive(Debug, Default)]
pub(crate) struct Overheard {
    to: String,
    turns: Mutex<Vec<Turn>>,
}

#[derive(Debug)]
enum Turn {
    /// The plugin said it.
    Receive(Vec<u8>),
    /// The far side said it.
    Send(Vec<u8>),
    Tls,
    Close,
}

impl Overheard {
    /// Passes a connection on to `to`, and keeps what is said on it.
    pub(crate) fn on(line: Box<dyn Line>, to: String) -> (Arc<Self>, Box<dyn Line>) {
        let overheard = Arc::new(Self { to, turns: Mutex::default() });
        (overheard.clone(), Box::new(Tap { stream: line, overheard }))
    }

    /// Where the connection led, and its turns, in the form of `tcp`.
    pub(crate) fn case(&self, veil: &Veil, folder: &Path) -> std::io::Result<(String, Vec<Value>)> {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = |turn: &Turn| {
            Ok(match turn {
                Turn::Receive(bytes) => json!({ "receive": said(&veil.bytes(bytes), folder)? }),
                Turn::Send(bytes) => json!({ "send": said(&veil.bytes(bytes), folder)? }),
                Turn::Tls => json!("tls"),
                Turn::Close => json!("close"),
            })
        };
        Ok((veil.secrets(&self.to), turns.iter().map(turn).collect::<std::io::Result<_>>()?))
    }

    /// What the same side says in several pieces is one turn: where it was cut is chance.
    fn add(&self, next: Turn) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        match (turns.last_mut(), next) {
            (Some(Turn::Receive(said)), Turn::Receive(more)) | (Some(Turn::Send(said)), Turn::Send(more)) => {
                said.extend(more);
            }
            (Some(Turn::Close), Turn::Close) => {}
            (_, next) => turns.push(next),
        }
    }
}

fn said(bytes: &[u8], folder: &Path) -> std::io::Result<Value> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= LONGEST => Ok(json!(text)),
        _ => body(bytes, &mut str::to_owned, folder),
    }
}

struct Tap<S: ?Sized> {
    stream: Box<S>,
    overheard: Arc<Overheard>,
}

#[async_trait]
impl Line for Tap<dyn Line> {
    async fn start_tls(self: Box<Self>, host: &str, port: u16, limit: Duration) -> Result<Box<dyn Stream>, Error> {
        let Self { stream, overheard } = *self;
        let stream = stream.start_tls(host, port, limit).await?;
        overheard.add(Turn::Tls);
        Ok(Box::new(Tap { stream, overheard }))
    }

    fn peer(&self) -> IpAddr {
        self.stream.peer()
    }
}

impl<S: Stream + ?Sized> AsyncRead for Tap<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut *self.stream).poll_read(cx, buf));
        self.overheard.add(match &buf.filled()[before..] {
            [] => Turn::Close,
            said => Turn::Send(said.to_vec()),
        });
        Poll::Ready(read)
    }
}

impl<S: Stream + ?Sized> AsyncWrite for Tap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.stream).poll_write(cx, buf));
        if let Ok(length) = written {
            self.overheard.add(Turn::Receive(buf[..length].to_vec()));
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}
