//! Connections for protocols other than HTTP, by the same rules of look-up, addresses and TLS.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::{Reach, literal};
use super::connect::{Connector, admitted, race, tls_error};
use super::rule::Origin;
use super::{Client, Error};

impl Client {
    /// Connects to a host by name or address.
    pub(crate) async fn open(
        &self,
        host: &str,
        port: u16,
        reach: Reach,
        limit: Duration,
    ) -> Result<(TcpStream, IpAddr), Error> {
        let origin = Origin { https: false, host: host.to_owned(), port };
        let late = || Error::ConnectTimeout { peer: origin.authority(), after: limit };
        let connecting = async {
            if let Some(transport) = &self.settings().transport {
                return race(vec![transport.lead(&format!("{host}:{port}")).await?], &origin.authority()).await;
            }
            let addresses = self.connector().look_up(host, port).await?;
            race(admitted(addresses, &origin, reach)?, &origin.authority()).await
        };
        let tcp = tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| Err(late()))?;
        let peer = tcp.peer_addr().map_err(|source| Error::Connect { peer: origin.authority(), source })?.ip();
        // Commands are written whole and waited for.
        let _ = tcp.set_nodelay(true);
        Ok((tcp, peer))
    }

    /// Begins TLS on a connection to `host` and `port`, whose certificate must be valid for the host.
    pub(crate) async fn start_tls(
        &self,
        tcp: TcpStream,
        host: &str,
        port: u16,
        limit: Duration,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let origin = Origin { https: true, host: host.to_owned(), port };
        let late = || Error::ConnectTimeout { peer: origin.authority(), after: limit };
        let handshake = self.connector().handshake(tcp, &origin);
        tokio::time::timeout(limit, handshake).await.unwrap_or_else(|_| Err(late()))
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
            let (tcp, peer) = client.open(name, port, Reach::LOOPBACK, wait).await?;
            assert!(peer.is_loopback());
            client.start_tls(tcp, name, port, wait).await
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
        let denied = client.open("localhost", port, Reach::PUBLIC, wait).await.unwrap_err();
        assert!(matches!(denied, Error::AddressDenied { .. }), "{denied}");
    }
}
