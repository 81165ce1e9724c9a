//! Plain HTTP/1.1 over sockets, one connection per exchange.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use cooperage_plugin_oci::edge::{Answer, Body, Exchange, Http};
use cooperage_sdk::http::Headers;
use cooperage_sdk::{Error, Result};

use super::{Contents, payload};

pub struct Sockets {
    contents: Contents,
    /// The connection of the next large request body is cut after so many bytes.
    pub cut: Cell<Option<usize>>,
    /// The connection of the next large answer is cut after so many bytes.
    pub cut_answer: Cell<Option<usize>>,
    pub requests: Cell<usize>,
}

impl Sockets {
    pub fn new(contents: Contents) -> Self {
        Self { contents, cut: Cell::new(None), cut_answer: Cell::new(None), requests: Cell::new(0) }
    }
}

impl Http for Sockets {
    fn send(&self, exchange: &Exchange) -> Result<Answer> {
        self.requests.set(self.requests.get() + 1);
        let mut stream = TcpStream::connect(exchange.url.authority())?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let body = payload(&exchange.payload, &self.contents);
        let mut head = format!("{} {} HTTP/1.1\r\n", exchange.method, exchange.url.path_and_query());
        head += &format!("host: {}\r\nconnection: close\r\n", exchange.url.authority());
        for (name, value) in exchange.headers.iter() {
            head += &format!("{name}: {value}\r\n");
        }
        if !matches!(exchange.method, "GET" | "HEAD") {
            head += &format!("content-length: {}\r\n", body.len());
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if let Some(cut) = self.cut.get().filter(|cut| body.len() > *cut) {
            self.cut.set(None);
            stream.write_all(&body[..cut])?;
            stream.shutdown(Shutdown::Write)?;
            // The server has seen the end of it before the next request comes.
            let _ = stream.read_to_end(&mut Vec::new());
            return Err(Error::unavailable("the connection was cut"));
        }
        // A server may answer and close before it has read all.
        let _ = stream.write_all(&body);
        self.answer(exchange, stream)
    }
}

impl Sockets {
    fn answer(&self, exchange: &Exchange, stream: TcpStream) -> Result<Answer> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| Error::unavailable(format!("no status: {line:?}")))?;
        let mut headers = Headers::default();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.append(name, value.trim());
        }
        let chunked = headers.get("transfer-encoding") == Some("chunked");
        let mut bytes = Vec::new();
        let mut whole = true;
        if exchange.method == "HEAD" || status == 204 {
        } else if chunked {
            dechunk(&mut reader, &mut bytes)?;
        } else {
            let length: Option<u64> = headers.get("content-length").map(|length| length.parse().unwrap());
            reader.take(length.unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
            whole = length.is_none_or(|length| length == bytes.len() as u64);
        }
        if let Some(cut) = self.cut_answer.get().filter(|cut| bytes.len() > *cut) {
            self.cut_answer.set(None);
            bytes.truncate(cut);
            whole = false;
        }
        Ok(Answer { status, headers, url: exchange.url.clone(), body: Box::new(Received { bytes, at: 0, whole }) })
    }
}

fn dechunk(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).map_err(|_| Error::unavailable("no chunk"))?;
        reader.by_ref().take(size).read_to_end(bytes)?;
        reader.read_line(&mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}

struct Received {
    bytes: Vec<u8>,
    at: usize,
    whole: bool,
}

impl Body for Received {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        let rest = &self.bytes[self.at..];
        let chunk = &rest[..rest.len().min(max as usize)];
        self.at += chunk.len();
        if chunk.is_empty() && !self.whole {
            return Err(Error::unavailable("the answer was cut"));
        }
        Ok(chunk.to_vec())
    }
}
