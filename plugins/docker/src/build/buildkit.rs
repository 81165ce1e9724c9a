//! What BuildKit reports: batches of `moby.buildkit.control.StatusResponse` in protocol buffers, in base64, as `aux` of
//! the records with the id `moby.buildkit.trace`.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cooperage_sdk::{Error, Result};
use prost::Message;

use super::{Decoder, image_of};
use crate::edge::{Event, Show};
use crate::faults::said;
use crate::lines::{Record, Transfers};

const TRACE: &str = "moby.buildkit.trace";
/// What comes before the name of an image in the name of a step that asks a registry for it.
const ASKS: [&str; 2] = ["[internal] load metadata for ", "resolve image config for "];
/// More steps than this are not told apart: no build has them.
const MOST_STEPS: usize = 100_000;

/// The fields that are used of BuildKit's `api/services/control/control.proto`.
#[derive(Clone, PartialEq, Message)]
pub struct StatusResponse {
    /// Steps whose state has changed.
    #[prost(message, repeated, tag = "1")]
    pub vertexes: Vec<Vertex>,
    /// Transfers within steps.
    #[prost(message, repeated, tag = "2")]
    pub statuses: Vec<VertexStatus>,
    /// Output of steps.
    #[prost(message, repeated, tag = "3")]
    pub logs: Vec<VertexLog>,
    /// What the user should heed.
    #[prost(message, repeated, tag = "4")]
    pub warnings: Vec<VertexWarning>,
}

/// A step.
#[derive(Clone, PartialEq, Message)]
pub struct Vertex {
    /// Which.
    #[prost(string, tag = "1")]
    pub digest: String,
    /// For people.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Whether its result was there already.
    #[prost(bool, tag = "4")]
    pub cached: bool,
    /// When it began.
    #[prost(message, optional, tag = "5")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[prost(message, optional, tag = "6")]
    pub completed: Option<Timestamp>,
    /// Why it failed.
    #[prost(string, tag = "7")]
    pub error: String,
}

/// A moment.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Timestamp {
    /// Since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
}

/// A transfer within a step.
#[derive(Clone, PartialEq, Message)]
pub struct VertexStatus {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Of which step.
    #[prost(string, tag = "2")]
    pub vertex: String,
    /// Bytes so far.
    #[prost(int64, tag = "4")]
    pub current: i64,
    /// Bytes in all, or 0.
    #[prost(int64, tag = "5")]
    pub total: i64,
}

/// Output of a step.
#[derive(Clone, PartialEq, Message)]
pub struct VertexLog {
    /// Of which step.
    #[prost(string, tag = "1")]
    pub vertex: String,
    /// What.
    #[prost(bytes = "vec", tag = "4")]
    pub msg: Vec<u8>,
}

/// What the user should heed.
#[derive(Clone, PartialEq, Message)]
pub struct VertexWarning {
    /// In one line.
    #[prost(bytes = "vec", tag = "3")]
    pub short: Vec<u8>,
}

/// Follows the trace.
#[derive(Default)]
pub struct Trace {
    steps: HashMap<String, State>,
    image: Option<String>,
}

#[derive(Default)]
struct State {
    name: String,
    begun: bool,
    ended: bool,
    transfers: Transfers,
}

impl Decoder for Trace {
    fn take(&mut self, record: &Record, show: &mut dyn Show) -> Result<()> {
        if record.id.as_deref() == Some(TRACE) {
            let status = decode(record)?;
            status.vertexes.into_iter().for_each(|vertex| self.vertex(vertex, show));
            status.statuses.into_iter().for_each(|status| self.status(&status, show));
            status.logs.into_iter().for_each(|log| self.log(log, show));
            let warnings = status.warnings.iter().map(|warning| said(&String::from_utf8_lossy(&warning.short)));
            warnings.for_each(|text| show.show(Event::Warning(text)));
        } else if let Some(image) = image_of(record) {
            self.image = Some(image);
        }
        Ok(())
    }

    fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }

    fn end(&mut self, failure: Option<&str>, show: &mut dyn Show) {
        for (key, state) in &mut self.steps {
            if state.begun && !state.ended {
                state.ended = true;
                let key = key.clone();
                show.show(match failure {
                    // The step that failed has said so; the others were merely stopped.
                    Some(_) => Event::Failed { key, message: "stopped".to_owned() },
                    None => Event::Done { key },
                });
            }
        }
    }
}

fn decode(record: &Record) -> Result<StatusResponse> {
    let wrong = |why: String| Error::internal("BuildKit's progress cannot be read").because(why);
    let text = record.aux.as_ref().and_then(|aux| aux.as_str()).ok_or_else(|| wrong("it is no text".to_owned()))?;
    let bytes = STANDARD.decode(text).map_err(|error| wrong(error.to_string()))?;
    StatusResponse::decode(bytes.as_slice()).map_err(|error| wrong(error.to_string()))
}

impl Trace {
    /// The images that registries were asked for.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        let names = self.steps.values().filter_map(|state| ASKS.iter().find_map(|asks| state.name.strip_prefix(asks)));
        names.map(|name| name.strip_prefix("docker-image://").unwrap_or(name))
    }

    fn vertex(&mut self, vertex: Vertex, show: &mut dyn Show) {
        if self.steps.len() >= MOST_STEPS && !self.steps.contains_key(&vertex.digest) {
            return;
        }
        let key = vertex.digest;
        let state = self.steps.entry(key.clone()).or_default();
        if !vertex.name.is_empty() {
            state.name = vertex.name;
        }
        let runs = vertex.started.is_some() || vertex.completed.is_some() || !vertex.error.is_empty();
        if !runs || state.ended {
            return;
        }
        if !state.begun {
            state.begun = true;
            show.show(Event::Begin { key: key.clone(), name: state.name.clone() });
        }
        if vertex.cached {
            show.show(Event::Cached { key: key.clone() });
        }
        state.ended = !vertex.error.is_empty() || vertex.completed.is_some();
        if !vertex.error.is_empty() {
            show.show(Event::Failed { key, message: said(&vertex.error) });
        } else if state.ended {
            show.show(Event::Done { key });
        }
    }

    fn status(&mut self, status: &VertexStatus, show: &mut dyn Show) {
        let Some(state) = self.steps.get_mut(&status.vertex).filter(|state| state.begun && !state.ended) else {
            return;
        };
        let (current, total) = (u64::try_from(status.current).unwrap_or(0), u64::try_from(status.total).unwrap_or(0));
        if total > 0 {
            let (done, total) = state.transfers.update(&status.id, current, total);
            show.show(Event::Progress { key: status.vertex.clone(), done, total });
        }
    }

    fn log(&self, log: VertexLog, show: &mut dyn Show) {
        // The last lines of a step may come after its end.
        let open = self.steps.get(&log.vertex).is_some_and(|state| state.begun && !state.ended);
        show.show(if open {
            Event::Output { key: log.vertex, bytes: log.msg }
        } else {
            Event::Note(String::from_utf8_lossy(&log.msg).trim_end().to_owned())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Records;
    use crate::testing::{Pieces, shown};

    fn record(status: &StatusResponse) -> String {
        format!("{{\"id\":\"{TRACE}\",\"aux\":\"{}\"}}\n", STANDARD.encode(status.encode_to_vec()))
    }

    fn follow(text: &str, failure: Option<&str>) -> Result<(Vec<String>, Option<String>)> {
        let mut records = Records::new(Box::new(Pieces::of(text.as_bytes(), 100)));
        let (mut decoder, mut events) = (Trace::default(), Vec::new());
        while let Some(record) = records.record().unwrap() {
            decoder.take(&record, &mut events)?;
        }
        decoder.end(failure, &mut events);
        Ok((shown(&events), decoder.image().map(str::to_owned)))
    }

    fn vertex(digest: &str, name: &str) -> Vertex {
        Vertex { digest: digest.into(), name: name.into(), ..Vertex::default() }
    }

    fn batch(vertexes: Vec<Vertex>) -> StatusResponse {
        StatusResponse { vertexes, ..StatusResponse::default() }
    }

    const NOW: Option<Timestamp> = Some(Timestamp { seconds: 1 });

    #[test]
    fn steps_begin_print_and_end() {
        let run = || vertex("b", "[2/2] RUN x");
        let text = [
            record(&batch(vec![vertex("a", "[1/2] FROM y"), run()])),
            record(&batch(vec![Vertex { started: NOW, completed: NOW, cached: true, ..vertex("a", "[1/2] FROM y") }])),
            record(&batch(vec![Vertex { started: NOW, ..run() }])),
            record(&StatusResponse {
                logs: vec![VertexLog { vertex: "b".into(), msg: b"out\n".to_vec() }],
                statuses: vec![
                    VertexStatus { id: "l".into(), vertex: "b".into(), current: 3, total: 9 },
                    VertexStatus { id: "m".into(), vertex: "b".into(), current: -1, total: 0 },
                    VertexStatus { id: "l".into(), vertex: "nobody".into(), current: 3, total: 9 },
                ],
                warnings: vec![VertexWarning { short: b"mind\x1b this".to_vec() }],
                ..StatusResponse::default()
            }),
            record(&batch(vec![Vertex { started: NOW, completed: NOW, ..run() }])),
            record(&StatusResponse {
                logs: vec![VertexLog { vertex: "b".into(), msg: b"late\n".to_vec() }],
                ..StatusResponse::default()
            }),
            "{\"id\":\"moby.image.id\",\"aux\":{\"ID\":\"sha256:00\"}}".to_owned(),
        ]
        .concat();
        let (events, image) = follow(&text, None).unwrap();
        assert_eq!(
            events,
            [
                "a begin [1/2] FROM y",
                "a cached",
                "a done",
                "b begin [2/2] RUN x",
                "b progress 3/9",
                "b out\n",
                "warning mind  this",
                "b done",
                "note late",
            ]
        );
        assert_eq!(image.as_deref(), Some("sha256:00"));
    }

    #[test]
    fn failures_end_what_is_open() {
        let text = [
            record(&batch(vec![Vertex { started: NOW, ..vertex("a", "one") }])),
            record(&batch(vec![Vertex { started: NOW, error: "exit code: 1".into(), ..vertex("b", "two") }])),
        ]
        .concat();
        let (events, _) = follow(&text, Some("x")).unwrap();
        assert_eq!(events, ["a begin one", "b begin two", "b failed exit code: 1", "a failed stopped"]);
    }

    #[test]
    fn real_bytes_are_read() {
        // From Docker 20.10.24.
        let text = "{\"id\":\"moby.buildkit.trace\",\"aux\":\"Cm8KR3NoYTI1NjowZjBhYmM0MmJmNmJjZmQxODRlOTBiYTQwNDA3OTZkMDEzZWJmYzJhZDM4YjVkNDFhMTg5YmI4NGIyZTRkNjc5GiRbaW50ZXJuYWxdIGxvYWQgcmVtb3RlIGJ1aWxkIGNvbnRleHQ=\"}
{\"id\":\"moby.buildkit.trace\",\"aux\":\"Cn0KR3NoYTI1NjowZjBhYmM0MmJmNmJjZmQxODRlOTBiYTQwNDA3OTZkMDEzZWJmYzJhZDM4YjVkNDFhMTg5YmI4NGIyZTRkNjc5GiRbaW50ZXJuYWxdIGxvYWQgcmVtb3RlIGJ1aWxkIGNvbnRleHQqDAjDk4fYBhC+9fHNAw==\"}";
        let (events, _) = follow(text, None).unwrap();
        assert!(events[0].ends_with("begin [internal] load remote build context"), "{events:?}");
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn nonsense_is_told() {
        for aux in ["5", "\"%\"", "\"/w==\"", "{}", "null"] {
            let text = format!("{{\"id\":\"{TRACE}\",\"aux\":{aux}}}");
            let error = follow(&text, None).unwrap_err();
            assert!(error.message.contains("cannot be read"), "{aux}");
        }
    }
}
