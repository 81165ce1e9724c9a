//! Instructions of a stage: commands, EXPOSE, WORKDIR, pairs in the old form.

use crate::fault::Span;
use crate::instructions::{Command, Pair};

/// Instructions of which only the last one of a stage has an effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// CMD.
    pub cmd: Option<Span>,
    entrypoint: Option<Span>,
    health: Option<Span>,
}

impl Used {
    /// Rule MultipleInstructionsDisallowed: where the one is that has no effect, and what to say.
    pub fn again(&mut self, command: &Command, span: Span) -> Option<(Span, String)> {
        let (earlier, keyword) = match command {
            Command::Cmd(_) => (&mut self.cmd, "CMD"),
            Command::Entrypoint(_) => (&mut self.entrypoint, "ENTRYPOINT"),
            Command::Healthcheck(_) => (&mut self.health, "HEALTHCHECK"),
            _ => return None,
        };
        let message = format!("this {keyword} has no effect: only the last one of a stage has, on line {}", span.line);
        earlier.replace(span).map(|ignored| (ignored, message))
    }
}

/// Rule LegacyKeyValueFormat.
pub fn legacy(keyword: &str, pairs: &[Pair]) -> Option<String> {
    let pair = pairs.iter().find(|pair| pair.legacy)?;
    Some(format!("{keyword} {0} VALUE is the old form; write {keyword} {0}=VALUE", pair.name.text))
}

/// Rule JSONArgsRecommended.
pub fn json_recommended(keyword: &str) -> String {
    format!("a JSON array is recommended for {keyword}: the shell in between does not pass on signals")
}

/// Rule WorkdirRelativePath, for the first WORKDIR of a stage and of the stages it stands on.
pub fn relative(path: &str, os: &str) -> Option<String> {
    let drive = || {
        let mut chars = path.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic())
            && chars.next() == Some(':')
            && matches!(chars.next(), Some('/' | '\\'))
    };
    let absolute = path.starts_with('/') || os == "windows" && (path.starts_with('\\') || drive());
    (!absolute).then(|| format!("the relative path {path} depends on the WORKDIR of the base image"))
}

/// Rules ExposeProtoCasing and ExposeInvalidFormat, for one port.
pub fn port(text: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let (outer, container) = text.rsplit_once(':').unwrap_or(("", text));
    let protocol = container.split_once('/').map_or("", |(_, protocol)| protocol);
    if protocol != protocol.to_lowercase() {
        found.push(("ExposeProtoCasing", format!("the protocol of {text} should be in lower case")));
    }
    if outer.chars().any(|c| c != ':') {
        let message = format!("EXPOSE {text} maps an address or a port of the host, which has no effect");
        found.push(("ExposeInvalidFormat", message));
    }
    found
}
