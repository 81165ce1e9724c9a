//! What a guest says, made safe for people: secrets blacked out, control characters made visible, volume bounded.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use cooperage_solve::{Event, Level, Redactor, Reporter, Secrets, StepId};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::limits::Limits;

/// The last lines of stderr that a trap's message may come from.
const TAIL_LINES: usize = 20;

/// The log of one call. Clones are the same log.
#[derive(Clone)]
pub(crate) struct Log(Arc<Mutex<Inner>>);

struct Inner {
    reporter: Reporter,
    step: Option<StepId>,
    redactor: Redactor,
    line_limit: usize,
    bytes_left: u64,
    /// Lines that may be written now; refilled as time passes.
    tokens: f64,
    rate: f64,
    refilled: Instant,
    suppressed: u64,
    tail: std::collections::VecDeque<String>,
}

impl Log {
    pub(crate) fn new(reporter: Reporter, step: Option<StepId>, secrets: &Secrets, limits: &Limits) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            reporter,
            step,
            redactor: Redactor::new(secrets),
            line_limit: limits.log_line,
            bytes_left: limits.log_bytes,
            tokens: f64::from(limits.log_lines),
            rate: f64::from(limits.log_lines),
            refilled: Instant::now(),
            suppressed: 0,
            tail: std::collections::VecDeque::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one line; line ends inside it become visible.
    pub(crate) fn line(&self, level: Level, message: &str) {
        self.lock().line(level, message);
    }

    /// Takes `bytes` from the budget of step output; false once it is used up.
    pub(crate) fn spend(&self, bytes: usize) -> bool {
        let mut inner = self.lock();
        let enough = inner.bytes_left >= bytes as u64;
        if enough {
            inner.bytes_left -= bytes as u64;
        } else {
            inner.suppressed += 1;
        }
        enough
    }

    /// A text with the secrets blacked out and control characters visible.
    pub(crate) fn clean(&self, text: &str) -> String {
        visible(&self.lock().redactor.text(text))
    }

    /// What the guest wrote to stderr last.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.lock().tail.iter().cloned().collect()
    }

    /// Says how much was left out, if anything was.
    pub(crate) fn finish(&self) {
        let mut inner = self.lock();
        inner.report_suppressed();
    }
}

impl Inner {
    fn line(&mut self, level: Level, message: &str) {
        let now = Instant::now();
        self.tokens = (self.tokens + now.duration_since(self.refilled).as_secs_f64() * self.rate).min(self.rate);
        self.refilled = now;
        let length = message.len().min(self.line_limit) as u64;
        if self.tokens < 1.0 || self.bytes_left < length {
            self.suppressed += 1;
            return;
        }
        self.report_suppressed();
        self.tokens -= 1.0;
        self.bytes_left -= length;
        let text = self.present(message);
        self.reporter.event(Event::Log { step: self.step, level, message: text });
    }

    /// Redacts before it cuts, because half a secret is still a secret; a value that crosses the end of the part
    /// looked at cannot cross the cut, as that part is longer than any secret may be.
    fn present(&self, message: &str) -> String {
        const LONGEST_SECRET: usize = 64 * 1024;
        let looked_at = prefix(message, self.line_limit + LONGEST_SECRET);
        let shown = self.redactor.text(looked_at);
        let cut = prefix(&shown, self.line_limit);
        let mut text = visible(cut);
        if cut.len() < shown.len() || looked_at.len() < message.len() {
            text.push_str(" [line cut]");
        }
        text
    }

    fn report_suppressed(&mut self) {
        let count = std::mem::take(&mut self.suppressed);
        if count > 0 {
            let message = format!("{count} log lines or chunks suppressed: the plugin writes more than its limit");
            self.reporter.event(Event::Log { step: self.step, level: Level::Warn, message });
        }
    }
}

pub(crate) fn prefix(text: &str, length: usize) -> &str {
    if text.len() <= length {
        return text;
    }
    let mut end = length;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Control characters (C0, C1, DEL) and characters that turn the direction of text become escapes that no terminal
/// obeys; tabs stay.
pub(crate) fn visible(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for character in text.chars() {
        let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (character.is_control() && character != '\t') || turns {
            result.extend(character.escape_default());
        } else {
            result.push(character);
        }
    }
    result
}

/// A guest's stdout or stderr: cut into lines that go to the log.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Mutex<Pending>>);

struct Pending {
    log: Log,
    level: Level,
    keep_tail: bool,
    line: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(log: Log, level: Level, keep_tail: bool) -> Self {
        Self(Arc::new(Mutex::new(Pending { log, level, keep_tail, line: Vec::new() })))
    }

    /// Writes what has no line end yet.
    pub(crate) fn flush(&self) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !pending.line.is_empty() {
            pending.end();
        }
    }

    fn write(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes);
    }
}

impl Pending {
    /// A line without end is cut where twice the longest line is held, so that memory stays bounded.
    fn write(&mut self, mut bytes: &[u8]) {
        let most = 128 * 1024;
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (piece, rest, ended) = match end {
                Some(at) => (&bytes[..at], &bytes[at + 1..], true),
                None => (bytes, &bytes[bytes.len()..], false),
            };
            let room = most - self.line.len().min(most);
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if ended {
                self.end();
            }
            bytes = rest;
        }
    }

    fn end(&mut self) {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_suffix('\r').unwrap_or(&text);
        let mut inner = self.log.lock();
        if self.keep_tail {
            if inner.tail.len() == TAIL_LINES {
                inner.tail.pop_front();
            }
            let shown = inner.present(text);
            inner.tail.push_back(shown);
        }
        inner.line(self.level, text);
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Lines {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: hyper::body::Bytes) -> StreamResult<()> {
        Lines::write(self, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use cooperage_solve::Observer;

    use super::*;

    /// Keeps every log line.
    #[derive(Default)]
    pub(crate) struct Recorder(pub Mutex<Vec<String>>);

    impl Observer for Recorder {
        fn event(&self, event: Event) {
            let text = match event {
                Event::Log { level, message, .. } => format!("{level:?} {message}"),
                other => format!("{other:?}"),
            };
            self.0.lock().unwrap().push(text);
        }
    }

    fn log(limits: &Limits) -> (Log, Arc<Recorder>) {
        let recorder = Arc::new(Recorder::default());
        let secrets = Secrets::new(BTreeMap::from([("t".to_owned(), b"hunter22".to_vec())]));
        (Log::new(Reporter::new(recorder.clone()), None, &secrets, limits), recorder)
    }

    #[test]
    fn escapes_are_visible_and_secrets_are_not() {
        let (log, seen) = log(&Limits::default());
        log.line(Level::Info, "\x1b]0;owned\x07 \u{9b}31m tab\there \u{202e}txt hunter22\r\nfake line");
        assert_eq!(
            *seen.0.lock().unwrap(),
            ["Info \\u{1b}]0;owned\\u{7} \\u{9b}31m tab\there \\u{202e}txt ***\\r\\nfake line"]
        );
    }

    #[test]
    fn a_flood_becomes_one_line() {
        let (log, seen) = log(&Limits { log_lines: 10, ..Limits::default() });
        for n in 0..1000 {
            log.line(Level::Info, &format!("line {n}"));
        }
        log.finish();
        let seen = seen.0.lock().unwrap();
        assert!(seen.len() < 20, "{}", seen.len());
        assert!(seen.last().unwrap().contains("suppressed"));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (log, seen) = log(&Limits { log_bytes: 100, log_line: 60, ..Limits::default() });
        log.line(Level::Info, &"x".repeat(1000));
        log.line(Level::Info, &"y".repeat(1000));
        log.finish();
        let seen = seen.0.lock().unwrap();
        assert_eq!(seen[0], format!("Info {} [line cut]", "x".repeat(60)));
        assert!(seen[1].contains("suppressed"), "{seen:?}");
        assert!(!log.spend(41) && log.spend(40));
    }

    #[test]
    fn a_secret_does_not_survive_the_cut() {
        let (log, seen) = log(&Limits { log_line: 10, ..Limits::default() });
        log.line(Level::Info, "12345hunter22");
        assert_eq!(*seen.0.lock().unwrap(), ["Info 12345***"]);
    }

    #[test]
    fn output_is_cut_into_lines() {
        let (log, seen) = log(&Limits::default());
        let lines = Lines::new(log.clone(), Level::Warn, true);
        lines.write(b"one\ntw");
        lines.write(b"o\r\nrest hunt");
        lines.write(b"er22");
        lines.flush();
        assert_eq!(*seen.0.lock().unwrap(), ["Warn one", "Warn two", "Warn rest ***"]);
        assert_eq!(log.tail(), ["one", "two", "rest ***"]);
    }
}
