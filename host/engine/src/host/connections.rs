//! `connections`: TCP with TLS for protocols other than HTTP, to places that the grants of class `tcp` name.

use std::net::IpAddr;
use std::time::Duration;

use cooperage_solve::{Error, ErrorKind};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use wasmtime::component::Resource;

use crate::bindings::imports::cooperage::plugin::connections;
use crate::host::answer;
use crate::http::address::{AddressKind, Reach, is_loopback_host, literal};
use crate::instance::{Answer, State};

/// The most that one read gives.
const LARGEST_READ: usize = 256 << 10;

/// One connection of a guest.
pub struct Connection {
    stream: Stream,
    host: String,
    port: u16,
    peer: IpAddr,
    connect: Duration,
    idle: Duration,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS was begun and failed.
    Broken,
}

impl connections::Host for State {}

impl connections::HostConnection for State {
    async fn open(&mut self, host: String, port: u16, options: Vec<(String, String)>) -> Answer<Resource<Connection>> {
        let settings = self.client().settings();
        let (mut connect, mut idle) = (settings.connect_timeout, settings.idle_timeout);
        for (name, value) in options {
            let time = match value.parse() {
                Ok(milliseconds) => Duration::from_millis(milliseconds),
                Err(_) => return answer(Err(Error::invalid(format!("{name}: `{value}` are not milliseconds")))),
            };
            match name.as_str() {
                "connect-timeout" => connect = time,
                "idle-timeout" => idle = time,
                _ => {
                    let message = format!("a connection has no option `{name}`");
                    return answer(Err(Error::new(ErrorKind::Unsupported, message)));
                }
            }
        }
        let limit = self.limits.connections;
        if self.used.connections >= limit {
            let message = format!("no more than {limit} connections may be open at a time");
            return answer(Err(Error::new(ErrorKind::Limit, message)));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let host = bare.trim_end_matches('.').to_ascii_lowercase();
        let reach = match self.may_connect(&host, port) {
            Ok(reach) => reach,
            Err(error) => return answer(Err(error)),
        };
        match self.client().open(&host, port, reach, connect).await {
            Ok((tcp, peer)) => {
                let stream = Stream::Plain(tcp);
                self.used.connections += 1;
                Ok(Ok(self.push(Connection { stream, host, port, peer, connect, idle })?))
            }
            Err(error) => answer(Err(error.into())),
        }
    }

    async fn start_tls(&mut self, this: Resource<Connection>, name: String) -> Answer<()> {
        let client = self.client().clone();
        let connection = self.table.get_mut(&this)?;
        let tcp = match std::mem::replace(&mut connection.stream, Stream::Broken) {
            Stream::Plain(tcp) => tcp,
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
        match client.start_tls(tcp, &name, port, connection.connect).await {
            Ok(stream) => {
                connection.stream = Stream::Tls(Box::new(stream));
                Ok(Ok(()))
            }
            Err(error) => answer(Err(error.into())),
        }
    }

    async fn read(&mut self, this: Resource<Connection>, max: u32) -> Answer<Vec<u8>> {
        let connection = self.table.get_mut(&this)?;
        let max = usize::try_from(max).unwrap_or(LARGEST_READ).min(LARGEST_READ);
        let mut bytes = Vec::with_capacity(max);
        let reading = async {
            match &mut connection.stream {
                Stream::Plain(stream) => stream.read_buf(&mut bytes).await,
                Stream::Tls(stream) => stream.read_buf(&mut bytes).await,
                Stream::Broken => Err(std::io::ErrorKind::NotConnected.into()),
            }
        };
        let read = timed(connection.idle, reading).await;
        answer(read.map(|_| bytes).map_err(|error| connection.fault("reading from", &error)))
    }

    async fn write(&mut self, this: Resource<Connection>, bytes: Vec<u8>) -> Answer<()> {
        let connection = self.table.get_mut(&this)?;
        let writing = async {
            match &mut connection.stream {
                Stream::Plain(stream) => stream.write_all(&bytes).await,
                Stream::Tls(stream) => {
                    stream.write_all(&bytes).await?;
                    stream.flush().await
                }
                Stream::Broken => Err(std::io::ErrorKind::NotConnected.into()),
            }
        };
        let written = timed(connection.idle, writing).await;
        answer(written.map_err(|error| connection.fault("writing to", &error)))
    }

    async fn finish(&mut self, this: Resource<Connection>) -> Answer<()> {
        let connection = self.table.get_mut(&this)?;
        let finishing = async {
            match &mut connection.stream {
                Stream::Plain(stream) => stream.shutdown().await,
                Stream::Tls(stream) => stream.shutdown().await,
                Stream::Broken => Err(std::io::ErrorKind::NotConnected.into()),
            }
        };
        let finished = timed(connection.idle, finishing).await;
        answer(finished.map_err(|error| connection.fault("ending what is sent to", &error)))
    }

    fn peer(&mut self, this: Resource<Connection>) -> wasmtime::Result<String> {
        Ok(self.table.get(&this)?.peer.to_string())
    }

    async fn drop(&mut self, this: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        self.used.connections = self.used.connections.saturating_sub(1);
        Ok(())
    }
}

async fn timed<T>(limit: Duration, work: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("nothing moved for {limit:?}"));
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

impl Connection {
    fn fault(&self, what: &str, error: &std::io::Error) -> Error {
        let reason = match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "the far side ended without saying so in TLS".to_owned(),
            std::io::ErrorKind::NotConnected => "TLS could not be begun on it".to_owned(),
            _ => error.to_string(),
        };
        Error::new(ErrorKind::Unavailable, format!("{what} {}:{}: {reason}", self.host, self.port))
    }
}

impl State {
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
