//! The stream in which engines report progress: JSON records, one a line, while the work goes on.

use std::collections::HashMap;
use std::ops::Range;

use cooperage_sdk::events::Step;
use cooperage_sdk::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::edge::Body;
use crate::faults;

/// BuildKit puts a whole batch of log output into one record.
const LONGEST: usize = 16 << 20;
/// More transfers than this, and those with longer names, are not shown: no step has them.
const MOST_TRANSFERS: usize = 1000;
const LONGEST_ID: usize = 1000;

/// One record. Engines fill in one or two of the fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Output, often of less or more than a line.
    pub stream: Option<String>,
    /// What is being done to `id`.
    pub status: Option<String>,
    /// A layer, or the kind of `aux`.
    pub id: Option<String>,
    /// How far a transfer is.
    #[serde(rename = "progressDetail")]
    pub progress: Option<Progress>,
    /// Why the work failed.
    pub error: Option<String>,
    /// The same with a code.
    #[serde(rename = "errorDetail")]
    pub detail: Option<Detail>,
    /// Something for machines.
    pub aux: Option<Value>,
}

/// How far a transfer is, in bytes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// So far.
    pub current: u64,
    /// In all, if it is known.
    pub total: u64,
}

/// Why the work failed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// For instance the exit status of a command.
    pub code: Option<i64>,
    /// For people.
    pub message: String,
}

impl Record {
    /// The failure that this record reports: its words and its code.
    #[must_use]
    pub fn failure(&self) -> Option<(&str, Option<i64>)> {
        let code = self.detail.as_ref().and_then(|detail| detail.code);
        let detailed = self.detail.as_ref().map(|detail| detail.message.as_str()).filter(|text| !text.is_empty());
        self.error.as_deref().filter(|text| !text.is_empty()).or(detailed).map(|text| (text, code))
    }
}

/// The records of an answer.
pub struct Records {
    body: Box<dyn Body>,
    buffer: Vec<u8>,
    /// Where the line that comes next begins.
    begin: usize,
    /// Up to here there is no end of it.
    looked: usize,
    ended: bool,
}

impl Records {
    /// Those of this body.
    #[must_use]
    pub fn new(body: Box<dyn Body>) -> Self {
        Self { body, buffer: Vec::new(), begin: 0, looked: 0, ended: false }
    }

    /// The next record, or none at the end.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks, `internal` if the engine sends something else.
    pub fn record(&mut self) -> Result<Option<Record>> {
        while let Some(line) = self.line()? {
            let line = self.buffer[line].trim_ascii();
            if line.is_empty() {
                continue;
            }
            return serde_json::from_slice(line).map(Some).map_err(|error| {
                let begin = String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned();
                Error::internal(format!("the engine's progress cannot be read: {error}")).because(format!("{begin:?}"))
            });
        }
        Ok(None)
    }

    /// Gives all records to `take`, up to one that reports a failure of `what` is tried.
    ///
    /// # Errors
    /// The engine's, those of [`record`](Self::record), and those of `take`.
    pub fn follow(&mut self, what: &str, mut take: impl FnMut(&Record) -> Result<()>) -> Result<()> {
        while let Some(record) = self.record()? {
            if let Some((message, code)) = record.failure() {
                return Err(faults::of_stream(what, message, code));
            }
            take(&record)?;
        }
        Ok(())
    }

    /// Where in the buffer the next line is.
    fn line(&mut self) -> Result<Option<Range<usize>>> {
        loop {
            let (begin, length) = (self.begin, self.buffer.len());
            let end = self.buffer[self.looked..].iter().position(|byte| *byte == b'\n');
            let end = end.map(|end| self.looked + end + 1).or_else(|| (self.ended && begin < length).then_some(length));
            if let Some(end) = end {
                (self.begin, self.looked) = (end, end);
                return Ok(Some(begin..end));
            }
            if self.ended {
                return Ok(None);
            }
            self.buffer.drain(..begin);
            (self.begin, self.looked) = (0, self.buffer.len());
            if self.buffer.len() > LONGEST {
                return Err(Error::limit("the engine sends a record of progress of more than 16 MiB"));
            }
            let chunk = self.body.chunk(64 << 10)?;
            self.ended = chunk.is_empty();
            self.buffer.extend_from_slice(&chunk);
        }
    }
}

/// Adds up the transfers of one step, as engines report each layer on its own.
#[derive(Debug, Default)]
pub struct Transfers {
    /// How many bytes of how many each has.
    each: HashMap<String, (u64, u64)>,
    /// The sums of these, which fit: there are not so many of them.
    all: (u128, u128),
}

impl Transfers {
    /// Takes the state of one transfer; how many bytes of how many all have together.
    pub fn update(&mut self, id: &str, current: u64, total: u64) -> (u64, u64) {
        let is_new = !self.each.contains_key(id);
        if !is_new || (self.each.len() < MOST_TRANSFERS && id.len() <= LONGEST_ID) {
            let before = self.each.insert(id.to_owned(), (current, total)).unwrap_or_default();
            self.all.0 = self.all.0 - u128::from(before.0) + u128::from(current);
            self.all.1 = self.all.1 - u128::from(before.1) + u128::from(total);
        }
        let shown = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
        (shown(self.all.0), shown(self.all.1))
    }

    /// Shows on a step how far all are, if the record is about one of them.
    pub fn show(&mut self, record: &Record, step: &Step) {
        if let (Some(id), Some(progress)) = (&record.id, record.progress.as_ref().filter(|progress| progress.total > 0))
        {
            let (done, total) = self.update(id, progress.current, progress.total);
            step.bytes(done, Some(total));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Pieces;

    fn records(text: &str, size: usize) -> Result<Vec<Record>> {
        let mut records = Records::new(Box::new(Pieces::of(text.as_bytes(), size)));
        let mut all = Vec::new();
        while let Some(record) = records.record()? {
            all.push(record);
        }
        Ok(all)
    }

    #[test]
    fn records_come_in_any_pieces() {
        let text = "{\"stream\":\"a\\n\"}\r\n\r\n{\"status\":\"Downloading\",\"id\":\"x\",\"progressDetail\":{\"current\":1,\"total\":2}}\n{\"aux\":{\"ID\":\"sha256:00\"},\"progressDetail\":{}}";
        for size in [1, 2, 3, 7, 1000] {
            let all = records(text, size).unwrap();
            assert_eq!(all.len(), 3, "{size}");
            assert_eq!(all[0].stream.as_deref(), Some("a\n"));
            assert_eq!(all[1].progress.as_ref().unwrap().total, 2);
            assert_eq!(all[2].aux.as_ref().unwrap()["ID"], "sha256:00");
        }
    }

    #[test]
    fn failures_come_with_or_without_a_code() {
        let text = r#"{"errorDetail":{"code":1,"message":"a"},"error":"a"}
            {"errorDetail":{"message":"b"}}
            {"error":"c"}
            {"error":"","stream":"fine"}"#;
        let all = records(text, 5).unwrap();
        let failures: Vec<_> = all.iter().map(Record::failure).collect();
        assert_eq!(failures, [Some(("a", Some(1))), Some(("b", None)), Some(("c", None)), None]);
    }

    #[test]
    fn what_is_no_record_is_told() {
        for nonsense in ["<html>\n", "5\n", "{\"stream\":5}\n", "{"] {
            assert!(records(nonsense, 3).is_err(), "{nonsense}");
        }
        assert!(records(&"x".repeat(17 << 20), 1 << 20).unwrap_err().message.contains("16 MiB"));
        assert!(records("", 1).unwrap().is_empty());
    }

    #[test]
    fn transfers_add_up() {
        let mut transfers = Transfers::default();
        transfers.update("a", 1, 10);
        transfers.update("b", 2, 20);
        assert_eq!(transfers.update("a", 5, 10), (7, 30));
        assert_eq!(transfers.update("c", u64::MAX, u64::MAX), (u64::MAX, u64::MAX));
        assert_eq!(transfers.update("c", 0, 0), (7, 30));
    }

    #[test]
    fn transfers_have_an_end() {
        let mut transfers = Transfers::default();
        for number in 0..10 * MOST_TRANSFERS {
            transfers.update(&number.to_string(), 1, 2);
        }
        let most = MOST_TRANSFERS as u64;
        assert_eq!(transfers.update("0", 2, 2), (most + 1, 2 * most), "those that are known go on");
        let mut transfers = Transfers::default();
        assert_eq!(transfers.update(&"x".repeat(LONGEST_ID + 1), 1, 2), (0, 0));
    }
}
