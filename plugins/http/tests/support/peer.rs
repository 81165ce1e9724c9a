//! A far side that does what a test tells it, bytes that no honest server would send included.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as the peer saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET /path?query`.
    pub line: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first byte that a range asks for.
    pub fn from(&self) -> usize {
        let range = self.header("range").strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
        range.map_or(0, |first| first.parse().unwrap())
    }
}

/// What a peer answers.
pub struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
    length: Option<usize>,
}

pub fn reply(status: u16) -> Reply {
    Reply { status, head: String::new(), body: Vec::new(), length: None }
}

pub fn json(value: serde_json::Value) -> Reply {
    reply(200).header("Content-Type", "application/json; charset=utf-8").body(value.to_string())
}

impl Reply {
    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.head += &format!("{name}: {}\r\n", value.as_ref());
        self
    }

    /// A body that is announced with its length.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self.length = Some(self.body.len());
        self
    }

    /// What is announced, true or not.
    pub fn announce(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    /// A body that ends with the connection.
    pub fn unannounced(mut self) -> Self {
        self.length = None;
        self
    }

    /// The connection breaks after so many bytes of the body.
    pub fn cut(mut self, after: usize) -> Self {
        self.body.truncate(after);
        self
    }
}

/// A running peer; it ends with the test's process.
pub struct Peer {
    pub origin: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Peer {
    /// The handler gives none where the connection is to break before an answer.
    pub fn start(mut handler: impl FnMut(&Seen) -> Option<Reply> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some((request, mut stream)) = stream.ok().and_then(read) else { continue };
                log.lock().unwrap().push(request.clone());
                if let Some(reply) = handler(&request) {
                    let _ = write(&mut stream, &request, &reply);
                }
            }
        });
        Self { origin, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

fn write(stream: &mut TcpStream, request: &Seen, reply: &Reply) -> std::io::Result<()> {
    let length = reply.length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
    write!(stream, "HTTP/1.1 {} x\r\n{}{length}Connection: close\r\n\r\n", reply.status, reply.head)?;
    if !request.line.starts_with("HEAD ") {
        stream.write_all(&reply.body)?;
    }
    Ok(())
}

fn read(stream: TcpStream) -> Option<(Seen, TcpStream)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let line = line.trim_end().strip_suffix(" HTTP/1.1")?.to_owned();
    let mut seen = Seen { line, headers: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        seen.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    if seen.header("transfer-encoding") == "chunked" {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = u64::from_str_radix(line.trim(), 16).ok()?;
            reader.by_ref().take(size).read_to_end(&mut seen.body).ok()?;
            reader.read_line(&mut line).ok()?;
            if size == 0 {
                break;
            }
        }
    } else if let Ok(length) = seen.header("content-length").parse() {
        reader.by_ref().take(length).read_to_end(&mut seen.body).ok()?;
    }
    Some((seen, reader.into_inner()))
}
