//! The last of what a step said, for reports; knows not who says it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What was said before is forgotten.
const KEPT: usize = 64 << 10;

/// Takes text from whoever does the work of a step. Clones write to the same place.
#[derive(Clone, Default)]
pub struct StepLog(Arc<Mutex<Tail>>);

#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl StepLog {
    /// Takes output as it comes; secrets must be taken out of it already.
    pub fn write(&self, bytes: &[u8]) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tail.bytes.extend_from_slice(&bytes[bytes.len().saturating_sub(2 * KEPT)..]);
        // Rarely, so that a byte is moved once at most.
        if tail.bytes.len() > 2 * KEPT {
            let from = tail.bytes.len() - KEPT;
            tail.bytes.drain(..from);
            tail.cut = true;
        }
    }

    /// Takes a line, on a line of its own.
    pub fn line(&self, text: &str) {
        let open = !matches!(self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes.last(), None | Some(b'\n'));
        self.write(format!("{}{text}\n", if open { "\n" } else { "" }).as_bytes());
    }

    /// The last of it: whole lines, as far as there are any.
    pub fn text(&self) -> String {
        let tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = tail.cut || tail.bytes.len() > KEPT;
        let mut kept = &tail.bytes[tail.bytes.len().saturating_sub(KEPT)..];
        if cut && let Some(end) = kept.iter().position(|byte| *byte == b'\n') {
            kept = &kept[end + 1..];
        }
        let text = String::from_utf8_lossy(kept);
        if cut { format!("…\n{text}") } else { text.into_owned() }
    }
}

impl fmt::Debug for StepLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepLog")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_in_whole_lines() {
        let log = StepLog::default();
        log.write(b"one\nt");
        log.line("two");
        assert_eq!(log.text(), "one\nt\ntwo\n");
        for number in 0..100_000 {
            log.line(&format!("line {number}"));
        }
        let text = log.text();
        assert!(text.len() <= KEPT + 4 && text.starts_with("…\nline ") && text.ends_with("line 99999\n"));
        log.write(&vec![b'x'; 10 * KEPT]);
        assert!(log.text().len() <= KEPT + 4);
    }
}
