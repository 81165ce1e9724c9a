//! Shows what happens: on a terminal, as plain lines, or as JSON. Knows events, not what causes them.

mod json;
mod plain;
mod text;
mod tty;

use std::io::IsTerminal;
use std::sync::Arc;

use cooperage_solve::{Observer, Reporter};

use crate::args::ProgressMode;

pub(crate) use text::{bytes, elapsed, harmless, harmless_json, is_obeyed};

/// Chooses a view. `quiet` shows nothing at all.
pub(crate) fn reporter(mode: ProgressMode) -> Reporter {
    let observer: Arc<dyn Observer> = match mode {
        ProgressMode::Quiet => return Reporter::silent(),
        ProgressMode::Json => Arc::new(json::Json::new()),
        ProgressMode::Plain => Arc::new(plain::Plain::new()),
        ProgressMode::Tty => Arc::new(tty::Tty::new()),
        ProgressMode::Auto if std::io::stderr().is_terminal() => Arc::new(tty::Tty::new()),
        ProgressMode::Auto => Arc::new(plain::Plain::new()),
    };
    Reporter::new(observer)
}
