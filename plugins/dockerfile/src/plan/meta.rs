//! Instructions that only change the configuration.

use super::stage::{Builder, State};
use crate::backend::Backend;
use crate::fault::Fault;
use crate::gotext;
use crate::instructions::{Command, CommandLine, Health, Step};
use crate::parser::Word;

impl<B: Backend> Builder<'_, '_, B> {
    /// One of them.
    pub fn metadata(&mut self, state: &mut State<B::Tree>, step: &Step) -> Result<(), Fault> {
        let message = match &step.command {
            Command::Cmd(line) => {
                state.config.cmd = command_line(state, line);
                format!("CMD {}", gotext::quote_list(&state.config.cmd))
            }
            Command::Entrypoint(line) => {
                state.config.entrypoint = command_line(state, line);
                // What the base runs by default is hardly an argument of the new program.
                if state.used.cmd.is_none() {
                    state.config.cmd.clear();
                }
                format!("ENTRYPOINT {}", gotext::quote_list(&state.config.entrypoint))
            }
            Command::Healthcheck(health) => {
                state.config.set_health(health);
                describe(health)
            }
            Command::Expose(words) => self.expose(state, words)?,
            Command::Volume(words) => {
                let mut volumes = Vec::with_capacity(words.len());
                for word in words {
                    let volume = self.expand(state, step, word)?;
                    if volume.is_empty() {
                        return Err(Fault::invalid("a path of VOLUME cannot be empty").at(word.span));
                    }
                    volumes.push(volume);
                }
                state.config.volumes.extend(volumes.iter().cloned());
                format!("VOLUME {}", gotext::list(&volumes))
            }
            Command::User(word) => {
                state.config.user = self.expand(state, step, word)?;
                format!("USER {}", state.config.user)
            }
            Command::StopSignal(word) => {
                let signal = self.expand(state, step, word)?;
                if !is_signal(&signal) {
                    return Err(Fault::invalid(format!("{signal:?} is no signal"))
                        .hint("write a name like SIGTERM or a number")
                        .at(word.span));
                }
                let message = format!("STOPSIGNAL {signal}");
                state.config.stop_signal = Some(signal);
                message
            }
            Command::Shell(shell) => {
                state.config.shell = shell.clone();
                format!("SHELL {}", gotext::list(shell))
            }
            Command::Maintainer(author) => {
                state.config.author = Some(author.clone());
                format!("MAINTAINER {author}")
            }
            Command::Onbuild(text) => {
                // As in BuildKit this leaves no trace in the history.
                state.config.on_build.push(text.clone());
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.note(state, &message);
        Ok(())
    }

    fn expose(&mut self, state: &mut State<B::Tree>, words: &[Word]) -> Result<String, Fault> {
        let mut sorted: Vec<&Word> = words.iter().collect();
        sorted.sort_by(|a, b| a.text.cmp(&b.text));
        let mut ports = Vec::new();
        for word in sorted {
            let expanded =
                self.lexer.words(&word.text, &state.scope).map_err(|error| super::scope::wrong_word(word, &error))?;
            for text in &expanded {
                self.notice_port(word.span, text);
                parse_ports(text, &mut ports).map_err(|reason| {
                    Fault::invalid(format!("invalid port {text:?}: {reason}"))
                        .hint("write a number from 0 to 65535 or a range, then /tcp, /udp or /sctp")
                        .at(word.span)
                })?;
            }
        }
        state.config.ports.extend(ports.iter().cloned());
        Ok(format!("EXPOSE {}", gotext::list(&ports)))
    }
}

fn command_line<T>(state: &State<T>, line: &CommandLine) -> Vec<String> {
    if !line.shell {
        return line.words.clone();
    }
    let mut command = state.config.shell_or_default(state.platform.os == "windows");
    command.push(line.words.join(" "));
    command
}

/// `[[ip:]public:]private[-last][/protocol]`; only the private ports count.
fn parse_ports(text: &str, ports: &mut Vec<String>) -> Result<(), &'static str> {
    let (outer, container) = match text.rsplit_once(':') {
        Some((outer, container)) => (Some(outer), container),
        None => (None, text),
    };
    let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => return Err("the protocol is tcp, udp or sctp"),
    };
    let (first, last) = port_range(range)?;
    if let Some(outer) = outer {
        let (ip, public) = outer.rsplit_once(':').unwrap_or(("", outer));
        let ip = ip.trim_start_matches('[').trim_end_matches(']');
        if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
            return Err("what stands before the second colon is no address");
        }
        if !public.is_empty() {
            let (public_first, public_last) = port_range(public)?;
            if public_last - public_first != last - first && first != last {
                return Err("both ranges must be equally long");
            }
        }
    }
    ports.extend((first..=last).map(|port| format!("{port}/{protocol}")));
    Ok(())
}

fn port_range(text: &str) -> Result<(u16, u16), &'static str> {
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u16>().map_err(|_| "it is out of range"),
        false => Err("it is no number"),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if last < first { Err("the range runs backwards") } else { Ok((first, last)) }
}

fn describe(health: &Health) -> String {
    let [interval, timeout, start, start_interval] =
        [health.interval, health.timeout, health.start_period, health.start_interval].map(gotext::duration);
    format!(
        "HEALTHCHECK {{Test:{} Interval:{interval} Timeout:{timeout} StartPeriod:{start} StartInterval:{start_interval} Retries:{}}}",
        gotext::list(&health.test),
        health.retries
    )
}

const SIGNALS: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "UNUSED",
];

/// A number but 0, or a name with or without SIG, real-time signals included.
fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let offset = |prefix: &str, sign: char| {
        let rest = name.strip_prefix(prefix)?;
        Some(rest.is_empty() || rest.strip_prefix(sign)?.parse::<u8>().is_ok_and(|offset| offset <= 15))
    };
    SIGNALS.contains(&name) || offset("RTMIN", '+').or(offset("RTMAX", '-')).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Result<Vec<String>, &'static str> {
        let mut ports = Vec::new();
        parse_ports(text, &mut ports).map(|()| ports)
    }

    #[test]
    fn reads_ports() {
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(ports("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(ports("8000-8002/sctp").unwrap(), ["8000/sctp", "8001/sctp", "8002/sctp"]);
        assert_eq!(ports("127.0.0.1:80:8080").unwrap(), ["8080/tcp"]);
        assert_eq!(ports("[::1]:80:8080").unwrap(), ["8080/tcp"]);
        assert_eq!(ports("80-81:8080").unwrap(), ["8080/tcp"]);
        for bad in ["", "x", "80/icmp", "70000", "9-8", "+80", "1-2:3-5", "host:80:80", "80-", "-80", "/tcp"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn knows_signals() {
        for signal in ["9", "SIGTERM", "term", "SIGRTMIN", "RTMIN+3", "SIGRTMAX-15", "sigusr1"] {
            assert!(is_signal(signal), "{signal}");
        }
        for signal in ["", "0", "SIGNOPE", "RTMIN-1", "RTMAX+1", "RTMIN+99", "RTMINé"] {
            assert!(!is_signal(signal), "{signal}");
        }
    }
}
