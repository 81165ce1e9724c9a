//! Plain HTTP/1.1 over sockets, one connection per exchange, bodies as they come.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cooperage_plugin_kubernetes::edge::{Answer, Body, Exchange, Http};
use cooperage_sdk::http::Headers;
use cooperage_sdk::{Error, Result};

pub struct Sockets;

impl Http for Sockets {
    fn send(&self, exchange: &Exchange) -> Result<Answer> {
        let mut stream = TcpStream::connect(exchange.url.authority())?;
        stream.set_read_timeout(Some(exchange.silence.min(Duration::from_secs(20))))?;
        let mut head = format!("{} {} HTTP/1.1\r\n", exchange.method, exchange.url.path_and_query());
        head += &format!("host: {}\r\nconnection: close\r\n", exchange.url.authority());
        for (name, value) in exchange.headers.iter() {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", exchange.body.len());
        stream.write_all(head.as_bytes())?;
        // A server may answer and close before it has read all.
        let _ = stream.write_all(&exchange.body);
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| Error::unavailable("the connection was closed early"))?;
        let mut headers = Headers::default();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.append(name, value.trim());
        }
        let left = match headers.get("content-length").map(str::parse) {
            Some(length) => Left::Length(length.unwrap()),
            None => Left::Chunked(0),
        };
        Ok(Answer { status, headers, body: Box::new(Received { reader, left }) })
    }
}

enum Left {
    Length(u64),
    /// Of the current chunk.
    Chunked(u64),
    Nothing,
}

struct Received {
    reader: BufReader<TcpStream>,
    left: Left,
}

impl Received {
    fn some(&mut self, max: u64) -> Result<Vec<u8>> {
        // Small pieces, so that lines come in parts.
        let mut bytes = vec![0; usize::try_from(max.min(700)).unwrap()];
        let read = self.reader.read(&mut bytes)?;
        if read == 0 && max > 0 {
            return Err(Error::unavailable("the connection broke"));
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Body for Received {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        match self.left {
            Left::Nothing | Left::Length(0) => Ok(Vec::new()),
            Left::Length(left) => {
                let bytes = self.some(left.min(max.into()))?;
                self.left = Left::Length(left - bytes.len() as u64);
                Ok(bytes)
            }
            Left::Chunked(0) => {
                let size = self.line()?;
                let size = u64::from_str_radix(&size, 16).map_err(|_| Error::unavailable("the connection broke"))?;
                self.left = if size == 0 { Left::Nothing } else { Left::Chunked(size) };
                self.chunk(max)
            }
            Left::Chunked(left) => {
                let bytes = self.some(left.min(max.into()))?;
                let left = left - bytes.len() as u64;
                if left == 0 {
                    self.line()?;
                }
                self.left = Left::Chunked(left);
                Ok(bytes)
            }
        }
    }
}
