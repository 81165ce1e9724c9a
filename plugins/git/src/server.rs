//! A repository behind smart HTTP, protocol version 2 (gitprotocol-http, gitprotocol-v2): the first request with its
//! redirects, and commands after it. What the commands mean is not its subject.

use cooperage_sdk::http::{Headers, Url};
use cooperage_sdk::{Error, ErrorKind, Result};

use crate::edge::{Answer, Exchange, Http};
use crate::faults;
use crate::login::Login;
use crate::packet::{Message, Packet, Packets, shown, trimmed};

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const REQUEST: &str = "application/x-git-upload-pack-request";
const RESULT: &str = "application/x-git-upload-pack-result";
/// Forges tell clients from browsers by how this begins.
const AGENT: &str = concat!("git/cooperage-", env!("CARGO_PKG_VERSION"));
const DISCOVERY: &str = "/info/refs?service=git-upload-pack";
const MOST_REDIRECTS: usize = 10;
/// Lines of a server's introduction; git itself has about ten.
const MOST_CAPABILITIES: usize = 200;

/// A server that has introduced itself.
pub struct Server<'a> {
    http: &'a dyn Http,
    login: &'a Login<'a>,
    /// The URL of the repository after all redirects, without a slash at its end.
    base: String,
    /// What it calls itself, for instance `git/2.47.3`; may be empty.
    pub agent: String,
    /// Whether it can leave history out.
    pub shallow: bool,
}

impl<'a> Server<'a> {
    /// Asks a server whether it has a repository there, and what it can do.
    ///
    /// # Errors
    /// `not-found` if there is none, `unauthenticated`, `denied`, `unsupported` for another protocol, and those of the
    /// network.
    pub fn connect(http: &'a dyn Http, url: &Url, login: &'a Login<'a>) -> Result<Self> {
        let base = url.to_string().trim_end_matches('/').to_owned();
        let mut server = Self { http, login, base, agent: String::new(), shallow: false };
        let answer = server.discover()?;
        server.introduce(answer)?;
        Ok(server)
    }

    /// The first request. As git does by default, it alone follows redirects, and what follows goes to where it ended.
    fn discover(&mut self) -> Result<Answer> {
        for redirects in 0..=MOST_REDIRECTS {
            let url: Url = format!("{}{DISCOVERY}", self.base).parse()?;
            let answer = self.exchange("GET", &url, &[]).map_err(|error| match redirects {
                0 => error,
                _ => error.context(format!("the repository has moved to {}", self.base)).hint("write the new URL"),
            })?;
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let location = answer.headers.get("location").unwrap_or_default();
            let next = url.join(location)?.to_string();
            let base = next.strip_suffix(DISCOVERY).ok_or_else(|| {
                Error::not_found(format!("{} redirects to a place that is no git repository", url.authority()))
                    .because(shown(next.as_bytes()))
                    .hint("check the URL; does it need `.git` at its end, or a login?")
            })?;
            self.base = base.trim_end_matches('/').to_owned();
        }
        Err(Error::conflict(format!("the server redirects more than {MOST_REDIRECTS} times"))
            .because(format!("the last place was {}", self.base)))
    }

    fn introduce(&mut self, answer: Answer) -> Result<()> {
        let old = || {
            Error::unsupported("the server does not speak version 2 of git's protocol")
                .hint("git serves it since 2.18; web servers must pass the header `Git-Protocol` on to it")
        };
        let kind = media_type(&answer.headers);
        if kind != ADVERTISEMENT {
            return Err(Error::not_found("there is no git repository that is served over smart HTTP")
                .because(format!("the answer is of the type {:?}", shown(kind.as_bytes())))
                .hint("check the URL; does it need `.git` at its end?"));
        }
        let mut packets = Packets::new(answer.body);
        let mut is_version_2 = false;
        for _ in 0..MOST_CAPABILITIES {
            match packets.read()? {
                Packet::Data => {}
                // Older servers begin with a message of one line.
                Packet::Flush if !is_version_2 => continue,
                Packet::Flush => return Ok(()),
                _ => return Err(Error::unavailable("the server ended its introduction in the middle")),
            }
            let line = shown(packets.data());
            match line.split_once('=').unwrap_or((&line, "")) {
                _ if line.starts_with("# service=") && !is_version_2 => {}
                ("version 2", "") => is_version_2 = true,
                _ if line.starts_with("ERR ") => return Err(refused(&line)),
                _ if !is_version_2 => return Err(old()),
                ("agent", agent) => agent.clone_into(&mut self.agent),
                ("fetch", features) => self.shallow = features.split(' ').any(|feature| feature == "shallow"),
                ("object-format", format) if format != "sha1" => {
                    return Err(Error::unsupported(format!("the repository names its objects by {format}"))
                        .hint("repositories with SHA-1 names can be fetched"));
                }
                _ => {}
            }
        }
        Err(Error::invalid_input("the server's introduction does not end"))
    }

    /// Sends a command with its arguments; the packets of the answer.
    ///
    /// # Errors
    /// `unavailable` and so on, by the status of the answer, and those of the network.
    pub fn command(&self, command: &str, arguments: impl IntoIterator<Item = String>) -> Result<Packets> {
        let head = Message::default().line(&format!("command={command}")).line(&format!("agent={AGENT}"));
        let head = head.line("object-format=sha1").delimiter();
        let body = arguments.into_iter().fold(head, |message, line| message.line(&line)).flush();
        let url: Url = format!("{}/git-upload-pack", self.base).parse()?;
        let answer = self.exchange("POST", &url, &body)?;
        let kind = media_type(&answer.headers);
        if answer.status != 200 || kind != RESULT {
            return Err(Error::conflict(format!("{} does not answer as a git server", url.authority()))
                .because(format!("status {}, type {:?}", answer.status, shown(kind.as_bytes()))));
        }
        Ok(Packets::new(answer.body))
    }

    /// One request; once more with a login if the server wants one that was not looked for. Answers are those that
    /// succeeded, and redirects.
    fn exchange(&self, method: &'static str, url: &Url, body: &[u8]) -> Result<Answer> {
        loop {
            let header = self.login.header(url);
            let has_login = header.is_some();
            let mut headers = Headers::default();
            headers.append("user-agent", AGENT);
            headers.append("git-protocol", "version=2");
            if method == "POST" {
                headers.append("content-type", REQUEST);
                headers.append("accept", RESULT);
            } else {
                headers.append("accept", "*/*");
                headers.append("pragma", "no-cache");
            }
            if let Some(header) = header {
                headers.append("authorization", header);
            }
            let answer = self.http.send(Exchange { method, url: url.clone(), headers, body: body.to_vec() })?;
            match answer.status {
                200..=399 => return Ok(answer),
                401 if self.login.look(url)? => {}
                _ => return Err(faults::of_answer(answer, url, self.login, has_login)),
            }
        }
    }
}

/// What a server says instead of an answer, `ERR` and a text.
#[must_use]
pub fn refused(line: &str) -> Error {
    let text = line.strip_prefix("ERR ").unwrap_or(line);
    Error::new(ErrorKind::Denied, "the server refuses the request").because(text)
}

/// Whether a line is a refusal, and its text.
#[must_use]
pub fn refusal(data: &[u8]) -> Option<String> {
    trimmed(data).strip_prefix(b"ERR ").map(shown)
}

fn media_type(headers: &Headers) -> String {
    let field = headers.get("content-type").unwrap_or_default();
    field.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
