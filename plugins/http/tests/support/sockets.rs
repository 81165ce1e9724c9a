//! Plain HTTP/1.1 over sockets, one connection per exchange, with the faults of the host's client: a body that ends early
//! is `unavailable`, what comes after its end is not seen.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cooperage_plugin_http::edge::{Answer, Bytes, Chain, Deadline, Exchange, Http};
use cooperage_sdk::http::Headers;
use cooperage_sdk::{Error, Result};

#[derive(Default)]
pub struct Sockets;

impl Http for Sockets {
    fn send(&self, exchange: &Exchange) -> Result<Answer> {
        let mut stream = TcpStream::connect(exchange.url.authority())?;
        stream.set_read_timeout(Some(patience(exchange.deadline)?))?;
        let mut head = format!("{} {} HTTP/1.1\r\n", exchange.method, exchange.url.path_and_query());
        head += &format!("host: {}\r\nconnection: close\r\n", exchange.url.authority());
        for (name, value) in exchange.headers.iter() {
            head += &format!("{name}: {value}\r\n");
        }
        let length = exchange.length();
        match length {
            Some(0) => {}
            Some(length) => head += &format!("content-length: {length}\r\n"),
            None => head += "transfer-encoding: chunked\r\n",
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        // A server may answer and close before it has read all.
        let _ = feed(&mut stream, exchange, length.is_none());
        answer(exchange, stream)
    }
}

fn patience(deadline: Option<Deadline>) -> Result<Duration> {
    deadline.map_or(Ok(Duration::from_secs(20)), |deadline| deadline.left())
}

fn feed(stream: &mut TcpStream, exchange: &Exchange, chunked: bool) -> Result<()> {
    let mut chain = Chain::new(exchange.payload.clone());
    loop {
        let chunk = chain.chunk(5000)?;
        if chunked {
            write!(stream, "{:x}\r\n", chunk.len())?;
        }
        stream.write_all(&chunk)?;
        if chunked {
            stream.write_all(b"\r\n")?;
        }
        if chunk.is_empty() {
            return Ok(());
        }
    }
}

fn answer(exchange: &Exchange, stream: TcpStream) -> Result<Answer> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| Error::unavailable("the connection was closed before an answer"))?;
    let mut headers = Headers::default();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.append(name, value.trim());
    }
    let length = match headers.get("content-length") {
        _ if exchange.method == "HEAD" || matches!(status, 204 | 304) => Some(0),
        length => length.map(|length| length.parse().unwrap()),
    };
    let body = Box::new(Received { reader, left: length, deadline: exchange.deadline });
    Ok(Answer { status, headers, url: exchange.url.clone(), body })
}

struct Received {
    reader: BufReader<TcpStream>,
    /// None is until the connection ends.
    left: Option<u64>,
    deadline: Option<Deadline>,
}

impl Bytes for Received {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        patience(self.deadline)?;
        // Small pieces, so that every loop over a body goes round more than once.
        let mut chunk = vec![0; max.min(1000) as usize];
        let most = self.left.unwrap_or(u64::MAX).min(chunk.len() as u64);
        let read = self.reader.read(&mut chunk[..usize::try_from(most).unwrap()])?;
        if let Some(left) = &mut self.left {
            if read == 0 && *left > 0 {
                return Err(Error::unavailable("the connection was closed early"));
            }
            *left -= read as u64;
        }
        chunk.truncate(read);
        Ok(chunk)
    }
}
