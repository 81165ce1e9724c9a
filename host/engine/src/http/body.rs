//! Bodies on their way: a request's that tells that it moves, an answer's that watches for silence and gives its
//! connection back at the end. Neither copies bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::WasiBody;

use super::Error;
use super::pool::Lease;

/// The body of a request; counts the frames that were taken from it.
pub(crate) struct RequestBody {
    pub inner: WasiBody,
    pub frames: Arc<AtomicU64>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if frame.is_ready() {
            self.frames.fetch_add(1, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer.
pub struct ResponseBody {
    incoming: Incoming,
    lease: Option<Lease>,
    peer: String,
    header_limit: usize,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl ResponseBody {
    pub(crate) fn new(incoming: Incoming, lease: Lease, peer: String, idle: Duration, header_limit: usize) -> Self {
        let timer = Box::pin(tokio::time::sleep(idle));
        let mut body = Self { incoming, lease: Some(lease), peer, header_limit, idle, timer, waiting: false };
        body.give_back_at_end();
        body
    }

    fn give_back_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }

    /// Only the time that the reader really waits counts, so a slow reader is never blamed on the server.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        if !self.waiting {
            self.waiting = true;
            let deadline = Instant::now() + self.idle;
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx).map(|()| Error::ReadTimeout { peer: self.peer.clone(), after: self.idle })
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => match self.poll_silence(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(error) => {
                    self.lease = None;
                    Poll::Ready(Some(Err(error)))
                }
            },
            Poll::Ready(frame) => {
                self.waiting = false;
                match frame {
                    None => {
                        if let Some(lease) = self.lease.take() {
                            lease.give_back();
                        }
                        Poll::Ready(None)
                    }
                    Some(Ok(frame)) => {
                        self.give_back_at_end();
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Some(Err(error)) => {
                        self.lease = None;
                        Poll::Ready(Some(Err(Error::from_hyper(error, &self.peer, self.header_limit))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
