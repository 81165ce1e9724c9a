//! `connections`: TCP with TLS for protocols other than HTTP, to places that the grants of class `tcp` name, and services
//! that switch to another protocol.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use cooperage_solve::{Error, ErrorKind};
use http::{HeaderName, HeaderValue, Request};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use crate::bindings::imports::cooperage::plugin::connections;
use crate::host::answer;
use crate::http::address::{AddressKind, Reach, is_loopback_host, literal};
use crate::http::{Line, Stream as AnyStream, Transport};
use crate::instance::{Answer, State};

/// The most that one read gives.
const LARGEST_READ: usize = 256 << 10;

/// One connection of a guest.
pub struct Connection {
    stream: Stream,
    host: String,
    port: u16,
    /// The address of the far side; empty for a service.
    peer: String,
    patience: Patience,
    ahead: Ahead,
}

enum Stream {
    Plain(Box<dyn Line>),
    /// Behind TLS or a switch of protocols.
    Other(Box<dyn AnyStream>),
    /// TLS was begun and failed.
    Broken,
}

/// What was read for a guest that waits before it reads.
enum Ahead {
    Nothing,
    /// Empty at the end.
    Bytes(Vec<u8>),
    Fault(Error),
}

#[derive(Clone, Copy)]
struct Patience {
    connect: Duration,
    /// For each read, and for each piece that is written.
    idle: Duration,
}

impl connections::Host for State {}

impl connections::HostConnection for State {
    async fn open(&mut self, host: String, port: u16, options: Vec<(String, String)>) -> Answer<Resource<Connection>> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let host = bare.trim_end_matches('.').to_ascii_lowercase();
        let allowed = self.patience(options).and_then(|patience| Ok((patience, self.may_connect(&host, port)?)));
        let (patience, reach) = match allowed {
            Ok(allowed) => allowed,
            Err(error) => return answer(Err(error)),
        };
        match self.client().open(&host, port, reach, patience.connect).await {
            Ok(line) => {
                let peer = line.peer().to_string();
                let stream = Stream::Plain(line);
                self.connected(Connection { stream, host, port, peer, patience, ahead: Ahead::Nothing })
            }
            Err(error) => answer(Err(error.into())),
        }
    }

    async fn upgrade(
        &mut self,
        method: String,
        url: String,
        protocol: String,
        headers: Vec<(String, String)>,
        options: Vec<(String, String)>,
    ) -> Answer<Resource<Connection>> {
        let asked = self.patience(options).and_then(|patience| Ok((patience, request(&method, &url, &headers)?)));
        let (patience, request) = match asked {
            Ok(asked) => asked,
            Err(error) => return answer(Err(error)),
        };
        let host = request.uri().host().unwrap_or_default().to_owned();
        let hooks = self.hooks.clone();
        match hooks.upgrade(request, &protocol, patience.connect).await {
            Ok(stream) => {
                let (stream, port, peer) = (Stream::Other(stream), 80, String::new());
                self.connected(Connection { stream, host, port, peer, patience, ahead: Ahead::Nothing })
            }
            Err(error) => answer(Err(error.into())),
        }
    }

    async fn start_tls(&mut self, this: Resource<Connection>, name: String) -> Answer<()> {
        let connection = self.table.get_mut(&this)?;
        let line = match std::mem::replace(&mut connection.stream, Stream::Broken) {
            Stream::Plain(line) => line,
            other => {
                connection.stream = other;
                return answer(Err(Error::invalid("TLS was begun on this connection already")));
            }
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        // Trust is configured for places: another name would borrow the trust of another place.
        if name != connection.host {
            let message = format!("the connection is to {}, and not to {name}", connection.host);
            return answer(Err(Error::new(ErrorKind::Denied, message)));
        }
        // Protocols such as FTP open further connections on ports that nobody can configure trust for.
        let port = *self.tls_ports.entry(name.clone()).or_insert(connection.port);
        match line.start_tls(&name, port, connection.patience.connect).await {
            Ok(stream) => {
                connection.stream = Stream::Other(stream);
                Ok(Ok(()))
            }
            Err(error) => answer(Err(error.into())),
        }
    }

    async fn read(&mut self, this: Resource<Connection>, max: u32) -> Answer<Vec<u8>> {
        let connection = self.table.get_mut(&this)?;
        let max = usize::try_from(max).unwrap_or(LARGEST_READ).min(LARGEST_READ);
        answer(connection.read(max).await)
    }

    fn subscribe(&mut self, this: Resource<Connection>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, this)
    }

    async fn write(&mut self, this: Resource<Connection>, bytes: Vec<u8>) -> Answer<()> {
        let connection = self.table.get_mut(&this)?;
        answer(connection.write(&bytes).await.map_err(|error| connection.fault("writing to", &error)))
    }

    async fn finish(&mut self, this: Resource<Connection>) -> Answer<()> {
        let connection = self.table.get_mut(&this)?;
        let idle = connection.patience.idle;
        let finished = timed(idle, async { connection.stream()?.shutdown().await }).await;
        answer(finished.map_err(|error| connection.fault("ending what is sent to", &error)))
    }

    fn peer(&mut self, this: Resource<Connection>) -> wasmtime::Result<String> {
        Ok(self.table.get(&this)?.peer.clone())
    }

    async fn drop(&mut self, this: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        self.used.connections = self.used.connections.saturating_sub(1);
        Ok(())
    }
}

fn request(method: &str, url: &str, headers: &[(String, String)]) -> Result<Request<()>, Error> {
    let wrong = |error: http::Error| Error::invalid(format!("{method} {url} cannot be sent: {error}"));
    let mut request = Request::builder().method(method).uri(url).body(()).map_err(wrong)?;
    for (name, value) in headers {
        let name = HeaderName::try_from(name).map_err(|error| wrong(error.into()))?;
        let value = HeaderValue::try_from(value).map_err(|error| wrong(error.into()))?;
        request.headers_mut().append(name, value);
    }
    Ok(request)
}

async fn timed<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("nothing moved for {limit:?}"));
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

#[async_trait]
impl Pollable for Connection {
    async fn ready(&mut self) {
        if matches!(self.ahead, Ahead::Nothing) {
            self.ahead = match self.receive(LARGEST_READ).await {
                Ok(bytes) => Ahead::Bytes(bytes),
                Err(error) => Ahead::Fault(error),
            };
        }
    }
}

impl Connection {
    fn stream(&mut self) -> io::Result<&mut dyn AnyStream> {
        match &mut self.stream {
            Stream::Plain(line) => Ok(line.as_mut()),
            Stream::Other(stream) => Ok(stream.as_mut()),
            Stream::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    async fn read(&mut self, max: usize) -> Result<Vec<u8>, Error> {
        match std::mem::replace(&mut self.ahead, Ahead::Nothing) {
            Ahead::Nothing => self.receive(max).await,
            Ahead::Bytes(mut bytes) => {
                if bytes.len() > max {
                    self.ahead = Ahead::Bytes(bytes.split_off(max));
                }
                Ok(bytes)
            }
            Ahead::Fault(error) => Err(error),
        }
    }

    /// Can be given up at any point without losing a byte.
    async fn receive(&mut self, max: usize) -> Result<Vec<u8>, Error> {
        let (mut bytes, idle) = (Vec::with_capacity(max), self.patience.idle);
        let read = timed(idle, async { self.stream()?.read_buf(&mut bytes).await }).await;
        read.map(|_| bytes).map_err(|error| self.fault("reading from", &error))
    }

    /// A slow line takes a while for many bytes; as long as it takes some, it is not idle.
    async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let idle = self.patience.idle;
        let stream = self.stream()?;
        while !bytes.is_empty() {
            match timed(idle, stream.write(bytes)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => bytes = &bytes[written..],
            }
        }
        timed(idle, stream.flush()).await
    }

    fn fault(&self, what: &str, error: &io::Error) -> Error {
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the far side ended without saying so in TLS".to_owned(),
            io::ErrorKind::NotConnected => "TLS could not be begun on it".to_owned(),
            _ => error.to_string(),
        };
        Error::new(ErrorKind::Unavailable, format!("{what} {}:{}: {reason}", self.host, self.port))
    }
}

impl State {
    /// How long to wait, if there may be one more connection.
    fn patience(&self, options: Vec<(String, String)>) -> Result<Patience, Error> {
        let settings = self.client().settings();
        let mut patience = Patience { connect: settings.connect_timeout, idle: settings.idle_timeout };
        for (name, value) in options {
            let wrong = |_| Error::invalid(format!("{name}: `{value}` are not milliseconds"));
            let time = Duration::from_millis(value.parse().map_err(wrong)?);
            match name.as_str() {
                "connect-timeout" => patience.connect = time,
                "idle-timeout" => patience.idle = time,
                _ => {
                    let message = format!("a connection has no option `{name}`");
                    return Err(Error::new(ErrorKind::Unsupported, message));
                }
            }
        }
        let limit = self.limits.connections;
        if self.used.connections >= limit {
            let message = format!("no more than {limit} connections may be open at a time");
            return Err(self.used_up("connections", message));
        }
        Ok(patience)
    }

    fn connected(&mut self, connection: Connection) -> Answer<Resource<Connection>> {
        self.used.connections += 1;
        Ok(Ok(self.push(connection)?))
    }

    /// Which addresses the grants let a name lead to.
    fn may_connect(&self, host: &str, port: u16) -> Result<Reach, Error> {
        let fits = |rule: &&crate::grants::TcpRule| rule.matches_host(host) && rule.ports.contains(&port);
        if !self.tcp.iter().any(|rule| fits(&rule)) {
            let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            return Err(self.denied(&format!("connect to {place}"), "tcp", &json!([place])));
        }
        Ok(match literal(host) {
            Some(address) => Reach::only(AddressKind::of(address)),
            None if is_loopback_host(host) => Reach::LOOPBACK,
            None => Reach::PUBLIC.and(AddressKind::Private),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_that_move_slowly_are_not_late() {
        let idle = Duration::from_millis(400);
        for (pause, late) in [(Duration::from_millis(100), None), (idle * 9, Some(io::ErrorKind::TimedOut))] {
            let (near, mut far) = tokio::io::duplex(1000);
            // Eight pauses before the last byte fits, which are longer than `idle` together.
            let reader = tokio::spawn(async move {
                let mut some = [0; 1000];
                while far.read(&mut some).await.is_ok_and(|read| read > 0) {
                    tokio::time::sleep(pause).await;
                }
            });
            let patience = Patience { connect: idle, idle };
            let (stream, host, peer) = (Stream::Other(Box::new(near)), "far".to_owned(), String::new());
            let mut connection = Connection { stream, host, port: 21, peer, patience, ahead: Ahead::Nothing };
            let written = connection.write(&[0; 9000]).await;
            assert_eq!(written.err().map(|error| error.kind()), late, "{pause:?}");
            reader.abort();
        }
    }
}
