//! A server that says what a test tells it to: one answer for each command, and what goes over data connections.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use cooperage_plugin_ftp::server::{Login, Server};

/// What to do about a command.
pub enum Act {
    /// These lines, with CR LF added to each.
    Say(String),
    /// These bytes as they are.
    Raw(Vec<u8>),
    /// A data connection at this reply, where `{}` stands for the port of EPSV, `{hi},{lo}` for that of PASV.
    Open(String),
    /// 150, these bytes on the data connection, and this reply.
    Send(Vec<u8>, String),
    /// 150, so many bytes of the data connection, the end of it and of the control connection.
    Break(Vec<u8>),
    /// 150, reads the data connection to its end and keeps the bytes, then this reply.
    Take(String),
    /// 150, reads so many bytes, closes the data connection, then this reply.
    TakeSome(usize, String),
    /// The end of the control connection.
    Close,
}

pub fn say(line: &str) -> Act {
    Act::Say(line.to_owned())
}

/// A running peer.
pub struct Peer {
    pub server: Server,
    seen: Arc<Mutex<Vec<String>>>,
    taken: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Peer {
    /// Answers commands by `script`, which gives none for what every server does: let somebody in, tell features and
    /// directory, switch types, open a data connection.
    pub fn start(mut script: impl FnMut(&str) -> Option<Act> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, taken) = (Arc::default(), Arc::default());
        let (sees, takes) = (Arc::clone(&seen), Arc::clone(&taken));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                // One after the other: a script has one state. What goes wrong shows in what the client sees.
                let _ = serve(stream, &mut script, &sees, &takes);
            }
        });
        let login = Login::new("u", Some("geheim".to_owned())).unwrap();
        Self { server: super::server(port, login), seen, taken }
    }

    /// The commands so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// How many commands began with a text.
    pub fn count(&self, verb: &str) -> usize {
        self.seen().iter().filter(|line| line.starts_with(verb)).count()
    }

    /// What was uploaded.
    pub fn taken(&self) -> Vec<Vec<u8>> {
        self.taken.lock().unwrap().clone()
    }
}

fn serve(
    stream: TcpStream,
    script: &mut impl FnMut(&str) -> Option<Act>,
    seen: &Mutex<Vec<String>>,
    taken: &Mutex<Vec<Vec<u8>>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut out = stream;
    let mut waiting: Option<TcpListener> = None;
    let mut next = Some("CONNECT".to_owned());
    while let Some(line) = next {
        if line != "CONNECT" {
            seen.lock().unwrap().push(line.clone());
        }
        let act = script(&line).unwrap_or_else(|| usual(&line));
        let mut data = || -> std::io::Result<TcpStream> {
            let listener = waiting.take().ok_or(std::io::ErrorKind::NotConnected)?;
            Ok(listener.accept()?.0)
        };
        match act {
            Act::Say(text) => out.write_all(format!("{text}\r\n").as_bytes())?,
            Act::Raw(bytes) => out.write_all(&bytes)?,
            Act::Open(reply) => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                let port = listener.local_addr()?.port();
                let [high, low] = port.to_be_bytes();
                let reply = reply.replace("{}", &port.to_string()).replace("{hi}", &high.to_string());
                out.write_all(format!("{}\r\n", reply.replace("{lo}", &low.to_string())).as_bytes())?;
                waiting = Some(listener);
            }
            Act::Send(bytes, reply) => {
                out.write_all(b"150 here it comes\r\n")?;
                // A client that has seen enough hangs up.
                let _ = data()?.write_all(&bytes);
                out.write_all(format!("{reply}\r\n").as_bytes())?;
            }
            Act::Break(bytes) => {
                out.write_all(b"150 here it comes\r\n")?;
                data()?.write_all(&bytes)?;
                return Ok(());
            }
            Act::Take(reply) => {
                out.write_all(b"150 go on\r\n")?;
                let mut bytes = Vec::new();
                data()?.read_to_end(&mut bytes)?;
                taken.lock().unwrap().push(bytes);
                out.write_all(format!("{reply}\r\n").as_bytes())?;
            }
            Act::TakeSome(length, reply) => {
                out.write_all(b"150 go on\r\n")?;
                let mut bytes = vec![0; length];
                data()?.read_exact(&mut bytes)?;
                taken.lock().unwrap().push(bytes);
                out.write_all(format!("{reply}\r\n").as_bytes())?;
            }
            Act::Close => return Ok(()),
        }
        next = lines.next().transpose()?;
    }
    Ok(())
}

fn usual(line: &str) -> Act {
    match line.split(' ').next().unwrap_or_default() {
        "CONNECT" => say("220 ready"),
        "USER" => say("331 and the password"),
        "PASS" => say("230 welcome"),
        "FEAT" => say("211-Features:\r\n MDTM\r\n SIZE\r\n MLST type*;size*;modify*;\r\n211 End"),
        "PWD" => say("257 \"/\" is where you are"),
        "TYPE" | "NOOP" => say("200 fine"),
        "CWD" => say("250 fine"),
        "EPSV" => Act::Open("229 Entering Extended Passive Mode (|||{}|)".to_owned()),
        "QUIT" => Act::Close,
        _ => say("502 what?"),
    }
}
