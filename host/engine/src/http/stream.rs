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
