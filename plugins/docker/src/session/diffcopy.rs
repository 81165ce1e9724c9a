//! Copies a directory to the engine: the protocol of `send.go` and `receive.go` of tonistiigi/fsutil.
//!
//! This side tells of all entries in order, and they are counted from 0. The engine asks for files by these numbers as
//! soon as it likes, and gets their bytes between what is told. Once it has all it says FIN, and hears it back.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};

use bytes::{Bytes, BytesMut};
use cooperage_sdk::Error;
use http::HeaderMap;

use super::grpc::{Call, Outbox, Status, append};
use super::messages::{Packet, PacketType};
use super::selection::Selection;
use super::stat::stat;
use super::walk::Walk;
use super::{Files, Kind, Offers, random};
use crate::edge::Body;
use crate::faults::said;

/// Of a file in one message. Engines take 4 MiB, and a few of these are in memory for each call.
const PIECE: u32 = 256 << 10;
/// Entries are told in batches of about so many bytes.
const BATCH: usize = 16 << 10;

/// Why the copy stopped.
enum Stop {
    /// A directory or a file cannot be read.
    Files(Error),
    /// The call failed.
    Call(Status),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Files(error)
    }
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Call(status)
    }
}

/// Serves a call.
pub async fn answer(offers: &Offers, headers: &HeaderMap, call: &mut Call) -> Result<(), Status> {
    let name = values(headers, "dir-name").into_iter().next().unwrap_or_default();
    let files = offers.directories.get(&name);
    let files = files.ok_or_else(|| Status::not_found(format!("there is no directory {name:?}")))?;
    match copy(files, headers, call).await {
        Err(Stop::Files(error)) => {
            offers.fault.note(&error);
            let text =
                said(&std::iter::once(&error.message).chain(&error.context).cloned().collect::<Vec<_>>().join(": "));
            call.outbox.push(&Packet { data: text.clone().into(), ..Packet::of(PacketType::Err) });
            Err(Status::unknown(text))
        }
        Err(Stop::Call(status)) => Err(status),
        Ok(()) => Ok(()),
    }
}

async fn copy(files: &Rc<dyn Files>, headers: &HeaderMap, call: &mut Call) -> Result<(), Stop> {
    // What `exclude-patterns` and `override-excludes` say is left aside: the engine read these patterns in the ignore
    // file, and a directory has no files that its ignore file leaves out.
    let include = values(headers, "include-patterns");
    let selection = Selection::of(&**files, &include, &values(headers, "followpaths"))?;
    let mut sender = Sender {
        files: files.clone(),
        walk: Some(Walk::new(files.clone(), selection)?),
        told: 0,
        unasked: HashMap::new(),
        asked: VecDeque::new(),
        open: None,
        otherwise: random(),
    };
    loop {
        let turn = poll_fn(|cx| {
            if let Poll::Ready(said) = call.inbox.poll_message(cx) {
                return Poll::Ready(said.map(Turn::Said));
            }
            ready!(call.outbox.poll_sent(cx))?;
            if sender.has_more() { Poll::Ready(Ok(Turn::Room)) } else { Poll::Pending }
        });
        match turn.await? {
            Turn::Room => sender.send(&mut call.outbox)?,
            Turn::Said(None) => return Err(Status::invalid_argument("the call ends before FIN").into()),
            Turn::Said(Some(packet)) => match packet.kind() {
                PacketType::Req => sender.ask(packet.id)?,
                PacketType::Fin => {
                    call.outbox.push(&Packet::of(PacketType::Fin));
                    return Ok(());
                }
                PacketType::Err => {
                    let text = format!("the receiver gave up: {}", String::from_utf8_lossy(&packet.data));
                    return Err(Status::unknown(text).into());
                }
                PacketType::Stat | PacketType::Data => {
                    return Err(Status::invalid_argument("only the sender sends STAT and DATA").into());
                }
            },
        }
    }
}

/// What comes next.
enum Turn {
    /// The engine said something; none if it says no more.
    Said(Option<Packet>),
    /// All was sent.
    Room,
}

struct Sender {
    files: Rc<dyn Files>,
    /// None after the last entry.
    walk: Option<Walk>,
    told: u32,
    /// Files that the engine may still ask for.
    unasked: HashMap<u32, String>,
    asked: VecDeque<(u32, String)>,
    open: Option<Open>,
    /// Makes files without a digest differ from those of every other copy, so that they are sent.
    otherwise: u64,
}

struct Open {
    id: u32,
    path: String,
    body: Box<dyn Body>,
}

impl Sender {
    fn has_more(&self) -> bool {
        self.walk.is_some() || self.open.is_some() || !self.asked.is_empty()
    }

    fn ask(&mut self, id: u32) -> Result<(), Status> {
        let path = self.unasked.remove(&id);
        let path = path.ok_or_else(|| Status::invalid_argument(format!("there is no file {id} to ask for")))?;
        self.asked.push_back((id, path));
        Ok(())
    }

    /// Some more entries and some more bytes, so that the engine can write files while it hears of others.
    fn send(&mut self, outbox: &mut Outbox) -> Result<(), Error> {
        self.tell(outbox)?;
        self.read(outbox)
    }

    fn tell(&mut self, outbox: &mut Outbox) -> Result<(), Error> {
        let mut batch = BytesMut::new();
        while let Some(walk) = &mut self.walk
            && batch.len() < BATCH
        {
            let stat = match walk.next()? {
                Some((path, entry)) => {
                    if entry.kind == Kind::File {
                        self.unasked.insert(self.told, path.clone());
                    }
                    self.told += 1;
                    Some(stat(path, &entry, self.otherwise))
                }
                None => {
                    self.walk = None;
                    None
                }
            };
            append(&Packet { stat, ..Packet::of(PacketType::Stat) }, &mut batch);
        }
        outbox.push_all(batch);
        Ok(())
    }

    fn read(&mut self, outbox: &mut Outbox) -> Result<(), Error> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let Some((id, path)) = self.asked.pop_front() else { return Ok(()) };
                let body = self.files.open(&path).map_err(|error| unread(&path, error))?;
                Open { id, path, body }
            }
        };
        let data = Bytes::from(open.body.chunk(PIECE).map_err(|error| unread(&open.path, error))?);
        let ended = data.is_empty();
        outbox.push(&Packet { id: open.id, data, ..Packet::of(PacketType::Data) });
        self.open = (!ended).then_some(open);
        Ok(())
    }
}

fn unread(path: &str, error: Error) -> Error {
    error.context(format!("{path} cannot be sent to the engine"))
}

/// The values of a header field. Where one of them is not ASCII, newer engines write all of them as in a query and say
/// so in a field of its own; older ones send them as they are.
fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let flag = headers.get(format!("{name}-encoded"));
    let encoded = flag.is_some_and(|flag| matches!(flag.as_bytes(), b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True"));
    let values = headers.get_all(name).iter().map(|value| value.as_bytes());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    values.map(|value| if encoded { text(&unescaped(value)) } else { text(value) }).collect()
}

fn unescaped(value: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), value);
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let digits = after.first_chunk::<2>().and_then(|digits| str::from_utf8(digits).ok());
        match (first, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(byte),
        }
    }
    bytes
}
