//! The session as `h2` reads and writes it: two buffers between it and whoever waits for the engine.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is written and not sent yet stays below this, so that a large file is not read ahead of a slow engine.
pub const MOST_UNSENT: usize = 1 << 20;

/// One end. Its clones are the same end.
#[derive(Clone, Default)]
pub struct Wire(Rc<RefCell<Buffers>>);

#[derive(Default)]
struct Buffers {
    inbound: VecDeque<Bytes>,
    closed: bool,
    outbound: Vec<u8>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Wire {
    /// Takes what the far side said.
    pub fn feed(&self, bytes: Vec<u8>) {
        let mut buffers = self.0.borrow_mut();
        buffers.inbound.push_back(bytes.into());
        wake(&mut buffers.reader);
    }

    /// The far side says no more, and takes no more.
    pub fn close(&self) {
        let mut buffers = self.0.borrow_mut();
        buffers.closed = true;
        buffers.outbound = Vec::new();
        wake(&mut buffers.reader);
        wake(&mut buffers.writer);
    }

    /// Whether the far side is gone.
    pub fn is_closed(&self) -> bool {
        self.0.borrow().closed
    }

    /// What is to be sent to the far side.
    pub fn take(&self) -> Vec<u8> {
        let mut buffers = self.0.borrow_mut();
        wake(&mut buffers.writer);
        std::mem::take(&mut buffers.outbound)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut buffers = self.0.borrow_mut();
        let Some(front) = buffers.inbound.front_mut() else {
            if buffers.closed {
                return Poll::Ready(Ok(()));
            }
            buffers.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let length = front.len().min(buffer.remaining());
        buffer.put_slice(&front[..length]);
        front.advance(length);
        if front.is_empty() {
            buffers.inbound.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut buffers = self.0.borrow_mut();
        if buffers.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let length = bytes.len().min(MOST_UNSENT - buffers.outbound.len());
        if length == 0 && !bytes.is_empty() {
            buffers.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        buffers.outbound.extend_from_slice(&bytes[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It is always sent before anything is waited for.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
