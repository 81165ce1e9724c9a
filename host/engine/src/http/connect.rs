//! Opens connections: look-up with a check of every address, TCP, proxy, TLS, unix sockets. Knows nothing of requests.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::Error;
use super::address::{AddressKind, Reach, literal};
use super::proxy::Proxy;
use super::rule::Origin;
use super::tls::Tls;

/// Between the starts of two attempts when a name has several addresses (RFC 8305 recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(250);
/// A proxy's answer to CONNECT is a status line and a few headers.
const PROXY_ANSWER_LIMIT: usize = 16 * 1024;

/// Finds addresses of names.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// The addresses of `host`, each with `port`.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// Bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection and, unless a proxy hides it, the address at its other end.
pub(crate) struct Opened {
    pub stream: Box<dyn Stream>,
    pub peer: Option<IpAddr>,
}

/// What connecting needs.
pub(crate) struct Connector {
    pub resolver: Arc<dyn Resolver>,
    pub tls: Tls,
}

impl Connector {
    /// Connects to `origin`, directly or through `proxy`, within `limit`.
    pub async fn open(
        &self,
        origin: &Origin,
        proxy: Option<&Proxy>,
        reach: Reach,
        limit: Duration,
    ) -> Result<Opened, Error> {
        let late = || Error::ConnectTimeout { peer: origin.authority(), after: limit };
        tokio::time::timeout(limit, self.open_unbounded(origin, proxy, reach)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn open_unbounded(&self, origin: &Origin, proxy: Option<&Proxy>, reach: Reach) -> Result<Opened, Error> {
        let (tcp, peer) = match proxy {
            // The proxy looks the name up, so only an address that is spelled out can be checked; the client
            // has done that. The proxy itself is the user's setting and may be anywhere.
            Some(proxy) => {
                let addresses = self.look_up(&proxy.host, proxy.port).await?;
                let mut tcp = race(addresses, &format!("{proxy:?}")).await?;
                if origin.https {
                    tunnel(&mut tcp, proxy, origin).await?;
                }
                (tcp, None)
            }
            None => {
                let addresses = self.look_up(&origin.host, origin.port).await?;
                let tcp = race(admitted(addresses, origin, reach)?, &origin.authority()).await?;
                let peer = tcp.peer_addr().ok().map(|a| a.ip());
                (tcp, peer)
            }
        };
        // Requests are written whole; waiting for more would only delay them.
        let _ = tcp.set_nodelay(true);
        let stream: Box<dyn Stream> = if origin.https { self.encrypt(tcp, origin).await? } else { Box::new(tcp) };
        Ok(Opened { stream, peer })
    }

    pub(super) async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        if let Some(address) = literal(host) {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let failed = |reason: String| Error::NameNotFound { host: host.to_owned(), reason };
        let found = self.resolver.resolve(host, port).await.map_err(|e| failed(e.to_string()))?;
        if found.is_empty() { Err(failed("it has none".into())) } else { Ok(found) }
    }

    async fn encrypt(&self, tcp: TcpStream, origin: &Origin) -> Result<Box<dyn Stream>, Error> {
        let failed = |reason: String| Error::Tls { peer: origin.authority(), reason, hint: None };
        let config = self.tls.config(&origin.host, origin.port)?;
        let name = match literal(&origin.host) {
            Some(address) => address.into(),
            None => rustls::pki_types::ServerName::try_from(origin.host.clone()).map_err(|e| failed(e.to_string()))?,
        };
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await;
        match stream {
            Ok(stream) => Ok(Box::new(stream)),
            // A connection that breaks during the handshake says nothing about trust.
            Err(error) if error.get_ref().is_none_or(|e| !e.is::<rustls::Error>()) => {
                Err(Error::Connect { peer: origin.authority(), source: error })
            }
            Err(error) => Err(tls_error(&error, origin)),
        }
    }
}

/// Connects to a unix socket.
pub(crate) async fn open_unix(path: &Path, limit: Duration) -> Result<Opened, Error> {
    let peer = || path.display().to_string();
    match tokio::time::timeout(limit, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => Ok(Opened { stream: Box::new(stream), peer: None }),
        Ok(Err(source)) => Err(Error::Connect { peer: peer(), source }),
        Err(_) => Err(Error::ConnectTimeout { peer: peer(), after: limit }),
    }
}

/// The addresses that may be connected to; an error that names one of the others if there are none.
pub(crate) fn admitted(all: Vec<SocketAddr>, origin: &Origin, reach: Reach) -> Result<Vec<SocketAddr>, Error> {
    let (good, bad): (Vec<_>, Vec<_>) = all.into_iter().partition(|a| reach.admits(a.ip()));
    match (good.is_empty(), bad.first()) {
        (true, Some(address)) => Err(Error::AddressDenied {
            host: origin.host.clone(),
            address: address.ip(),
            kind: AddressKind::of(address.ip()).word(),
        }),
        _ => Ok(good),
    }
}

/// Tries all addresses, each a little after the one before, and takes the first that answers.
pub(super) async fn race(addresses: Vec<SocketAddr>, peer: &str) -> Result<TcpStream, Error> {
    let mut attempts = FuturesUnordered::new();
    for (i, address) in addresses.into_iter().enumerate() {
        let delay = STAGGER * u32::try_from(i).unwrap_or(u32::MAX);
        attempts.push(async move {
            tokio::time::sleep(delay).await;
            TcpStream::connect(address).await
        });
    }
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = error,
        }
    }
    Err(Error::Connect { peer: peer.to_owned(), source: last })
}

async fn tunnel(tcp: &mut TcpStream, proxy: &Proxy, origin: &Origin) -> Result<(), Error> {
    let peer = origin.authority();
    let failed = |source| Error::Connect { peer: format!("{proxy:?}"), source };
    let mut head = format!("CONNECT {peer} HTTP/1.1\r\nHost: {peer}\r\n");
    if let Some(authorization) = &proxy.authorization {
        head.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
    }
    head.push_str("\r\n");
    tcp.write_all(head.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    let mut byte = [0; 1];
    // One byte at a time: what follows the head belongs to TLS.
    while !answer.ends_with(b"\r\n\r\n") {
        if tcp.read(&mut byte).await.map_err(failed)? == 0 || answer.len() >= PROXY_ANSWER_LIMIT {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        answer.push(byte[0]);
    }
    let line = String::from_utf8_lossy(answer.split(|b| *b == b'\r').next().unwrap_or_default()).into_owned();
    match line.split(' ').nth(1) {
        Some(code) if code.len() == 3 && code.starts_with('2') => Ok(()),
        _ => Err(Error::Proxy { proxy: format!("{proxy:?}"), status: line, peer }),
    }
}

pub(super) fn tls_error(error: &io::Error, origin: &Origin) -> Error {
    let peer = origin.authority();
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            Error::Tls { peer, reason: UNKNOWN_AUTHORITY.to_owned(), hint: Some(name_authority(&origin.host_header())) }
        }
        Some(rustls::Error::InvalidMessage(_)) => Error::NoTls { peer, reason: error.to_string() },
        _ => Error::Tls { peer, reason: error.to_string(), hint: None },
    }
}

/// What is wrong with a certificate whose authority nobody here has named.
pub(crate) const UNKNOWN_AUTHORITY: &str = "the certificate is signed by an authority that is not known here";

/// How the user names the authority of `host` or `host:port`.
pub fn name_authority(host: &str) -> String {
    format!(
        "name the authority's certificate with `--registry-ca {host}=FILE`, as \
         `registries: {{ \"{host}\": {{ ca: FILE }} }}` in config.yaml, or put it into certs.d/{host}/ca.crt"
    )
}
