//! One session with a server: from the greeting through TLS and login to commands and data connections. What breaks,
//! stays broken; whoever wants to go on begins another session.

use cooperage_sdk::{Context, Error, ErrorKind, Result, debug, info};

use super::control::Control;
use super::faults::{done, fault};
use super::passive;
use super::reply::Reply;
use crate::edge::{Link, Network};
use crate::paths;
use crate::server::{Server, Tls};

/// How bytes are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As they are.
    #[default]
    Binary,
    /// As text: lines end in CR LF on the way, and in LF in trees.
    Ascii,
}

/// What the server says that it can do (RFC 2389).
#[derive(Debug, Default, Clone, Copy)]
pub struct Features {
    /// Listings for machines.
    pub mlst: bool,
    /// Times of files.
    pub mdtm: bool,
    /// Names in UTF-8.
    pub utf8: bool,
}

/// A session of a user.
pub struct Session<'a> {
    network: &'a dyn Network,
    server: &'a Server,
    control: Control,
    /// What the server can do.
    pub features: Features,
    /// Where the user is after the login.
    home: String,
    mode: Option<Mode>,
    extended: bool,
    /// The user was told that an address of the server is not used.
    warned: bool,
}

/// A data connection that is in use. The session's next act is [`Session::end`].
pub struct Data {
    link: Option<Box<dyn Link>>,
}

impl<'a> Session<'a> {
    /// Connects and logs in.
    ///
    /// # Errors
    /// `unauthenticated` for wrong credentials, `unavailable` for what may pass, `unsupported` if the server has no
    /// TLS where it is wanted.
    pub fn open(network: &'a dyn Network, server: &'a Server) -> Result<Self> {
        let mut link = network.connect(&server.host, server.port, server.idle)?;
        if server.tls == Tls::Implicit {
            link.start_tls(&server.host).map_err(|error| no_tls(server, error))?;
        }
        let control = Control::new(link, server.authority());
        let mut session = Self {
            network,
            server,
            control,
            features: Features::default(),
            home: "/".to_owned(),
            mode: None,
            extended: true,
            warned: false,
        };
        session.greet()?;
        session.log_in()?;
        session.settle()?;
        Ok(session)
    }

    fn greet(&mut self) -> Result<()> {
        done(self.control.last()?)?;
        if self.server.tls != Tls::Explicit {
            return Ok(());
        }
        let reply = self.control.complete("AUTH", Some("TLS"))?;
        if reply.code != 234 {
            // Never on in clear: a password would go with it.
            return Err(Error::unsupported(format!("{} does not begin TLS", self.server.authority()))
                .because(format!("the server answers {}", reply.shown()))
                .hint("`tls: implicit` is another way to have TLS; `tls: none` sends everything in clear"));
        }
        self.control.start_tls(&self.server.host).map_err(|error| no_tls(self.server, error))
    }

    fn log_in(&mut self) -> Result<()> {
        let login = &self.server.login;
        let what = || format!("cannot log in to {} as {:?}", self.server.authority(), login.username);
        let mut reply = self.control.complete("USER", Some(&login.username))?;
        if reply.code == 331
            && let Some(password) = &login.password
        {
            reply = self.control.complete("PASS", Some(password))?;
        }
        done(reply).with_context(what)?;
        if self.server.tls != Tls::None {
            done(self.control.complete("PBSZ", Some("0"))?)?;
            done(self.control.complete("PROT", Some("P"))?).context("the server does not protect data by TLS")?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        let reply = self.control.complete("FEAT", None)?;
        if reply.is_done() {
            self.features = features(&reply);
        }
        if self.features.utf8 {
            // Servers that always speak it refuse to switch, which is as good.
            self.control.complete("OPTS", Some("UTF8 ON"))?;
        }
        let reply = self.control.complete("PWD", None)?;
        if let Some(home) = (reply.code == 257).then(|| directory(reply.text())).flatten() {
            self.home = home;
        }
        Ok(())
    }

    /// Whether the session is of no more use.
    pub fn is_broken(&self) -> bool {
        self.control.is_broken()
    }

    /// The absolute path of one that is relative to where the user is after the login.
    pub fn absolute(&self, path: &str) -> String {
        paths::join(&self.home, path)
    }

    /// A command and the reply that counts, whatever it is.
    pub fn command(&mut self, verb: &str, argument: Option<&str>) -> Result<Reply> {
        self.control.complete(verb, argument)
    }

    /// A command that must succeed.
    pub fn must(&mut self, verb: &str, argument: &str) -> Result<Reply> {
        done(self.command(verb, Some(argument))?)
    }

    /// Begins a transfer: `RETR`, `STOR` and the like, from `offset` on.
    pub fn begin(&mut self, mode: Mode, offset: u64, verb: &str, path: Option<&str>) -> Result<Data> {
        let data = self.announce(mode, offset, verb, path)?;
        self.protect(data)
    }

    /// The first half of [`Session::begin`]: the server has agreed, and may have made the file.
    pub fn announce(&mut self, mode: Mode, offset: u64, verb: &str, path: Option<&str>) -> Result<Data> {
        self.switch(mode)?;
        let link = self.passive()?;
        if offset > 0 {
            let reply = self.command("REST", Some(&offset.to_string()))?;
            if !reply.is_intermediate() {
                return Err(fault(&reply));
            }
        }
        let reply = self.control.command(verb, path)?;
        if reply.is_done() {
            // Some servers say so when there is nothing to send.
            return Ok(Data { link: None });
        }
        if reply.is_preliminary() { Ok(Data { link: Some(link) }) } else { Err(fault(&reply)) }
    }

    /// The second half: TLS, if the session has it.
    pub fn protect(&mut self, mut data: Data) -> Result<Data> {
        let Some(link) = data.link.as_mut().filter(|_| self.server.tls != Tls::None) else { return Ok(data) };
        match link.start_tls(&self.server.host) {
            Ok(()) => Ok(data),
            // The server may know better what is wrong.
            Err(error) => {
                let error = no_tls(self.server, error).context("cannot begin TLS for the data");
                Err(self.why(data, error))
            }
        }
    }

    /// Ends a transfer after all bytes of it.
    ///
    /// # Errors
    /// What the server says if not all went well.
    pub fn end(&mut self, data: Data) -> Result<()> {
        let had_link = data.link.is_some();
        drop(data);
        if had_link { self.outcome() } else { Ok(()) }
    }

    /// What the server says of a transfer.
    fn outcome(&mut self) -> Result<()> {
        done(self.control.last()?).map(drop)
    }

    /// Why a transfer broke: the server may say more than the broken connection does.
    pub fn why(&mut self, data: Data, error: Error) -> Error {
        drop(data);
        if error.kind != ErrorKind::Unavailable {
            // What the server says of it would be taken for the reply to the next command.
            self.control.quit();
            return error;
        }
        match self.outcome() {
            Err(told) if told.kind != ErrorKind::Unavailable => told,
            Err(told) => error.because(told.message),
            Ok(()) => error,
        }
    }

    fn switch(&mut self, mode: Mode) -> Result<()> {
        if self.mode != Some(mode) {
            self.must("TYPE", if mode == Mode::Binary { "I" } else { "A" })?;
            self.mode = Some(mode);
        }
        Ok(())
    }

    /// How large a file is; none if the server cannot tell.
    ///
    /// # Errors
    /// `not-found` and the like.
    pub fn size(&mut self, path: &str) -> Result<Option<u64>> {
        // What a file has as text is another number, which hardly any server counts.
        self.switch(Mode::Binary)?;
        let reply = self.command("SIZE", Some(path))?;
        match reply.code {
            213 => Ok(number(reply.text())),
            500..=504 => Ok(None),
            _ => Err(fault(&reply)),
        }
    }

    /// When a file was changed, as `YYYYMMDDhhmmss` and perhaps a fraction; none if the server cannot tell.
    pub fn modified(&mut self, path: &str) -> Result<Option<String>> {
        if !self.features.mdtm {
            return Ok(None);
        }
        let reply = self.command("MDTM", Some(path))?;
        let time = Some(reply.text().trim()).filter(|time| is_time(time)).map(str::to_owned);
        Ok(time.filter(|_| reply.code == 213))
    }

    /// Goes to a directory.
    pub fn enter(&mut self, path: &str) -> Result<()> {
        self.must("CWD", path).map(drop)
    }

    /// A data connection to where the server waits: the host of the control connection, whatever address it names.
    fn passive(&mut self) -> Result<Box<dyn Link>> {
        if self.extended {
            let reply = self.command("EPSV", None)?;
            if reply.code == 229 {
                let port = passive::extended(reply.text()).ok_or_else(|| nonsense(&reply))?;
                match self.connect(port) {
                    Err(error) if error.kind == ErrorKind::Unavailable => {
                        debug!("port {port} of EPSV cannot be reached, trying PASV: {}", error.message);
                    }
                    result => return result,
                }
            } else if !(500..600).contains(&reply.code) {
                return Err(fault(&reply));
            }
            self.extended = false;
        }
        let reply = done(self.command("PASV", None)?)?;
        let (address, port) = passive::classic(reply.text()).ok_or_else(|| nonsense(&reply))?;
        let peer = self.control.peer();
        if address.to_string() != peer && !std::mem::replace(&mut self.warned, true) {
            info!("{} names {address} for data; {peer} is used all the same", self.server.authority());
        }
        self.connect(port)
    }

    fn connect(&mut self, port: u16) -> Result<Box<dyn Link>> {
        let link = self.network.connect(&self.server.host, port, self.server.idle);
        link.with_context(|| format!("cannot open a data connection to {} at port {port}", self.server.host))
    }

    /// Says goodbye.
    pub fn quit(mut self) {
        self.control.quit();
    }
}

impl Data {
    /// At most `max` bytes; empty at the end.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks.
    pub fn read(&mut self, max: usize) -> Result<Vec<u8>> {
        self.link.as_mut().map_or_else(|| Ok(Vec::new()), |link| link.read(max))
    }

    /// Sends all bytes.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.link {
            Some(link) => link.write(bytes),
            None => Err(Error::unavailable("the server takes nothing")),
        }
    }

    /// Says that all is sent, and waits until the server has hung up.
    ///
    /// # Errors
    /// `unavailable` if the connection breaks.
    pub fn finish(&mut self) -> Result<()> {
        const MOST: usize = 64;
        let Some(link) = &mut self.link else { return Ok(()) };
        link.finish()?;
        // Under TLS the server's session tickets lie unread. A connection that is closed over unread bytes is reset,
        // and takes away what the server has not read itself. So they are read, up to the end; how it ends does not
        // matter here, because the server's reply tells.
        let mut reads = 0;
        while reads < MOST && link.read(16 << 10).is_ok_and(|bytes| !bytes.is_empty()) {
            reads += 1;
        }
        Ok(())
    }
}

/// What is wrong with a certificate is wrong the next time too.
fn no_tls(server: &Server, mut error: Error) -> Error {
    if error.hint.is_some() && error.kind == ErrorKind::Unavailable {
        error.kind = ErrorKind::Denied;
    }
    error.context(format!("cannot begin TLS with {}", server.authority()))
}

fn nonsense(reply: &Reply) -> Error {
    Error::conflict(format!("{} names no port for data", reply.shown()))
}

fn features(reply: &Reply) -> Features {
    let has = |name: &str| {
        reply
            .lines
            .iter()
            .any(|line| line.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case(name)))
    };
    Features { mlst: has("MLST") || has("MLSD"), mdtm: has("MDTM"), utf8: has("UTF8") }
}

/// The directory of `257 "/home/u" is the current directory`, with its quotes doubled.
fn directory(text: &str) -> Option<String> {
    let inner = text.split_once('"')?.1;
    let mut path = String::new();
    let mut characters = inner.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if characters.peek() == Some(&'"') => path.extend(characters.next()),
            '"' => return Some(path).filter(|path| path.starts_with('/') && paths::check(path).is_ok()),
            c => path.push(c),
        }
    }
    None
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Whether a text is a time as RFC 3659 writes it.
pub fn is_time(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.len() <= 14 && text.bytes().all(|b| b.is_ascii_digit());
    whole.len() == 14 && digits(whole) && digits(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_replies() {
        for (text, expected) in [
            (r#""/home/u" is the current directory"#, Some("/home/u")),
            (r#""/a ""b""""#, Some(r#"/a "b""#)),
            (r#""/""#, Some("/")),
            (r#""/a/../b""#, None),
            (r#""C:\x""#, None),
            (r#""/open"#, None),
            ("none", None),
        ] {
            assert_eq!(directory(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn times() {
        for good in ["20261121163327", "20261121163327.123"] {
            assert!(is_time(good), "{good}");
        }
        for bad in ["", "2026", "2026112116332x", "20261121163327.", "202611211633270"] {
            assert!(!is_time(bad), "{bad}");
        }
    }

    #[test]
    fn features_of_replies() {
        let lines = ["Features:", " MDTM", " mlst type*;size*;", "REST STREAM", " UTF8", "End"];
        let found = features(&Reply { code: 211, lines: lines.map(str::to_owned).to_vec() });
        assert!(found.mlst && found.mdtm && found.utf8);
        let none = features(&Reply { code: 211, lines: vec!["no-features MDTM".into()] });
        assert!(!none.mdtm);
    }
}
