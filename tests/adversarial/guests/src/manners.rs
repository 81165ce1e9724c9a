//! What a guest does with the host after it was refused, while it holds something, or against another one's things.

use cooperage_sdk::bindings::imports::cooperage::plugin::content::Writer;
use cooperage_sdk::bindings::imports::cooperage::plugin::events::{self, Level};
use cooperage_sdk::bindings::imports::cooperage::plugin::{state, trees as wit};
use cooperage_sdk::http::Request;
use cooperage_sdk::prelude::*;

/// What every honest plugin does: talks, writes a blob and reads it back, describes a tree and looks into it.
pub(crate) fn peace(n: u64) -> Result<Outputs> {
    let mut total = 0;
    for n in 0..n.max(1) {
        events::log(Level::Info, &format!("round {n}"));
        let blob = cooperage_sdk::content::put(format!("round {n}").as_bytes(), "text/plain")?;
        total += cooperage_sdk::content::read(&blob.digest, 100)?.len();
        let tree = wit::Tree::scratch().write_file("/file", b"peace", 0o644, None, &super::floods::origin());
        total += tree.read_file("/file", 100)?.len();
    }
    Ok(Outputs::new().value("total", total))
}

/// Reads an answer to its end, however long it takes; `n` is how many bytes it asks for at a time.
pub(crate) fn listen_to(url: &str, n: u64) -> Result<Outputs> {
    let mut answer = Request::get(url)?.send()?;
    let mut length = 0u64;
    loop {
        let chunk = answer.chunk(u32::try_from(n).unwrap_or(u32::MAX).max(1))?;
        if chunk.is_empty() {
            return Ok(Outputs::new().value("length", length));
        }
        length += chunk.len() as u64;
    }
}

/// Crashes while a blob is half written, a step is open, an archive is being made and a request is on its way.
pub(crate) fn crash_with_full_hands() -> Result<Outputs> {
    let _step = events::Step::new("never ends");
    let writer = Writer::new();
    writer.write(&[7; 1 << 20])?;
    let tree = wit::Tree::scratch().write_file("/file", &[7; 1 << 20], 0o644, None, &super::floods::origin());
    let _archive = tree.pack(&[])?;
    state::set("held", b"held", None).unwrap_or(());
    panic!("with full hands")
}

/// Goes on with writers that have failed and with what was never granted.
pub(crate) fn insist(n: u64) -> Result<Outputs> {
    let mut refused = 0u64;
    let wrong = format!("sha256:{}", "0".repeat(64));
    // More writers than may be open: the last ones are broken from their first word on.
    let writers: Vec<Writer> = (0..100).map(|_| Writer::new()).collect();
    for _ in 0..n.max(1) {
        refused += writers.iter().map(|writer| u64::from(writer.write(b"x").is_err())).sum::<u64>();
        let writer = Writer::new();
        refused += u64::from(writer.write(b"x").is_err());
        refused += u64::from(Writer::commit(writer, "text/plain", Some(&wrong)).is_err());
        refused += u64::from(cooperage_sdk::secrets::reveal("GRANTED").is_err());
        refused += u64::from(state::set("key", b"value", None).is_err());
        refused += u64::from(registries::push("app", "r.example/app:1", &[]).is_err());
        refused += u64::from(wit::Tree::scratch().read_file("/none", 1).is_err());
    }
    Ok(Outputs::new().value("refused", refused))
}

/// Hears that the call is over and goes on all the same.
pub(crate) fn deaf() -> ! {
    loop {
        if events::cancelled() {
            events::log(Level::Info, "I do not care");
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// A value that another plugin may have kept; with `n` it keeps one.
pub(crate) fn other_state(key: &str, n: u64) -> Result<Outputs> {
    if n > 0 {
        state::set(key, b"mine", None)?;
    }
    let value = state::get(key)?.map(|value| String::from_utf8_lossy(&value).into_owned());
    Ok(Outputs::new().value("found", value.unwrap_or_default()))
}

/// Text for a terminal wherever text can be said.
pub(crate) fn escapes() -> Result<Outputs> {
    let text = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\rok\u{202e}";
    events::log(Level::Warn, text);
    let step = events::Step::new(text);
    step.output(text.as_bytes());
    println!("{text}");
    eprintln!("{text}");
    Err(Error::new(ErrorKind::Conflict, text).hint(text))
}
