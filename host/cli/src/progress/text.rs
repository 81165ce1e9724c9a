//! Words that all views share: sizes, times, and output made harmless.

use std::time::Duration;

use cooperage_solve::{Level, Unit};

/// A size as people read it, in powers of 1,000 as registries and disks count.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A duration with a tenth of a second, or in minutes.
pub(crate) fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1}s")
    } else {
        format!("{}m{:02}s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

/// A counter.
pub(crate) fn counter(done: u64, total: Option<u64>, unit: Unit) -> String {
    let show = |count: u64| match unit {
        Unit::Bytes => bytes(count),
        Unit::Items => count.to_string(),
    };
    match total {
        Some(total) => format!("{} / {}", show(done), show(total)),
        None => show(done),
    }
}

/// The word before a log line.
pub(crate) fn level(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warning",
        Level::Error => "error",
    }
}

/// Text without anything that a terminal obeys: escapes, carriage returns and other controls become visible or go.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\t' => shown.push_str("    "),
            '\r' => {}
            c if c.is_control() || is_bidi(c) => shown.push(char::REPLACEMENT_CHARACTER),
            c => shown.push(c),
        }
    }
    shown
}

/// Passes over a control sequence (CSI), an operating-system command (OSC) or a two-character escape.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => while chars.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {},
        Some(']' | 'P' | '_' | '^') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' {
                    return;
                }
                if c == '\u{1b}' && chars.peek() == Some(&'\\') {
                    chars.next();
                    return;
                }
            }
        }
        _ => {}
    }
}

/// Characters that reorder what stands around them, so that a line reads other than it is.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What a terminal obeys instead of showing it, but for ends of lines and tabs.
pub(crate) fn is_obeyed(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t')) || is_bidi(c) || matches!(c, '\u{2028}' | '\u{2029}')
}

/// JSON with everything that a terminal obeys as an escape of JSON's own, which means the same to who reads it.
pub(crate) fn harmless_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        // None of them is part of JSON but within a text; all are of the plane that four digits can name.
        if is_obeyed(c) { shown.push_str(&format!("\\u{:04x}", u32::from(c))) } else { shown.push(c) }
    }
    shown
}

/// Cuts a stream of bytes into lines; what a carriage return overwrote is left out.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Longer lines are cut: nothing may grow without end.
    const LONGEST: usize = 64 * 1024;

    /// The lines that a chunk completes.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(chunk);
        let mut lines = Vec::new();
        while let Some(at) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=at).collect();
            lines.push(Self::line(&line[..at]));
        }
        if self.rest.len() > Self::LONGEST {
            let line = std::mem::take(&mut self.rest);
            lines.push(Self::line(&line));
        }
        lines
    }

    /// What is left without a line end.
    pub(crate) fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.rest);
        (!rest.is_empty()).then(|| Self::line(&rest))
    }

    fn line(bytes: &[u8]) -> String {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let last = bytes.rsplit(|b| *b == b'\r').next().unwrap_or_default();
        harmless(&String::from_utf8_lossy(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(harmless("\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}x\u{1b}]8;;u\u{1b}\\y\u{8}"), "red xy\u{fffd}");
    }

    #[test]
    fn json_means_the_same_without_what_a_terminal_obeys() {
        let text = "\u{0}\u{1b}[31m\u{7f}\u{85}\u{9b}2J \u{202e}\u{2028}\u{61c} \u{e9}\u{1f980}\n\t\"\\";
        let json = harmless_json(&serde_json::to_string_pretty(&[text]).unwrap());
        assert!(!json.chars().any(is_obeyed), "{json:?}");
        assert!(json.contains("\\u009b2J \\u202e\\u2028\\u061c \u{e9}\u{1f980}"), "{json}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [text]);
    }

    #[test]
    fn lines_are_whole_and_overwritten_parts_go() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"10%\r50%\r100%\nab"), ["100%"]);
        assert_eq!(lines.push(b"c\r\n"), ["abc"]);
        assert_eq!(lines.push(b"tail"), [""; 0]);
        assert_eq!(lines.finish().as_deref(), Some("tail"));
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!([bytes(999), bytes(1000), bytes(1_500_000)], ["999 B", "1.0 kB", "1.5 MB"]);
    }
}
