//! The command `fetch`: wants go out, a pack comes in. All wants are said at once and there is nothing that we have, so
//! there is nothing to negotiate.

use cooperage_sdk::events::Step;
use cooperage_sdk::{Error, Result};

use crate::id::Id;
use crate::pack::receive::Source;
use crate::packet::{Packet, Packets, shown, trimmed};
use crate::server::{Server, refusal};

/// Lines about where history was cut off, one for each commit at the edge.
const MOST_EDGES: usize = 1_000_000;
/// How often progress is shown, in bytes.
const TOLD_EVERY: u64 = 1 << 20;

/// What a server answers.
pub enum Answered {
    /// The objects.
    Pack(Incoming),
    /// That it does not give this; the text is its own.
    Refused(String),
}

/// Asks for a commit and so many generations of its history, 1 being the commit alone; all of it if none.
///
/// # Errors
/// `invalid-input` if the answer is none, and those of the network.
pub fn fetch(server: &Server<'_>, want: Id, depth: Option<u32>) -> Result<Answered> {
    let mut arguments = vec!["no-progress".to_owned(), "ofs-delta".to_owned(), format!("want {want}")];
    arguments.extend(depth.filter(|_| server.shallow).map(|depth| format!("deepen {depth}")));
    arguments.push("done".to_owned());
    let mut packets = server.command("fetch", arguments)?;
    for _ in 0..MOST_EDGES {
        match packets.read()? {
            Packet::Data if trimmed(packets.data()) == b"packfile" => {
                return Ok(Answered::Pack(Incoming {
                    packets,
                    received: 0,
                    told: 0,
                    step: Step::new("receive objects"),
                }));
            }
            Packet::Data => {
                if let Some(text) = refusal(packets.data()) {
                    return Ok(Answered::Refused(text));
                }
            }
            Packet::Delimiter => {}
            _ => return Err(Error::unavailable("the server ended its answer before the objects")),
        }
    }
    Err(Error::invalid_input("the server sends no objects"))
}

/// A pack on its way, on the first of three bands; the second has progress, the third says why the server gives up.
pub struct Incoming {
    packets: Packets,
    received: u64,
    told: u64,
    step: Step,
}

impl Source for Incoming {
    fn next(&mut self) -> Result<Option<&[u8]>> {
        loop {
            match self.packets.read()? {
                Packet::Data => {}
                Packet::Flush => return Ok(None),
                _ => return Err(Error::unavailable("the server ended the transfer in the middle")),
            }
            match self.packets.data() {
                [1, _, ..] => break,
                [1 | 2, ..] => {}
                [3, text @ ..] => {
                    return Err(Error::unavailable("the server gave up in the middle").because(shown(text)));
                }
                _ => return Err(Error::invalid_input("the server sends a packet for a band that git does not have")),
            }
        }
        let data = &self.packets.data()[1..];
        self.received += data.len() as u64;
        if self.received - self.told >= TOLD_EVERY {
            self.told = self.received;
            self.step.bytes(self.received, None);
        }
        Ok(Some(data))
    }
}
