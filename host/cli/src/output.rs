//! Prints listings: aligned columns for people, JSON for programs. Standard output has nothing else.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::error::{Exit, Failure};
use crate::progress::{harmless_json, is_obeyed};

/// Prints a line.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    write(&format!("{}\n", visible(text)))
}

/// Names and descriptions come from strangers: what a terminal would obey in them is shown as unreadable.
fn visible(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Prints a value as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(Exit::Failed, format!("this result has no JSON form: {error}")))?;
    write(&format!("{}\n", harmless_json(&text)))
}

/// Prints rows below headings, each column as wide as its widest cell.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> Result<(), Failure> {
    write(&visible(&aligned(headings, rows)))
}

/// The text of such a table.
pub(crate) fn aligned<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let render = |cells: [&str; N]| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        format!("{}\n", text.trim_end())
    };
    let mut text = render(headings);
    for row in rows {
        text.push_str(&render(row.each_ref().map(String::as_str)));
    }
    text
}

/// Prints a text with colours, which only a terminal gets. What strangers say in it must be harmless already.
pub(crate) fn styled(text: &str) -> Result<(), Failure> {
    write_to(&mut anstream::stdout().lock(), text)
}

fn write(text: &str) -> Result<(), Failure> {
    write_to(&mut std::io::stdout().lock(), text)
}

/// A reader that has gone away (`coop image ls | head`) is no failure.
fn write_to(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Environment, format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Where a file lies or would lie.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file in one step: a device or a pipe is written to, anything else is replaced.
pub(crate) fn whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return std::fs::write(path, bytes);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory_of(path).join(format!(".{name}.{}", std::process::id()));
    let written = std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // It may never have come into being.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
