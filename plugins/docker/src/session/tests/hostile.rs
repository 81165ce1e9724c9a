//! Engines that speak nonsense, stop reading or go away.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use cooperage_sdk::http::Headers;
use cooperage_sdk::{Error, Result};

use super::engine::{Reply, run};
use super::session;
use super::tree::Tree;
use crate::edge::Body;
use crate::session::messages::{Packet, PacketType};
use crate::session::{Heard, Session, Talk};

fn copying(script: impl FnOnce(&mut super::engine::Ongoing) + 'static) -> Reply {
    let reply = run(session(), |engine| async move {
        let mut call = engine.copy(&[("dir-name", "context")]).await;
        while call.packet().await.stat.is_some() {}
        script(&mut call);
        call.rest().await
    });
    reply.unwrap()
}

#[test]
fn nonsense_in_a_call_ends_it() {
    let raw =
        |bytes: &'static [u8]| copying(move |call| call.send.send_data(Bytes::from_static(bytes), false).unwrap());
    for (reply, status, text) in [
        (copying(|call| call.ask(7)), 3, "no file 7"),
        (copying(|call| [0, 0].into_iter().for_each(|id| call.ask(id))), 3, "no file 0"),
        (copying(|call| call.say(Packet::of(PacketType::Stat))), 3, "only the sender"),
        (copying(|call| call.say(Packet { data: "why".into(), ..Packet::of(PacketType::Err) })), 2, "why"),
        (copying(|call| call.send.send_data(Bytes::new(), true).unwrap()), 3, "before FIN"),
        (raw(&[0, 0xff, 0xff, 0xff, 0xff]), 8, "too long"),
        (raw(&[1, 0, 0, 0, 0]), 12, "compressed"),
        (raw(&[0, 0, 0, 0, 1, 0xff]), 13, "cannot be read"),
    ] {
        assert!(reply.status == status && reply.text.contains(text), "{} {}", reply.status, reply.text);
    }
    let cut = copying(|call| call.send.send_data(Bytes::from_static(&[0, 0, 0]), true).unwrap());
    assert_eq!((cut.status, &*cut.text), (13, "a message has no end"));
}

#[test]
fn an_engine_that_does_not_read_fills_no_memory() {
    let read = Rc::new(RefCell::new(0));
    let tree = Tree::new().zeros("large", 1 << 30, &read);
    let session = Session::new("x", "x").directory("context", Rc::new(tree));
    run(session, |engine| async move {
        let mut calls = Vec::new();
        for _ in 0..3 {
            let mut call = engine.copy(&[("dir-name", "context")]).await;
            call.reads = false;
            call.ask(0);
            calls.push(call);
        }
        // The health of the session is not that of its copies.
        let method = "/grpc.health.v1.Health/Check";
        assert_eq!(engine.unary(method, &super::HealthCheckRequest {}).await.status, 0);
        drop(calls);
    })
    .unwrap();
    assert!(*read.borrow() < 16 << 20, "{}", read.borrow());
}

#[test]
fn a_call_that_is_dropped_is_forgotten() {
    let read = Rc::new(RefCell::new(0));
    let tree = Tree::new().zeros("large", 1 << 30, &read);
    let session = Session::new("x", "x").directory("context", Rc::new(tree));
    let fault = session.offers.fault.clone();
    run(session, |engine| async move {
        let mut call = engine.copy(&[("dir-name", "context")]).await;
        call.ask(0);
        call.packet().await;
        call.send.send_reset(h2::Reason::CANCEL);
        drop(call);
        for _ in 0..10 {
            engine.unary("/grpc.health.v1.Health/Check", &super::HealthCheckRequest {}).await;
        }
    })
    .unwrap();
    assert!(*read.borrow() < 16 << 20, "{}", read.borrow());
    assert!(fault.take().is_none());
}

/// An engine that says what it says, and takes so many bytes.
struct Raw {
    says: VecDeque<Heard>,
    takes: bool,
}

impl Talk for Raw {
    fn send(&mut self, _: &[u8]) -> Result<()> {
        if self.takes { Ok(()) } else { Err(Error::unavailable("the pipe is broken")) }
    }

    fn hear(&mut self) -> Result<Heard> {
        self.says.pop_front().ok_or_else(|| Error::cancelled("it was enough"))
    }
}

fn raw(takes: bool, says: Vec<Heard>) -> Result<Vec<u8>> {
    let mut conversation = session().converse(Box::new(Raw { says: says.into(), takes }));
    conversation.head()?;
    let mut all = Vec::new();
    loop {
        let chunk = conversation.chunk(2)?;
        if chunk.is_empty() {
            assert!(conversation.chunk(2)?.is_empty());
            return Ok(all);
        }
        all.extend(chunk);
    }
}

fn said(bytes: impl AsRef<[u8]>) -> Heard {
    Heard::Session(bytes.as_ref().to_vec())
}

fn head() -> Heard {
    Heard::Head(200, Headers::default())
}

fn build(text: &str) -> Heard {
    Heard::Build(text.as_bytes().to_vec())
}

#[test]
fn what_is_not_http2_is_told() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for garbage in [
        b"HTTP/1.1 200 OK\r\n\r\nwhat is this, and why?".to_vec(),
        [&preface[..], &[0xff; 100]].concat(),
        // A frame for a stream that was never begun.
        [&preface[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], &[0, 0, 1, 0, 0, 0, 0, 0, 9, 1]].concat(),
    ] {
        let error = raw(true, vec![said(garbage), head(), build("")]).unwrap_err();
        assert!(error.message.contains("HTTP/2"), "{error:?}");
    }
}

#[test]
fn a_session_may_end_before_its_build() {
    let answer = || vec![head(), build("abc"), build("")];
    for (takes, first) in [
        (true, vec![]),
        (false, vec![]),
        (true, vec![said(""), said("late")]),
        (false, vec![said("")]),
        (true, vec![said("PRI * HT"), said("")]),
        (false, vec![said("garbage that nobody can answer, as the pipe is broken")]),
    ] {
        let says = first.into_iter().chain(answer()).collect();
        assert_eq!(raw(takes, says).unwrap(), b"abc");
    }
}

#[test]
fn the_answer_has_an_order() {
    for says in [vec![build("a")], vec![head(), head()]] {
        assert!(raw(true, says).unwrap_err().message.contains("out of order"));
    }
    assert_eq!(raw(true, vec![head(), build("a")]).unwrap_err().message, "it was enough");
}
