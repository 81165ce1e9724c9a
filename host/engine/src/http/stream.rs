//! Connections for protocols other than HTTP, by the same rules of look-up, addresses and TLS.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::{Reach, literal};
use super::connect::{Connector, Stream, admitted, race, tls_error};
use super::rule::Origin;
use super::{Client, Error};

/// A connection on which TLS was not begun yet.
#[async_trait]
pub trait Line: Stream {
    /// Begins TLS with the host at the other end, whose certificate must be valid for `host`. What is trusted there is what
    /// is configured for `host` and `port`. `limit` is the time that it may take.
    ///
    /// # Errors
    /// When the far side does not want it or is not trusted; the connection is lost then.
    async fn start_tls(self: Box<Self>, host: &str, port: u16, limit: Duration) -> Result<Box<dyn Stream>, Error>;

    /// The address of the other end.
    fn peer(&self) -> IpAddr;
}

/// A [`Line`] of the network.
pub(crate) struct Wire {
    tcp: TcpStream,
    peer: IpAddr,
    client: Client,
}

impl Client {
    /// Connects to a host by name or address.
    pub(super) async fn dial(&self, host: &str, port: u16, reach: Reach, limit: Duration) -> Result<Wire, Error> {
        let origin = Origin { https: false, host: host.to_owned(), port };
        let late = || Error::ConnectTimeout { peer: origin.authority(), after: limit };
        let connecting = async {
            let addresses = self.connector().look_up(host, port).await?;
            race(admitted(addresses, &origin, reach)?, &origin.authority()).await
        };
        let tcp = tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| Err(late()))?;
        let peer = tcp.peer_addr().map_err(|source| Error::Connect { peer: origin.authority(), source })?.ip();
        // Commands are written whole and waited for.
        let _ = tcp.set_nodelay(true);
        Ok(Wire { tcp, peer, client: self.clone() })
    }
}

impl Wire {
    async fn encrypt(self, host: &str, port: u16, limit: Duration) -> Result<TlsStream<TcpStream>, Error> {
        let origin = Origin { https: true, host: host.to_owned(), port };
        let late = || Error::ConnectTimeout { peer: origin.authority(), after: limit };
        let handshake = self.client.connector().handshake(self.tcp, &origin);
        tokio::time::timeout(limit, handshake).await.unwrap_or_else(|_| Err(late()))
    }
}

#[async_trait]
impl Line for Wire {
    async fn start_tls(self: Box<Self>, host: &str, port: u16, limit: Duration) -> Result<Box<dyn Stream>, Error> {
        Ok(Box::new(self.encrypt(host, port, limit).await?))
    }

    fn peer(&self) -> IpAddr {
        self.peer
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl Connector {
    async fn handshake(&self, tcp: TcpStream, origin: &Origin) -> Result<TlsStream<TcpStream>, Error> {
        let config = self.tls.config(&origin.host, origin.port)?;
        // The clone shares the sessions that can be resumed, and offers no HTTP.
        let mut config = ClientConfig::clone(&config);
        config.alpn_protocols.clear();
        let name = match literal(&origin.host) {
            Some(address) => address.into(),
            None => ServerName::try_from(origin.host.clone()).map_err(|error| Error::Tls {
                peer: origin.authority(),
                reason: error.to_string(),
                hint: None,
            })?,
        };
        match TlsConnector::from(Arc::new(config)).connect(name, tcp).await {
            Ok(stream) => Ok(stream),
            Err(error) if error.get_ref().is_none_or(|inner| !inner.is::<rustls::Error>()) => {
                Err(Error::Connect { peer: origin.authority(), source: error })
            }
            Err(error) => Err(tls_error(&error, origin)),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::http::{Settings, TlsSettings};
    use crate::testing::certificates::Certificates;
    use crate::testing::server::{Server, answer};

    #[tokio::test]
    async fn plain_connections_become_encrypted_ones() {
        let certificates = Certificates::make();
        let server = Server::start_tls(&certificates, false, |_| async { answer(200, &[], "secret") }.boxed()).await;
        let port = server.address.port();
        let directory = certificates.certs_d(&format!("localhost:{port}"), false);
        let tls = TlsSettings { certificate_directories: vec![directory], ..TlsSettings::default() };
        let client = Client::new(Settings { tls, ..Settings::default() }).unwrap();
        let wait = Duration::from_secs(5);
        let open = async |client: &Client, name: &'static str| {
            let wire = client.dial(name, port, Reach::LOOPBACK, wait).await?;
            assert!(wire.peer().is_loopback());
            wire.encrypt(name, port, wait).await
        };
        let mut stream = open(&client, "localhost").await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("secret"), "{answer}");
        assert_eq!(stream.get_ref().1.alpn_protocol(), None);
        // The second one resumes the session of the first.
        let again = open(&client, "localhost").await.unwrap();
        assert_eq!(again.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
        // Trust is configured by name.
        let error = open(&client, "127.0.0.1").await.unwrap_err();
        assert!(matches!(error, Error::Tls { hint: Some(_), .. }), "{error}");
        let denied = client.dial("localhost", port, Reach::PUBLIC, wait).await.err().unwrap();
        assert!(matches!(denied, Error::AddressDenied { .. }), "{denied}");
    }
}
