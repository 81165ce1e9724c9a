//! HEALTHCHECK: its command and its durations.

use super::Health;
use super::flags::{Flags, Takes};
use crate::fault::Fault;
use crate::gotext;
use crate::parser::{Node, Word};

/// Reads a HEALTHCHECK.
pub fn health(node: &Node) -> Result<Health, Fault> {
    let Some((kind, command)) = node.args.split_first() else {
        return Err(Fault::invalid("HEALTHCHECK requires at least one argument")
            .hint("write HEALTHCHECK CMD COMMAND or HEALTHCHECK NONE"));
    };
    let kind_name = kind.text.to_ascii_uppercase();
    if kind_name == "NONE" {
        return match command.is_empty() {
            true => Ok(Health { test: vec![kind_name], ..Health::default() }),
            false => Err(Fault::invalid("HEALTHCHECK NONE takes no arguments")),
        };
    }
    let names = ["interval", "timeout", "start-period", "start-interval", "retries"];
    let flags = Flags::read(node, &names.map(|name| (name, Takes::Value)))?;
    if kind_name != "CMD" {
        return Err(Fault::invalid(format!("unknown type {:?} of HEALTHCHECK", kind.text))
            .hint("it is CMD or NONE")
            .at(kind.span));
    }
    if command.is_empty() {
        return Err(Fault::invalid("HEALTHCHECK CMD needs a command"));
    }
    let form = if node.json { "CMD" } else { "CMD-SHELL" };
    let duration = |name: &str| interval(name, flags.value(name));
    let retries = match flags.value("retries") {
        None => 0,
        Some(word) => match word.text.parse::<i32>() {
            Ok(retries) if retries >= 0 => i64::from(retries),
            _ => {
                return Err(
                    Fault::invalid(format!("invalid --retries={}: it is a number from 0", word.text)).at(word.span)
                );
            }
        },
    };
    Ok(Health {
        test: std::iter::once(form.to_owned()).chain(command.iter().map(|word| word.text.clone())).collect(),
        interval: duration("interval")?,
        timeout: duration("timeout")?,
        start_period: duration("start-period")?,
        start_interval: duration("start-interval")?,
        retries,
    })
}

fn interval(name: &str, value: Option<Word>) -> Result<i64, Fault> {
    let Some(word) = value else { return Ok(0) };
    match gotext::parse_duration(&word.text) {
        // Less than a millisecond is what the engine cannot do.
        Some(nanos) if nanos == 0 || nanos >= 1_000_000 => Ok(nanos),
        Some(_) => Err(Fault::invalid(format!("--{name} cannot be less than 1ms")).at(word.span)),
        None => Err(Fault::invalid(format!("invalid duration --{name}={}", word.text))
            .hint("write 30s, 5m or 1m30s")
            .at(word.span)),
    }
}
